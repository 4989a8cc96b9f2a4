"""The machine under examination, as far as checks may touch it: tests put another in its place."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from firmware_iface.gpio import board_model

__all__ = ["Disk", "Machine", "Reply", "existing"]


@dataclass(frozen=True)
class Reply:
    """What a command answered."""

    code: int | None
    """Its exit code; None where it is not installed, could not be started, or took too long."""
    out: str = ""
    err: str = ""


@dataclass(frozen=True)
class Disk:
    """The file system under a folder."""

    free_bytes: int
    """For this user."""
    read_only: bool
    device: int
    """The same number: the same file system."""


def _run(command: Sequence[str], limit_s: float) -> Reply:
    """Run ``command`` in the root folder, for at most ``limit_s``."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=limit_s, cwd="/", check=False
        )
    except subprocess.TimeoutExpired:
        return Reply(None, err=f"no answer in {limit_s:g} s")
    except OSError as error:
        return Reply(None, err=error.strerror or str(error))
    return Reply(done.returncode, done.stdout, done.stderr)


def _may_use(path: Path) -> bool:
    """Whether this process may read and write there, access lists included."""
    return os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _disk(folder: Path) -> Disk:
    free_bytes = shutil.disk_usage(folder).free
    return Disk(free_bytes, bool(os.statvfs(folder).f_flag & os.ST_RDONLY), folder.stat().st_dev)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container, or DynamicUser of another one
        return str(os.geteuid())


def existing(folder: Path) -> Path:
    """``folder``, or the nearest one above it that is there: the rest is made when it is needed."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


@dataclass(frozen=True)
class Machine:
    """Files below ``root`` and commands through ``run``; the rest are facts of this process.

    Paths are given and returned as they are on the machine (``/dev/video0``); `at` is where they lie.
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str], float], Reply] = _run
    """(command, time limit in s)."""
    may_use: Callable[[Path], bool] = _may_use
    disk: Callable[[Path], Disk] = _disk
    user_id: int = field(default_factory=os.geteuid)
    user: str = field(default_factory=_user)
    architecture: str = field(default_factory=lambda: os.uname().machine)
    """Of the kernel."""
    bits: int = 64 if sys.maxsize > 2**32 else 32
    """Of this Python."""
    python: tuple[int, int, int] = sys.version_info[:3]
    prefix: Path = field(default_factory=lambda: Path(sys.prefix))
    base_prefix: Path = field(default_factory=lambda: Path(sys.base_prefix))

    def at(self, path: str | Path) -> Path:
        """Where ``path`` of the machine lies."""
        return self.root / str(path).lstrip("/")

    def exists(self, path: str | Path) -> bool:
        """Whether it is there, links followed; what may not be looked at is not."""
        return os.path.exists(self.at(path))  # noqa: PTH110 - Path.exists raises PermissionError

    def read(self, path: str | Path) -> str | None:
        """The text of a small file; None where there is none, or it cannot be read."""
        try:
            return self.at(path).read_bytes().rstrip(b"\0").decode("utf-8", "replace").strip()
        except OSError:
            return None

    def glob(self, pattern: str) -> list[str]:
        """The paths that match ``pattern``, such as ``/dev/video*``, sorted."""
        found = self.root.glob(pattern.lstrip("/"))
        return sorted(f"/{path.relative_to(self.root)}" for path in found)

    def real(self, path: str) -> str:
        """``path`` with its links followed."""
        there = Path(os.path.realpath(self.at(path)))
        root = self.root.resolve()
        return f"/{there.relative_to(root)}" if there.is_relative_to(root) else str(there)

    @property
    def model(self) -> str:
        """The board's own name, "" on a PC."""
        return board_model(self.at("/proc/device-tree/model"))

    @property
    def is_pi(self) -> bool:
        """Whether it is a Raspberry Pi."""
        return "raspberry pi" in self.model.lower()

    @property
    def in_venv(self) -> bool:
        """Whether this Python runs in a virtual environment."""
        return self.prefix != self.base_prefix

    @property
    def sees_system_packages(self) -> bool:
        """Whether packages of the distribution (apt's) can be imported."""
        if not self.in_venv:
            return True
        text = (self.read(self.prefix / "pyvenv.cfg") or "").lower().replace(" ", "")
        return "include-system-site-packages=true" in text

    def holders(self, devices: Sequence[str]) -> list[str]:
        """The other processes that have one of ``devices`` open, as "name (pid 1)", as far as this user may
        know.
        """
        real = {self.real(device) for device in devices}
        found = dict.fromkeys(pid for pid, target in self._open_files() if target in real)
        return [f"{self.read(f'/proc/{pid}/comm') or 'a process'} (pid {pid})" for pid in found]

    def _open_files(self) -> Iterator[tuple[int, str]]:
        for folder in self.root.glob("proc/[0-9]*/fd"):
            pid = int(folder.parent.name)
            if pid in (os.getpid(), os.getppid()):  # a guarded check, and who guards it
                continue
            try:
                targets = [str(link.readlink()) for link in folder.iterdir()]
            except OSError:  # it has ended, or is somebody else's
                continue
            yield from ((pid, target) for target in targets)
