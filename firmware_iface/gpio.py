"""GPIO lines through the interface that began as ``RPi.GPIO``, by whichever library the board has for it.

Three libraries speak it: RPi.GPIO (Raspberry Pi up to 4), rpi-lgpio (any Pi, the only one on a Pi 5) and
Jetson.GPIO. Only what all three do alike is used: ``setmode(BCM)``, ``setwarnings``, ``setup`` of one pin
(OUT with ``initial``, or plain IN), ``output`` of one pin or a list, ``input`` of one pin, ``cleanup`` of a
list. So there is no ``pull_up_down``, which Jetson.GPIO ignores with a warning: a switch needs a resistor of
its own (10 kohm), which a long wire beside a motor wants anyway. And no edge events: their threads and
debouncing differ. Pins are BCM numbers throughout; on a Jetson these are the ones of the same header pins.

A pin has one user in this process. Two motors on one pin would each lose steps to the other.
"""

from __future__ import annotations

import atexit
import importlib
import operator
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, cast

from firmware_iface.errors import MotorError

MODEL_FILE = Path("/proc/device-tree/model")
"""Where Linux tells the board's name; absent on a PC."""

_users: dict[int, str] = {}
_users_lock = threading.Lock()


class Gpio(Protocol):
    """What the three libraries share, as far as it is used here."""

    BCM: object
    IN: object
    OUT: object

    def setmode(self, mode: object, /) -> None: ...

    def setwarnings(self, on: bool, /) -> None: ...

    def setup(self, pin: int, direction: object, /, *, initial: int = ...) -> None: ...

    def output(self, pins: int | list[int], levels: int | list[int], /) -> None: ...

    def input(self, pin: int, /) -> int: ...

    def cleanup(self, pins: list[int], /) -> None: ...


def board_model(model_file: Path = MODEL_FILE) -> str:
    """The board's own name, such as "Raspberry Pi 5 Model B Rev 1.0"; empty where there is none to read."""
    try:
        return model_file.read_bytes().rstrip(b"\0").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _choice(model: str) -> tuple[str, str]:
    """(module to import, package that provides it) for a board of this name."""
    name = model.lower()
    if "jetson" in name or "nvidia" in name:
        return "Jetson.GPIO", "Jetson.GPIO"
    if "raspberry pi 5" in name or "compute module 5" in name or "raspberry pi 500" in name:
        return "RPi.GPIO", "rpi-lgpio"
    return "RPi.GPIO", "RPi.GPIO" if "raspberry pi" in name else "rpi-lgpio"


def load(model_file: Path = MODEL_FILE) -> Gpio:
    """The board's GPIO library, set to BCM numbers. Touches no pin. MotorError names what is missing."""
    model = board_model(model_file)
    module, package = _choice(model)
    board = model or f"this machine (no Raspberry Pi or Jetson: no board name in {model_file})"
    try:
        gpio = cast(Gpio, importlib.import_module(module))
        gpio.setwarnings(False)
        gpio.setmode(gpio.BCM)
    except ImportError as error:
        raise MotorError(
            f"no GPIO library for {board}: {error}; install it with: pip install {package}"
        ) from error
    except _library_errors() as error:
        # RPi.GPIO refuses a board it does not know, all of them a process without access to the chip.
        # lgpio makes a FIFO in the current directory, or in LG_WD, already as it is imported.
        raise MotorError(
            f"{module} does not work on {board}: {error}; the package for it is {package}; "
            "also check that the user is in group gpio and that LG_WD names a writable directory"
        ) from error
    return gpio


