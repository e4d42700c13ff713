"""hearloop.runtime: runs streaming audio models in real time, without torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import Bundle, bundle_paths, load_bundle
    from .bundle_info import BundleInfo
    from .controls import Controls
    from .engine import Engine, open_engine
    from .errors import AudioError, BundleError, DeviceError, EngineError, HearloopError
    from .ledger import Ledger
    from .live import LiveLoop
    from .portaudio import PortAudioDevice
    from .processor import Processor
    from .software_device import SoftwareDevice

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
    "LiveLoop",
    "PortAudioDevice",
    "Processor",
    "SoftwareDevice",
    "bundle_paths",
    "load_bundle",
    "open_engine",
]

_MODULES = {
    "Bundle": "bundle",
    "bundle_paths": "bundle",
    "load_bundle": "bundle",
    "BundleInfo": "bundle_info",
    "Controls": "controls",
    "Engine": "engine",
    "open_engine": "engine",
    "AudioError": "errors",
    "BundleError": "errors",
    "DeviceError": "errors",
    "EngineError": "errors",
    "HearloopError": "errors",
    "Ledger": "ledger",
    "LiveLoop": "live",
    "PortAudioDevice": "portaudio",
    "Processor": "processor",
    "SoftwareDevice": "software_device",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: the signal processing is machine code, which takes a second to load, and after an
    # installation half a minute to compile. `hearloop --help` needs none of it.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
