"""A progress bar for long work: on a terminal only, and on stderr, so that pipes and logs stay clean."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """``with Bar("what", total) as bar: bar.advance()``; ``total`` None where the end is not known."""

    def __init__(self, what: str, total: int | None) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(what, total=total)

    def advance(self, steps: float = 1) -> None:
        """``steps`` more are done."""
        self._progress.advance(self._task, steps)

    def of(self, done: int, total: int) -> None:
        """``done`` of ``total`` steps are done; the total may change from one round to the next."""
        self._progress.update(self._task, completed=done, total=total)

    def set_share(self, share: float) -> None:
        """``share`` (0 to 1) of a total of 1 is done."""
        self._progress.update(self._task, completed=share)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
