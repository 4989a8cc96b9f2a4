"""What emulated boards share: a motor in a clock's time, an input of lines, and two kinds of wire."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Callable
from types import TracebackType

from firmware_iface.clock import Clock
from firmware_iface.simulated import DraggedStage


class FastClock:
    """A clock that runs ``factor`` times as fast as another."""

    def __init__(self, clock: Clock, factor: float) -> None:
        self._clock, self._factor = clock, factor

    def now_s(self) -> float:
        return self._clock.now_s() * self._factor

    def sleep_s(self, dt: float) -> None:
        self._clock.sleep_s(dt / self._factor)


class Board:
    """Bytes in by ``feed``, bytes out by ``take``. ``z`` is the true count of steps made."""

    ends = b"\n"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.commands: list[str] = []
        self._out = bytearray()
        self._line = bytearray()
        self._base = 0
        self._begun_s: float | None = None
        self._course: Callable[[float], int] = lambda t_s: 0
        self._duration_s = 0.0
        self.drags: DraggedStage | None = None
        """What the motor drags along, if anything; nut and screw begin at 0."""

    @property
    def running(self) -> bool:
        return self._begun_s is not None and self.clock.now_s() < self._begun_s + self._duration_s

    @property
    def z(self) -> int:
        if self._begun_s is None:
            return self._base
        return self._base + self._course(min(self.clock.now_s() - self._begun_s, self._duration_s))

    def go(self, course: Callable[[float], int], duration_s: float) -> None:
        """Be at ``course(t)`` steps from here t s from now."""
        self._base = self.z
        self._begun_s, self._course, self._duration_s = self.clock.now_s(), course, duration_s
        if self.drags is not None:
            base, begun_s, gone = self._base, self._begun_s, course(duration_s)
            self.drags.begin(
                begun_s,
                begun_s + duration_s,
                (gone > 0) - (gone < 0),
                lambda t_s: base + course(min(t_s - begun_s, duration_s)),
            )

    def halt(self) -> None:
        if self.running:
            # Stopped dead: a motion without steps, after which the stage rings.
            self.go(lambda t_s: 0, 0.0)
        self._base, self._begun_s = self.z, None

    def put(self, z: int) -> None:
        """Another count, as after a reset."""
        self._base, self._begun_s = z, None

    def say(self, text: str) -> None:
        self._out += text.encode("latin-1") + b"\r\n"

    def feed(self, data: bytes) -> None:
        self.tick()
        for byte in data:
            if self.realtime(byte):
                continue
            if byte == 0x0A:
                line = self._line.decode("latin-1")
                self._line.clear()
                self.commands.append(line)
                self.command(line)
            else:
                self._line.append(byte)

    def take(self) -> bytes:
        self.tick()
        out = bytes(self._out)
        self._out.clear()
        return out

    def tick(self) -> None:
        """Say what is due by now."""

    def realtime(self, byte: int) -> bool:
        """Whether ``byte`` is acted upon at once and belongs to no line."""
        return False

    def command(self, line: str) -> None:
        raise NotImplementedError

    def boot(self) -> None:
        """What a reset does: forget the motion and say hello."""
        raise NotImplementedError


class Wire:
    """A serial port in memory: waiting for input lets the clock advance. Faults can be arranged."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self.board, self.clock = board, clock
        self.noise = b""
        """Comes before the next reply, once."""
        self.mangle: Callable[[bytes], bytes] = lambda data: data
        """Applied to what the board says."""
        self.unplugged = False
        self.closed = 0
        self._unread = bytearray()

    @property
    def in_waiting(self) -> int:
        self._plugged()
        said = self.board.take()
        if said:
            said, self.noise = self.noise + self.mangle(said), b""
        self._unread += said
        return len(self._unread)

    def read(self, size: int = 1, /) -> bytes:
        if not self.in_waiting:
            self.clock.sleep_s(0.0005)
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def write(self, data: bytes, /) -> int:
        self._plugged()
        self.board.feed(data)
        return len(data)

    def close(self) -> None:
        self.closed += 1

    def hear(self, data: bytes) -> None:
        """Noise that lies unread now."""
        self._unread += data

    def _plugged(self) -> None:
        if self.unplugged:
            raise OSError(5, "Input/output error")


class Pty:
    """The board at the far end of a pseudo-terminal, in a thread of its own. ``device`` is its name."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.device = os.ttyname(self._slave)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._pump, name="emulated board")
        self._thread.start()

    def __enter__(self) -> Pty:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()

    def unplug(self) -> None:
        """The far end is gone."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            os.close(self._slave)
            os.close(self._master)

    def _pump(self) -> None:
        while not self._ended.is_set():
            if select.select([self._master], [], [], 0.002)[0]:
                self.board.feed(os.read(self._master, 1024))
            said = self.board.take()
            if said:
                os.write(self._master, said)
