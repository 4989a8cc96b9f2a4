"""The lamp as a few source points, each of which stands for a small disc of it.

What simulates images (`edge.simulator.formation`) and what measures by them (`edge.weak_object`) take their
points from here, turned differently.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["disc", "rings", "smear"]


def rings(at_least: int, turn: float) -> NDArray[np.float64]:
    """``(S, 2)`` points on the unit disc, S the next of 1, 7, 19, 37, 61 ...; ``turn`` in rad.

    Rings of 1, 6, 12, 18 ... points, each of which stands for the same area; the mean is 0 and, but for a
    single point, the variance that of the disc: 1/4 along either axis.
    """
    count = math.ceil((math.sqrt(12 * max(at_least, 1) - 3) - 3) / 6)
    points = np.zeros((1 + 3 * count * (count + 1), 2))
    for ring in range(1, count + 1):
        inner = 1 + 3 * ring * (ring - 1)
        angle = 2 * math.pi / (6 * ring) * (np.arange(6 * ring) + 0.5 * (ring % 2)) + turn
        radius = math.sqrt(inner + 3 * ring)
        points[inner : inner + 6 * ring] = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points * (0.5 / points[:, 0].std()) if count else points


def disc(ratio: float, points: NDArray[Any], na_over_n: float) -> float:
    """Radius in NA of the disc that each of ``points`` ``(S, 2)`` (in NA) stands for, of a lamp of ``ratio``.

    In first order defocus ``d`` moves the image of a source point ``s`` by ``d s``; at large angles by more,
    for which the disc is larger than its share of the lamp.
    """
    sine2 = na_over_n**2 * np.minimum((points**2).sum(axis=1), 1)
    return ratio / math.sqrt(len(points)) * float((1 / (1 - sine2)).mean())


def smear(frequency: Any, radius: Any) -> Any:
    """What is left at ``frequency`` of images moved by all shifts of a disc: its transform, ``2 J1(u) / u``.

    Arrays that go together; ``radius`` in the unit that ``frequency`` is the inverse of.
    """
    from scipy import special

    u = np.maximum(2 * math.pi * frequency * radius, 1e-6)
    return 2 * special.j1(u) / u
