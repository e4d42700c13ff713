"""hearloop.runtime: runs streaming audio models in real time, without torch."""

from .bundle import Bundle, bundle_paths, load_bundle
from .bundle_info import BundleInfo
from .controls import Controls
from .engine import Engine, open_engine
from .errors import AudioError, BundleError, DeviceError, EngineError, HearloopError
from .ledger import Ledger
from .processor import Processor

__all__ = [
    "AudioError",
    "Bundle",
    "BundleError",
    "BundleInfo",
    "Controls",
    "DeviceError",
    "Engine",
    "EngineError",
    "HearloopError",
    "Ledger",
    "Processor",
    "bundle_paths",
    "load_bundle",
    "open_engine",
]
