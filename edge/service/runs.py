"""The newest runs with their traces, a file for each: ``run-000123.json``, as `edge.trace` describes it.

Numbers, not times, order them: a device without a network begins each day at the same hour.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
from pathlib import Path
from typing import Any

from edge.errors import InputError
from edge.files import atomic_write_text

__all__ = ["Runs"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"run-(\d{6,12})\.json")
#: Runs given up at once where the disk is full: one would be no more than the next trace takes ...
_MAKE_ROOM = 10
#: ... and how many are never given up for a newer one: it might find no room either.
_NEVER_GIVEN_UP = 20


class Runs:
    """``keep`` from one thread, ``newest`` and ``read`` from any. Nothing is read before it is asked for."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._lock = threading.Lock()
        self.lost = 0
        """Traces that could not be written since the start."""
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".*.tmp"):  # of a power cut
                left.unlink()
        self._next = max(self.numbers(), default=0) + 1

    def numbers(self) -> list[int]:
        """The runs that there are, rising."""
        try:
            names = [_NAME.fullmatch(path.name) for path in self._folder.iterdir()]
        except OSError:
            return []
        return sorted(int(name[1]) for name in names if name is not None)

    def keep(self, document: dict[str, Any]) -> int:
        """Write ``document`` as the next run and return its number; the oldest beyond ``most`` go.

        Where the disk is full, all but the newest 20 make room; where that does not help it is logged: a run
        that is over is not undone by what cannot be written of it.
        """
        with self._lock:
            number = self._next
            self._next += 1
            text = json.dumps({"run": number, **document}, allow_nan=False) + "\n"
            room = min(self._most - 1, len(self.numbers()))
            for remaining in (room, max(room - _MAKE_ROOM, min(room, _NEVER_GIVEN_UP))):
                self._drop(remaining)
                try:
                    atomic_write_text(self._path(number), text)
                except (OSError, InputError) as error:
                    why = error
                else:
                    return number
            self.lost += 1
            log.warning("the trace of run %d is lost: %s", number, why)
            return number

    def newest(self, count: int) -> list[dict[str, Any]]:
        """Number, time and result of the newest ``count`` runs, newest first. Reads as many files."""
        found = [self.read(number) for number in reversed(self.numbers()[-count:])] if count > 0 else []
        keys = ("run", "at", "by", "result")
        return [{key: run.get(key) for key in keys} for run in found if run is not None]

    def read(self, number: int) -> dict[str, Any] | None:
        """The whole document of run ``number``; None where there is none, or it cannot be read."""
        try:
            found = json.loads(self._path(number).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _drop(self, remaining: int) -> None:
        numbers = self.numbers()
        for number in numbers[: max(0, len(numbers) - remaining)]:
            with contextlib.suppress(OSError):
                self._path(number).unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"run-{number:06d}.json"
