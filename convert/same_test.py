"""Whether runs were judged on the same images: only then do their figures stand beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.recipe import Data
from train.run_folder import Run, read_json
from train.tile_data import TileData

#: Keys of a recipe's [data] that change nothing about the test side of synthetic data.
_OF_OTHER_SIDES = ("train_fields", "val_fields", "train_frame_px")


@dataclass(frozen=True)
class JudgedOn:
    """What a run was judged on. ``sets``: the sorted defocus in dof ``(images,)`` of each test set by name.

    ``content``: the hashes of its groups, or their names where they have none, or for synthetic data what
    the fields were made from.
    """

    sources: tuple[str, ...]
    groups: tuple[str, ...]
    content: object
    sets: dict[str, NDArray[np.float32]]


def judged_on(run: Run) -> JudgedOn:
    """The test side of a run. Raises InputError where split.json cannot be read."""
    groups = read_json(run.folder / "split.json").get("groups")
    side: Any = groups.get("test") if isinstance(groups, dict) else None
    content: object = _synthetic(run.recipe.data)
    if isinstance(side, dict):
        content = sorted(str(hashed) for hashed in side.values())
    elif isinstance(side, list):
        content = sorted(str(name) for name in side)
    sets = {name: _defocus(data) for name, data in run.tests.items()}
    return JudgedOn(run.record.sources, run.groups.get("test", ()), content, sets)


def difference(a: JudgedOn, b: JudgedOn) -> str | None:
    """How the test sides of two runs differ, in a few words; None where they do not."""
    one, other = a.sets["test"], b.sets["test"]
    if ("synthetic" in a.sources) != ("synthetic" in b.sources):
        return "simulated images and images from the disk"
    if a.content != b.content:
        if a.groups or b.groups:
            if a.groups != b.groups:
                return f"groups {_named(a.groups)} and {_named(b.groups)}"
            return f"the images of {_named(a.groups)} are not the same in both"
        return "simulated with other seeds, specimens or optics"
    if len(one) != len(other):
        return f"{len(one)} and {len(other)} images of the same groups"
    return None if np.array_equal(one, other) else "the same images with other labels or optics"


def shared_sets(tests: Sequence[JudgedOn]) -> list[str]:
    """Names of the further test sets that every run was judged on, with the same labels."""
    first = tests[0].sets
    return [
        name
        for name in first
        if name != "test"
        and all(name in of.sets and np.array_equal(of.sets[name], first[name]) for of in tests)
    ]


def _defocus(data: TileData) -> NDArray[np.float32]:
    _, first = np.unique(data.frame, return_index=True)
    return np.sort(data.defocus_dof[first])


def _synthetic(data: Data) -> dict[str, Any]:
    return data.model_dump(mode="json", exclude=set(_OF_OTHER_SIDES))


def _named(groups: tuple[str, ...]) -> str:
    shown = ", ".join(groups[:4]) or "none"
    return shown if len(groups) <= 4 else f"{shown} and {len(groups) - 4} more"
