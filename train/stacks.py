"""Tiles from z-stack folders: every plane of every stack, with its defocus in depths of field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge import tiles
from edge.errors import InputError, one_line
from edge.optics import REFERENCE_WAVELENGTH_UM, Optics
from edge.zstack import ZStack
from train.recipe import Network
from train.synthetic import FieldTiles, stored


def stack_folders(source: Path) -> list[Path]:
    """``source`` itself when it is a z-stack, else the z-stacks directly in it, sorted.

    Raises InputError when there is none.
    """
    if (source / "planes.csv").is_file():
        return [source]
    found = sorted(path.parent for path in source.glob("*/planes.csv")) if source.is_dir() else []
    if not found:
        raise InputError(f"{source}: neither a z-stack (with a planes.csv) nor a folder of z-stacks")
    return found


def stack_optics(stack: ZStack) -> Optics:
    """Optics of a stack from its `about.json`. Raises InputError where objective or pixel are not stated."""
    if stack.objective is None or stack.pixel_um is None:
        raise InputError(f"{stack.path}: about.json must state objective and pixel_um to label defocus")
    wavelength_um = stack.about.get("wavelength_um")
    try:
        wavelength_um = REFERENCE_WAVELENGTH_UM if wavelength_um is None else float(wavelength_um)
        return Optics(stack.objective, stack.pixel_um, wavelength_um)
    except (TypeError, ValueError) as error:
        raise InputError(f"{stack.path}: about.json: {one_line(error)}") from error


def stack_fields(source: Path, network: Network, step_um: float) -> Iterator[FieldTiles]:
    """Each stack of ``source`` as a field, a plane a frame. Its kind is the specimen's name, or the folder's.

    Raises InputError, naming the folder, for a stack that cannot be read or does not say where its focus is.
    """
    for folder in stack_folders(source):
        stack = ZStack.open(folder, step_um=step_um)
        stack.check()
        if stack.focus_um is None:
            raise InputError(f"{folder}: about.json must state focus_z to label defocus")
        optics = stack_optics(stack)
        found, defoci = [], []
        for plane, z_um in enumerate(stack.z_um):
            frame = stack.load(plane)
            chosen = tiles.extract(
                frame, optics.model_scale, size_px=network.tile_px, most=network.tiles_per_frame
            )
            found.append(stored(chosen.pixels))
            defoci.append(optics.dof_from_um(z_um - stack.focus_um))
        yield found, defoci, str(stack.about.get("specimen") or folder.name)
