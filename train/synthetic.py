"""Tiles from simulated microscopes: a field is one specimen under one microscope, seen at several distances.

Held-out means held out by specimen: photographs are split by file or slide, drawn specimens by seed. A
field's index and split alone decide what it shows, so the number of processes that make it does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge import tiles
from edge.errors import InputError
from edge.simulator.formation import ImageFormer, Imaging, lamp
from edge.simulator.sensor import Exposer, Sensor
from edge.simulator.specimens import SPECIMENS, Specimen, from_image, images_in, make, read_image
from train.pool import Pool
from train.recipe import MOSAIC, Data, Recipe
from train.tile_data import FieldTiles, stored
from train.variety import mosaic, turned, varied

Split = Literal["train", "val", "test"]
_SPLIT_SEED = {"train": 0, "val": 1, "test": 2}
#: Fields handed to a process at once.
_FIELDS_A_JOB = 8


def photographs(data: Data, folder: int, split: Split) -> list[Path]:
    """The sharp photographs of one folder that belong to ``split``; no two splits share one.

    Raises InputError for a folder that is missing, a pattern of two splits, or a split without a photograph.
    """
    path = Path(data.sharp_folders[folder])
    sides: dict[Split, list[Path]] = {"train": [], "val": [], "test": []}
    for number, file in enumerate(images_in(path)):
        sides[_side(data, number, file)].append(file)
    lacking = [side for side, files in sides.items() if not files]
    if lacking:
        raise InputError(
            f"{path}: no photograph for {', '.join(lacking)}: each of train, val and test needs one that no"
            " other has (held_out_every, or val_photographs and test_photographs)"
        )
    return sides[split]


def _side(data: Data, number: int, file: Path) -> Split:
    """Where photograph ``number`` of its folder, from 0, belongs."""
    if data.test_photographs:
        named: list[Split] = []
        if any(fnmatchcase(file.name, pattern) for pattern in data.val_photographs):
            named.append("val")
        if any(fnmatchcase(file.name, pattern) for pattern in data.test_photographs):
            named.append("test")
        if len(named) > 1:
            raise InputError(f"{file}: named by val_photographs and by test_photographs")
        return named[0] if named else "train"
    place, rest = divmod(number, data.held_out_every)
    if rest:
        return "train"
    return "val" if place % 2 else "test"


def check_photographs(data: Data) -> None:
    """Raise InputError where a folder of photographs that the mix asks for is missing or has too few."""
    for number in range(len(data.sharp_folders)):
        if data.mix.get(f"folder:{number}") or data.train_mix.get(f"folder:{number}"):
            try:
                photographs(data, number, "train")
            except InputError as error:
                why = "[data] sharp_folders names it, --recipe drawn needs none"
                raise InputError(f"{error}; {why}") from error


def field_specimen(data: Data, split: Split, index: int, size: int) -> Specimen:
    """The specimen of field ``index`` at ``size`` square pixels."""
    rng = _generator(data, split, index, 7)
    vary = split == "train" and data.variety > 0 and rng.random() < data.variety
    specimen = _drawn(data, split, size, rng, turn=vary)
    if vary:
        specimen = varied(specimen, rng, lambda: _drawn(data, split, size, rng, turn=True))
    return specimen


def _generator(data: Data, split: Split, index: int, purpose: int) -> np.random.Generator:
    own = data.train_seed if split == "train" else None
    return np.random.default_rng((data.seed if own is None else own, _SPLIT_SEED[split], index, purpose))


def _drawn(data: Data, split: Split, size: int, rng: np.random.Generator, *, turn: bool) -> Specimen:
    """A specimen of the mix; a photograph turned before, where ``turn``."""
    mix = (data.train_mix if split == "train" else {}) or data.mix
    names = sorted(mix)
    weights = np.array([mix[n] for n in names], float)
    name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    if name == MOSAIC:
        return mosaic((size, size), rng)
    if name in SPECIMENS:
        return make(name, (size, size), int(rng.integers(1 << 40)) * 3 + _SPLIT_SEED[split])
    number = int(name.removeprefix("folder:"))  # the recipe has seen to it that it is one
    files = photographs(data, number, split)
    image = _photograph(files[int(rng.integers(len(files)))])
    image = turned(image, rng) if turn else image
    return from_image(image, (size, size), rng, name=Path(data.sharp_folders[number]).name)


@lru_cache(maxsize=128)
def _photograph(file: Path) -> NDArray[np.uint8]:
    return read_image(file)


def field_tiles(recipe: Recipe, split: Split, index: int, dof_um: float | None = None) -> FieldTiles:
    """One field, seen at ``defoci_per_field`` distances. Takes about a second.

    ``dof_um`` labels it in µm too, as if a depth of field had that many.
    """
    data, network = recipe.data, recipe.network
    size = data.train_frame_px if split == "train" else data.test_frame_px
    specimen = field_specimen(data, split, index, size)
    rng = _generator(data, split, index, 11)
    imaging = Imaging.random(rng) if data.optics == "random" else Imaging()
    sensor = Sensor.random(rng) if data.optics == "random" else Sensor()
    former, exposer = ImageFormer(specimen, imaging), Exposer(sensor, specimen.shape, rng)
    found, defoci = [], []
    for _ in range(data.defoci_per_field):
        near = rng.random() < data.near_share
        drawn = rng.normal(0, 2) if near else rng.uniform(-data.range_dof, data.range_dof)
        defocus = float(np.clip(drawn, -data.range_dof, data.range_dof))
        frame = exposer.expose(former.images([defocus], *lamp(imaging, defocus, rng))[0])
        chosen = tiles.extract(
            frame,
            1.0,
            size_px=network.tile_px,
            most=network.tiles_per_frame,
            raw=network.input == "raw",
        )
        found.append(stored(chosen.pixels))
        defoci.append(defocus)
    in_um = None if dof_um is None else [defocus * dof_um for defocus in defoci]
    return FieldTiles(found, defoci, specimen.name, in_um, dof_um)


def field_count(recipe: Recipe, split: Split) -> int:
    """How many fields the recipe asks for."""
    data = recipe.data
    return {"train": data.train_fields, "val": data.val_fields, "test": data.test_fields}[split]


def _job(args: tuple[Recipe, Split, int, int, float | None]) -> list[FieldTiles]:
    recipe, split, first, last, dof_um = args
    return [field_tiles(recipe, split, k, dof_um) for k in range(first, last)]


def generate(
    recipe: Recipe, split: Split, pool: Pool | None = None, *, dof_um: float | None = None
) -> Iterator[FieldTiles]:
    """Fields in order of index, made by the processes of ``pool``; their number does not change them."""
    count = field_count(recipe, split)
    jobs = [(recipe, split, k, min(k + _FIELDS_A_JOB, count), dof_um) for k in range(0, count, _FIELDS_A_JOB)]
    for part in (pool or Pool()).map(_job, jobs):
        yield from part
