"""The command `adapt`: a model file learns this microscope from a few of its z-stacks, on the device.

What can be refused is refused before the long work: options, the parent, the place of the output, tables,
optics and images of the stacks. What is not better than its parent is not written.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge import adapt as fitting
from edge import card as cards
from edge import console, model_store
from edge.adapt import Adaptation, Calibration, Tiles
from edge.adapt_stacks import LabelledStack, digest, opened, read_tiles
from edge.card import Adapted, AdaptedStack, Card
from edge.cli import finite
from edge.config import Config, load_config, override
from edge.errors import AdaptError, InputError, ModelError
from edge.files import atomic_write_bytes
from edge.model import Model
from edge.outputs import checked
from edge.progress import Bar
from edge.record import plain

__all__ = ["AdaptedFile", "Parent", "adapt_model", "add_arguments", "run"]

_SUFFIX = "-adapted"


@dataclass(frozen=True)
class Parent:
    """The model to start from. Raises ModelError where it cannot be used."""

    path: Path
    threads: int = 1

    def read(self) -> tuple[Model, bytes, str]:
        """The model, its flatbuffer, and the SHA-256 of its file."""
        flatbuffer, card = cards.read(self.path)
        parent = Model(flatbuffer, card, name=str(self.path), threads=self.threads)
        if parent.features == 0:
            raise ModelError(f"{self.path}: has no features output, which a head could be refitted to")
        return parent, flatbuffer, hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class AdaptedFile:
    """The bytes of an adapted model file, its card, and what was noticed on the way, each a sentence."""

    content: bytes
    card: Card
    notes: tuple[str, ...]


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of `adapt`, the only command here."""
    add = parser.add_argument
    add("stacks", metavar="STACK", nargs="+", help="z-stack folders, each another field, or a folder of them")
    add("--out", metavar="MODEL", required=True, help="the model file to write, such as own.tflite")
    add("--model", metavar="PARENT", help="the model to start from, instead of the configuration's")
    text = "µm between planes, where a stack counts planes"
    add("--step-um", metavar="U", type=finite, help=text)
    add("--config", metavar="FILE", help="TOML file: what the stacks do not say of their optics")
    add("--json", action="store_true", help="print the result as JSON")


def run(name: str, args: argparse.Namespace) -> int:
    """Adapt and write. InputError and AdaptError: nothing was written; OSError: nor then, the disk failed."""
    given = {} if args.model is None else {"model": {"path": args.model}}
    config = override(load_config(args.config), "command line", **given)
    out = checked("--out", args.out, ".tflite")
    parent = Parent(model_store.path_of(config), config.model.threads)
    if out == parent.path.resolve():
        raise InputError(f"--out {args.out}: is the model to start from, it is not replaced")
    made = adapt_model(parent, [Path(folder) for folder in args.stacks], config, step_um=args.step_um)
    atomic_write_bytes(out, made.content)
    for text in made.notes:
        console.note(text)
    document = _document(args.out, made)
    print(json.dumps(document, indent=2, allow_nan=False) if args.json else _text(args.out, made))
    return 0


def adapt_model(
    parent: Parent, folders: Sequence[Path], config: Config, *, step_um: float | None = None
) -> AdaptedFile:
    """``parent`` adapted to the z-stacks in ``folders``. Blocks for minutes; writes nothing.

    Raises InputError for stacks or a parent that cannot be used, AdaptError where the result is not better.
    """
    network, flatbuffer, sha256 = parent.read()
    stacks = opened(folders, config, network, step_um=step_um)
    with Bar("planes", sum(len(of.stack) for of in stacks)) as bar:
        tiles = read_tiles(network, stacks, config.model.tiles, progress=bar.advance)
    own, fields = network.card, len(np.unique(tiles.field))
    with Bar("fits", len(fitting.STRENGTHS) * (fields + 1)) as bar:
        found = fitting.adapt(
            tiles, network.bin_centres, Calibration(own.temperature, own.tile_weight), progress=bar.advance
        )
    if found.reason:
        raise AdaptError(f"not better than {own.name} on fields left out: {found.reason}; nothing is written")
    card = _card(own, found, _record(own, sha256, stacks, tiles, found))
    notes = [text for of in stacks for text in of.notes] + _reach(stacks, tiles, network)
    try:
        return AdaptedFile(cards.attach(flatbuffer, card), card, tuple(notes))
    except ValueError as error:
        raise ModelError(f"{parent.path}: its last layer is too large for a card: {error}") from error


