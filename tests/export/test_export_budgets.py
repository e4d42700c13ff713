"""What a step of the models for a chosen voice costs: multiplications, memory, and no shift of it."""

import math

import pytest

from hearloop.export.macs import macs_per_step
from hearloop.export.onnx import export_graph
from hearloop.export.rings import state_ports
from hearloop.models import build
from hearloop.models.training.configuration import read_configuration


@pytest.mark.parametrize(
    ("name", "most_macs", "parameters", "rings"),
    [
        ("target", 37.5e6, 2_039_112, 0.9),
        ("target-small", 3.3e6, 215_180, 0),
        ("target-around", 37.5e6, 1_850_625, 0),
    ],
)
def test_a_step_keeps_to_its_budget(name, most_macs, parameters, rings):
    model = build(name).eval()
    graph = export_graph(model)
    assert 0.8 * most_macs < macs_per_step(graph) <= most_macs
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    states = state_ports(graph)
    in_rings = sum(math.prod(state.shape) for state in states if state.kind == "ring")
    assert in_rings >= rings * sum(math.prod(state.shape) for state in states)


@pytest.mark.parametrize(("name", "most_macs"), [("separate-tiger-small", 20e6), ("enhance-mamba-small", 12e6)])
def test_a_small_size_costs_no_more_than_it_may(name, most_macs):
    graph = export_graph(build(name).eval())
    assert macs_per_step(graph) <= most_macs
    assert {state.kind for state in state_ports(graph)} == {"carry", "ring"}


@pytest.mark.parametrize("name", ["separate-small", "separate-tiger-small", "separate-mossformer-small"])
def test_the_size_that_is_trained_keeps_to_its_budget(name):
    """400 million multiplications per second, of 125 frames."""
    graph = export_graph(build(name, **read_configuration(name).config).eval())
    assert 2.4e6 < macs_per_step(graph) <= 3.2e6


def test_the_large_separator_keeps_to_its_budget():
    """2.5 billion multiplications per second, of 125 frames."""
    graph = export_graph(build("separate").eval())
    assert 6e6 < macs_per_step(graph) <= 20e6
