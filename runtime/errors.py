"""The errors of hearloop: one small family, so that a caller can catch all of them or just one."""


class HearloopError(Exception):
    """Anything hearloop refuses to do; the message names the thing, what was found and what was expected."""


class BundleError(HearloopError):
    """A model file that is damaged, incomplete or contradicts itself."""


class AudioError(HearloopError):
    """Audio of a wrong shape, type, rate or format."""


class DeviceError(HearloopError):
    """A sound device that is missing, refuses a setting or has vanished."""


class EngineError(HearloopError):
    """A model that cannot be executed by the engine asked for."""


class UnsupportedModel(EngineError):
    """The compiler cannot translate this model; the message names the node and the reason."""
