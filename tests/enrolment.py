"""Looks, and `hearloop enroll` on them."""

import numpy as np
import soundfile

from hearloop.tools.main import main

RATE = 16000


def enroll(models, look, name="Ada", *more):
    return main(["enroll", name, "--from", str(look), "--model", str(models / "enroll.onnx"), "--engine", "ort", *more])


def written(folder, look, seed, by=1.0):
    """Another look at the same person: a little of something else in it, at another level."""
    sound, rate = soundfile.read(look)
    noise = 1e-2 * np.random.default_rng(seed).standard_normal(sound.shape)
    soundfile.write(folder / f"{seed}.wav", by * (sound + noise), rate, subtype="FLOAT")
    return folder / f"{seed}.wav"
