"""Simulated z-stacks as folders: what ``parfocal simulate`` writes, in the format of `edge.zstack`.

Each stack is one specimen under one microscope. Its number and the seed alone decide what it shows, so more
stacks of the same seed begin with the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import InputError
from edge.files import RGB, PathLike, atomic_folder
from edge.optics import Optics
from edge.simulator.formation import Imaging
from edge.simulator.recording import (
    FARTHEST_DOF,
    check_bounds,
    checked,
    exposures,
    licence,
    microscope,
    optics_of,
    optics_parameters,
)
from edge.simulator.sensor import Sensor
from edge.simulator.specimens import Specimen, from_image, images_in, make, read_image
from edge.zstack import write_zstack

__all__ = ["PROCEDURAL", "Plan", "write_stacks"]

#: Drawn specimens in turn. The empty field is not among them: a stack of it says nothing about focus.
PROCEDURAL = ("tissue", "blood", "debris")
_BOUNDS = {"stacks": (1, 10_000), "planes": (2, 1001), "seed": (0, 2**32 - 1), "size_px": (64, 2048)}
_SPECIMEN, _MICROSCOPE = 0, 1


@dataclass(frozen=True)
class Plan:
    """What to write. Raises InputError for a value outside its range."""

    stacks: int = 6
    """How many, 1 to 10 000."""
    planes: int = 21
    """Planes of each, evenly spaced, 2 to 1001; an odd number has one exactly in focus."""
    range_dof: float = 10.0
    """The planes reach this far to either side of focus, in depths of field, above 0 and to 60."""
    objective: str = "20x0.40"
    """Magnification and NA, as `edge.optics.Objective.parse` reads them."""
    random_optics: bool = False
    """Another microscope and camera for each stack, else one and the same."""
    seed: int = 0
    """Start of all chance, 0 to 2**32 - 1."""
    size_px: int = 384
    """Width and height of the images, 64 to 2048."""
    specimens: Path | None = None
    """A folder of sharp photographs to use in turn; None for drawn specimens."""

    def __post_init__(self) -> None:
        check_bounds(self, _BOUNDS)
        if not 0 < self.range_dof <= FARTHEST_DOF:
            raise InputError(f"range = {self.range_dof:g} dof: above 0 and to {FARTHEST_DOF} is allowed")
        self.optics()

    def optics(self) -> Optics:
        """Objective and sampling of every stack. Raises InputError where the objective cannot be read."""
        return optics_of(self.objective)


def write_stacks(plan: Plan, out: PathLike, *, progress: Callable[[], None] | None = None) -> list[str]:
    """Write ``out/stack000`` and so on, all of them or nothing, and return their names. Takes seconds a
    stack.

    Raises InputError where ``out`` has content or cannot be made, or a photograph cannot be read: before
    anything is written. ``progress`` is called after each plane.
    """
    names = [f"stack{number:03d}" for number in range(plan.stacks)]
    with atomic_folder(out) as folder:
        photographs = _photographs(plan)
        for number, name in enumerate(names):
            specimen = _specimen(plan, number, photographs)
            rng = np.random.default_rng((plan.seed, number, _MICROSCOPE))
            imaging, sensor = microscope(plan.optics().objective, rng if plan.random_optics else None)
            planes = _planes(plan, specimen, imaging, sensor, rng)
            about = _about(plan, number, specimen, imaging, sensor)
            write_zstack(folder / name, _counted(planes, progress), about)
    return names


def _photographs(plan: Plan) -> list[Path]:
    """The files that will be used, each seen to be readable; empty for drawn specimens."""
    if plan.specimens is None:
        return []
    return checked(images_in(plan.specimens)[: plan.stacks])


def _specimen(plan: Plan, number: int, photographs: list[Path]) -> Specimen:
    rng = np.random.default_rng((plan.seed, number, _SPECIMEN))
    shape = (plan.size_px, plan.size_px)
    if photographs:
        file = photographs[number % len(photographs)]
        return from_image(read_image(file), shape, rng, name=file.name)
    return make(PROCEDURAL[number % len(PROCEDURAL)], shape, int(rng.integers(1 << 40)))


def _planes(
    plan: Plan, specimen: Specimen, imaging: Imaging, sensor: Sensor, rng: np.random.Generator
) -> Iterator[tuple[str, float, RGB]]:
    """(file name, z in µm, image) by rising z; z is the signed defocus."""
    optics = plan.optics()
    defoci_dof = np.linspace(-plan.range_dof, plan.range_dof, plan.planes).tolist()
    images = exposures(specimen, imaging, sensor, defoci_dof, rng)
    for k, (defocus_dof, image) in enumerate(zip(defoci_dof, images, strict=True)):
        yield f"plane{k:03d}.png", round(optics.um_from_dof(defocus_dof), 6), image


def _counted(
    planes: Iterator[tuple[str, float, RGB]], progress: Callable[[], None] | None
) -> Iterator[tuple[str, float, RGB]]:
    for plane in planes:
        yield plane
        if progress is not None:
            progress()


def _about(plan: Plan, number: int, specimen: Specimen, imaging: Imaging, sensor: Sensor) -> dict[str, Any]:
    return {
        "source": "parfocal simulate",
        "licence": licence(plan.specimens),
        "modality": "brightfield, simulated",
        "specimen": specimen.name,
        "seed": plan.seed,
        "stack": number,
        "objective": plan.objective.strip(),
        **optics_parameters(plan.optics()),
        "focus_z": 0.0,
        "optics": "random" if plan.random_optics else "fixed",
        "imaging": asdict(imaging),
        "sensor": asdict(sensor),
    }
