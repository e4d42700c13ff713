"""A signal some samples later, frame by frame."""

from .kernels import kernel


@kernel("void(float32[:, ::1], float32[:, ::1], float32[:, ::1])")
def delay_frame(frame, delay, delayed):
    """Delay each channel by the length of `delay`, which may be longer than a frame."""
    channels, length = frame.shape
    lookahead = delay.shape[1]
    for channel in range(channels):
        for n in range(length):
            origin = n - lookahead
            delayed[channel, n] = frame[channel, origin] if origin >= 0 else delay[channel, n]
        for n in range(lookahead):
            kept = n + length - lookahead
            delay[channel, n] = frame[channel, kept] if kept >= 0 else delay[channel, n + length]
