"""A serial port that speaks lines: bounded in time and in memory, whatever the other end sends.

A board may be reset, unplugged, still talking about the last question, or sending noise. So every question
first throws away what lies unread (half a line included), then reads until the line that answers it, and
gives up at a deadline. Lines that answer nothing are shown to the axis, which knows a start-up banner or an
alarm among them, and are otherwise skipped: that is all the resynchronising there is.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar, cast

from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError

_T = TypeVar("_T")

LONGEST_LINE = 512
"""Bytes after which a line that does not end is noise, and dropped up to its end."""
_CHUNK = 256
"""Most bytes read at once."""
_MOST_UNREAD = 65536
"""Bytes of unread input dropped before a question; a board that sends more never stops talking."""
_SLICE_S = 0.005
"""Longest single wait for input (s); the deadline is looked at in between."""
_WRITE_TIMEOUT_S = 0.5
_WHY_NOT: Mapping[int | None, str] = {
    errno.EAGAIN: "another program uses it",
    errno.EACCES: "permission denied: this user must be in its group, most often dialout (for Klipper, tty)",
    errno.ENOENT: "no such device: is it plugged in, is its host running?",
}
"""What pyserial says at length."""


class LinkError(MotorError):
    """What the board did can no longer be known: the position is uncertain from here on."""


class NoReply(LinkError):
    """The board did not answer in time."""


class BoardReset(LinkError):
    """The board has started anew in the middle of a session, and may have forgotten its position."""


class SerialLike(Protocol):
    """The part of ``serial.Serial`` that is used here, its read timeout a few ms."""

    @property
    def in_waiting(self) -> int: ...

    def read(self, size: int = 1, /) -> bytes: ...

    def write(self, data: bytes, /) -> int | None: ...

    def close(self) -> None: ...


class LineBuffer:
    """Bytes in, whole lines out. Holds at most ``LONGEST_LINE`` bytes. Pure."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._overflow = False

    def feed(self, data: bytes) -> list[str]:
        """The lines completed by ``data``: without their ends, empty ones and overlong ones left out.

        Bytes that are no ASCII become U+FFFD, so that such a line matches no reply.
        """
        *ended, last = data.replace(b"\r", b"\n").split(b"\n")
        lines: list[str] = []
        for piece in ended:
            self._extend(piece)
            if self._partial and not self._overflow:
                lines.append(self._partial.decode("ascii", "replace").strip(" \t"))
            self.clear()
        self._extend(last)
        return [line for line in lines if line]

    def clear(self) -> None:
        """Forget the line begun."""
        self._partial.clear()
        self._overflow = False

    def _extend(self, piece: bytes) -> None:
        if len(self._partial) + len(piece) > LONGEST_LINE:
            self._overflow = True
            self._partial.clear()
        elif not self._overflow:
            self._partial += piece


def open_serial(device: str, baud: int) -> SerialLike:
    """Open ``device`` for this process alone, at ``baud`` bit/s. Many boards reset when that happens.

    Raises MotorError when pyserial is not installed, or with the system's reason why it cannot be opened.
    """
    try:
        serial = importlib.import_module("serial")
    except ImportError as error:
        raise MotorError(
            f"{device}: a serial board needs the package pyserial: pip install pyserial"
        ) from error
    try:
        port = serial.Serial(device, baud, timeout=_SLICE_S, write_timeout=_WRITE_TIMEOUT_S, exclusive=True)
    except (OSError, ValueError) as error:
        why = _WHY_NOT.get(getattr(error, "errno", None), str(error))
        if Path(device).exists() and not Path(device).is_char_device():
            why = "not a serial port"
        raise MotorError(f"{device}: cannot open the serial port: {why}") from error
    return cast(SerialLike, port)


