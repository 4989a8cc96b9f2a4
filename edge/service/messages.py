"""What goes over HTTP, as models that check what comes in and describe, for OpenAPI, what goes out.

Fields are added in later versions, never removed or given another meaning.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edge.collect_plan import FEWEST_PLANES, LEAST_STEP_DOF, MOST_PLANES, MOST_STEP_DOF, Plan
from edge.collection import SLIDE_NAME

__all__ = [
    "Accepted",
    "Collect",
    "CollectStatus",
    "HoldOn",
    "HoldStatus",
    "Jog",
    "Login",
    "Problem",
    "Run",
    "Status",
    "Stopped",
    "Where",
]

Distance = Annotated[float, Field(ge=-100_000.0, le=100_000.0, allow_inf_nan=False)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class _Out(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Jog(_In):
    """A move by hand."""

    um: Distance
    """Distance in µm, signed."""


class Collect(_In):
    """One more field of a slide, as a z-stack about its focus."""

    slide: Annotated[str, Field(pattern=SLIDE_NAME)]
    """Name of the slide, and of its folder: 1 to 64 letters (a to z), digits, `-`, `_` and `.`, the first no
    `.`."""
    planes: Annotated[int, Field(ge=FEWEST_PLANES, le=MOST_PLANES)] = Plan.planes
    """How many, an odd number."""
    step_dof: Annotated[float, Field(ge=LEAST_STEP_DOF, le=MOST_STEP_DOF, allow_inf_nan=False)] = (
        Plan.step_dof
    )
    """Depths of field from plane to plane, to the nearest motor step."""

    @field_validator("planes")
    @classmethod
    def _odd(cls, planes: int) -> int:
        if planes % 2 == 0:
            raise ValueError("an odd number is allowed")
        return planes


class HoldOn(_In):
    """Whether focus shall be held through drift."""

    on: bool


class Login(_In):
    """The token, for the cookie that stands for it."""

    token: Annotated[str, Field(max_length=1000)]


class Problem(_Out):
    """Why nothing was done, in one sentence."""

    error: str


class Accepted(_Out):
    """It has been begun; `/api/events` and `/api/status` tell what comes of it."""

    accepted: Literal[True] = True


class Stopped(_Out):
    """`stopped`: whether anything was under way."""

    stopped: bool


class Where(_Out):
    """Where the stage stands and may go."""

    position_um: float
    limits_um: tuple[float, float]
    """Where a move may end now."""
    uncertain: str | None
    """Why the position is uncertain, and what is allowed until when."""


class HoldStatus(_Out):
    """Drift tracking."""

    on: bool
    """Whether it was asked for."""
    state: Literal["off", "waiting", "holding"]
    """`waiting`: for the next focus, or for the view to be as expected again."""
    reason: str
    drift_dof: float | None
    """How far the focus has gone since holding began, in depths of field."""
    moves: int
    """Moves made since holding began."""


class CollectStatus(_Out):
    """The z-stack that is being recorded, or was the last."""

    slide: str
    folder: str
    """Where the fields of this slide are, on the microscope's computer."""
    field: str | None
    """Folder of the field, in there; null before it is known."""
    planes_done: int
    planes: int
    """Planes that it will have; fewer than were asked for where the limits leave no room."""
    fields: int
    """Fields of this slide that are on the disk."""
    ended: str | None
    """What came of it; null while it is being recorded."""


class Run(_Out):
    """A focus run. `result` is what `parfocal focus --json` prints."""

    run: int | None
    """Its number; null where its trace could not be kept."""
    at: str | None
    """When it began, ISO 8601, by this computer's clock."""
    by: str | None
    """Who asked for it."""
    result: dict[str, Any] | None


class Status(_Out):
    """What is going on."""

    state: Literal["starting", "focusing", "moving", "collecting", "in_focus", "ready", "failed", "fault"]
    reason: str
    stage: Where | None
    """Null until camera and motor are open."""
    hold: HoldStatus
    last: Run | None
    """The last focus run since the start."""
    collect: CollectStatus | None
    """The last z-stack since the start."""
    rig: str | None
    motor: str
    camera: str
    objective: str
    dof_um: float
    """One depth of field."""
    tolerance_dof: float
    model: str
    """The model file that runs."""
    model_note: str | None
    """Why it runs instead of the one that was chosen; null where that one runs."""
    version: str
    uptime_s: float
    lost_traces: int
    """Traces that could not be written since the start, as on a full disk."""
