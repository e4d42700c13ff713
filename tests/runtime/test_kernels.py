"""Compiling kernels: what is not in the cache is told, because it takes a while."""

import importlib.util

from hearloop.runtime import kernels

SOURCE = """
from hearloop.runtime.kernels import kernel

@kernel("int64(int64)")
def more(count):
    return count + 1
"""


def test_that_kernels_are_compiled_is_told_once_and_only_where_they_are(tmp_path, caplog):
    """After an installation the first command was silent for 25 s."""
    path = tmp_path / "fresh.py"
    path.write_text(SOURCE + SOURCE.replace("more", "still_more"))
    told = []
    for _ in range(2):
        kernels._tell.cache_clear()
        caplog.clear()
        spec = importlib.util.spec_from_file_location("fresh", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.more(1) == module.still_more(1) == 2
        told.append([record.getMessage() for record in caplog.records])
    assert told == [["hearloop: compiling the signal processing, this once"], []]
