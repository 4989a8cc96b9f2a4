"""What is known of the optics that a z-stack was taken through."""

from __future__ import annotations

import math
from typing import Literal

from edge.config import Config
from edge.errors import one_line
from edge.optics import Optics
from edge.zstack import ZStack

__all__ = ["calibrated", "stack_optics"]


def stack_optics(config: Config, stack: ZStack) -> tuple[Optics, tuple[str, ...]]:
    """Optics of the stack; the config's stand in for what `about.json` lacks, with a sentence for each."""
    own = config.optics.optics()
    said = []
    objective, pixel_um = stack.objective, stack.pixel_um
    if objective is None:
        objective = own.objective
        text = stack.about.get("objective")
        why = "about.json states none" if text is None else f"about.json says {one_line(text, limit=40)!r}"
        said.append(f"objective assumed {objective} (from the config; {why})")
    if pixel_um is None:
        pixel_um = own.pixel_um
        said.append(f"pixel assumed {pixel_um:.4g} µm (from the config)")
    optics = Optics(objective, pixel_um, own.wavelength_um)
    span_dof = optics.dof_from_um(stack.z_um[-1] - stack.z_um[0])
    if not 1.0 <= span_dof <= 1000.0:
        said.append(f"z is in µm, although the whole stack then spans {span_dof:.2g} depths of field")
    return optics, tuple(said)


def calibrated(
    stack: ZStack, scale: Literal["dof_per_step", "optical_dof_per_step"] = "dof_per_step"
) -> float | None:
    """Signed dof a µm, of a stack that `parfocal collect` has recorded on a calibrated stage; else None.

    As the network of then counts them, so that what is adapted goes on counting as its parent did; or, as the
    optics alone have them, for a network of its own.
    """
    try:
        kept = stack.about["calibration"]
        network, wanted = float(kept["dof_per_step"]), float(kept[scale])
        found = math.copysign(wanted, network) / float(stack.about["um_per_step"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return found if math.isfinite(found) and found != 0 else None
