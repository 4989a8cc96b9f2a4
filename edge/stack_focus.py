"""Where a z-stack is sharp, read from its own planes: a label for stacks that came without one. No I/O but
the reading of the images.

The sharpness of each plane, a parabola through the top three. What could as well be something else is no
label: a stack whose sharpness hardly changes, one that is sharpest at an end (the focus may lie beyond it),
one with two peaks (two layers; or an unstained specimen, whose contrast dips in focus).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.errors import StackError
from edge.optics import Objective, Optics
from edge.sharpness import sharpness
from edge.sweep import Array, Peak, doubt, flat_top, vertex
from edge.zstack import ZStack

__all__ = ["Focus", "focus_scale", "measured_focus", "peak_of", "plane_at"]

FEWEST_PLACES = 3
#: Planes nearer to each other than this share of the usual distance count as one place: the slope between
#: them would be mostly noise, and a parabola would be led astray by it.
SAME_PLACE = 0.1
#: A second peak is one of at least this share of the highest's rise over the lowest plane ...
SECOND_PEAK = 0.6
#: ... parted from it by a valley below this share of its own rise.
VALLEY = 0.85
#: Pixels coarser than the model's sampling are enlarged up to this; beyond it their stated size is in doubt.
MOST_ENLARGED = 2.0


@dataclass(frozen=True)
class Focus:
    """Where a stack is sharp."""

    z_um: float
    """Stage position in µm, between those of the planes beside the sharpest."""

    plane: float
    """The same as a plane number, counted from 0 by rising z, with the fraction."""

    sharpness: tuple[float, ...]
    """`edge.sharpness.sharpness` of each plane, 0 or more."""


def measured_focus(stack: ZStack) -> Focus:
    """The focus of ``stack`` as its planes show it. Reads each image once and blocks for the disk.

    Raises StackError, one line naming the stack, where there is no clear peak or an image is unreadable.
    """
    scale = focus_scale(stack.objective, stack.pixel_um)
    values = [sharpness(stack.load(plane), scale) for plane in range(len(stack))]
    peak = peak_of(stack.z_um, values)
    if not peak.clear:
        raise StackError(f"{stack.path}: the focus cannot be measured: {peak.reason}")
    return Focus(peak.position, plane_at(stack.z_um, peak.position), tuple(values))


def focus_scale(objective: Objective | None, pixel_um: float | None) -> float:
    """The factor to the model's sampling where both are known and it enlarges at most `MOST_ENLARGED` times,
    else 1.
    """
    if objective is None or pixel_um is None:
        return 1.0
    scale = Optics(objective, pixel_um).model_scale
    return scale if scale <= MOST_ENLARGED else 1.0


def peak_of(z: Sequence[float], values: Sequence[float]) -> Peak:
    """The peak of ``values``, sharpness of 0 or more, over ``z``: rising, equal or uneven, in any unit.

    Equal and nearly equal z count once, with their mean. Where there is no clear peak, ``clear`` is False and
    ``reason`` says why. Raises ValueError for lengths that differ or are 0.
    """
    places, heights = _places(z, values)
    reason = _reason(places, heights)
    return Peak(vertex(places, heights), float(heights.max()), not reason, reason)


def plane_at(z: Sequence[float], position: float) -> float:
    """``position`` as a plane number with a fraction, 0 to N - 1; of equal ``z`` (rising, N) the middle."""
    places, groups = np.unique(np.asarray(z, np.float64), return_inverse=True)
    middle = np.bincount(groups, weights=np.arange(len(z))) / np.bincount(groups)
    return float(np.interp(position, places, middle))


def _places(z: Sequence[float], values: Sequence[float]) -> tuple[Array, Array]:
    """Strictly rising places and their sharpness, ``(N,)`` each; those at one place averaged."""
    if len(z) != len(values) or not len(z):
        raise ValueError(f"{len(z)} places and {len(values)} values: as many of both, and not none")
    where, heights = np.asarray(z, np.float64), np.asarray(values, np.float64)
    steps = np.diff(where)
    apart = SAME_PLACE * float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    groups = np.concatenate([[0], np.cumsum((steps > 0) & (steps >= apart))])
    counts = np.bincount(groups)
    return np.bincount(groups, where) / counts, np.bincount(groups, heights) / counts


def _reason(places: Array, heights: Array) -> str:
    """Why there is no clear peak; empty where there is one."""
    if len(places) < FEWEST_PLACES:
        return f"{len(places)} different z: {FEWEST_PLACES} or more are needed"
    reason = doubt(heights)
    if reason:
        return reason
    flat = flat_top(places, heights)
    for end, name, side in ((0, "first", "before"), (-1, "last", "beyond")):
        if flat[end] == places[end]:
            return f"the {name} plane is the sharpest: the focus may lie {side} it"
    second = _second_peak(heights)
    if second is not None:
        top = int(heights.argmax())
        return f"two peaks, near z = {places[top]:.4g} and {places[second]:.4g}: either may be the focus"
    return ""


def _second_peak(heights: Array) -> int | None:
    """The highest place apart from the peak that is nearly as high as it; None where there is none."""
    rise = heights - heights.min()
    top = int(rise.argmax())
    found = [
        k
        for k in range(len(rise))
        if rise[k] >= SECOND_PEAK * rise[top] and rise[min(k, top) : max(k, top) + 1].min() < VALLEY * rise[k]
    ]
    return max(found, key=lambda k: float(rise[k]), default=None)