class LinePort:
    """Questions and answers over an open ``serial``, in lines. Owns it: ``close`` closes it.

    ``unexpected`` is called with every line that answers no question; it may raise MotorError. ``name`` is
    for messages. One thread at a time. Every method but ``close`` raises LinkError once the port is closed
    or the device is gone.
    """

    def __init__(
        self,
        serial: SerialLike,
        clock: Clock,
        *,
        name: str,
        unexpected: Callable[[str], None],
        end: str = "\n",
    ) -> None:
        self.name = name
        self._serial = serial
        self._clock = clock
        self._unexpected = unexpected
        self._end = end
        self._buffer = LineBuffer()
        self._lines: list[str] = []
        self._closed = False

    def ask(self, text: str, answer: Callable[[str], _T | None], *, timeout_s: float, end: bool = True) -> _T:
        """Send ``text`` as a line (``end`` False: as it is) and return the first ``answer`` not None.

        BLOCKS up to ``timeout_s`` (s), then NoReply. ``answer`` sees each line and may raise.
        """
        self.drain()
        self.write((text + (self._end if end else "")).encode("latin-1"))
        deadline_s = self._clock.now_s() + timeout_s
        while True:
            line = self._next_line(deadline_s)
            if line is None:
                raise NoReply(f"{self.name}: no answer to {text!r} within {timeout_s:g} s")
            found = answer(line)
            if found is not None:
                return found
            self._unexpected(line)

    def poll(self, answer: Callable[[str], _T | None]) -> _T | None:
        """The first ``answer`` not None among the lines that have come by now; None: none yet.

        Does not block. A line begun is kept for the next call. ``answer`` as in ``ask``.
        """
        heard = 0
        while True:
            while self._lines:
                line = self._lines.pop(0)
                found = answer(line)
                if found is not None:
                    return found
                self._unexpected(line)
            data = self._read(wait=False) if heard < _MOST_UNREAD else b""
            if not data:
                return None
            heard += len(data)
            self._lines = self._buffer.feed(data)

    def write(self, data: bytes) -> None:
        """Send bytes as they are. BLOCKS up to half a second when the device takes none."""
        if self._closed:
            raise LinkError(f"{self.name}: the serial port is closed")
        try:
            self._serial.write(data)
        except OSError as error:
            raise LinkError(f"{self.name}: the connection is lost: {error}") from error

    def drain(self) -> None:
        """Drop what lies unread, after a look at its lines. Does not block."""
        dropped = 0
        while dropped < _MOST_UNREAD:
            data = self._read(wait=False)
            if not data:
                break
            dropped += len(data)
            self._lines += self._buffer.feed(data)
            while self._lines:
                self._unexpected(self._lines.pop(0))
        lines, self._lines = self._lines, []
        self._buffer.clear()
        for line in lines:
            self._unexpected(line)

    def quiet(self, quiet_s: float, limit_s: float) -> None:
        """BLOCK until nothing has come for ``quiet_s``, up to ``limit_s`` (s), and drop it all."""
        now_s = self._clock.now_s()
        deadline_s, silent_s = now_s + limit_s, now_s
        while now_s < deadline_s and now_s - silent_s < quiet_s:
            heard = bool(self._read(wait=True))
            now_s = self._clock.now_s()
            silent_s = now_s if heard else silent_s
        self._lines.clear()
        self._buffer.clear()

    def close(self) -> None:
        """Give the device back. A second call does nothing; never raises."""
        if not self._closed:
            self._closed = True
            # Unplugged, there is nothing left to give back.
            with contextlib.suppress(OSError):
                self._serial.close()

    def _next_line(self, deadline_s: float) -> str | None:
        """The next line, or None at ``deadline_s``."""
        while not self._lines:
            if self._clock.now_s() >= deadline_s:
                return None
            self._lines = self._buffer.feed(self._read(wait=True))
        return self._lines.pop(0)

    def _read(self, *, wait: bool) -> bytes:
        if self._closed:
            raise LinkError(f"{self.name}: the serial port is closed")
        try:
            waiting = self._serial.in_waiting
            if not waiting and not wait:
                return b""
            return self._serial.read(max(1, min(waiting, _CHUNK)))
        except OSError as error:
            raise LinkError(f"{self.name}: the connection is lost: {error}") from error
