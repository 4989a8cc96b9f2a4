"""Z-stacks to adapt a model on: opened, labelled by their focus, and read into tiles with their truth.

A field is a stack; where there is only one, the left and the right half of its frames are the fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.adapt import Tiles
from edge.commands import MOST_PIXELS
from edge.config import Config
from edge.errors import InputError, StackError
from edge.files import RGB
from edge.model import Model
from edge.optics import Optics
from edge.stack_optics import calibrated, stack_optics
from edge.stack_theory import focus_of_stack
from edge.zstack import TABLE, ZStack, stacks_in

__all__ = ["FEWEST_PLANES", "LabelledStack", "digest", "opened", "read_tiles"]

#: A field with fewer planes that show anything teaches too little.
FEWEST_PLANES = 5
#: Most tiles of a frame to learn from; judged are those that a look would take.
MOST_TILES = 48


@dataclass(frozen=True)
class LabelledStack:
    """``stack`` behind ``optics``, in focus at ``focus_um`` (µm of its stage), ``focus_measured`` or stated;
    ``notes``: what had to be assumed, each a sentence.
    """

    stack: ZStack
    optics: Optics
    focus_um: float
    focus_measured: bool
    notes: tuple[str, ...]
    dof_per_um: float
    """Depths of field that a µm of the stage adds; negative where it was calibrated to run the other way."""

    def defocus_dof(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Signed defocus of each plane, ``(planes,)`` float64, z less focus, as a calibration has it."""
        return (np.asarray(self.stack.z_um) - self.focus_um) * self.dof_per_um

    @property
    def apart_dof(self) -> float:
        """The usual distance from plane to plane, above 0."""
        return float(np.median(np.diff(np.unique(self.stack.z_um)))) * abs(self.dof_per_um)


def opened(
    folders: Sequence[Path], config: Config, model: Model, *, step_um: float | None
) -> list[LabelledStack]:
    """The stacks that ``folders`` are, or hold, every image decoded once, optics and focus known. Blocks for
    the disk.

    Raises InputError, one line, for a stack that cannot be used, is named twice or counts planes of unknown
    distance, and for a single one whose halves are narrower than a tile.
    """
    folders = [stack for folder in folders for stack in stacks_in(folder) or [folder]]
    seen: dict[Path, Path] = {}
    for folder in folders:
        if seen.setdefault(folder.resolve(), folder) is not folder:
            raise InputError(f"{folder}: is given twice; each stack shows another field")
    found = [_labelled(folder, config, step_um) for folder in folders]
    for of in found:
        pixels = of.stack.shape[0] * of.stack.shape[1] * model.scale(of.optics) ** 2
        if pixels > MOST_PIXELS:
            raise InputError(
                f"{of.stack.path}: pixels of {of.optics.pixel_um:g} µm behind {of.optics.objective} would"
                f" have to be enlarged {of.optics.model_scale:.3g} times: objective or pixel_um is wrong"
            )
    if len(found) == 1:
        width = found[0].stack.shape[1] // 2 * model.scale(found[0].optics)
        if width < model.card.tile_px:
            raise InputError(
                f"{folders[0]}: a single stack is judged half by half, and a half is {width:.0f} px wide at"
                f" the model's sampling, less than a tile ({model.card.tile_px} px): give two stacks or more"
            )
    return found


