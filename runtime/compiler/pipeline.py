"""The stages between lowering and machine code, by name, in order."""

from collections.abc import Callable

from .passes.affine import fold_affine
from .passes.carry import store_states
from .passes.depthwise import sum_by_channel
from .passes.fuse import drop_unread, fuse
from .passes.redirect import redirect
from .passes.regular import make_regular
from .passes.rings import place_rings
from .passes.scans import merge_scans
from .passes.windows import give_windows
from .program import Program

PASSES: dict[str, Callable[[Program], None]] = {
    "fuse": fuse,
    "fold gains": fold_affine,
    "sum by channel": sum_by_channel,
    "give windows": give_windows,
    "place rings": place_rings,
    "store states": store_states,
    "redirect": redirect,
    "merge scans": merge_scans,
    "drop unread": drop_unread,
    "make regular": make_regular,
}
