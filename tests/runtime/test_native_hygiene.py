"""The native callback neither allocates nor locks nor needs the interpreter: seen from C, in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Counts what the calling thread asks of the C library while it calls a callback. Loaded before everything else.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
typedef int (*callback)(const void *, void *, unsigned long, const void *, unsigned long, void *);
static __thread long allocations, frees, locks, counting;
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t), __libc_free(void *);
void *malloc(size_t n) { allocations += counting; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { allocations += counting; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { allocations += counting; return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { allocations += counting; return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { allocations += counting; return __libc_memalign(a, n); }
void free(void *p) { frees += counting; __libc_free(p); }
int pthread_mutex_lock(pthread_mutex_t *mutex) {
    static int (*next)(pthread_mutex_t *);
    if (!next) next = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
    locks += counting;
    return next(mutex);
}
struct job { callback call; const void *in; void *out; unsigned long frames; void *data; long times, counts[3]; };
static void *run(void *argument) {
    struct job *job = argument;
    counting = 1;
    for (long k = 0; k < job->times; k++) job->call(job->in, job->out, job->frames, NULL, 0, job->data);
    counting = 0;
    job->counts[0] = allocations; job->counts[1] = frees; job->counts[2] = locks;
    return NULL;
}
int in_a_thread(struct job *job) {
    pthread_t thread;
    return pthread_create(&thread, NULL, run, job) || pthread_join(thread, NULL);
}
"""

SCRIPT = r"""
import ctypes, json, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from numba.core.runtime import _nrt_python
from native_engine import NativeGain
from hearloop.runtime.controls import Controls
from hearloop.runtime.engine import open_engine
from hearloop.runtime.native_callback import callback
from hearloop.runtime.native_session import NativeSession, NativeTelemetry
from hearloop.runtime.rings import Ring
from hearloop.runtime.session import Setting, Telemetry
from hearloop.runtime.traffic import Traffic
from hearloop.runtime.wetpath import WetPath

class Job(ctypes.Structure):
    _fields_ = [("call", ctypes.c_void_p), ("input", ctypes.c_void_p), ("output", ctypes.c_void_p),
                ("frames", ctypes.c_ulong), ("data", ctypes.c_void_p), ("times", ctypes.c_long),
                ("counts", 3 * ctypes.c_long)]

if sys.argv[3] == "gain":
    engine = NativeGain("enhance-small", gain=0.5, feedback=0.5, fails_from=50, fails_to=51)
else:
    engine = open_engine(sys.argv[3], "compiled")
controls = Controls()
controls.expect_sources(engine.info.sources, engine.info.name)

def path(size):
    return WetPath(engine, 2, 48000, size, controls=controls)

setting = Setting(2, 48000, 16000, 128, path, controls, -1.0)
traffic, tap = Traffic(2, 2), Ring(2, 48000)
session = NativeSession(setting, 1, 2000, Telemetry(), NativeTelemetry(), traffic, tap)
session.start()
_nrt_python.memsys_enable_stats()
before = _nrt_python.memsys_get_stats_alloc(), _nrt_python.memsys_get_stats_mi_alloc()
counts, frames = [0, 0, 0], 0
rng = np.random.default_rng(1)
shim = ctypes.PyDLL(sys.argv[1])  # which keeps the GIL: a callback that waits for it never returns
for size in (64, 480, 1, 1999, 2500, 128):
    if controls.source_gains_db:
        controls.source_gains_db = (-size / 100, 0)
    samples = (0.1 * rng.standard_normal((size, 2))).astype(np.float32)
    samples[0] = np.nan
    heard = np.zeros_like(samples)
    job = Job(callback.address, samples.ctypes.data, heard.ctypes.data, size, traffic.numbers.ctypes.data, 200)
    assert shim.in_a_thread(ctypes.byref(job)) == 0
    counts = [a + b for a, b in zip(counts, job.counts)]
after = _nrt_python.memsys_get_stats_alloc(), _nrt_python.memsys_get_stats_mi_alloc()
marker = Job(ctypes.cast(ctypes.CDLL(None).malloc, ctypes.c_void_p).value, 100, None, 0, None, 10)
shim.in_a_thread(ctypes.byref(marker))
print(json.dumps({"blocks": traffic.blocks, "failures": session._model_telemetry.failures, "counts": counts,
                  "numba": [b - a for a, b in zip(before, after)], "seen": marker.counts[0],
                  "host": session._model_telemetry.late["host"], "finite": bool(np.isfinite(heard).all())}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the shim is made for glibc")
@pytest.mark.parametrize("model", ["gain", "separator"])
def test_a_callback_allocates_nothing_locks_nothing_and_never_asks_for_the_gil(tmp_path, model, make_bundle):
    """1,200 blocks in a C thread, while the thread that waits for it holds the GIL.

    With odd block sizes, failed frames, bad samples, a recording, changing gains, and a host that breaks its promise.
    """
    if model == "separator":
        masks = np.random.default_rng(1).uniform(0, 0.5, (2, 257))
        model = make_bundle(masks=masks, fails_from=50, fails_to=51)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library, script = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "script.py"
    source.write_text(SHIM)
    script.write_text(SCRIPT)
    command = [compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", library, source, "-ldl", "-lpthread"]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"the shim does not build here: {built.stderr}")
    done = subprocess.run(
        [sys.executable, script, library, Path(__file__).parents[1], model],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["seen"] == 10  # the shim sees what is allocated
    assert told["blocks"] == 1200
    assert told["failures"] > 0
    assert told["host"] > 0
    assert told["finite"]
    assert told["counts"] == [0, 0, 0]
    assert told["numba"] == [0, 0]
