"""The next boot after the plug was pulled in mid-move."""

from __future__ import annotations

from pathlib import Path

from service_in_machine import logged, shown, since_boot, traces, until
from sim_lines import tell

status = until("in_focus", "failed", after=0)
tell(
    what="boot after the cut",
    **since_boot(),
    said=[entry["MESSAGE"] for entry in logged("uncertain")],
    result=status["last"]["result"],
    uncertain=status["stage"]["uncertain"],
    restarts=int(shown("NRestarts")),
    traces=traces(),
    config=Path("/etc/parfocal/parfocal.toml").read_text(),
)
