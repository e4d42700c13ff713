"""How hearloop compiles its signal-processing kernels with Numba.

A kernel works on flat, contiguous float32 arrays that its caller owns, keeps no state of its own, allocates nothing and
needs no GIL, so that the same function serves file processing, the worker thread and the audio callback. Every kernel
states its signature, so that it is compiled on import and never again: a new array layout can not start the compiler in
the middle of a stream. `float32[:, :]` is audio of any layout (channels, samples), `float32[:, ::1]` a contiguous
buffer of our own.

The machine code is cached on disk, and made again when any source that takes part has changed. (Numba by itself looks
at the file of a function, but not at those of the functions and record types that are compiled into it.)

Not-a-number must stay visible to the safety checks, so of the fast-math flags only those are taken that leave it alone.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba.extending
from numba import njit
from numba.core.ccallback import CFunc

# Its own type says that callers pass the typing context too.
intrinsic: Any = numba.extending.intrinsic

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}


def _source_stamp() -> str:
    """Digest of all sources that may be part of a kernel."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        content = path.read_bytes()
        if b"kernel" in content or b"numba" in content:
            digest.update(content)
    return digest.hexdigest()


SOURCE_STAMP = _source_stamp()


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile a function for this signature, once."""

    def compile_for_signature(function: Callable[..., Any]) -> Any:
        dispatcher = njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST_MATH)(function)
        stamp(dispatcher)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        if dispatcher.stats.cache_misses:
            _tell()
        return dispatcher

    return compile_for_signature


@cache
def _tell() -> None:
    """Say once why the import takes half a minute, as soon as the first kernel was not in the cache."""
    logging.getLogger(__name__).warning("hearloop: compiling the signal processing, this once")


def stamp(cached: Any) -> None:
    """Let what Numba caches for a function, which is not yet compiled, be valid for `SOURCE_STAMP` only."""
    cached._cache._cache_file._source_stamp = SOURCE_STAMP


def c_function(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile a function that C code calls; `address` of the result is where it is."""

    def compile_for_signature(function: Callable[..., Any]) -> Any:
        options = {"nopython": True, "error_model": "numpy", "fastmath": FAST_MATH}
        compiled = CFunc(function, (signature.args, signature.return_type), locals={}, options=options)
        compiled.enable_caching()
        stamp(compiled)
        compiled.compile()
        return compiled

    return compile_for_signature
