"""Finding a limit switch, to the step, by an axis that may have only one speed.

::

    approach   fast, until the switch ends the motion      ------------------------>|
    back off   little by little, until it is open                              <----|
    creep      step by step, until it is pressed                               ---->|

A switch bounces: it counts as open or as pressed only after 10 ms without a change. Backing off goes no
farther than is known to be safe: a switch with a broken wire, or stuck, reads pressed for ever, and the way
back leads to the specimen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from firmware_iface.axis import Axis
from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError, SwitchPressed

STEADY_S = 0.01
"""How long (s) a switch must read the same to be believed."""
_LOOK_S = 0.002
_BOUNCES_FOR_S = 1.0
_LONGEST_CHUNK = 64
_REFUSALS = 100


class SwitchMissing(MotorError):
    """The motor was told to go far enough and met no switch: something else may have held it up."""


class Homing:
    """The search for the switch in ``direction`` (+1 or -1) of ``axis``.

    ``go(steps)`` makes one motion, and returns or raises when the axis stands. All methods MOVE, block on
    ``clock`` and leave a count that is true. They raise MotorError when the switch does not do what a switch
    does; at once, with nothing moved, when there is none.
    """

    def __init__(
        self, axis: Axis, clock: Clock, go: Callable[[int], None], direction: int, name: str
    ) -> None:
        switch = axis.switch(direction)
        if switch is None:
            end = "upper" if direction > 0 else "lower"
            raise MotorError(f"{name}: no home to be found: this motor has no {end} limit switch")
        self._axis = axis
        self._clock = clock
        self._go = go
        self._direction = direction
        self._name = name
        self._switch = switch
        self._opens_within = 0

    def find(self, most_steps: int, *, room_steps: int) -> None:
        """End where the switch has just been pressed, slowly.

        The switch must come within ``most_steps``. The way back is safe for ``room_steps``, and for as much
        more as the approach has gone.
        """
        begin = self._axis.position_steps
        if not self._is_pressed():
            self._approach(most_steps)
        gone = abs(self._axis.position_steps - begin)
        backed_off = self._back_off(room_steps + gone)
        # Half as much again: the switch opens and closes at places that differ, and a gap has two sides.
        self._opens_within = backed_off + backed_off // 2 + _LONGEST_CHUNK
        self._creep(self._opens_within)

    def leave(self, steps: int, *, room_steps: int) -> None:
        """Go back by ``steps``, and on until the switch is open, ``room_steps`` at most. After ``find``."""
        self._go_exactly(-self._direction * steps)
        self._back_off(min(room_steps - steps, self._opens_within))

    def _back_off(self, most_steps: int) -> int:
        """Go back until the switch is open, ``most_steps`` at most; how many it took."""
        gone, chunk = 0, 1
        while self._is_pressed():
            chunk = min(chunk, most_steps - gone)
            if chunk <= 0:
                raise MotorError(
                    f"{self._name}: the {self._switch} is still pressed {gone} steps away, and farther back"
                    " is not safe: is it stuck, or its wire broken?"
                )
            self._go_exactly(-self._direction * chunk)
            gone, chunk = gone + chunk, min(2 * chunk, _LONGEST_CHUNK)
        return gone

    def _go_exactly(self, steps: int) -> None:
        """One motion; MotorError where something ends it early."""
        if steps == 0:
            return
        begin = self._axis.position_steps
        self._go(steps)
        if self._axis.position_steps - begin != steps:
            why = self._axis.why_ended or "something unknown"
            raise MotorError(f"{self._name}: no home found: the {why} ended the motion")

    def _approach(self, most_steps: int) -> None:
        """Go fast until the switch ends the motion."""
        begin = self._axis.position_steps
        self._go(self._direction * most_steps)
        if self._axis.why_ended == self._switch:
            return
        if abs(self._axis.position_steps - begin) < most_steps:
            why = self._axis.why_ended or "something unknown"
            raise MotorError(f"{self._name}: no home found: the {why} ended the search")
        raise SwitchMissing(
            f"{self._name}: no home found: the {self._switch} did not come within {most_steps} steps"
        )

    def _creep(self, most_steps: int) -> None:
        """Go step by step until the switch is pressed."""
        begin = self._axis.position_steps
        refusals = 0
        while not (self._reads_pressed() and self._is_pressed()):
            if abs(self._axis.position_steps - begin) >= most_steps:
                raise SwitchMissing(
                    f"{self._name}: no home found: the {self._switch} opened, and did not close again within"
                    f" {most_steps} steps"
                )
            before = self._axis.position_steps
            with contextlib.suppress(SwitchPressed):  # it bounced, and was open a moment ago
                self._go(self._direction)
            refusals += self._axis.position_steps == before
            if refusals > _REFUSALS:
                raise self._bounces()

    def _is_pressed(self) -> bool:
        """Whether the switch is pressed, once it has read the same for 10 ms. Else MotorError."""
        begun_s = since_s = self._clock.now_s()
        last = self._reads_pressed()
        while (now_s := self._clock.now_s()) - since_s < STEADY_S:
            if now_s - begun_s > _BOUNCES_FOR_S:
                raise self._bounces()
            self._clock.sleep_s(_LOOK_S)
            if (reads := self._reads_pressed()) != last:
                last, since_s = reads, self._clock.now_s()
        return last

    def _reads_pressed(self) -> bool:
        bars = self._axis.pressed(self._direction)
        if bars is not None and bars != self._switch:
            raise MotorError(f"{self._name}: no home found: the {bars} is pressed")
        return bars is not None

    def _bounces(self) -> MotorError:
        return MotorError(
            f"{self._name}: no home found: the {self._switch} never reads the same for {STEADY_S * 1e3:g} ms"
        )
