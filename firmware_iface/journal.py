"""The stage's position on disk: where it stands or, while it moves, where it may be.

A device in a field loses its power without warning, also while it writes. The file has two copies of the
record, each in a block of its own, written in turn::

    block 0    sequence 6  stands at 120           block 1 is next: block 0 is not touched by that write
    block 1    sequence 5  moving from 0 to 120
    block 2    pid of whoever has the file

A write is one ``pwrite`` of a whole block that has been on the disk since the file was made, and one
``fdatasync``: nothing of the file system changes, so an SD card does one flush. A temporary file renamed to
its place needs two flushes, a new inode and a journal commit; that is how the file is made, once.

A cut during the write of one copy leaves the other whole. But a torn copy cannot be told from one that was
whole and has been damaged since, or truncated; and then the other copy is out of date, and wrong. So the
position is certain only where both copies are whole and their numbers follow each other, which a cut between
two writes always leaves. A torn block (most disks write 512 bytes or none) costs certainty, and no more.

The caller writes a motion before its first step and the standstill after its last. Whoever finds a motion
under way then knows all the places where the stage can be.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import stat
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from firmware_iface.errors import MotorError

SCHEMA = 1
BLOCK_BYTES = 4096
_MAGIC = b"parfocal-stage"
_PID_AT = 2 * BLOCK_BYTES
_PID_BYTES = 16
_LARGEST_ASIDE_BYTES = 1 << 20
_LONGEST_WHY = 300
_MOST_STEPS = 2**53


@dataclass(frozen=True)
class Doubt:
    """The screw really stands ``least`` to ``most`` steps (signed) past where it is counted.

    Both are None where nobody knows. ``centre_steps`` is the position counted when the
    doubt began, ``why`` the reason, one line.
    """

    why: str
    least: int | None
    most: int | None
    centre_steps: int

    def __post_init__(self) -> None:
        if (self.least is None) != (self.most is None):
            raise ValueError(f"doubt from {self.least} to {self.most}: need two numbers, or none")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"doubt from {self.least} to {self.most}: the least is the larger one")
        line = " ".join("".join(c if c.isprintable() else " " for c in self.why).split())
        object.__setattr__(self, "why", line[:_LONGEST_WHY])


@dataclass(frozen=True)
class Record:
    """What is remembered of a stage, in steps of its screw. See ``Stage`` for what it is made of."""

    position_steps: int
    """Where the screw stands, or stood when ``moving`` was written."""
    moving: tuple[int, int] | None
    """Ends of the range in which a motion is under way; None: it stands."""
    axis_steps: int
    """What the axis itself counted at ``position_steps``."""
    closed_steps: int
    """How far the gap between screw and nut was taken to be closed."""
    focus_steps: int | None
    """Position at the last good focus."""
    doubt: Doubt | None
    um_per_step: float


class Journal:
    """The file ``path``, for one stage and one process at a time. BLOCKS for a few ms with each ``write``.

    ``record`` is the newest that could be read; None in a new file, or where nothing could be. ``damage``
    says in a few words why it must not be relied upon; None: it may. Raises OSError where the file cannot be
    opened or made, and MotorError where another process has it, or where a large file of another kind lies
    there. A small one of another kind is damage; the first ``write`` keeps it as ``path``.damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self.record: Record | None = None
        self.damage: str | None = None
        self._sequence = 0
        self._foreign = False
        if not self.path.exists():
            _make(self.path)
        self._handle: int | None = os.open(self.path, os.O_RDWR)
        try:
            if not stat.S_ISREG(os.fstat(self._handle).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self.path))
            self._lock(self._handle)
            self._read(self._handle)
        except BaseException:
            self.close()
            raise

    def write(self, record: Record) -> None:
        """Remember ``record``: once this returns, a power cut does not undo it. MotorError where it fails.

        A record that is remembered already is not written again.
        """
        if self._handle is None:
            raise MotorError(f"{self.path}: the journal is closed")
        if record == self.record and self.damage is None:
            return
        try:
            if self._foreign:
                self._set_aside(self._handle)
            # Both copies where they were not both good: one good copy is a damaged file still.
            for _ in range(1 if self.damage is None else 2):
                _write(self._handle, _encode(self._sequence, record), self._sequence % 2 * BLOCK_BYTES)
                os.fdatasync(self._handle)
                self._sequence += 1
        except OSError as error:
            raise MotorError(
                f"{self.path}: the stage's position cannot be written: {error.strerror}"
            ) from error
        self.record, self.damage = record, None

    def close(self) -> None:
        """Give the file back. A second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(handle, _PID_BYTES, _PID_AT).strip()
            who = f"another process ({int(pid)})" if pid.isdigit() else "another process"
            raise MotorError(f"{self.path}: {who} drives this stage; end it first") from None

    def _read(self, handle: int) -> None:
        copies = [_decode(os.pread(handle, BLOCK_BYTES, at)) for at in (0, BLOCK_BYTES)]
        good = sorted((copy for copy in copies if isinstance(copy, _Copy)), key=lambda copy: copy.sequence)
        if good:
            self.record = good[-1].record
            self._sequence = good[-1].sequence + 1
            _write(handle, _pid(), _PID_AT)
        else:
            self._foreign = os.fstat(handle).st_size > 0
        if len(good) < 2:
            self.damage = next(copy for copy in copies if isinstance(copy, str))
        elif good[1].sequence - good[0].sequence != 1:
            self.damage = "its two copies do not follow each other"
        if self._foreign and os.fstat(handle).st_size > _LARGEST_ASIDE_BYTES:
            raise MotorError(f"{self.path}: {self.damage}, and too large to be set aside: name another file")

    def _set_aside(self, handle: int) -> None:
        """Keep a copy of what is no journal: it may be somebody's only copy of something else."""
        aside = self.path.with_name(f"{self.path.name}.damaged")
        copy = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            _write(copy, os.pread(handle, _LARGEST_ASIDE_BYTES, 0), 0)
            os.fsync(copy)
        finally:
            os.close(copy)
        _sync_folder(self.path.parent)
        os.ftruncate(handle, 0)
        _write(handle, _pid(), _PID_AT)
        self._foreign = False