def _record(
    parent: Card, sha256: str, stacks: Sequence[LabelledStack], tiles: Tiles, found: Adaptation
) -> Adapted:
    frame_field = tiles.field[np.unique(tiles.frame, return_index=True)[1]]
    counts = np.bincount(frame_field)
    planes = counts.tolist() if len(stacks) > 1 else [int(counts.max())]
    return Adapted(
        parent=parent.name,
        parent_sha256=sha256,
        at=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        stacks=tuple(
            AdaptedStack(
                name=of.stack.path.resolve().name,
                sha256=digest(of.stack),
                planes=count,
                focus_um=of.focus_um,
                focus_measured=of.focus_measured,
            )
            for of, count in zip(stacks, planes, strict=True)
        ),
        held_out="stack" if len(stacks) > 1 else "half",
        fields=len(counts),
        frames=len(frame_field),
        tiles=len(tiles),
        strength=found.strength,
        before=found.before,
        after=found.after,
    )


def _card(parent: Card, found: Adaptation, record: Adapted) -> Card:
    """The parent's card with the new head; figures of the parent's training no longer hold and go."""
    count = len(record.stacks)
    trained_on = parent.trained_on.split("; adapted to ")[0]
    changes: dict[str, Any] = {
        "schema_version": cards.SCHEMA,
        "name": parent.name.removesuffix(_SUFFIX) + _SUFFIX,
        "temperature": found.calibration.temperature,
        "tile_weight": found.calibration.tile_weight,
        "trained_on": f"{trained_on}; adapted to {count} z-stack{'s' if count > 1 else ''} of {record.at}",
        "metrics": {},
        "head": found.head.after(parent.head),
        "adapted": record,
    }
    return Card(**{**msgspec.structs.asdict(parent), **changes})


def _reach(stacks: Sequence[LabelledStack], tiles: Tiles, network: Model) -> list[str]:
    """A sentence where the planes do not reach as far as the bins."""
    dof = float(np.median(tiles.dof))
    low, high = float(tiles.truth.min()) / dof, float(tiles.truth.max()) / dof
    ends = network.bin_centres[[0, -1]] / dof
    if low <= ends[0] + 1 and high >= ends[1] - 1:
        return []
    return [
        f"the planes reach from {low:+.1f} to {high:+.1f} depths of field, the model's bins from"
        f" {ends[0]:+.1f} to {ends[1]:+.1f}: nothing was learned beyond the planes"
    ]


def _document(out: str, made: AdaptedFile) -> dict[str, Any]:
    record = made.card.adapted
    assert record is not None
    return {
        "out": out,
        "name": made.card.name,
        **plain(record),
        "temperature": made.card.temperature,
        "tile_weight": made.card.tile_weight,
        "mirrored": made.card.head is not None and made.card.head.mirrored,
        "notes": list(made.notes),
    }


def _text(out: str, made: AdaptedFile) -> str:
    record = made.card.adapted
    assert record is not None
    size = f"{len(made.content) / 1000:.0f} kB"
    rows = [
        f"  {name}: median error {of['median_dof']:.2f} depths of field, wrong direction"
        f" {100 * of['wrong_direction']:.1f} % beyond 1"
        for name, of in (("before", record.before), ("after", record.after))
    ]
    parts = "stacks" if record.held_out == "stack" else "halves of the frame"
    judged = f"judged on {record.frames} frames of {record.fields} {parts}, each left out in turn"
    return "\n".join([f"{out}: {made.card.name}, {size}", judged, *rows])
