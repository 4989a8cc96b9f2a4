"""What `DATA` on the command line means: ``synthetic``, z-stack folders, folders of them; and the splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edge.errors import InputError
from train import synthetic
from train.arrays import read_npz
from train.recipe import Recipe, load_recipe
from train.stacks import stack_fields, stack_folders
from train.synthetic import FieldTiles, Split, TileData, collect

SYNTHETIC = "synthetic"
_RECIPES = Path(__file__).parent / "recipes"
#: Of every five z-stacks, sorted by path.
_STACK_TURNS: dict[Split, tuple[int, ...]] = {"val": (0,), "test": (1,), "train": (2, 3, 4)}
_Progress = Callable[[], None]


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in _RECIPES.glob("*.toml"))


def named_recipe(name: str) -> Recipe:
    """A recipe shipped with the package by name, or any by path. Raises InputError, naming those shipped."""
    if name.endswith(".toml"):
        return load_recipe(Path(name))
    if name not in shipped_recipes():
        raise InputError(
            f"recipe {name!r}: allowed are {', '.join(shipped_recipes())}, or the path of a .toml file"
        )
    return load_recipe(_RECIPES / f"{name}.toml")


def load_split(
    sources: Sequence[str],
    recipe: Recipe,
    split: Split,
    *,
    processes: int = 1,
    step_um: float = 1.0,
    progress: _Progress | None = None,
) -> TileData:
    """The tiles of one split.

    Synthetic data splits by specimen; z-stacks by stack: of every five (sorted by path, each counted once)
    the first is for validation, the second for test. ``progress`` is called after each field. Raises
    InputError for sources that are missing, unlabelled or mixed, and for fewer than three stacks.
    """
    if SYNTHETIC in sources:
        if any(source != SYNTHETIC for source in sources):
            raise InputError("synthetic data and z-stacks cannot be mixed in one run")
        synthetic.check_photographs(recipe.data)
        return collect(_reporting(synthetic.generate(recipe, split, processes=processes), progress))
    # A stack that is named twice, or by two paths, must not be on both sides of the split.
    found = {folder.resolve(): folder for source in sources for folder in stack_folders(Path(source))}
    folders = [found[path] for path in sorted(found)]
    if len(folders) < 3:
        raise InputError(
            f"z-stacks: {len(folders)} found, at least 3 are needed: to train, validate and test on"
        )
    chosen = [folder for k, folder in enumerate(folders) if k % 5 in _STACK_TURNS[split]]
    return all_stacks(chosen, recipe, step_um=step_um, progress=progress)


def all_stacks(
    sources: Iterable[Path], recipe: Recipe, *, step_um: float = 1.0, progress: _Progress | None = None
) -> TileData:
    """The tiles of every plane of ``sources`` (z-stacks or folders of them), without a split."""
    parts = (part for source in sources for part in stack_fields(source, recipe.network, step_um))
    return collect(_reporting(parts, progress))


def field_count(sources: Sequence[str], recipe: Recipe, split: Split) -> int | None:
    """How many fields a split will have, for a progress bar; None where it must be seen."""
    return synthetic.field_count(recipe, split) if SYNTHETIC in sources else None


def save(path: Path, data: TileData) -> None:
    """Write tiles to an ``.npz``."""
    np.savez(
        path,
        pixels=data.pixels,
        defocus=data.defocus_dof,
        frame=data.frame,
        field=data.field,
        kind=data.kind,
        kinds=np.array(data.kinds),
    )


def load(path: Path, *, tile_px: int) -> TileData:
    """Read what `save` wrote. Raises InputError where it is damaged or its tiles are not ``tile_px`` wide."""
    arrays = read_npz(path, "readable tiles")
    names = ("pixels", "defocus", "frame", "field", "kind", "kinds")
    if sorted(arrays) != sorted(names):
        raise InputError(f"{path}: not readable tiles: it holds {', '.join(arrays) or 'nothing'}")
    pixels, defocus, frame, field, kind, kinds = (arrays[name] for name in names)
    count = len(pixels) if pixels.ndim else 0
    if pixels.shape != (count, tile_px, tile_px, 3) or pixels.dtype != np.int8 or count == 0:
        raise InputError(
            f"{path}: tiles {pixels.shape} {pixels.dtype}: int8 of {tile_px} x {tile_px} are needed"
        )
    if any(a.shape != (count,) or a.dtype.kind not in "if" for a in (defocus, frame, field, kind)):
        raise InputError(f"{path}: not readable tiles: truth and tiles do not fit together")
    if kinds.ndim != 1 or kind.min() < 0 or kind.max() >= len(kinds) or not np.isfinite(defocus).all():
        raise InputError(f"{path}: not readable tiles: truth or kinds are damaged")
    return TileData(pixels, defocus, frame, field, kind, tuple(str(name) for name in kinds))


def _reporting(fields: Iterable[FieldTiles], progress: _Progress | None) -> Iterator[FieldTiles]:
    for part in fields:
        yield part
        if progress is not None:
            progress()
