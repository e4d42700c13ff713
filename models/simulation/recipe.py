"""What is mixed how often: all chances and ranges of the simulation in one place, a recipe per task.

Ranges are uniform from low to high; every `*_share` is the chance that an item is treated so. The defaults are for
training: they make more variety than the world has, because the recordings are few.
"""

from dataclasses import dataclass
from typing import Any

from ...runtime.errors import HearloopError
from .limits import check_limits


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How voices, noises and microphones differ from their recordings; part of every recipe.

    Raises HearloopError if a value is out of the range that the unit in its name allows, or does not fit another one.
    """

    level_dbfs: tuple[float, float] = (-45.0, -10.0)
    speech_equalisation_db: float = 5.0
    noise_equalisation_db: float = 10.0
    microphone_equalisation_db: float = 4.0
    speech_speed: tuple[float, float] = (0.9, 1.12)
    noise_speed: tuple[float, float] = (0.7, 1.4)
    reversed_share: float = 0.25
    band_limit_share: float = 0.06
    clip_share: float = 0.03

    babble_share: float = 0.15
    babble_talkers: tuple[int, int] = (3, 8)
    extra_noise_share: float = 0.3
    synthetic_share: float = 0.25
    loudness_share: float = 0.35
    loudness_range_db: float = 25.0

    def __post_init__(self) -> None:
        check_limits(self)
        if self.babble_share > 0 and self.babble_talkers[0] < 1:
            raise HearloopError(
                f"{type(self).__name__}: babble_talkers is {self.babble_talkers}; expected at least 1 with a "
                f"babble_share of {self.babble_share:g}"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe(Variation):
    """One voice in noise, for enhancement."""

    snr_db: tuple[float, float] = (-5.0, 15.0)
    nearly_clean_share: float = 0.08
    nearly_clean_snr_db: tuple[float, float] = (20.0, 40.0)
    clean_share: float = 0.04
    absent_speech_share: float = 0.03
    pause_share: float = 0.25
    room_share: float = 0.4


@dataclass(frozen=True, kw_only=True)
class PairRecipe(Variation):
    """Two talkers, for separation.

    relative_db : level of the second talker over that of the first, while they speak
    conversation_share : the talkers alternate, with pauses and some overlap; else both speak all the time
    one_talker_share, silence_share : only one talks, nobody talks
    alike_share : the second talker is that one of several whose pitch is closest to that of the first
    crowd_share, crowd_db : one more talker in the background, to be removed, and how loud against the first
    noise_share, snr_db : noise, and the energy of both voices over it
    turn_s, gap_s : lengths of a turn, and from its end to the other's beginning, where negative means overlap
    """

    relative_db: tuple[float, float] = (-5.0, 5.0)
    conversation_share: float = 0.3
    one_talker_share: float = 0.1
    silence_share: float = 0.03
    alike_share: float = 0.0
    crowd_share: float = 0.05
    crowd_db: tuple[float, float] = (-20.0, -10.0)
    noise_share: float = 0.5
    snr_db: tuple[float, float] = (15.0, 25.0)
    room_share: float = 0.3
    turn_s: tuple[float, float] = (0.8, 3.5)
    gap_ms: tuple[float, float] = (0.0, 700.0)
    overlap_share: float = 0.3
    overlap_ms: tuple[float, float] = (50.0, 800.0)


@dataclass(frozen=True, kw_only=True)
class SceneRecipe(Variation):
    """A wearer among talkers and noise, and the look at one of them, for target speech hearing.

    snr_db : energy of any talker over the noise, at both ears
    spread_db : most by which a talker differs from the mean of all talkers of the scene
    interfering_talkers, look_talkers : how many others speak in the scene and in the look
    absent_share, silent_share, silent_s : the target says nothing, or is silent for a while
    elevation_deg, distance_m : where talkers are; azimuths are uniform all around
    room_share : with a room around the head; diffuse_share : noise from everywhere, else from one direction
    noise_directions : how many directions stand for "everywhere"
    moving_share : the head turns or talkers walk, with at most turning_deg_per_s
    look_s, frontal_deg, elsewhere_deg : the look: how long, how far beside the front the target may stand, and how far
        from the front everybody else stands at least
    clean_look_share : a look without others and noise
    turned_share : looks at a talker anywhere, turned there by a delay; of those an enrolment network learns from
    ear_mismatch_db : most by which the microphones of both ears differ from one another
    target_talkers : a scene makes as many items, in which one talker after the other is the target
    """

    level_dbfs: tuple[float, float] = (-45.0, -15.0)
    snr_db: tuple[float, float] = (-5.0, 15.0)
    spread_db: float = 5.0
    interfering_talkers: tuple[int, int] = (1, 2)
    absent_share: float = 0.04
    silent_share: float = 0.25
    silent_s: tuple[float, float] = (0.5, 2.5)
    elevation_deg: tuple[float, float] = (-20.0, 20.0)
    distance_m: tuple[float, float] = (0.6, 3.0)
    room_share: float = 0.5
    diffuse_share: float = 0.5
    noise_directions: tuple[int, int] = (8, 16)
    moving_share: float = 0.3
    turning_deg_per_s: tuple[float, float] = (5.0, 60.0)
    look_s: tuple[float, float] = (2.0, 5.0)
    frontal_deg: float = 10.0
    elsewhere_deg: float = 25.0
    look_talkers: tuple[int, int] = (0, 2)
    clean_look_share: float = 0.05
    turned_share: float = 0.0
    ear_mismatch_db: float = 1.0
    target_talkers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        most_db = (self.snr_db[1] - self.snr_db[0]) / 2
        if not 0 <= self.spread_db <= most_db:
            raise HearloopError(
                f"SceneRecipe: spread_db is {self.spread_db:g}; expected 0 to {most_db:g}, half the width of snr_db "
                f"{self.snr_db}"
            )


@dataclass(frozen=True, kw_only=True)
class EchoRecipe(Variation):
    """A loudspeaker that the microphone hears, for echo cancellation.

    echo_db : energy of the near voice over the echo (of the echo over a quiet level where nobody speaks here)
    far_silent_share, near_silent_share, alternating_share : only the near end speaks, only the far end, one after the
        other; else both at once
    delay_ms : from the reference to the first sound at the microphone, without the room
    saturation_share, saturation_drive : the loudspeaker distorts; RMS of its signal over the level at which it clips
    path_change_share : somebody moves the device, and the path from loudspeaker to microphone is another one
    noise_share, snr_db : noise at the near end, against the near voice
    noisy_far_share, far_snr_db : the far end is noisy, too
    """

    level_dbfs: tuple[float, float] = (-40.0, -10.0)
    reference_dbfs: tuple[float, float] = (-35.0, -15.0)
    echo_db: tuple[float, float] = (-15.0, 15.0)
    far_silent_share: float = 0.06
    near_silent_share: float = 0.2
    alternating_share: float = 0.3
    delay_ms: tuple[float, float] = (0.0, 200.0)
    saturation_share: float = 0.7
    saturation_drive: tuple[float, float] = (0.1, 1.0)
    path_change_share: float = 0.1
    noise_share: float = 0.7
    snr_db: tuple[float, float] = (5.0, 40.0)
    noisy_far_share: float = 0.3
    far_snr_db: tuple[float, float] = (10.0, 40.0)


NATURAL: dict[str, Any] = {
    "level_dbfs": (-40.0, -15.0),
    "speech_equalisation_db": 2.0,
    "noise_equalisation_db": 3.0,
    "microphone_equalisation_db": 2.0,
    "speech_speed": (1.0, 1.0),
    "noise_speed": (1.0, 1.0),
    "reversed_share": 0.0,
    "band_limit_share": 0.0,
    "clip_share": 0.0,
    "extra_noise_share": 0.1,
    "synthetic_share": 0.0,
    "loudness_share": 0.0,
}
"""Close to nature: recordings as they are."""

VALIDATION = Recipe(
    **NATURAL,
    nearly_clean_share=0.0,
    clean_share=0.0,
    absent_speech_share=0.0,
    pause_share=0.0,
    room_share=0.25,
)
"""Some voices in a room, some in babble."""
PAIR_VALIDATION = PairRecipe(**NATURAL, crowd_share=0.0, room_share=0.0)
"""Two talkers in the open; who speaks when, and noise, are given by the validation set."""
SCENE_VALIDATION = SceneRecipe(**NATURAL, absent_share=0.0, silent_share=0.0, clean_look_share=0.0, look_talkers=(1, 2))
"""The target always speaks and every look is noisy; half in rooms, half of the noises diffuse, 30 % moving."""
ECHO_VALIDATION = EchoRecipe(**NATURAL, path_change_share=0.0)
"""Who speaks when is given by the validation set."""
