"""Directions as seen from the head: azimuth counter-clockwise (+90 is the left ear), elevation upwards, in degrees."""

import numpy as np


def unit_vectors(azimuth_deg: np.ndarray | float, elevation_deg: np.ndarray | float = 0.0) -> np.ndarray:
    """Vectors [..., 3] of length one: front, left, up."""
    azimuth, elevation = np.broadcast_arrays(np.radians(azimuth_deg), np.radians(elevation_deg))
    return np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1
    )


def turned(vectors: np.ndarray, yaw_deg: np.ndarray | float) -> np.ndarray:
    """Vectors [..., 3] of the world as a head sees them that has turned to the left by `yaw_deg`."""
    yaw = np.radians(yaw_deg)
    front, left, up = np.moveaxis(vectors, -1, 0)
    return np.stack(
        [front * np.cos(yaw) + left * np.sin(yaw), left * np.cos(yaw) - front * np.sin(yaw), up + 0 * yaw], -1
    )


def evenly_spread(count: int) -> np.ndarray:
    """Directions [count, 3] that cover the sphere evenly: a spiral whose turns are equally far apart."""
    index = np.arange(count) + 0.5
    golden_angle_deg = 180 * (3 - np.sqrt(5))
    return unit_vectors(index * golden_angle_deg, np.degrees(np.arcsin(1 - 2 * index / count)))
