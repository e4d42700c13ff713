"""Weights of the published sizes, under the names and with the shapes that the authors use, find their places."""

import csv
import re
from importlib import import_module

import numpy as np
import pytest
import torch

from hearloop.export.published import PUBLISHED
from hearloop.models.published import load
from hearloop.runtime.errors import HearloopError

LOTH_EMBED = {
    "n_fft": 128,
    "stride": 64,
    "num_ch": 2,
    "embed_dim": 256,
    "emb_dim": 64,
    "lstm_hidden_units": 64,
    "num_blocks": 3,
    "attn_n_head": 4,
    "emb_ks": 4,
    "emb_hs": 1,
}
# File of names and shapes -> system, sizes, and parameters with fixed tables and without layers that are not used.
FILES = {
    "gtcrn_dns3": ("gtcrn", {}, 48_245),
    "loth_separator": ("loth_separator", PUBLISHED["look-once-to-hear"].config, 2_037_960),
    "loth_embed": ("loth_embed", LOTH_EMBED, 2_368_681 - 1_154),
    "tiger_speech": ("tiger_speech", PUBLISHED["tiger"].config, None),
    "mossformer1_L_full": ("mossformer1", PUBLISHED["mossformer"].config, None),
    "mossformer2_ss_16k_full": ("mossformer2", PUBLISHED["mossformer2"].config, None),
    "mambattention": ("mambattention", PUBLISHED["mambattention"].config, 2_325_841),
}


@pytest.fixture(scope="module", params=FILES)
def published(request):
    from conftest import SHARED

    path = SHARED / "models" / "published-keys" / f"{request.param}.tsv"
    if not path.exists():
        pytest.skip("the names of the published weights are not beside the repository")
    system, config, parameters = FILES[request.param]
    with open(path, encoding="utf-8") as table:
        shapes = {
            row[0]: [int(size) for size in row[1].split("x") if size] for row in csv.reader(table, delimiter="\t")
        }
    return system, config, parameters, {key: torch.zeros(shape) for key, shape in shapes.items()}


def test_every_tensor_has_its_place(published):
    system, config, parameters, weights = published
    network = load(system, weights, config)
    if parameters is not None:
        learned = sum(parameter.numel() for parameter in network.parameters())
        fixed = sum(
            buffer.numel() for name, buffer in network.named_buffers() if "gathering" in name or "spreading" in name
        )
        assert learned + fixed == parameters


def test_a_tensor_that_is_missing_or_misshapen_is_named_as_its_authors_do(published):
    system, config, _, weights = published
    needless = ("num_batches_tracked", *getattr(import_module(f"hearloop.models.published.{system}"), "NEEDLESS", ()))
    needed = [key for key in weights if not any(part in key for part in needless)]
    for key in np.random.default_rng(1).choice(needed, 4, replace=False).tolist():
        with pytest.raises(HearloopError, match=f"1 tensors are missing, the first is '{re.escape(key)}'"):
            load(system, {name: value for name, value in weights.items() if name != key}, config)
        with pytest.raises(HearloopError, match=rf"tensor '{re.escape(key)}' has shape \[3, 5, 7\], expected"):
            load(system, weights | {key: torch.zeros(3, 5, 7)}, config)
