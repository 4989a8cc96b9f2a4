"""One service for one microscope: who has camera and motor."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType

from edge.errors import InputError

__all__ = ["Owner", "state_folder"]


def state_folder() -> Path:
    """Where the service keeps what must survive: systemd's folder for it, else the user's."""
    if state := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(state)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "parfocal")


class Owner:
    """Holds ``service.lock`` in ``folder`` until it is closed, or the process ends in whatever way.

    Raises InputError where another process holds it, naming that, or the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "service.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"{path}: cannot be kept: {error.strerror or error}") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            process = os.read(self._handle, 20).decode("ascii", "replace").strip()
            os.close(self._handle)
            raise InputError(
                f"parfocal serve runs already (process {process or '?'}) and alone has camera and motor:"
                " ask it on its page, or stop it first"
            ) from error
        # A full disk costs the number in that line, and nothing else.
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Let go; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Owner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