class Lines:
    """Some pins of one user: outputs, each with a level at which it is safe, and inputs. Moves nothing.

    ``outputs`` gives for each BCM pin its level at rest (0 or 1; 0 is coils off, but for an enable pin that
    is active low): they are driven to it at once, also after a predecessor that was killed in mid-move.
    ``inputs`` are read as they are, without pull. ``gpio`` is the library (None: the board's own, ``load``).

    A pin that somebody uses already: MotorError that names both, with no pin touched. The same where the
    library refuses a pin; then all pins are given back. Whatever ends the process short of a signal, the
    outputs go to rest first.
    """

    def __init__(
        self, user: str, *, outputs: Mapping[int, int], inputs: Iterable[int] = (), gpio: Gpio | None = None
    ) -> None:
        self._rest = {_pin(pin): _level(pin, level) for pin, level in outputs.items()}
        self._inputs = tuple(_pin(pin) for pin in inputs)
        self._gpio = load() if gpio is None else gpio
        self._user = user
        self._levels = dict(self._rest)
        self._closed = False
        pins = (*self._rest, *self._inputs)
        _reserve(user, pins)
        self._set_up: list[int] = []
        try:
            for pin in pins:
                self._claim(pin)
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def write(self, levels: Mapping[int, int]) -> None:
        """Drive the pins named in ``levels``, in their order, to 0 or 1; those already there are left alone.

        A pin that is no output of these lines: ValueError. Closed, or refused by the library: MotorError.
        """
        self._check_open()
        changed = {pin: level for pin, level in levels.items() if self._level_of(pin) != level}
        try:
            if len(changed) == 1:
                self._gpio.output(*next(iter(changed.items())))
            elif changed:
                self._gpio.output(list(changed), list(changed.values()))
        except _library_errors() as error:
            raise MotorError(f"{self._user}: cannot drive pins {_list(changed)}: {error}") from error
        self._levels.update(changed)

    def read(self, pin: int) -> int:
        """The level (0 or 1) at an input or output of these lines; else ValueError. Errors as ``write``."""
        self._check_open()
        if pin not in self._inputs:
            self._level_of(pin)
        try:
            return int(bool(self._gpio.input(pin)))
        except _library_errors() as error:
            raise MotorError(f"{self._user}: cannot read pin {pin}: {error}") from error

    def close(self) -> None:
        """Drive the outputs to rest, make all pins inputs again and give them back; twice does nothing.

        An input floats: where the driver board switches its coils on at an open enable pin (A4988 and
        DRV8825 carriers do), a resistor has to hold that pin at rest.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        driven = [pin for pin in self._rest if pin in self._set_up]
        try:
            if driven:
                self._gpio.output(driven, [self._rest[pin] for pin in driven])
        except _library_errors() as error:
            raise MotorError(f"{self._user}: cannot bring pins {_list(driven)} to rest: {error}") from error
        finally:
            try:
                if self._set_up:
                    self._gpio.cleanup(self._set_up)
            finally:
                _give_back((*self._rest, *self._inputs))

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _claim(self, pin: int) -> None:
        try:
            if pin in self._rest:
                self._gpio.setup(pin, self._gpio.OUT, initial=self._rest[pin])
            else:
                self._gpio.setup(pin, self._gpio.IN)
        except _library_errors() as error:
            raise MotorError(
                f"{self._user}: cannot set up pin {pin}: {error} (used by another program, or no permission?)"
            ) from error
        self._set_up.append(pin)

    def _level_of(self, pin: int) -> int:
        try:
            return self._levels[pin]
        except KeyError:
            raise ValueError(f"{self._user}: pin {pin} is none of its lines") from None

    def _check_open(self) -> None:
        if self._closed:
            raise MotorError(f"{self._user}: its GPIO lines are closed")


def _reserve(user: str, pins: tuple[int, ...]) -> None:
    """Enter ``user`` for all ``pins``, or for none of them and raise MotorError."""
    with _users_lock:
        for number, pin in enumerate(pins):
            if pin in pins[:number]:
                raise MotorError(f"{user}: pin {pin} is given twice")
            if pin in _users:
                raise MotorError(f"{user}: pin {pin} is used by {_users[pin]} already")
        _users.update(dict.fromkeys(pins, user))


def _give_back(pins: tuple[int, ...]) -> None:
    with _users_lock:
        for pin in pins:
            _users.pop(pin, None)


def _library_errors() -> tuple[type[Exception], ...]:
    """What the three libraries raise; lgpio's own class is known only once lgpio is loaded."""
    lgpio_error: type[Exception] = getattr(sys.modules.get("lgpio"), "error", RuntimeError)
    return RuntimeError, ValueError, OSError, lgpio_error


def _pin(pin: int) -> int:
    if operator.index(pin) < 0:
        raise ValueError(f"pin {pin}: need a BCM number of at least 0")
    return operator.index(pin)


def _level(pin: int, level: int) -> int:
    if level not in (0, 1):
        raise ValueError(f"pin {pin}: level {level!r}: need 0 or 1")
    return int(level)


def _list(pins: Iterable[int]) -> str:
    return ", ".join(str(pin) for pin in pins)
