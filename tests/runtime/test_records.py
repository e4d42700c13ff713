"""Records: what a kernel fetches from an image is what was put in, in the same memory."""

import gc
from typing import NamedTuple

import numpy as np

from hearloop.runtime import kernels, outputstage, wetpath_kernels
from hearloop.runtime.kernels import kernel
from hearloop.runtime.records import Counts, Image, Matrix, Spectrum, Vector, fetch_from


class Inner(NamedTuple):
    first: Vector
    second: Vector


class Outer(NamedTuple):
    name: int
    flag: bool
    scale: np.float32
    matrix: Matrix
    inner: Inner
    spectrum: Spectrum
    counts: Counts


fetch = fetch_from(Outer)


@kernel("float64(int64)")
def weigh(address):
    """Read everything, write something."""
    outer = fetch(address)
    first, second = outer.inner
    outer.counts[0] += outer.matrix.shape[1]
    outer.spectrum[1, 2] = 5
    total = outer.scale * np.sum(outer.matrix) + np.sum(first) + 10 * np.sum(second)
    return total + (outer.name if outer.flag else -outer.name)


def make(flag: bool = True) -> Outer:
    return Outer(
        name=-(2**40),
        flag=flag,
        scale=np.float32(0.5),
        matrix=np.arange(6, dtype=np.float32).reshape(2, 3),
        inner=Inner(np.ones(3, np.float32), np.full(2, 7, np.float32)),
        spectrum=np.zeros((2, 3), np.complex64),
        counts=np.zeros(1, np.int64),
    )


def test_a_kernel_finds_in_an_image_what_was_put_there():
    for flag in (True, False):
        record = make(flag)
        image = Image(record)
        name = record.name if flag else -record.name
        assert weigh(image.address) == 7.5 + 3 + 140 + name
        assert weigh(image.address) == 7.5 + 3 + 140 + name
        assert record.counts[0] == 6  # written twice, to the array itself
        assert record.spectrum[1, 2] == 5


def test_an_image_keeps_its_arrays_and_changes_no_reference_count():
    image = Image(make())
    for _ in range(1000):
        weigh(image.address)
    gc.collect()
    rubbish = [np.full((2, 3), 1e9, np.float32) for _ in range(1000)]
    assert weigh(image.address) == 7.5 + 3 + 140 - 2**40
    assert len(rubbish) == 1000


def test_the_cache_of_a_kernel_is_valid_for_all_sources_that_take_part(tmp_path, monkeypatch):
    """A kernel holds code and layouts of other files, which Numba by itself does not look at."""
    for dispatcher in (weigh, wetpath_kernels.take, outputstage.output_stage):
        assert dispatcher._cache._cache_file._source_stamp == kernels.SOURCE_STAMP
    (tmp_path / "kernels.py").write_text("")
    (tmp_path / "one.py").write_text("from .kernels import kernel")
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "kernels.py"))
    first = kernels._source_stamp()
    (tmp_path / "text.py").write_text("nothing that is compiled")
    assert kernels._source_stamp() == first
    (tmp_path / "one.py").write_text("from .kernels import kernel  # and more")
    assert kernels._source_stamp() != first
