"""Shots from z-stack folders: every plane of every stack, with its defocus."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge.errors import InputError
from edge.stack_optics import calibrated
from edge.stack_theory import focus_of_stack
from edge.zstack import ZStack, stacks_in
from train.assumed import Assumed
from train.shots import Shot


def stack_folders(source: Path) -> list[Path]:
    """``source`` itself when it is a z-stack, else the z-stacks directly in it, sorted.

    Raises InputError when there is none.
    """
    found = stacks_in(source)
    if not found:
        raise InputError(
            f"{source}: neither a z-stack (with a planes.csv), nor a folder of z-stacks, nor in the layout of"
            " the Jiang 2018 data"
        )
    return found


def stack_shots(sources: Iterable[Path], assumed: Assumed) -> tuple[list[Shot], list[str]]:
    """The shots of all stacks of ``sources``, each stack once, and notes on what was assumed.

    A stack is a field, called by its path below the folder that all of them share; its slide is ``slide`` of
    about.json, else the field itself. Recorded on a calibrated stage, its defocus has the direction and the
    pitch that were measured. Where no ``focus_z`` is stated the focus is measured, which reads the
    images. Raises InputError, naming the folder, for a stack that cannot be read, says nothing of its optics,
    or has no clear peak.
    """
    # A stack that is named twice, or by two paths, must not be on both sides of a split.
    found = {folder.resolve(): folder for source in sources for folder in stack_folders(source)}
    names = _short_names(list(found))
    shots: list[Shot] = []
    notes: list[str] = []
    for path in sorted(found):
        stack = ZStack.open(found[path], step_um=assumed.step_um)
        optics = assumed.optics(found[path], stack.about)
        focus_um = stack.focus_um
        if focus_um is None:
            focus_um, focus = focus_of_stack(stack, optics)
            notes.append(
                f"{found[path]}: about.json states no focus_z; measured on its planes, {focus.how}:"
                f" {focus_um:.3g} µm"
            )
        notes += assumed.note(found[path], optics)
        notes += [text for text in stack.assumptions if "plane numbers" in text]
        dof_per_um, share = calibrated(stack, "optical_dof_per_step"), 1.0
        if dof_per_um is not None:
            share = dof_per_um * optics.dof_um
            notes.append(f"{found[path]}: direction and pitch as they were calibrated when it was recorded")
        field = names[path]
        slide, kind = (str(stack.about.get(key) or field) for key in ("slide", "specimen"))
        shots += [
            Shot(found[path] / file, share * (z_um - focus_um), field, slide, kind, optics)
            for file, z_um in zip(stack.files, stack.z_um, strict=True)
        ]
    return shots, notes


def _short_names(paths: list[Path]) -> dict[Path, str]:
    """Each path below the folder that all share: unique, and short where they lie side by side."""
    if len(paths) == 1:
        return {paths[0]: paths[0].name}
    shared = max(
        (above for above in paths[0].parents if all(path.is_relative_to(above) for path in paths)),
        key=lambda above: len(above.parts),
    )
    return {path: str(path.relative_to(shared)) for path in paths}
