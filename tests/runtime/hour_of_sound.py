"""An hour of sound through a bundle, in a process of its own so that nothing else moves its memory; prints JSON.

Usage: python hour_of_sound.py BUNDLE SAMPLE_RATE BLOCK_SIZE
"""

import gc
import json
import os
import sys
from pathlib import Path

import numpy as np

from hearloop.runtime import Processor


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(bundle: str, rate: int, block: int) -> None:
    """Noise and silence in turns, and a click every minute."""
    processor = Processor(bundle, sample_rate=rate, block_size=block)
    second = (0.01 * np.random.default_rng(1).standard_normal(rate)).astype(np.float32)
    sound = np.tile(second, 60)
    sound[30 * rate :] = 0
    sound[45 * rate] = 0.9
    clicks, loudest_silence, memory = [], 0.0, []
    for _ in range(60):
        parts = [processor.process(sound[start : start + 12 * rate]) for start in range(0, len(sound), 12 * rate)]
        out = np.concatenate(parts)
        clicks.append(int(np.argmax(np.abs(out))) - 45 * rate)
        # A number that is not finite would be lost in max(); it is told apart by making the silence infinitely loud.
        silence = float(np.abs(out[31 * rate : 44 * rate]).max()) if np.isfinite(out).all() else float("inf")
        loudest_silence = max(loudest_silence, silence)
        del parts, out
        gc.collect()
        memory.append(resident_bytes())
    figures = {
        "latency": processor.latency.total,
        "clicks": clicks,
        "loudest_silence": loudest_silence,
        "resident_bytes": memory,
        "events": processor.events,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
