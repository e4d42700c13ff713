"""What is mixed how often: all chances and ranges of the simulation in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Ranges are uniform from low to high; every `*_share` is the chance that an item is treated so.

    The defaults are for training: they make more variety than the world has, because the recordings are few.
    """

    snr_db: tuple[float, float] = (-5.0, 15.0)
    nearly_clean_share: float = 0.08
    nearly_clean_snr_db: tuple[float, float] = (20.0, 40.0)
    clean_share: float = 0.04
    absent_speech_share: float = 0.03
    level_dbfs: tuple[float, float] = (-45.0, -10.0)

    speech_equalisation_db: float = 5.0
    noise_equalisation_db: float = 10.0
    microphone_equalisation_db: float = 4.0
    speech_speed: tuple[float, float] = (0.9, 1.12)
    pause_share: float = 0.25
    room_share: float = 0.4
    band_limit_share: float = 0.06
    clip_share: float = 0.03

    babble_share: float = 0.15
    babble_talkers: tuple[int, int] = (3, 8)
    extra_noise_share: float = 0.3
    synthetic_share: float = 0.25
    noise_speed: tuple[float, float] = (0.7, 1.4)
    reversed_share: float = 0.25
    loudness_share: float = 0.35
    loudness_range_db: float = 25.0


VALIDATION = Recipe(
    nearly_clean_share=0.0,
    clean_share=0.0,
    absent_speech_share=0.0,
    level_dbfs=(-40.0, -15.0),
    speech_equalisation_db=2.0,
    noise_equalisation_db=3.0,
    microphone_equalisation_db=2.0,
    speech_speed=(1.0, 1.0),
    pause_share=0.0,
    room_share=0.25,
    band_limit_share=0.0,
    clip_share=0.0,
    extra_noise_share=0.1,
    synthetic_share=0.0,
    noise_speed=(1.0, 1.0),
    reversed_share=0.0,
    loudness_share=0.0,
)
"""Close to nature: recordings as they are, some voices in a room, some in babble."""
