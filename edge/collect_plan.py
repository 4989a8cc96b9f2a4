"""What is asked of `edge.collect`: how many planes how far apart, and whether they find room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.collection import check_optics, check_space
from edge.errors import InputError
from edge.rig import Rig
from edge.zstack import ZStack

__all__ = ["Plan", "Recorded", "Refused", "check_before", "check_room"]

FEWEST_PLANES, MOST_PLANES = 5, 1001
LEAST_STEP_DOF, MOST_STEP_DOF = 0.05, 20.0


class Refused(Exception):
    """A field was not recorded, and why, in one line. Nothing of it is kept."""


@dataclass(frozen=True)
class Plan:
    """``planes`` (odd) of a stack, ``step_dof`` depths of field apart. InputError out of bounds."""

    planes: int = 21
    step_dof: float = 0.6

    def __post_init__(self) -> None:
        if not FEWEST_PLANES <= self.planes <= MOST_PLANES or self.planes % 2 == 0:
            raise InputError(
                f"--planes {self.planes}: an odd number from {FEWEST_PLANES} to {MOST_PLANES} is allowed"
            )
        if not LEAST_STEP_DOF <= self.step_dof <= MOST_STEP_DOF:
            raise InputError(
                f"--step-dof {self.step_dof:g}: {LEAST_STEP_DOF:g} to {MOST_STEP_DOF:g} is allowed"
            )

    def step_steps(self, rig: Rig) -> int:
        """From plane to plane in whole motor steps, the same for all; 1 where the motor has no finer ones."""
        return max(1, round(abs(rig.um_from_dof(self.step_dof)) / rig.stage.um_per_step))

    def step_dof_of(self, rig: Rig) -> float:
        """What that is in depths of field, as the stage counts them."""
        return abs(rig.dof_from_um(self.step_steps(rig) * rig.stage.um_per_step))


@dataclass(frozen=True)
class Recorded:
    """A field that is on the disk; lengths along the stage, in µm, as the stage counts them."""

    name: str
    planes: int
    step_um: float
    low_um: float
    high_um: float
    focus_um: float
    """The focus by its planes."""
    by_theory: bool
    """Whether the wave theory told it; else it is where they are sharpest."""
    sharpness: float
    """Of the sharpest."""


def check_room(rig: Rig, plan: Plan) -> None:
    """InputError where the planes find no room between the limits, wherever the focus may be. No motion."""
    low, high = rig.stage.reachable_um
    step_um = plan.step_steps(rig) * rig.stage.um_per_step
    span_um = (plan.planes - 1) * step_um
    if span_um > high - low:
        raise InputError(
            f"{plan.planes} planes of {step_um:.4g} µm span {span_um:.4g} µm: the stage reaches {low:.4g} to"
            f" {high:.4g} µm; fewer planes or a smaller step between them"
        )


def check_before(rig: Rig, plan: Plan, out: Path, there: Mapping[int, ZStack], fields: int) -> None:
    """InputError where ``fields`` more cannot go into ``out``, which has those ``there``: other optics, no
    room between the limits or on the disk. BLOCKS for a frame; moves nothing.
    """
    check_optics(there, rig.optics)
    check_room(rig, plan)
    frame = rig.camera.capture(rig.clock.now_s())
    check_space(out, frame.image.nbytes, plan.planes, fields)