@dataclass(frozen=True)
class _Copy:
    sequence: int
    record: Record | None


def _make(path: Path) -> None:
    """Make a new file, whole or not at all. Who is slower finds it made."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            return
        temporary = path.with_name(f".{path.name}.tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            _write(handle, _encode(0, None) + _encode(1, None) + _pid(), 0)
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.replace(path)
    finally:
        os.close(folder)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(handle: int, data: bytes, at: int) -> None:
    if os.pwrite(handle, data, at) != len(data):
        raise OSError(errno.ENOSPC, "no space left for all of it")


def _pid() -> bytes:
    return str(os.getpid()).encode().ljust(_PID_BYTES - 1) + b"\n"


def _encode(sequence: int, record: Record | None) -> bytes:
    """One block: magic, CRC-32 of the JSON, the JSON, and spaces. None: a stage that nobody has moved yet."""
    content = {"schema": SCHEMA, "sequence": sequence, "record": None if record is None else asdict(record)}
    text = json.dumps(content, ensure_ascii=False).encode()
    return b"%s %08x %s" % (_MAGIC, zlib.crc32(text), text) + b" " * (BLOCK_BYTES - 25 - len(text)) + b"\n"


def _decode(block: bytes) -> _Copy | str:
    """What a block says, or what is wrong with it, in words."""
    if not block.strip(b"\0"):
        return "is empty, or was cut short"
    magic, _, rest = block.partition(b" ")
    if magic != _MAGIC:
        return "is not the journal of a stage, or damaged"
    checksum, text = rest[:8], rest[9:].strip(b" \n\0")
    if checksum != b"%08x" % zlib.crc32(text):
        return "is damaged"
    try:
        content = json.loads(text)
        if content["schema"] != SCHEMA:
            return f"has another format ({content['schema']!r:.20}; this version knows {SCHEMA})"
        record = content["record"]
        return _Copy(_whole(content["sequence"]), None if record is None else _record(**record))
    except (KeyError, TypeError, ValueError, RecursionError):
        return "does not make sense"


def _record(*, moving: Any, focus_steps: Any, doubt: Any, um_per_step: Any, **steps: Any) -> Record:
    """A ``Record`` of plain values, each of which is checked. ValueError or TypeError."""
    if not (isinstance(um_per_step, float) and math.isfinite(um_per_step) and um_per_step > 0.0):
        raise ValueError(f"um_per_step {um_per_step!r}")
    if moving is not None:
        begin, end = moving
        moving = (_whole(begin), _whole(end))
    return Record(
        **{key: _whole(value) for key, value in steps.items()},
        moving=moving,
        focus_steps=None if focus_steps is None else _whole(focus_steps),
        doubt=None if doubt is None else _doubt(**doubt),
        um_per_step=um_per_step,
    )


def _doubt(*, why: Any, least: Any, most: Any, centre_steps: Any) -> Doubt:
    if not isinstance(why, str):
        raise TypeError("why")
    bounds = [None if bound is None else _whole(bound) for bound in (least, most)]
    return Doubt(why, bounds[0], bounds[1], _whole(centre_steps))


def _whole(value: object) -> int:
    if type(value) is not int or abs(value) > _MOST_STEPS:
        raise ValueError(f"{value!r:.40} is no number of steps")
    return value