def _labelled(folder: Path, config: Config, step_um: float | None) -> LabelledStack:
    stack = ZStack.open(folder, step_um=1.0 if step_um is None else step_um)
    if stack.z_in_planes and step_um is None:
        raise InputError(f"{folder}: counts planes: say how far apart they are with --step-um")
    if len(set(stack.z_um)) < FEWEST_PLANES:
        raise StackError(f"{folder}: {len(set(stack.z_um))} different z: {FEWEST_PLANES} or more are needed")
    optics, notes = stack_optics(config, stack)
    stack.check()
    stated, counted = stack.focus_um, calibrated(stack)
    if stated is None:
        known = stack.objective is not None and stack.pixel_um is not None
        focus_um, found = focus_of_stack(stack, optics if known else None)
        notes += (f"focus measured on its planes, {found.how}: {focus_um:.3g} µm",)
    else:
        focus_um = stated
    if not stack.z_um[0] < focus_um < stack.z_um[-1]:
        raise StackError(
            f"{folder}: focus_z is not between its first and last plane: both directions are needed"
        )
    if step_um is not None and not stack.z_in_planes:
        notes += (f"--step-um {step_um:g} is not used: the stack gives z in µm",)
    if counted is not None:
        notes += ("direction and scale as it was calibrated when it was recorded",)
    named = tuple(f"{folder.name}: {text}" for text in notes)
    dof_per_um = 1 / optics.dof_um if counted is None else counted
    return LabelledStack(stack, optics, focus_um, stated is None, (*stack.assumptions, *named), dof_per_um)


def read_tiles(
    model: Model,
    stacks: Sequence[LabelledStack],
    most_tiles: int,
    *,
    progress: Callable[[], None] = lambda: None,
) -> Tiles:
    """What ``model`` says of the tiles of every plane; ``most_tiles`` of a frame are judged.

    One frame is in memory at a time. Blocks while inferring; ``progress`` is called after each plane. Raises
    InputError where a field has fewer than `FEWEST_PLANES` planes with anything to see.
    """
    features, logits, frames = [], [], []
    for number, of in enumerate(stacks):
        unit = of.optics.dof_um if model.card.unit == "um" else 1.0
        apart = of.apart_dof * unit
        for plane, defocus_dof in enumerate(of.defocus_dof().tolist()):
            for part, pixels in enumerate(_parts(of.stack.load(plane), len(stacks))):
                said, seen = model.read(pixels, of.optics, most_tiles=max(MOST_TILES, most_tiles))
                if len(said):
                    features.append(seen)
                    logits.append(said)
                    frames.append((defocus_dof * unit, unit, apart, number + part, len(said)))
            progress()
    _check_seen([field for *_, field, _ in frames], stacks)
    truth, dof, apart_of, field, counts = (np.array(column) for column in zip(*frames, strict=True))
    ranks = np.concatenate([np.arange(count) for count in counts])
    return Tiles(
        np.concatenate(features),
        np.concatenate(logits),
        np.repeat(truth.astype(np.float64), counts),
        np.repeat(dof.astype(np.float64), counts),
        np.repeat(apart_of.astype(np.float64), counts),
        np.repeat(np.arange(len(counts)), counts),
        np.repeat(field.astype(np.int64), counts),
        ranks < most_tiles,
    )


def _parts(frame: RGB, stacks: int) -> list[RGB]:
    """The frame ``(H, W, 3)``; of a single stack its left and right half."""
    half = frame.shape[1] // 2
    return [frame] if stacks > 1 else [frame[:, :half].copy(), frame[:, half:].copy()]


def _check_seen(fields: Sequence[int], stacks: Sequence[LabelledStack]) -> None:
    """``fields``: the field of each frame that had an informative tile."""
    names = [str(of.stack.path) for of in stacks]
    if len(stacks) == 1:
        names = [f"{names[0]}, {side} half" for side in ("left", "right")]
    for field, name in enumerate(names):
        count = fields.count(field)
        if count < FEWEST_PLANES:
            raise StackError(
                f"{name}: {count} planes with anything to see; {FEWEST_PLANES} or more are needed"
            )


def digest(stack: ZStack) -> str:
    """SHA-256 of the table and, by rising z, of the image files. Blocks for the disk; raises StackError."""
    total = hashlib.sha256()
    try:
        for name in (TABLE, *stack.files):
            total.update(hashlib.sha256((stack.path / name).read_bytes()).digest())
    except OSError as error:
        raise StackError(f"{stack.path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    return total.hexdigest()
