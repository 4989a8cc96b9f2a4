"""What `DATA` on the command line means, and what becomes of it: the sides of a split, as tiles.

synthetic        simulated fields, as the recipe's [data] says
FOLDER           in the layout of the Jiang 2018 data
FOLDER …         z-stacks, or folders of them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import InputError
from edge.optics import PIXELS_PER_RESOLUTION
from train import jiang, split, synthetic
from train.assumed import Assumed
from train.pool import Pool
from train.recipe import Network, Recipe, load_recipe
from train.shots import FieldJob, Shot, by_field, field_tiles, named_bad, pixels_per_resolution
from train.split import Division
from train.stacks import stack_shots
from train.tile_data import FieldTiles, TileData, collect

SYNTHETIC = "synthetic"
_RECIPES = Path(__file__).parent / "recipes"
#: Told a side and its fields; gives what is called after each field.
Progress = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True)
class Collection:
    """Everything that was found on the disk, labelled, not yet read or split."""

    shots: list[Shot]
    protocols: dict[str, list[Shot]]
    """Further test sets by their names: their images never train."""
    notes: list[str]
    """What had to be assumed or measured."""

    def every(self) -> list[Shot]:
        """All shots, those of the further test sets too."""
        return [*self.shots, *(shot for shots in self.protocols.values() for shot in shots)]


@dataclass(frozen=True)
class Plan:
    """Which image is on which side."""

    division: Division | None
    """None for synthetic data, which splits by specimen."""
    shots: dict[str, list[Shot]]
    """The images of each side and of the further test sets; empty for synthetic data."""
    notes: list[str]
    """What had to be assumed or measured."""
    dof_um: float | None = None
    """Synthetic data: µm that a depth of field stands for, where an objective was given."""


@dataclass(frozen=True)
class Material:
    """The sides of a split as tiles."""

    sides: dict[str, TileData]
    """``train``, ``val``, ``test``, and the further test sets."""
    pixels_per_resolution: float
    bad: list[str]
    """Images that were left out because they could not be read."""


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


def is_synthetic(sources: Sequence[str]) -> bool:
    """Whether ``sources`` mean simulated fields. Raises InputError where they mean images, too."""
    if SYNTHETIC in sources and any(source != SYNTHETIC for source in sources):
        raise InputError("synthetic data and images cannot be mixed in one run")
    return SYNTHETIC in sources


def read_collection(sources: Sequence[str], assumed: Assumed) -> Collection:
    """Find and label the images of ``sources``. Raises InputError: missing, unlabelled or mixed."""
    folders = [Path(source) for source in sources]
    in_layout = [jiang.root_of(folder) is not None for folder in folders]
    if any(in_layout):
        if len(folders) > 1:
            raise InputError("data in the Jiang layout cannot be mixed with other data in one run")
        found = jiang.read_jiang(folders[0], assumed)
        optics = next(iter((*found.tiles, *(s for shots in found.protocols.values() for s in shots)))).optics
        note = f"Jiang layout: {optics.objective}, {optics.pixel_um:g} µm a pixel, a depth of field is"
        return Collection(found.tiles, found.protocols, [f"{note} {optics.dof_um:.3g} µm"])
    shots, notes = stack_shots(folders, assumed)
    return Collection(shots, {}, notes)


def plan(sources: Sequence[str], recipe: Recipe, *, assumed: Assumed, split_file: Path | None = None) -> Plan:
    """Find, label and split ``sources``; but for a focus that must be measured no image is decoded.

    Raises InputError for bad data, a bad split, or labels in µm where nothing tells them.
    """
    if is_synthetic(sources):
        if split_file is not None:
            raise InputError("--split has no meaning for synthetic data: its specimens split by themselves")
        dof_um = _dof_um(assumed)
        if recipe.network.labels != "dof" and dof_um is None:
            raise InputError(
                f"--labels {recipe.network.labels}: synthetic data knows depths of field only:"
                " give --objective"
            )
        synthetic.check_photographs(recipe.data)
        return Plan(None, {}, [], dof_um)
    found = read_collection(sources, assumed)
    division, shots = divided(found, recipe.data.seed, split_file)
    notes = list(found.notes)
    left = split.left_out(division, found.shots)
    if left:
        notes.append(f"{split_file}: names no side for {division.by} {', '.join(left)}: left out")
    return Plan(division, shots, notes)


def prepare(
    planned: Plan,
    recipe: Recipe,
    pool: Pool,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Material:
    """Read and tile what was planned.

    ``progress(side, fields)`` is called before each side and gives what is called after each field. Raises
    InputError naming an image that cannot be read, unless ``skip_bad``.
    """
    if planned.division is None:
        names: tuple[synthetic.Split, ...] = ("train", "val", "test")
        made: dict[str, TileData] = {
            side: _fields(recipe, side, pool, planned.dof_um, progress) for side in names
        }
        return Material(made, PIXELS_PER_RESOLUTION, [])
    bad: list[str] = []
    sides = {
        side: _tiles(of, recipe.network, pool, skip_bad, bad, side, progress)
        for side, of in planned.shots.items()
    }
    return Material(sides, pixels_per_resolution(planned.shots["train"], recipe.network), bad)


def divided(found: Collection, seed: int, split_file: Path | None) -> tuple[Division, dict[str, list[Shot]]]:
    """The split, drawn from ``seed`` or read from a file, and the shots of each side and further test set."""
    if not found.shots:
        raise InputError("only test frames in this data: nothing to train on")
    division = (
        split.divide(found.shots, seed) if split_file is None else split.read_split(split_file, found.shots)
    )
    shots = {side: division.side(found.shots, side) for side in split.SIDES}
    return division, shots | {name: of for name, of in found.protocols.items() if of}


def held_out(
    sources: Sequence[str],
    recipe: Recipe,
    pool: Pool,
    *,
    assumed: Assumed,
    split_file: Path | None = None,
    progress: Progress | None = None,
) -> TileData:
    """The test side of synthetic data or of ``split_file``, or every image of other sources."""
    if is_synthetic(sources):
        synthetic.check_photographs(recipe.data)
        return _fields(recipe, "test", pool, _dof_um(assumed), progress)
    if split_file is None:
        shots = read_collection(sources, assumed).every()
    else:
        shots = plan(sources, recipe, assumed=assumed, split_file=split_file).shots["test"]
    return _tiles(shots, recipe.network, pool, False, [], "test", progress)


def _fields(
    recipe: Recipe,
    side: synthetic.Split,
    pool: Pool,
    dof_um: float | None,
    progress: Progress | None,
) -> TileData:
    parts = synthetic.generate(recipe, side, pool, dof_um=dof_um)
    return collect(_reporting(parts, side, synthetic.field_count(recipe, side), progress))


def _dof_um(assumed: Assumed) -> float | None:
    objective = assumed.parsed_objective()
    return None if objective is None else assumed.optics(Path(SYNTHETIC), {"pixel_um": 1.0}).dof_um


def _tiles(
    shots: Sequence[Shot],
    network: Network,
    pool: Pool,
    skip_bad: bool,
    bad: list[str],
    side: str,
    progress: Progress | None,
) -> TileData:
    jobs = [FieldJob(of, network, skip_bad) for of in by_field(shots)]
    parts = named_bad(pool.map(field_tiles, jobs), bad)
    try:
        return collect(_reporting(parts, side, len(jobs), progress))
    except InputError as error:
        raise InputError(
            f"{side}: {error}" if str(error).startswith("no informative") else str(error)
        ) from error


def _reporting(
    fields: Iterable[FieldTiles],
    side: str,
    count: int,
    progress: Progress | None,
) -> Iterator[FieldTiles]:
    done = None if progress is None else progress(side, count)
    for part in fields:
        yield part
        if done is not None:
            done()
