"""What a z-stack is made of: planes of some file or folder, with what that says about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError

__all__ = ["Choice", "Facts", "Picture", "Source", "SourcePlane", "coloured"]

#: `(H, W, 3)` RGB of uint8 or uint16.
Picture = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Choice:
    """Which part of a TIFF with more axes than a stack is meant; each counts from 0, None where not said."""

    time: int | None = None
    channel: int | None = None
    position: int | None = None


@dataclass(frozen=True)
class Facts:
    """What a source says about its optics; None where it does not."""

    step_um: float | None = None
    """µm from plane to plane, above 0."""

    pixel_um: float | None = None
    """Object-side µm per pixel, above 0."""

    objective: str | None = None
    """Text that `edge.optics.Objective.parse` reads."""


@dataclass(frozen=True)
class SourcePlane:
    """One image of a source, not yet read."""

    name: str
    """What to call it in an error: a path, or a path and a plane number."""

    read: Callable[[], Picture]
    """Decode it: a new `(H, W, 3)` RGB array, uint8 or uint16. Blocks; raises InputError naming it."""


@dataclass(frozen=True)
class Source:
    """An opened source. Its planes can be read while it is open."""

    planes: tuple[SourcePlane, ...]
    """In the order of the file, of the names, or by rising z of a table; one or more."""

    z: tuple[float, ...] | None = None
    """Stage position of each plane where the source has a table, rising; None where their order is all."""

    z_in_planes: bool = False
    """Whether `z` counts planes and not µm."""

    focus_z: float | None = None
    """Where the source says that it is sharp, in the unit of `z`."""

    about: Mapping[str, Any] = field(default_factory=dict)
    """All of the source's about.json."""

    axes: str = ""
    """Axes of a TIFF and their sizes, as `ZCYX 5 x 3 x 480 x 640`."""

    facts: Facts = field(default_factory=Facts)

    notes: tuple[str, ...] = ()
    """What the user should know, each a sentence."""


def coloured(data: NDArray[Any], name: str) -> Picture:
    """`(H, W)` or `(H, W, C)`, uint8 or uint16, as `(H, W, 3)`: grey is repeated, alpha is dropped.

    Raises InputError, naming ``name``, for another type or number of channels, or no pixels.
    """
    if data.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{name}: {data.dtype} pixels; 8 or 16 bits without a sign are allowed")
    if data.size == 0:
        raise InputError(f"{name}: the image has no pixels")
    if data.ndim == 2:
        data = data[..., None]
    channels = data.shape[2]
    if channels not in (1, 3, 4):
        raise InputError(
            f"{name}: {channels} samples a pixel; 1 (grey), 3 (colour) or 4 (and alpha) are allowed"
        )
    return np.ascontiguousarray(np.repeat(data, 3, axis=2) if channels == 1 else data[..., :3])
