"""A first look at all planes of a source: which can be read, of what size, and how deep their values go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.files import RGB
from train.stack_source import Picture, SourcePlane

__all__ = ["Crop", "Survey", "survey"]

FEWEST_PLANES = 2
#: The share of pixels above which a few (a hot pixel, a glint) set the scale of all ...
_FEW = 0.001
#: ... which is worth a word where all others lie below this share of it.
_MOSTLY_DARK = 0.25


@dataclass(frozen=True)
class Crop:
    """A part of an image, in pixels: ``x`` and ``y`` are 0 or more, ``width`` and ``height`` above 0."""

    x: int
    y: int
    width: int
    height: int

    def as_list(self) -> list[int]:
        """``[x, y, width, height]``."""
        return [self.x, self.y, self.width, self.height]

    def of(self, picture: Picture, name: str) -> Picture:
        """That part of `(H, W, 3)`. Raises InputError, naming ``name``, where it reaches beyond the image."""
        height, width = picture.shape[:2]
        if self.x + self.width > width or self.y + self.height > height:
            text = ",".join(str(number) for number in self.as_list())
            raise InputError(f"{name}: --crop {text}: within {width} x {height} pixels is allowed")
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, eq=False)
class Survey:
    """What all planes have in common."""

    kept: tuple[int, ...]
    """Numbers of the planes that can be read, rising; two or more."""

    skipped: tuple[str, ...]
    """Names of the others."""

    shape: tuple[int, int]
    """Height and width in pixels, after cropping."""

    highest: int | None
    """The highest value of a stack of 16 bits, above 0, which becomes 255; None for 8 bits."""

    notes: tuple[str, ...]
    """What the user should know, each a sentence."""

    crop: Crop | None
    """The part of each image that is kept; None for all of it."""

    def picture(self, plane: SourcePlane) -> RGB:
        """The plane as it is written: cropped, `(H, W, 3)` uint8, on the one scale of the stack.

        Blocks; raises InputError naming it where it cannot be read, or is no longer what it was.
        """
        picture = plane.read()
        if self.crop is not None:
            picture = self.crop.of(picture, plane.name)
        if picture.shape[:2] != self.shape or (picture.dtype == np.uint8) != (self.highest is None):
            raise InputError(f"{plane.name}: has changed while it was read")
        if self.highest is None:
            return np.asarray(picture, np.uint8)
        scaled = np.rint(np.arange(self.highest + 1) * (255 / self.highest)).astype(np.uint8)
        return np.asarray(scaled[np.minimum(picture, self.highest)], np.uint8)


@dataclass(frozen=True)
class _Kind:
    """The first plane's name, and what all must be like."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def check(self, name: str, picture: Picture) -> None:
        """Raise InputError where a plane differs in size or depth."""
        if picture.shape[:2] != self.shape:
            raise InputError(
                f"{name}: image is {picture.shape[1]} x {picture.shape[0]} pixels; as {self.name} it must be"
                f" {self.shape[1]} x {self.shape[0]}"
            )
        if picture.dtype.name != self.dtype:
            raise InputError(f"{name}: {picture.dtype} pixels; as {self.name} it must have {self.dtype}")


def survey(
    name: str,
    planes: Sequence[SourcePlane],
    crop: Crop | None,
    *,
    skip_bad: bool,
    progress: Callable[[], None],
) -> Survey:
    """Decode each plane once, calling ``progress`` after each; one is in memory at a time.

    ``name`` is the source's. Raises InputError, naming the plane, where one cannot be read (unless
    ``skip_bad``: then it is left out), differs in size or depth from the first, or does not hold ``crop``;
    and where fewer than two are left, or all is black.
    """
    kept: list[int] = []
    skipped: list[tuple[str, str]] = []
    first: _Kind | None = None
    shape = (0, 0)
    counts = np.zeros(1 << 16, np.int64)
    for number, plane in enumerate(planes):
        try:
            picture = plane.read()
        except InputError as error:
            if not skip_bad:
                raise
            skipped.append((Path(plane.name).name, str(error)))
        else:
            first = first or _Kind(Path(plane.name).name, picture.shape[:2], picture.dtype.name)
            first.check(plane.name, picture)
            part = picture if crop is None else crop.of(picture, plane.name)
            if part.dtype == np.uint16:
                counts += np.bincount(part.ravel(), minlength=len(counts))
            shape = part.shape[0], part.shape[1]
            kept.append(number)
        progress()
    notes = [f"skipped: {why}" for _, why in skipped]
    if len(kept) < FEWEST_PLANES:
        raise InputError(f"{name}: {len(kept)} image(s) to read; {FEWEST_PLANES} or more make a stack")
    highest = None
    if counts.any():
        highest = int(np.flatnonzero(counts)[-1])
        notes += _scale_notes(name, counts, highest)
    return Survey(tuple(kept), tuple(one for one, _ in skipped), shape, highest, tuple(notes), crop)


def _scale_notes(name: str, counts: NDArray[np.int64], highest: int) -> list[str]:
    """What the one scale of all planes is. Raises InputError where every value is 0."""
    if highest == 0:
        raise InputError(f"{name}: 16 bits, and every value is 0")
    notes = [f"16 bits: 0 to {highest}, the highest value of the stack, become 0 to 255 in every plane"]
    below = int(np.searchsorted(counts.cumsum(), (1 - _FEW) * counts.sum()))
    if below < _MOSTLY_DARK * highest:
        notes.append(
            f"{100 * (1 - _FEW):g} % of the values are {below} or less: a few bright pixels set the scale,"
            f" about {math.ceil(255 * below / highest) + 1} grey levels are left for the rest"
        )
    return notes
