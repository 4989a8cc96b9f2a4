"""Tiles from z-stack folders: every plane of every stack, with its defocus in depths of field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge import tiles
from edge.errors import InputError
from edge.optics import Optics
from edge.zstack import ZStack
from train.recipe import Network


def stack_folders(source: Path) -> list[Path]:
    """``source`` itself when it is a z-stack, else the z-stacks directly in it, sorted.

    Raises InputError when there is none.
    """
    if (source / "planes.csv").is_file():
        return [source]
    found = sorted(p.parent for p in source.glob("*/planes.csv")) if source.is_dir() else []
    if not found:
        raise InputError(f"{source}: neither a z-stack (planes.csv), nor a folder of z-stacks, nor a recipe (.toml)")
    return found


def stack_optics(stack: ZStack) -> Optics:
    """Optics of a stack from its `about.json`. Raises InputError when objective or pixel size is not stated."""
    if stack.objective is None or stack.pixel_um is None:
        raise InputError(f"{stack.path}: about.json must state objective and pixel_um to label defocus")
    return Optics(stack.objective, stack.pixel_um, float(stack.about.get("wavelength_um") or 0.55))


def stack_fields(source: Path, network: Network, step_um: float) -> Iterator[tuple[list[NDArray[np.int8]], list[float], str]]:
    """For each stack: tiles of each plane, the planes' defocus in dof, the specimen's name (or the folder's)."""
    for folder in stack_folders(source):
        stack = ZStack.open(folder, step_um=step_um)
        stack.check()
        if stack.focus_um is None:
            raise InputError(f"{folder}: about.json must state focus_z to label defocus")
        optics = stack_optics(stack)
        found, defoci = [], []
        for plane, z_um in enumerate(stack.z_um):
            chosen = tiles.extract(stack.load(plane), optics.model_scale, size_px=network.tile_px, most=network.tiles_per_frame)
            found.append(np.rint(chosen.pixels * 127).astype(np.int8))
            defoci.append(optics.dof_from_um(z_um - stack.focus_um))
        yield found, defoci, str(stack.about.get("specimen") or folder.name)
