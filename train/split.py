"""Which groups train, which choose the epoch, which judge: by slide, else by field, never by tile.

split.json    {"by": "slide", "seed": 1, "groups": {"train": {"s1": "<sha256>", …}, "val": {…}, "test": {…}}}

The hash is over a group's images and labels. A file of this form may be given to a later run, to use the same
split; there a list of names without hashes will do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge.errors import InputError, one_line
from train.run_folder import read_json
from train.shots import Shot, content

SIDES = ("train", "val", "test")
_SHARES = {"val": 0.2, "test": 0.2}


@dataclass(frozen=True)
class Division:
    """A split. ``groups``: side → group → hash of its content."""

    by: Literal["slide", "field"]
    seed: int
    groups: dict[str, dict[str, str]]

    def side(self, shots: Sequence[Shot], side: str) -> list[Shot]:
        """The shots of one side."""
        return [shot for shot in shots if getattr(shot, self.by) in self.groups[side]]

    def as_dict(self) -> dict[str, Any]:
        """The content of split.json."""
        return {"by": self.by, "seed": self.seed, "groups": self.groups}


def divide(shots: Sequence[Shot], seed: int) -> Division:
    """Split by slide where there are three or more, else by field: about 60, 20 and 20 % of the groups.

    Chance is drawn from ``seed`` over the sorted names. Raises InputError where there are fewer than three
    fields, or the same images lie in groups of two sides.
    """
    by: Literal["slide", "field"] = "slide" if len({shot.slide for shot in shots}) >= 3 else "field"
    names = sorted({getattr(shot, by) for shot in shots})
    if len(names) < 3:
        raise InputError(
            f"{len(names)} field(s) of view found, at least 3 are needed: to train, validate and test on"
        )
    drawn = [names[k] for k in np.random.default_rng((seed, len(names))).permutation(len(names))]
    counts = {side: max(1, round(share * len(names))) for side, share in _SHARES.items()}
    val, test = drawn[: counts["val"]], drawn[counts["val"] : counts["val"] + counts["test"]]
    rest = drawn[counts["val"] + counts["test"] :]
    return _checked(shots, by, seed, {"train": sorted(rest), "val": sorted(val), "test": sorted(test)})


def read_split(path: Path, shots: Sequence[Shot]) -> Division:
    """The split of a file, held against the data.

    Raises InputError for a file of another form, a group on two sides or on none that the data has, an empty
    side, and for a group whose content is no longer what the hash says.
    """
    value = read_json(path, otherwise="a split file is allowed: see docs/training.md")
    by, seed, groups = value.get("by"), value.get("seed", 0), value.get("groups")
    if by not in ("slide", "field") or not isinstance(groups, dict) or sorted(groups) != sorted(SIDES):
        raise InputError(f'{path}: {{"by": "slide" or "field", "groups": {{train, val, test}}}} is allowed')
    if not isinstance(seed, int) or not all(isinstance(of, (dict, list)) for of in groups.values()):
        raise InputError(f"{path}: groups of each side: a list of names, or an object of names and hashes")
    found = _checked(shots, by, seed, {side: [str(name) for name in groups[side]] for side in SIDES}, path)
    for side in SIDES:
        for name in groups[side] if isinstance(groups[side], dict) else ():
            if groups[side][name] != found.groups[side][name]:
                raise InputError(f"{path}: {by} {name} is not what it was: its images or labels have changed")
    return found


def left_out(division: Division, shots: Sequence[Shot]) -> list[str]:
    """Groups of the data that are on no side."""
    used = {name for of in division.groups.values() for name in of}
    return sorted({str(getattr(shot, division.by)) for shot in shots} - used)


def _checked(
    shots: Sequence[Shot],
    by: Literal["slide", "field"],
    seed: int,
    names: dict[str, list[str]],
    path: Path | None = None,
) -> Division:
    """The split with hashes. Raises InputError where a group, or an image, is on two sides."""
    where = "" if path is None else f"{path}: "
    members: dict[str, list[Shot]] = {}
    for shot in shots:
        members.setdefault(getattr(shot, by), []).append(shot)
    side_of: dict[str, str] = {}
    seen: dict[str, tuple[Shot, str]] = {}
    groups: dict[str, dict[str, str]] = {side: {} for side in SIDES}
    for side in SIDES:
        if not names[side]:
            raise InputError(f"{where}no {by} to {_PURPOSE[side]}")
        for name in names[side]:
            shown = one_line(name, limit=80)
            if side_of.setdefault(name, side) != side:
                sides = f"{side_of[name]} and {side}"
                raise InputError(f"{where}{by} {shown} is on both sides of the split: {sides}")
            if name not in members:
                known = ", ".join(sorted(members))
                raise InputError(f"{where}{by} {shown} is not in the data; it has {known}")
            lines = []
            for shot in members[name]:
                found = content(shot)
                other, other_side = seen.setdefault(found, (shot, side))
                if other_side != side:
                    both = f"{by} {shown} and {getattr(other, by)}"
                    raise InputError(
                        f"{where}{shot.file} is the same image as {other.file}: {both} would have it on both"
                        f" sides of the split, {other_side} and {side}"
                    )
                lines.append(f"{found} {shot.defocus_um!r}")
            groups[side][name] = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return Division(by, seed, groups)


_PURPOSE = {"train": "train on", "val": "validate on", "test": "test on"}
