"""Tiles from simulated microscopes: a field is one specimen under one microscope, seen at several distances.

Held-out means held out by specimen: photographs are split by file, procedural specimens by seed. A field's
index and split alone decide what it shows, so the number of processes that make the data does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge import tiles
from edge.errors import InputError
from edge.simulator.formation import ImageFormer, Imaging, points_needed, source_points
from edge.simulator.sensor import Exposer, Sensor
from edge.simulator.specimens import SPECIMENS, Specimen, from_image, images_in, make, read_image
from train.recipe import Data, Recipe

Split = Literal["train", "val", "test"]
_SPLIT_SEED = {"train": 0, "val": 1, "test": 2}
#: Tiles ``(N, S, S, 3)`` int8 of each frame of a field, the frames' defoci in dof, the specimen's kind.
FieldTiles = tuple[list[NDArray[np.int8]], list[float], str]
#: Fields handed to a process at once.
_FIELDS_A_JOB = 8


@dataclass(frozen=True)
class TileData:
    """Tiles with their truth.

    ``pixels`` ``(N, S, S, 3)`` int8 (127 is 1.0), ``defocus_dof`` ``(N,)`` float32, ``frame`` and ``field``
    ``(N,)`` int32 group numbers, ``kind`` ``(N,)`` int16 index into ``kinds``.
    """

    pixels: NDArray[np.int8]
    defocus_dof: NDArray[np.float32]
    frame: NDArray[np.int32]
    field: NDArray[np.int32]
    kind: NDArray[np.int16]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.defocus_dof)


def photographs(data: Data, folder: int, split: Split) -> list[Path]:
    """The sharp photographs of one folder that belong to ``split``; val and test share the held-out files.

    Raises InputError for a folder that is missing, or has no photograph left for training.
    """
    path = Path(data.sharp_folders[folder])
    files = images_in(path)
    if split != "train":
        return files[:: data.held_out_every]
    rest = [file for k, file in enumerate(files) if k % data.held_out_every]
    if not rest:
        raise InputError(f"{path}: one photograph, which is held out: at least 2 are needed")
    return rest


def check_photographs(data: Data) -> None:
    """Raise InputError where a folder of photographs that the mix asks for is missing or has too few."""
    for number in range(len(data.sharp_folders)):
        if data.mix.get(f"folder:{number}"):
            photographs(data, number, "train")


def field_specimen(data: Data, split: Split, index: int, size: int) -> Specimen:
    """The specimen of field ``index`` at ``size`` square pixels."""
    rng = np.random.default_rng((data.seed, _SPLIT_SEED[split], index, 7))
    names = sorted(data.mix)
    weights = np.array([data.mix[n] for n in names], float)
    name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    if name in SPECIMENS:
        return make(name, (size, size), int(rng.integers(1 << 40)) * 3 + _SPLIT_SEED[split])
    number = int(name.removeprefix("folder:"))  # the recipe has seen to it that it is one
    files = photographs(data, number, split)
    file = files[int(rng.integers(len(files)))]
    return from_image(_photograph(file), (size, size), rng, name=Path(data.sharp_folders[number]).name)


@lru_cache(maxsize=128)
def _photograph(file: Path) -> NDArray[np.uint8]:
    return read_image(file)


def field_tiles(recipe: Recipe, split: Split, index: int) -> FieldTiles:
    """One field, seen at ``defoci_per_field`` distances. Takes about a second."""
    data, network = recipe.data, recipe.network
    size = data.train_frame_px if split == "train" else data.test_frame_px
    specimen = field_specimen(data, split, index, size)
    rng = np.random.default_rng((data.seed, _SPLIT_SEED[split], index, 11))
    imaging = Imaging.random(rng) if data.optics == "random" else Imaging()
    sensor = Sensor.random(rng) if data.optics == "random" else Sensor()
    former, exposer = ImageFormer(specimen, imaging), Exposer(sensor, specimen.shape, rng)
    found, defoci = [], []
    for _ in range(data.defoci_per_field):
        near = rng.random() < data.near_share
        drawn = rng.normal(0, 2) if near else rng.uniform(-data.range_dof, data.range_dof)
        defocus = float(np.clip(drawn, -data.range_dof, data.range_dof))
        points = source_points(imaging, points_needed(imaging, defocus), rng)
        frame = exposer.expose(former.images([defocus], points)[0])
        chosen = tiles.extract(frame, 1.0, size_px=network.tile_px, most=network.tiles_per_frame)
        found.append(stored(chosen.pixels))
        defoci.append(defocus)
    return found, defoci, specimen.name


def stored(pixels: NDArray[np.float32]) -> NDArray[np.int8]:
    """Tiles in -1 to 1 as `TileData` keeps them."""
    return np.asarray(np.rint(pixels * 127), np.int8)


def field_count(recipe: Recipe, split: Split) -> int:
    """How many fields the recipe asks for."""
    data = recipe.data
    return {"train": data.train_fields, "val": data.val_fields, "test": data.test_fields}[split]


def _job(args: tuple[Recipe, Split, int, int]) -> list[FieldTiles]:
    recipe, split, first, last = args
    return [field_tiles(recipe, split, k) for k in range(first, last)]


def generate(recipe: Recipe, split: Split, *, processes: int = 1) -> Iterator[FieldTiles]:
    """Fields in order of index, made by ``processes`` at once; their number does not change them."""
    count = field_count(recipe, split)
    jobs = [(recipe, split, k, min(k + _FIELDS_A_JOB, count)) for k in range(0, count, _FIELDS_A_JOB)]
    if processes == 1:
        for job in jobs:
            yield from _job(job)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for part in pool.map(_job, jobs):
            yield from part


def collect(fields: Iterable[FieldTiles]) -> TileData:
    """Fields put together in memory, numbered as they come. Raises InputError where none gave a tile."""
    pixels: list[NDArray[np.int8]] = []
    defocus: list[float] = []
    frame: list[int] = []
    field: list[int] = []
    names: list[str] = []
    frames = 0
    for index, (frame_tiles, defoci, kind) in enumerate(fields):
        for stack, truth in zip(frame_tiles, defoci, strict=True):
            pixels.append(stack)
            defocus += [truth] * len(stack)
            frame += [frames] * len(stack)
            field += [index] * len(stack)
            names += [kind] * len(stack)
            frames += 1
    kinds = tuple(sorted(set(names)))
    if not defocus:
        raise InputError("no informative tile in this data: nothing to learn from")
    return TileData(
        np.concatenate(pixels),
        np.array(defocus, np.float32),
        np.array(frame, np.int32),
        np.array(field, np.int32),
        np.array([kinds.index(n) for n in names], np.int16),
        kinds,
    )
