"""What target speech hearing did for a scene whose target is known alone."""

import numpy as np

from ..models.evaluation.ratio import si_sdr
from ..models.evaluation.selection import leakage_db, reopening_s
from ..models.evaluation.spatial import ild_error_db, itd_error_us


def hearing_figures(heard: np.ndarray, alone: np.ndarray, scene: np.ndarray) -> list[tuple[str, str]]:
    """Names and values of what `hearloop evaluate` measures; all float32 [2, samples] at 16 kHz."""
    before, after = si_sdr(scene, alone), si_sdr(heard, alone)
    return [
        ("the chosen voice", f"binaural SI-SDR {before:.1f} dB before, {after:.1f} dB after"),
        ("while it is silent", f"the others at {leakage_db(heard, alone, scene):.1f} dB"),
        ("when it speaks again", f"within 6 dB of it after {1000 * reopening_s(heard, alone):.0f} ms"),
        (
            "its direction",
            f"level difference within {ild_error_db(heard, alone):.1f} dB, "
            f"time difference within {itd_error_us(heard, alone):.0f} us",
        ),
    ]
