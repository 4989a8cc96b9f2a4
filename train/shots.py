"""Shots: labelled images on the disk, not yet read; and how each becomes tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from edge import tiles
from edge.errors import InputError
from edge.files import read_image
from edge.optics import PIXELS_PER_RESOLUTION, Optics
from train.recipe import Network
from train.tile_data import FieldTiles, stored

#: Width of the published tiles, which raw input shrinks to the network's ``tile_px``.
PUBLISHED_TILE_PX = 224


@dataclass(frozen=True)
class Shot:
    """One image with its truth."""

    file: Path
    defocus_um: float
    """Signed defocus in µm, as labelled."""
    field: str
    """The field of view; all planes of a stack share it."""
    slide: str
    """The slide; fields of one slide share their stain and thickness."""
    kind: str
    """The specimen, for figures by kind."""
    optics: Optics
    whole_tile: bool = False
    """A tile that was published as one image: it counts even where it shows nothing."""


@dataclass(frozen=True)
class FieldJob:
    """What a process needs to turn the shots of one field into tiles."""

    shots: tuple[Shot, ...]
    network: Network
    skip_bad: bool


def by_field(shots: Iterable[Shot]) -> list[tuple[Shot, ...]]:
    """The shots of each field, fields sorted by name."""
    ordered = sorted(shots, key=lambda shot: (shot.field, shot.defocus_um, shot.file))
    return [tuple(group) for _, group in groupby(ordered, key=lambda shot: shot.field)]


def field_tiles(job: FieldJob) -> FieldTiles:
    """Read and tile one field, an image a frame.

    Raises InputError naming the file for an image that cannot be read; with ``skip_bad`` it is left out and
    named in the result instead.
    """
    network = job.network
    raw = network.input == "raw"
    found, defoci_um, bad = [], [], []
    for shot in job.shots:
        try:
            frame = read_image(shot.file)
        except InputError:
            if not job.skip_bad:
                raise
            bad.append(str(shot.file))
            continue
        scale = network.tile_px / PUBLISHED_TILE_PX if raw else shot.optics.model_scale
        chosen = tiles.extract(
            frame,
            scale,
            size_px=network.tile_px,
            most=network.tiles_per_frame,
            raw=raw,
            at_least=int(shot.whole_tile),
        )
        found.append(stored(chosen.pixels))
        defoci_um.append(shot.defocus_um)
    first = job.shots[0]
    dof_um = first.optics.dof_um
    return FieldTiles(found, [um / dof_um for um in defoci_um], first.kind, defoci_um, dof_um, tuple(bad))


def pixels_per_resolution(shots: Sequence[Shot], network: Network) -> float:
    """Sampling of the tiles in pixels per λ/NA: that of the middle shot where raw tiles differ."""
    if network.input == "normalised":
        return PIXELS_PER_RESOLUTION
    shrink = network.tile_px / PUBLISHED_TILE_PX
    every = sorted(shot.optics.resolution_um / shot.optics.pixel_um * shrink for shot in shots)
    return every[len(every) // 2]


def content(shot: Shot) -> str:
    """SHA-256 of an image's bytes. Raises InputError for a file that cannot be read."""
    try:
        return hashlib.sha256(shot.file.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{shot.file}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def named_bad(parts: Iterator[FieldTiles], into: list[str]) -> Iterator[FieldTiles]:
    """Pass fields on, gathering the images that were left out."""
    for part in parts:
        into.extend(part.bad)
        yield part
