"""What every layout of simulated data has in common: a plan's bounds, a microscope, exposures at known
defocus, and the words of about.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge.errors import InputError, one_line
from edge.files import RGB
from edge.optics import REFERENCE_WAVELENGTH_UM, Objective, Optics, natural_pixel_um
from edge.simulator.formation import ImageFormer, Imaging, lamp
from edge.simulator.sensor import Exposer, Sensor
from edge.simulator.specimens import Specimen, read_image

__all__ = [
    "FARTHEST_DOF",
    "check_bounds",
    "checked",
    "exposures",
    "licence",
    "microscope",
    "optics_of",
    "optics_parameters",
]

#: The planes of a plan may reach this far to either side of focus, in depths of field.
FARTHEST_DOF = 60


def check_bounds(plan: object, bounds: Mapping[str, tuple[int, int]]) -> None:
    """Raise InputError for the first attribute of ``plan`` outside its bounds, which are both allowed."""
    for name, (low, high) in bounds.items():
        if not low <= getattr(plan, name) <= high:
            raise InputError(f"{name} = {getattr(plan, name)}: {low} to {high} is allowed")


def optics_of(objective: str) -> Optics:
    """``objective`` at the sampling that needs no resampling. Raises InputError where it cannot be read."""
    try:
        parsed = Objective.parse(objective)
    except ValueError as error:
        raise InputError(one_line(error)) from error
    return Optics(parsed, natural_pixel_um(parsed), REFERENCE_WAVELENGTH_UM)


def checked(photographs: Sequence[Path]) -> list[Path]:
    """``photographs``, each seen to be readable. Raises InputError naming the first that is not."""
    for file in photographs:
        read_image(file)
    return list(photographs)


def microscope(objective: Objective, rng: np.random.Generator | None) -> tuple[Imaging, Sensor]:
    """Optics and camera, drawn from ``rng`` or, where it is None, always the same; the half aperture is the
    objective's in any case.
    """
    imaging, sensor = (Imaging(), Sensor()) if rng is None else (Imaging.random(rng), Sensor.random(rng))
    return replace(imaging, na_over_n=objective.na / objective.immersion_index), sensor


def exposures(
    specimen: Specimen,
    imaging: Imaging,
    sensor: Sensor,
    defoci_dof: Sequence[float],
    rng: np.random.Generator,
) -> Iterator[RGB]:
    """``(H, W, 3)`` uint8 RGB of ``specimen`` at each signed defocus in depths of field, one at a time."""
    former, exposer = ImageFormer(specimen, imaging), Exposer(sensor, specimen.shape, rng)
    for defocus_dof in defoci_dof:
        yield exposer.expose(former.images([defocus_dof], *lamp(imaging, defocus_dof, rng))[0])


def licence(specimens: Path | None) -> str:
    """What about.json says of it; ``specimens`` is the folder of photographs, None for drawn ones."""
    return "simulated" if specimens is None else "simulated from a photograph, whose licence applies"


def optics_parameters(optics: Optics) -> dict[str, float]:
    """What about.json says of the optics beside the objective's name."""
    return {
        "magnification": optics.objective.magnification,
        "na": optics.objective.na,
        "immersion_index": optics.objective.immersion_index,
        "wavelength_um": optics.wavelength_um,
        "pixel_um": optics.pixel_um,
        "dof_um": optics.dof_um,
    }
