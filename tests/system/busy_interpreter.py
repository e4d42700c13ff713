"""The live loop on a JACK server while the rest of the interpreter misbehaves.

    jackd -n busy -r -d dummy -r 16000 -p 128 &
    JACK_DEFAULT_SERVER=busy python tests/system/busy_interpreter.py --path native --seconds 60

Two Python threads spin, a third collects garbage without pause, and in the end the main thread holds the GIL for a
second in a C call. What was counted meanwhile is printed as JSON.
"""

import argparse
import ctypes
import gc
import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measurements import stolen_s
from native_engine import NativeGain

from hearloop.runtime import live
from hearloop.runtime.portaudio import PortAudioDevice

HOLD_S = 1.0


def spin(ended: threading.Event) -> None:
    while not ended.is_set():
        sum(range(100))


def collect(ended: threading.Event) -> None:
    while not ended.is_set():
        gc.collect()


def hold_the_gil(seconds: float) -> None:
    ctypes.PyDLL(None).usleep(ctypes.c_uint(round(1e6 * seconds)))


def foreign_thread_states() -> int:
    """How many threads that Python has not started have run Python code: each has a state in the interpreter."""
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = ctypes.c_void_p
    for function in (api.PyInterpreterState_ThreadHead, api.PyThreadState_Next):
        function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    state, count = api.PyInterpreterState_ThreadHead(api.PyInterpreterState_Get()), 0
    while state:
        state, count = api.PyThreadState_Next(state), count + 1
    return count - threading.active_count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", choices=("native", "worker"), default="native")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--model", help="a model to compile (default: a stand-in that changes nothing)")
    parser.add_argument("--spin-ms", type=float, default=1.0, help="what the stand-in takes for a frame (default: 1)")
    parser.add_argument("--gain", type=float, default=1.0, help="of the stand-in (default: 1)")
    parser.add_argument("--calm", action="store_true", help="without any of the disturbances")
    options = parser.parse_args()
    if options.model is None:
        live.open_engine = lambda *_: NativeGain("enhance-small", options.gain, spin_ms=options.spin_ms)
    loop = live.LiveLoop(options.model or "enhance-small", PortAudioDevice(), "compiled", path=options.path)
    ended = threading.Event()
    threads = [threading.Thread(target=job, args=(ended,), daemon=True) for job in (spin, spin, collect)]
    told = {}
    with loop:
        print("running", file=sys.stderr, flush=True)
        loop.wait(0.5)
        before, stolen_before_s = loop.stats(), stolen_s()
        if options.calm:
            loop.wait(options.seconds)
        else:
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + options.seconds - HOLD_S
            while time.monotonic() < deadline:
                loop.wait(0.1)
            blocks = loop.telemetry.tally.blocks
            hold_the_gil(HOLD_S)
            told["blocks_while_the_gil_was_held"] = loop.telemetry.tally.blocks - blocks
        after = loop.stats()
        ended.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()
        told["foreign_thread_states"] = foreign_thread_states()
    for name in ("blocks", "frames", "misses", "concealed", "xruns"):
        told[name] = after[name] - before[name]
    told["stolen_s"] = round(stolen_s() - stolen_before_s, 3)
    for name in ("path", "late_chunks", "bypasses", "failures", "longest_miss_run", "ledger", "message"):
        told[name] = after[name]
    for name in ("compute_us", "callback_us", "wake_us", "slack_us"):
        told[name] = after[name]
    for name in ("scheduling", "garbage_collections"):
        told[name] = after["environment"][name]
    json.dump(told, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
