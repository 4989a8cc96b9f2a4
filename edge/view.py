"""A frame at the model's sampling: its light over the background, and its noise.

Tiles and sharpness need the same of a frame. A `View` works it out once for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Float", "Frame", "Sampled", "View", "background_of", "brightness", "middle", "noise_sigma"]

Float = NDArray[np.float32]
Frame = NDArray[np.uint8]
Scalar = TypeVar("Scalar", np.uint8, np.float32)

#: Noise is measured in the middle of a frame, of at most this size.
_NOISE_PX = 160
#: A strip of a frame has so many pixels, or is one row.
_STRIP_PX = 8192
#: The background of so many pixels at the most: two hundred of them are brighter.
_BACKGROUND_SAMPLES = 10_000


class View:
    """``frame`` ``(H, W, 3)`` uint8 RGB, which must not change meanwhile; another one raises ValueError."""

    def __init__(self, frame: Frame) -> None:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"frame {frame.shape} {frame.dtype}: (H, W, 3) uint8 is needed")
        self.frame = frame
        self._at: dict[float, Sampled] = {}

    @classmethod
    def of(cls, frame: Frame | View) -> View:
        """``frame`` itself, if it is one already."""
        return frame if isinstance(frame, View) else cls(frame)

    def at(self, scale: float, smallest_px: int) -> Sampled:
        """The frame as `resample` makes it."""
        if scale not in self._at:
            self._at[scale] = Sampled(resample(self.frame, scale, 1))
        found = self._at[scale]
        padded = resample(found.image, 1.0, smallest_px)
        return found if padded is found.image else Sampled(padded)


@dataclass(frozen=True, eq=False)
class Sampled:
    """``image``: ``(H, W, 3)`` uint8, resampled."""

    image: Frame

    @cached_property
    def background(self) -> Float:
        """`background_of` it, 1 or more."""
        return np.maximum(background_of(self.image), np.float32(1.0))

    @cached_property
    def light(self) -> Float:
        """`brightness` of it, ``(H, W)`` float32."""
        return brightness(self.image, self.background)

    @cached_property
    def noise(self) -> float:
        """`noise_sigma` of its light."""
        return noise_sigma(self.light)


def resample(frame: Frame, scale: float, smallest_px: int) -> Frame:
    """``frame`` ``(H, W, 3)`` uint8 at ``scale`` times its size; mirrored where smaller than ``smallest_px``.

    A scale within 2 % of 1 leaves the size as it is. Raises ValueError when ``scale`` is not above 0.
    """
    import cv2

    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale = {scale}: a factor above 0 is allowed")
    out = frame
    if abs(scale - 1) > 0.02:
        size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        out = np.asarray(cv2.resize(frame, size, interpolation=method), np.uint8)
    pad_y, pad_x = max(0, smallest_px - out.shape[0]), max(0, smallest_px - out.shape[1])
    return np.pad(out, ((0, pad_y), (0, pad_x), (0, 0)), mode="symmetric") if pad_y or pad_x else out


def background_of(image: Frame) -> Float:
    """The 98th percentile of each channel, ``(3,)`` float32, of a grid of pixels of ``(H, W, 3)`` uint8."""
    every = max(1, math.ceil(math.sqrt(image.shape[0] * image.shape[1] / _BACKGROUND_SAMPLES)))
    grid = image[::every, ::every]
    return np.array([_percentile(channel, 0.98) for channel in np.moveaxis(grid, 2, 0)], np.float32)


def _percentile(values: Frame, share: float) -> float:
    """What ``numpy.percentile`` gives for uint8, by counting instead of sorting."""
    up_to = np.cumsum(np.bincount(values.ravel(), minlength=256))
    place = share * (values.size - 1)
    low, high = np.searchsorted(up_to, [math.floor(place), math.ceil(place)], side="right").tolist()
    return float(low + (high - low) * (place - math.floor(place)))


def brightness(image: Frame, background: Float) -> Float:
    """Mean of the channels of ``(H, W, 3)`` uint8 over ``background`` ``(3,)``, ``(H, W)`` float32."""
    import cv2

    weights = (1 / (3 * background))[None, :]
    light = np.empty(image.shape[:2], np.float32)
    # In strips that stay in the processor's cache. By NumPy far slower.
    rows = max(1, _STRIP_PX // image.shape[1])
    for top in range(0, len(image), rows):
        strip = np.s_[top : top + rows]
        cv2.transform(image[strip].astype(np.float32), weights, dst=light[strip])
    return light


def middle(frame: NDArray[Scalar]) -> NDArray[Scalar]:
    """The middle of a frame, at most `_NOISE_PX` to a side: enough to measure its noise."""
    top, left = (max(0, (length - _NOISE_PX) // 2) for length in frame.shape[:2])
    return frame[top : top + _NOISE_PX, left : left + _NOISE_PX]


def noise_sigma(light: Float) -> float:
    """Standard deviation of white noise in ``(H, W)`` float32, from the median of a second difference.

    The difference is taken in x, then in y; H and W are 3 or more. After Immerkaer, Computer Vision and Image
    Understanding 64, 1996, with the median (robust against edges) for the mean, of every fourth pixel of the
    middle.
    """
    import cv2

    second = np.array([1.0, -2.0, 1.0])
    d = cv2.sepFilter2D(middle(light), cv2.CV_32F, second, second)[1:-1:2, 1:-1:2]
    return float(_median(np.abs(d)) / 0.6745 / 6.0)


def _median(values: Float) -> np.float32:
    """``numpy.median`` of finite values. That one looks for NaN, and loads all of ``numpy.ma`` to do so."""
    flat = values.ravel()
    low, high = (flat.size - 1) // 2, flat.size // 2
    parted = np.partition(flat, (low, high))
    return np.float32((parted[low] + parted[high]) / 2)
