"""Focus runs that have ended: the last for the status, their traces for the disk, all for log and page."""

from __future__ import annotations

import logging
from typing import Any

from edge.service.feed import Feed
from edge.service.runs import Runs

__all__ = ["History"]

log = logging.getLogger(__name__)

#: Of a result, what the log has as fields.
_LOGGED = ("result", "method", "captures", "moves", "seconds", "position_um", "confidence")


class History:
    """``last``: as `edge.service.messages.Run` describes it; None before the first run since the start."""

    def __init__(self, runs: Runs, feed: Feed) -> None:
        self._runs, self._feed = runs, feed
        self._late: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None

    def ended(
        self, at: str, by: str, result: dict[str, Any], whole: dict[str, Any] | None, *, late: bool
    ) -> None:
        """A run that ``by`` asked for ``at`` some time came to ``result``; ``whole``: its trace, where there
        is one. ``late``: nothing is written before `keep_late`, as the coils go off first.
        """
        document = {"at": at, "by": by, **({"result": result} if whole is None else whole)}
        number = None
        if late:
            self._late = document
        else:
            number = self._runs.keep(document)
        fields = {name.upper(): result.get(name) for name in _LOGGED}
        log.info(
            "focus by %s: %s, %s",
            by,
            result["result"],
            result["reason"],
            extra={"fields": {"EVENT": "run", "BY": by, "RUN": number, **fields}},
        )
        self.last = {"run": number, "at": at, "by": by, "result": result}
        self._feed.tell("run", self.last)

    def keep_late(self) -> None:
        """Write what was not yet."""
        late, self._late = self._late, None
        if late is not None:
            self._runs.keep(late)
