"""What is wrong with a picture as such: black, or saturated. Nothing here knows where it came from.

A frame with such a fault has nothing to focus on, and says more about lamp and exposure than about focus.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["fault_of"]

BLACK_LEVEL = 24
"""Below it (of 255) a pixel counts as black: half a percent of full scale behind a gamma of 2.2, which is
what black level and read noise leave of no light at all."""

BLACK_SHARE = 0.999
"""A frame is black when no more than a thousandth of it is brighter. A dark field with a few bright specks
has more light in it than that; the hot pixels of a covered sensor have less."""

CLIPPED_LEVEL = 254
"""From here on (of 255) a channel is at its end; JPEG makes 254 of some."""

CLIPPED_SHARE = 0.98
"""A frame is saturated when more of its pixels than this have all three channels at their end. The
background of a bright field may clip as a whole: there is nothing to focus on in it, and what is darker keeps
its detail. Where less than a fiftieth of the frame is left, no specimen is there, or it has clipped too."""

SAMPLES = 50_000
"""Pixels that are looked at, spread over the frame, at the most: the shares are right to two thousandths."""

GLANCE, GLANCE_SHARE = 4, 0.9
"""Of these only every so many-th in either direction, where that shows less than this share of black and of
clipped pixels: a picture that is nearly all of either has more of it, however few are looked at."""


def fault_of(image: npt.NDArray[np.uint8]) -> str | None:
    """Why ``image``, (H, W, 3) uint8 RGB, cannot be focused on, in one line with shares; None where it can.

    Under 1 ms for any size: a grid of `SAMPLES` pixels is looked at. ValueError for anything but such an
    image with at least one pixel.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
    every = math.ceil((image.shape[0] * image.shape[1] / SAMPLES) ** 0.5)
    if max(_shares(image, GLANCE * every)) < GLANCE_SHARE:
        return None
    black, clipped = _shares(image, every)
    if black >= BLACK_SHARE:
        return f"black ({black:.1%} of its pixels): lamp off, lens covered, or exposure far too short"
    if clipped > CLIPPED_SHARE:
        return (
            f"saturated ({clipped:.1%} of its pixels; {CLIPPED_SHARE:.0%} is allowed): too much light; turn"
            " the lamp down, or shorten the exposure"
        )
    return None


def _shares(image: npt.NDArray[np.uint8], every: int) -> tuple[float, float]:
    """Of every so many-th pixel: the share that is black, and that with all three channels clipped."""
    import cv2

    grid = np.ascontiguousarray(image[::every, ::every])
    levels = (0, BLACK_LEVEL - 1), (CLIPPED_LEVEL, 255)
    masks = [cv2.inRange(grid, (low,) * 3, (high,) * 3) for low, high in levels]
    black, clipped = (cv2.countNonZero(mask) / mask.size for mask in masks)
    return black, clipped
