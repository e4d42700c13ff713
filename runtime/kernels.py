"""How hearloop compiles its signal-processing kernels with Numba.

A kernel works on flat, contiguous float32 arrays that its caller owns, keeps no state of its own, allocates nothing and
needs no GIL, so that the same function serves file processing, the worker thread and the audio callback. The machine
code is cached on disk. Every kernel states its signature, so that it is compiled on import and never again: a new array
layout can not start the compiler in the middle of a stream. `float32[:, :]` is audio of any layout (channels, samples),
`float32[:, ::1]` a contiguous buffer of our own.

Not-a-number must stay visible to the safety checks, so of the fast-math flags only those are taken that leave it alone.
"""

from functools import partial

from numba import njit

kernel = partial(njit, cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
