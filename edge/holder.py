"""Holds the focus of a microscope, one step at a time: carries out what `edge.hold` asks for. No threads.

    result = scope.focus()
    if result.result == "focused":
        holder = Holder(scope, interval_s=10.0)
        while not (status := holder.step(cancel=stop)).over:
            wait(status.next_s)

Whoever calls `step` owns the waiting, and nobody else uses camera or stage meanwhile. Between steps the
stage may be moved: holding then pauses until the next focus, and a new `Holder`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.dialogue import Arrived, Begin, Cancelled, Look, Move
from edge.hold import Hold
from edge.hold_dialogue import Event, Holding, HoldSettings, Request, Unusable, Wait
from edge.microscope import Microscope, Observation
from firmware_iface.errors import LimitError, MotorError, MoveCancelled

__all__ = ["HoldStatus", "Holder", "alike"]

#: How fast the focus is taken to wander, in µm/s: some 20 µm in an hour.
DRIFT_UM_S = 0.005
#: The stage follows a drift no farther than this from where holding began, in µm: then a focus is due.
REACH_UM = 60.0
#: Views are compared at so many pixels a side: there, 3 dof of defocus leave a correlation of 0.94 and more
#: on simulated fields, and a tenth of the frame sideways 0.73 and less.
VIEW_PX = 12
#: The correlation from which on two views show the same; contrast below this, of 255, shows nothing.
ALIKE, LEAST_CONTRAST = 0.8, 0.5


@dataclass(frozen=True)
class HoldStatus:
    """Where holding stands. ``state``, ``reason``: for a person; ``over``: paused or stopped for good.

    ``drift_um``, ``drift_dof``: how far the focus has gone since holding began, with ``sigma_um``.
    ``defocus_um``: the part not followed. ``next_s``: when the next step is due.
    """

    state: str
    reason: str
    over: bool
    drift_um: float
    drift_dof: float
    defocus_um: float
    sigma_um: float
    moves: int
    looks: int
    next_s: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


class Holder:
    """Holds the focus where ``scope`` has just found it. Making one moves nothing and takes no picture.

    ``interval_s`` (s, above 0): the longest time from step to step; a fast drift asks for shorter ones.
    Raises ValueError for another interval, FocusError where the stage stands outside what its moves can
    reach.
    """

    def __init__(self, scope: Microscope, *, interval_s: float = 10.0) -> None:
        if not (math.isfinite(interval_s) and interval_s > 0):
            raise ValueError(f"interval_s = {interval_s}: a time above 0 is allowed")
        self._scope, self._interval_s = scope, interval_s
        rig, stage = scope.rig, scope.rig.stage
        low_um, high_um = stage.reachable_um
        here_um = stage.position_um
        ends_um = max(low_um, here_um - REACH_UM), min(high_um, here_um + REACH_UM)
        low, high = sorted(rig.dof_from_um(um) for um in ends_um)
        settings = HoldSettings(
            low=low,
            high=high,
            drift=rig.optics.dof_from_um(DRIFT_UM_S * interval_s),
            least_move=abs(rig.dof_from_um(stage.um_per_step)),
        )
        self.hold = Hold(settings)
        self._view: NDArray[np.float32] | None = None
        self._request: Request = self.hold.send(Begin(scope.position_dof()))

    def step(self, *, cancel: Callable[[], bool] | None = None) -> HoldStatus:
        """Look, and follow a drift that is sure. Blocks for a few frames; MOVES the stage by little, or not.

        ``cancel()`` true stops it: before a look nothing happens, in a move the motor stops and holding
        pauses. After the end nothing happens. Errors of the camera pass through, and the next step tries
        again; those of the motor pass through and pause holding.
        """
        while not self.hold.over:
            if cancel is not None and cancel() and not isinstance(self._request, Move):
                break
            self._request = self.hold.send(self._carry_out(self._request, cancel))
            if isinstance(self._request, Wait):
                break
        return self.status

    @property
    def status(self) -> HoldStatus:
        """Where holding stands now. Looks at nothing."""
        hold, um = self.hold, self._scope.rig.um_from_dof
        estimate, request = hold.estimate, self._request
        return HoldStatus(
            state=hold.state.value,
            reason=hold.reason,
            over=hold.over,
            drift_um=um(hold.drifted),
            drift_dof=hold.drifted,
            defocus_um=um(estimate.defocus),
            sigma_um=um(estimate.sigma),
            moves=hold.moves,
            looks=hold.looks,
            next_s=request.share * self._interval_s if isinstance(request, Wait) else 0.0,
        )

    @property
    def gave_up(self) -> bool:
        """Whether this field cannot be held from where it stood."""
        return self.hold.state is Holding.STOPPED

    @property
    def holds(self) -> bool:
        """Whether focus is held just now: not while the view is unusable, and not after the end."""
        return not self.hold.over and self.hold.state is not Holding.WAITING

    def _carry_out(self, request: Request, cancel: Callable[[], bool] | None) -> Event:
        match request:
            case Move(to):
                return self._move(to, cancel)
            case Look() | Wait():
                return self._event(self._scope.observe())
            case _:
                raise AssertionError(request)

    def _move(self, to: float, cancel: Callable[[], bool] | None) -> Event:
        rig = self._scope.rig
        try:
            rig.stage.move_to_um(rig.um_from_dof(to), cancel=cancel)
        except MoveCancelled as stop:
            return Cancelled(str(stop))
        except (MotorError, LimitError) as error:
            self._request = self.hold.send(Cancelled(str(error)))
            raise
        return Arrived(self._scope.position_dof())

    def _event(self, got: Observation) -> Event:
        """What a look means; a picture of something else means nothing for the focus."""
        if got.fault is not None:
            return Unusable(got.seen.position, f"the frame is {got.fault}")
        view = _view(got.frame.image)
        if self._view is not None and not alike(self._view, view):
            return Unusable(got.seen.position, "the view is another: if it stays so, ask for a focus")
        if got.seen.log_likelihood is not None:
            self._view = view
        return got.seen


def alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two views ``(h, w)`` float32 show the same; where either shows nothing, they are taken to."""
    if one.shape != other.shape:
        return False
    a, b = one - one.mean(), other - other.mean()
    if min(float(a.std()), float(b.std())) < LEAST_CONTRAST:
        return True
    return float((a * b).mean() / (a.std() * b.std())) >= ALIKE


def _view(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The coarse light and dark of ``(H, W, 3)`` uint8, ``(VIEW_PX, VIEW_PX)`` float32."""
    import cv2

    light = image.astype(np.float32).mean(axis=2)
    small = cv2.resize(light, (2 * VIEW_PX, 2 * VIEW_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_AREA), np.float32)
