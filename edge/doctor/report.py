"""The checks for a person to read: one line each, in colour on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from edge.doctor.finding import Check

__all__ = ["show", "sum_up"]

_STYLES = {"ok": "green", "warning": "bold yellow", "error": "bold red"}
_NAME_WIDTH = 10


def show(check: Check) -> None:
    """One line on stdout: status, name, what was found and, after an arrow, what to do."""
    line = Text.assemble(
        (f"{check.status:<8}", _STYLES[check.status]), f"{check.name:<{_NAME_WIDTH}}", check.found
    )
    if check.do:
        line.append(f" -> {check.do}", style="bold")
    _print(line)


def sum_up(checks: Sequence[Check]) -> None:
    """The last line: how many errors and warnings."""
    counts = {status: sum(check.status == status for check in checks) for status in ("error", "warning")}
    words = [f"{count} {status}{'' if count == 1 else 's'}" for status, count in counts.items() if count]
    worst = next((status for status, count in counts.items() if count), "ok")
    _print(Text(", ".join(words) or "all is well", style=_STYLES[worst]))


def _print(line: Text) -> None:
    Console(highlight=False).print(line, soft_wrap=True)
    sys.stdout.flush()  # each line as it comes: a check may take its time
