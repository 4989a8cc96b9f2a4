"""A note, while a model is loaded, of which one it is: a runtime that crashes on it, or hangs until systemd
kills the process, would do so at each start again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType

from edge.errors import ModelError

__all__ = ["Trial"]

_LONGEST = 4096


class Trial:
    """``with Trial(path) as trial``: the note is in ``path``, and is taken away when the block is left, so
    that all are tried again at the next start.

    Where no note can be kept (another user's folder, a full disk, another process that loads just now), none
    is, and no model is refused.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._handle = path, -1
        self._fatal: frozenset[str] = frozenset()

    def begin(self, name: str) -> None:
        """Note that ``name`` is loaded next. ModelError where a process has noted that and ended there."""
        if name in self._fatal:
            raise ModelError(f"{name}: the last process that loaded it was ended by that")
        with contextlib.suppress(OSError):
            if self._handle >= 0:
                os.write(self._handle, f"{name}\n".encode())

    def __enter__(self) -> Trial:
        with contextlib.suppress(OSError):
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                text = os.read(self._handle, _LONGEST).decode("ascii", "replace")
            except OSError:
                self._close()
                raise
            self._fatal = frozenset(text.split())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            self._close()

    def _close(self) -> None:
        os.close(self._handle)
        self._handle = -1
