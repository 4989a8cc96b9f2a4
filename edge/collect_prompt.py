"""Who says that the slide has been moved, and the next field may be recorded: a terminal, the push button,
or nobody, where a script said so beforehand.
"""

from __future__ import annotations

import select
import sys
import threading
from types import TracebackType

from edge.config import Config
from edge.errors import InputError
from edge.service.panel import Panel
from firmware_iface.clock import RealClock

__all__ = ["Prompt"]

#: How often a press of the button and a line at the terminal are looked for.
_POLL_S = 0.05


class Prompt:
    """``with Prompt(...) as prompt: prompt.go_on("field-001 is done")``.

    ``unasked``: every question is answered with yes. ``button``: the pins of ``config`` may be used.
    ``asks``: a question is sure to come; InputError where nobody could answer it. MotorError as `Panel`.
    """

    def __init__(self, config: Config, *, unasked: bool, button: bool, asks: bool) -> None:
        self.unasked = unasked
        self.state = "focusing"
        self._pressed = threading.Event()
        pins = config.gpio
        self._button = button and pins.focus_pin is not None and not unasked
        self._terminal = sys.stdin is not None and sys.stdin.isatty()
        if asks and not (unasked or self._button or self._terminal):
            raise InputError(
                "between fields the slide is moved, and there is no terminal to ask at and no button"
                " ([gpio] focus_pin): add --yes, or --fields 1 for one field"
            )
        self._panel: Panel | None = None
        if button and (self._button or pins.led_pin is not None):
            self._panel = Panel(
                RealClock(),
                button_pin=pins.focus_pin if self._button else None,
                closed_level=1 if pins.focus_pressed == "high" else 0,
                led_pin=pins.led_pin,
                pressed=self._pressed.set,
                state=lambda: self.state,
            )

    def go_on(self, what: str, *, failed: bool = False) -> bool:
        """Say ``what`` and wait until the slide was moved; False where the user ends it, or is not there.

        The LED says meanwhile whether the last field ``failed``. BLOCKS.
        """
        if self.unasked:
            return True
        self.state = "failed" if failed else "ready"
        try:
            return self._asked(what)
        finally:
            self.state = "focusing"

    def _asked(self, what: str) -> bool:
        ways = [
            *(["press Enter (q ends)"] if self._terminal else []),
            *(["press the button"] if self._button else []),
        ]
        if not ways:
            return False
        self._pressed.clear()  # what was pressed during the recording was not meant for this
        print(f"{what}: move the slide, then {' or '.join(ways)} ", end="", file=sys.stderr, flush=True)
        if not self._button:
            return _is_yes(sys.stdin.readline())
        return self._button_or_line()

    def _button_or_line(self) -> bool:
        while not self._pressed.wait(_POLL_S):
            if self._terminal and select.select([sys.stdin], [], [], 0.0)[0]:
                return _is_yes(sys.stdin.readline())
        print(file=sys.stderr)
        return True

    def close(self) -> None:
        """LED off, pins given back. A second call does nothing."""
        if self._panel is not None:
            self._panel.close()

    def __enter__(self) -> Prompt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_yes(line: str) -> bool:
    """Any line but one that begins with q; the end of the input is none."""
    return bool(line) and not line.strip().lower().startswith("q")
