"""Tiles with their truth: what every source of data becomes before a network sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from train.arrays import read_npz
from train.labels import Unit

Float = NDArray[np.float64]


class FieldTiles(NamedTuple):
    """One field: its frames' tiles, each ``(N, S, S, 3)`` int8, with the defocus of each frame.

    ``defocus_um`` and ``dof_um`` are None where nothing tells how many µm a depth of field has. ``bad`` names
    the images that could not be read and were left out.
    """

    tiles: list[NDArray[np.int8]]
    defocus_dof: list[float]
    kind: str
    defocus_um: list[float] | None = None
    dof_um: float | None = None
    bad: tuple[str, ...] = ()


@dataclass(frozen=True)
class TileData:
    """Tiles with their truth.

    ``pixels`` ``(N, S, S, 3)`` int8 (127 is 1.0), ``defocus_dof`` ``(N,)`` float32, ``frame`` and ``field``
    ``(N,)`` int32 group numbers, ``kind`` ``(N,)`` int16 index into ``kinds``. ``defocus_um`` (as labelled,
    never rounded) and ``dof_um`` (µm of one depth of field): ``(N,)`` float64, None where not known.
    """

    pixels: NDArray[np.int8]
    defocus_dof: NDArray[np.float32]
    frame: NDArray[np.int32]
    field: NDArray[np.int32]
    kind: NDArray[np.int16]
    kinds: tuple[str, ...]
    defocus_um: Float | None = None
    dof_um: Float | None = None

    def __len__(self) -> int:
        return len(self.defocus_dof)

    def truth(self, unit: Unit) -> Float:
        """Signed defocus ``(N,)`` float64 in ``unit``. Raises InputError for µm that are not known."""
        if unit == "dof":
            return self.defocus_dof.astype(np.float64)
        if self.defocus_um is None:
            raise InputError("labels in µm: this data gives defocus in depths of field only: --labels dof")
        return self.defocus_um

    def dof_in(self, unit: Unit) -> Float:
        """One depth of field of each tile, ``(N,)`` float64 in ``unit``."""
        if unit == "dof" or self.dof_um is None:
            return np.ones(len(self))
        return self.dof_um

    def at(self, index: NDArray[np.intp] | slice) -> TileData:
        """Some of the tiles."""
        um, dof = (None if a is None else a[index] for a in (self.defocus_um, self.dof_um))
        kind = self.kind[index]
        return TileData(
            self.pixels[index], self.defocus_dof[index], self.frame[index], self.field[index], kind,
            self.kinds, um, dof,
        )  # fmt: skip


def floats(pixels: NDArray[np.int8]) -> NDArray[np.float32]:
    """Stored tiles as a network takes them: float32, 127 becomes 1.0."""
    return pixels.astype(np.float32) / np.float32(127)


def stored(pixels: NDArray[np.float32]) -> NDArray[np.int8]:
    """Tiles as `TileData` keeps them: the reverse of `floats`."""
    return np.asarray(np.clip(np.rint(pixels * 127), -128, 127), np.int8)


def collect(fields: Iterable[FieldTiles]) -> TileData:
    """Fields put together in memory, numbered as they come. Raises InputError where none gave a tile."""
    pixels: list[NDArray[np.int8]] = []
    defocus: list[float] = []
    um: list[float] = []
    dof_um: list[float] = []
    frame: list[int] = []
    field: list[int] = []
    names: list[str] = []
    frames = 0
    for index, part in enumerate(fields):
        for k, (stack, truth) in enumerate(zip(part.tiles, part.defocus_dof, strict=True)):
            count = len(stack)
            pixels.append(stack)
            defocus += [truth] * count
            if part.defocus_um is not None and part.dof_um is not None:
                um += [part.defocus_um[k]] * count
                dof_um += [part.dof_um] * count
            frame += [frames] * count
            field += [index] * count
            names += [part.kind] * count
            frames += 1
    kinds = tuple(sorted(set(names)))
    if not defocus:
        raise InputError("no informative tile in this data: nothing to learn from")
    in_um = len(um) == len(defocus)
    return TileData(
        np.concatenate(pixels),
        np.array(defocus, np.float32),
        np.array(frame, np.int32),
        np.array(field, np.int32),
        np.array([kinds.index(n) for n in names], np.int16),
        kinds,
        np.array(um) if in_um else None,
        np.array(dof_um) if in_um else None,
    )


_ARRAYS = ("pixels", "defocus", "frame", "field", "kind", "kinds")
_IN_UM = ("defocus_um", "dof_um")


def save(path: Path, data: TileData) -> None:
    """Write tiles to an ``.npz``. Raises OSError where the disk is full."""
    arrays = dict(
        zip(
            _ARRAYS,
            (data.pixels, data.defocus_dof, data.frame, data.field, data.kind, data.kinds),
            strict=True,
        )
    )
    if data.defocus_um is not None and data.dof_um is not None:
        arrays |= {"defocus_um": data.defocus_um, "dof_um": data.dof_um}
    np.savez(path, **{name: np.asarray(value) for name, value in arrays.items()})  # type: ignore[arg-type]


def load(path: Path, *, tile_px: int) -> TileData:
    """Read what `save` wrote. Raises InputError where it is damaged or its tiles are not ``tile_px`` wide."""
    arrays = read_npz(path, "readable tiles")
    if sorted(arrays) not in (sorted(_ARRAYS), sorted(_ARRAYS + _IN_UM)):
        raise InputError(f"{path}: not readable tiles: it holds {', '.join(arrays) or 'nothing'}")
    pixels, defocus, frame, field, kind, kinds = (arrays[name] for name in _ARRAYS)
    in_um = [arrays[name] for name in _IN_UM if name in arrays]
    count = len(pixels) if pixels.ndim else 0
    if pixels.shape != (count, tile_px, tile_px, 3) or pixels.dtype != np.int8 or count == 0:
        raise InputError(
            f"{path}: tiles {pixels.shape} {pixels.dtype}: int8 of {tile_px} x {tile_px} are needed"
        )
    if any(a.shape != (count,) or a.dtype.kind not in "if" for a in (defocus, frame, field, kind, *in_um)):
        raise InputError(f"{path}: not readable tiles: truth and tiles do not fit together")
    finite = all(np.isfinite(a).all() for a in (defocus, *in_um)) and all((a > 0).all() for a in in_um[1:])
    if kinds.ndim != 1 or kind.min() < 0 or kind.max() >= len(kinds) or not finite:
        raise InputError(f"{path}: not readable tiles: truth or kinds are damaged")
    return TileData(
        pixels, defocus, frame, field, kind, tuple(str(name) for name in kinds), *(in_um or (None, None))
    )
