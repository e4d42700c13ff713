"""Layers with explicit state: `initial_state(batch)` and `forward(x, state) -> (y, state)`.

The same code runs many frames at once in training and one frame on the device; any split of time into pieces of one
frame or more gives the same output. State is a nested dict or tuple of tensors with the batch first; nothing hides in a
module attribute.
"""
