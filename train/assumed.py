"""What a data set says of its optics, and what the user says instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import InputError, one_line
from edge.optics import REFERENCE_WAVELENGTH_UM, Objective, Optics


@dataclass(frozen=True)
class Assumed:
    """Values of the command line, which go before what the data says. None: not given."""

    step_um: float = 1.0
    """µm from plane to plane, for stacks that count planes."""
    objective: str | None = None
    """Such as ``20x0.40``."""
    pixel_um: float | None = None
    """Object-side size of a pixel in µm."""

    def __post_init__(self) -> None:
        self.parsed_objective()

    def parsed_objective(self) -> Objective | None:
        """The objective of the command line. Raises InputError where it cannot be read."""
        try:
            return None if self.objective is None else Objective.parse(self.objective)
        except ValueError as error:
            raise InputError(f"--objective: {one_line(error)}") from error

    def note(self, where: Path, optics: Optics) -> list[str]:
        """What the command line decided of ``optics``, as a sentence; none where it said nothing."""
        given = []
        if self.objective is not None:
            given.append(str(optics.objective))
        if self.pixel_um is not None:
            given.append(f"{optics.pixel_um:g} µm a pixel")
        return [f"{where}: taken as {' and '.join(given)}, as the command line says"] if given else []

    def optics(self, where: Path, about: Mapping[str, Any], *, else_: Optics | None = None) -> Optics:
        """The optics of the data in ``where``: the command line, else what ``about`` says, else ``else_``.

        Raises InputError where nothing says it, or ``about`` says nonsense.
        """
        text, pixel_um = about.get("objective"), about.get("pixel_um")
        try:
            objective = Objective.parse(text) if isinstance(text, str) else None
        except ValueError:
            objective = None  # "40x air", "not stated": free text that says nothing
        objective = self.parsed_objective() or objective or (else_.objective if else_ else None)
        pixel_um = self.pixel_um or pixel_um or (else_.pixel_um if else_ else None)
        if objective is None or pixel_um is None:
            raise InputError(
                f"{where}: objective and pixel size are needed to label defocus, and about.json does not"
                " state them: give --objective and --pixel-um"
            )
        wavelength_um = about.get("wavelength_um") or REFERENCE_WAVELENGTH_UM
        try:
            return Optics(objective, float(pixel_um), float(wavelength_um))
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: about.json or --pixel-um: {one_line(error)}") from error
