"""A few tiles of the test side, as the network sees them, with what it said of their image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.files import encode_png
from train.judge import Side
from train.metrics import errors_dof

#: Groups of samples, and their headings.
GROUPS = {
    "best": "Among the smallest errors",
    "typical": "About the median error",
    "worst": "The largest errors",
}
#: Small tiles are drawn larger, in whole steps, so that a browser need not blur them.
_SHOWN_PX = 160


@dataclass(frozen=True)
class Sample:
    """One image: its ``index`` among the images of a side, its ``group``, and its first tile as PNG."""

    group: str
    index: int
    png: bytes


def choose(side: Side, each: int = 4) -> list[Sample]:
    """At most ``each`` images of small, of median and of the largest error; none twice.

    The small and the median ones are spread over defocus, since the very best are all alike.
    """
    error, truth = errors_dof(side.images), side.images.truth
    order = [int(k) for k in np.argsort(error, kind="stable")]
    each = min(each, len(order) // len(GROUPS) or 1)
    worst = order[max(0, len(order) - each) :][::-1]
    rest = order[: len(order) - len(worst)]
    middle = len(rest) // 2
    room = max(each, len(order) // 10)
    low = max(0, middle - room // 2)
    typical = _spread(rest[low : low + room], truth, each)
    best = _spread(rest[: min(low, room)], truth, each)
    chosen = {"best": best, "typical": typical, "worst": worst}
    return [Sample(group, k, tile_png(_first_tile(side, k))) for group in GROUPS for k in chosen[group]]


def tile_png(tile: NDArray[np.int8]) -> bytes:
    """A stored tile ``(S, S, 3)`` as PNG.

    A raw tile holds the camera's bytes less 128, so this gives them back; a normalised one has its mean at
    mid-grey and 4 standard deviations at black and white.
    """
    shown = (tile.astype(np.int16) + 128).astype(np.uint8)
    times = -(-_SHOWN_PX // len(shown))
    return encode_png(np.repeat(np.repeat(shown, times, axis=0), times, axis=1))


def _spread(members: list[int], truth: NDArray[np.float64], count: int) -> list[int]:
    """``count`` of ``members``, evenly over their truths."""
    by_truth = sorted(members, key=lambda k: float(truth[k]))
    places = np.unique(np.rint(np.linspace(0, len(by_truth) - 1, min(count, len(by_truth))))).astype(int)
    return [by_truth[k] for k in places.tolist()] if by_truth else []


def _first_tile(side: Side, index: int) -> NDArray[np.int8]:
    return np.asarray(side.data.pixels[side.images.first[index]])
