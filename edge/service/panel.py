"""The push button and the status LED: one thread that reads the one and drives the other.

Both hang on GPIO pins (`[gpio] focus_pin`, `led_pin`). What the LED shows is a table of patterns; when a
button counts as pressed is `Button`: both without a clock of their own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError
from firmware_iface.gpio import Gpio, Lines

__all__ = ["PATTERNS", "Button", "Panel", "lit"]

log = logging.getLogger(__name__)

#: State: seconds on and off in turn, for ever. One entry: always on.
PATTERNS: dict[str, tuple[float, ...]] = {
    "starting": (0.5, 0.5),
    "focusing": (0.5, 0.5),
    "moving": (0.5, 0.5),
    "collecting": (0.5, 0.5),
    "in_focus": (1.0,),
    "ready": (0.1, 1.9),
    "failed": (0.15, 0.2, 0.15, 1.5),
    "fault": (0.1, 0.1),
}
#: A contact bounces for some milliseconds: so many readings alike count.
_READINGS = 3
_POLL_S = 0.02


def lit(state: str, time_s: float) -> bool:
    """Whether the LED is on ``time_s`` seconds after some instant, in this state of `PATTERNS`."""
    pattern = PATTERNS[state]
    if len(pattern) == 1:
        return True
    rest = time_s % sum(pattern)
    for number, duration in enumerate(pattern):
        if rest < duration:
            return number % 2 == 0
        rest -= duration
    return False


@dataclass
class Button:
    """Turns readings of a bouncing contact into presses. One that is held from the start is none."""

    down: bool | None = None
    _alike: int = 0
    _last: bool | None = None

    def read(self, closed: bool) -> bool:
        """Take a reading; True once for each press."""
        self._alike = self._alike + 1 if closed == self._last else 1
        self._last = closed
        if self._alike < _READINGS or closed == self.down:
            return False
        before, self.down = self.down, closed
        return closed and before is False


class Panel:
    """``pressed()`` is called for each press, from the panel's own thread; ``state()`` names the pattern.

    ``button_pin`` and ``led_pin``: BCM numbers, None where there is none; ``closed_level``: the button's
    level while pressed. MotorError where a pin is in use, or the GPIO library is missing. Moves nothing.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        button_pin: int | None,
        closed_level: int,
        led_pin: int | None,
        pressed: Callable[[], None],
        state: Callable[[], str],
        gpio: Gpio | None = None,
    ) -> None:
        self._clock, self._pressed, self._state = clock, pressed, state
        self._button_pin, self._closed_level, self._led_pin = button_pin, closed_level, led_pin
        self._button = Button()
        self._ending = threading.Event()
        self._lines = Lines(
            "button and LED",
            outputs={} if led_pin is None else {led_pin: 0},
            inputs=() if button_pin is None else (button_pin,),
            gpio=gpio,
        )
        self._thread = threading.Thread(target=self._run, name="panel", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """LED off, pins given back. BLOCKS for a moment; a second call does nothing."""
        self._ending.set()
        self._thread.join()
        self._lines.close()

    def __enter__(self) -> Panel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._ending.wait(_POLL_S):
                self.turn()
        except MotorError as error:
            log.error("the panel is dead: %s", error)

    def turn(self) -> None:
        """One reading of the button, one setting of the LED."""
        if self._led_pin is not None:
            self._lines.write({self._led_pin: int(lit(self._state(), self._clock.now_s()))})
        if self._button_pin is not None:
            closed = self._lines.read(self._button_pin) == self._closed_level
            if self._button.read(closed):
                self._pressed()
