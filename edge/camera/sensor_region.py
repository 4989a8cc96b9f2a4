"""Which part of a Raspberry Pi camera's sensor to read, and in which sensor mode, for one pixel per pixel.

A sensor has modes: all its pixels, fewer of them, or several merged into one (binned). A region keeps the
sensor's own sampling only in a mode that merges none; a mode that reads fewer pixels is faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.errors import CameraError

__all__ = ["Region", "choose"]


@dataclass(frozen=True)
class Region:
    """Left and top edge on the sensor in its pixels, and the mode: size, bits per pixel, shortest period."""

    x: int
    y: int
    mode_size: tuple[int, int]
    bit_depth: int
    shortest_period_s: float


def choose(
    modes: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    offset: tuple[int, int] | None,
    frame_period_s: float,
) -> Region:
    """The region of ``size`` (width, height) at ``offset`` (x, y; None: the middle), and its sensor mode.

    ``modes``: as `Picamera2.sensor_modes` has them. Of the modes without binning that contain the region, one
    that reaches ``frame_period_s`` comes first, then the deepest, then the fastest. Raises CameraError where
    there is none, or width or height are odd, which the Bayer pattern does not allow.
    """
    wide, high = size
    if wide % 2 or high % 2:
        raise CameraError(f"pictures of {wide} x {high} pixels: even numbers are allowed")
    native = [mode for mode in modes if "crop_limits" in mode and mode["crop_limits"][2:] == mode["size"]]
    if not native:
        raise CameraError("has no sensor mode without binning")
    left, top, width, height = max((mode["crop_limits"] for mode in native), key=lambda limits: limits[2:])
    # Even, so that the region begins with the same colour as the sensor.
    x, y = offset or (left + (width - wide) // 4 * 2, top + (height - high) // 4 * 2)
    fitting = [mode for mode in native if _contains(mode["crop_limits"], (x, y, wide, high))]
    if not fitting:
        raise CameraError(
            f"the region of {wide} x {high} pixels at ({x}, {y}) is not on the sensor, which has {width} x"
            f" {height} at ({left}, {top})"
        )
    asked_hz = 1 / frame_period_s
    best = max(fitting, key=lambda mode: (min(mode["fps"], asked_hz), mode["bit_depth"], mode["fps"]))
    return Region(x, y, best["size"], best["bit_depth"], 1 / best["fps"])


def _contains(limits: tuple[int, int, int, int], inner: tuple[int, int, int, int]) -> bool:
    left, top, width, height = limits
    x, y, wide, high = inner
    return left <= x and top <= y and x + wide <= left + width and y + high <= top + height
