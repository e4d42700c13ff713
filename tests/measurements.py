"""What tests of a live stream measure from outside."""

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np

IMPULSES = 12
SPACING = 4000


def stolen_s() -> float:
    """Processor time that the host of a virtual machine has given to others so far; 0 where that is not told."""
    try:
        return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def measure_delays(server, target_in: str, target_out: str) -> tuple[Counter, float]:
    """Send impulses through another client; returns the delays in samples, and the level of the echoes."""
    import jack

    client = jack.Client("probe", no_start_server=True, servername=server.name)
    out, back = client.outports.register("out"), client.inports.register("back")
    total = (IMPULSES + 2) * SPACING
    sent, heard = np.zeros(total, np.float32), np.zeros(total, np.float32)
    sent[SPACING : (IMPULSES + 1) * SPACING : SPACING] = 0.5
    at = 0

    @client.set_process_callback
    def process(frames):
        nonlocal at
        part = slice(at, min(at + frames, total))
        count = part.stop - part.start
        out.get_array()[:] = 0
        out.get_array()[:count] = sent[part]
        heard[part] = back.get_array()[:count]
        at += count

    try:
        client.activate()
        client.connect(out, target_in)
        client.connect(target_out, back)
        deadline = time.monotonic() + 60
        while at < total and time.monotonic() < deadline:
            time.sleep(0.05)
        client.deactivate()
    finally:  # a client that outlives its server crashes
        client.close()
    echoes = heard[SPACING:][: IMPULSES * SPACING].reshape(IMPULSES, SPACING)
    peaks = np.argmax(np.abs(echoes), axis=1)
    return Counter(peaks.tolist()), float(np.median(np.abs(echoes).max(axis=1)))
