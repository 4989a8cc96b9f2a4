"""Whether focus is held through drift, and how that goes: the switch around `edge.holder`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.microscope import Microscope
from firmware_iface.clock import Clock

if TYPE_CHECKING:
    from edge.holder import Holder

__all__ = ["Holding"]

_NEXT_FOCUS = "it begins with the next focus"


class Holding:
    """`switch` and `status` from any thread; the rest is for the one that owns the microscope.

    Holding begins where a run has just ended in focus (`found`), if it is switched on by then or as long as
    nothing has moved since. ``interval_s``: longest time (s of ``clock``) between two looks.
    """

    def __init__(self, *, on: bool, interval_s: float, clock: Clock) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._lock = threading.Lock()
        self._on = on
        self._scope: Microscope | None = None
        self._holder: Holder | None = None
        self._reason, self._next_s = _NEXT_FOCUS, 0.0

    def switch(self, on: bool) -> None:
        """On or off. What stands in focus is held from the next step on."""
        with self._lock:
            if on == self._on:
                return  # asked for once more, it would begin anew from where drift has got to by now
            self._on = on
            self._holder, self._next_s = None, 0.0

    def found(self, scope: Microscope) -> None:
        """The stage of ``scope`` stands in focus."""
        with self._lock:
            self._scope, self._holder, self._next_s = scope, None, 0.0

    def lost(self, why: str) -> None:
        """It does no longer, or nobody knows: nothing is held until the next focus."""
        with self._lock:
            self._scope = self._holder = None
            self._reason = why

    @property
    def gave_up(self) -> bool:
        """Whether holding ended because this field cannot be held from where it stood; not by a hand."""
        with self._lock:
            holder = self._holder
        return holder is not None and holder.gave_up

    @property
    def due(self) -> bool:
        """Whether `step` has something to do now."""
        with self._lock:
            if not self._on or self._scope is None or (self._holder is not None and self._holder.hold.over):
                return False
            return self._clock.now_s() >= self._next_s

    def step(self, *, cancel: Callable[[], bool]) -> str | None:
        """Look, and follow a drift that is sure. MOVES by little, or not. Why holding is over, else None.

        Errors of camera and motor pass through.
        """
        with self._lock:
            scope, holder = self._scope, self._holder
            if scope is None:
                return None
            if holder is None:
                from edge.holder import Holder  # not loaded before: a device that boots is in a hurry

                self._holder = holder = Holder(scope, interval_s=self._interval_s)
        status = holder.step(cancel=cancel)
        self._next_s = self._clock.now_s() + status.next_s
        return status.reason if status.over else None

    def status(self) -> dict[str, Any]:
        """As `edge.service.messages.HoldStatus` describes it."""
        with self._lock:
            on, scope, holder, reason = self._on, self._scope, self._holder, self._reason
        if not on:
            return {"on": False, "state": "off", "reason": "not asked for", "drift_dof": None, "moves": 0}
        if holder is None:
            text = "it begins now" if scope is not None else reason
            return {"on": True, "state": "waiting", "reason": text, "drift_dof": None, "moves": 0}
        now = holder.status
        return {
            "on": True,
            "state": "holding" if holder.holds else "waiting",
            "reason": now.reason or now.state,
            "drift_dof": now.drift_dof,
            "moves": now.moves,
        }
