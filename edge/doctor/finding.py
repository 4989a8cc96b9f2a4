"""What a check finds, and what becomes of it in the list of checks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

__all__ = ["Check", "Finding", "advice", "error", "joined", "ok", "warning"]

_RISING = ("ok", "warning", "error")


class Finding(NamedTuple):
    """What one check says, each part one line."""

    status: str
    """"ok", "warning" or "error"."""
    found: str
    do: str = ""
    """What to do about it; empty for "ok"."""


@dataclass(frozen=True)
class Check:
    """A finding under the name of its check."""

    name: str
    status: str
    found: str
    do: str

    def as_dict(self) -> dict[str, str]:
        """The keys of the JSON."""
        return asdict(self)


def ok(found: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", found)


def warning(found: str, do: str) -> Finding:
    """It works, or is not used, and something could be better."""
    return Finding("warning", found, do)


def error(found: str, do: str) -> Finding:
    """It will not work."""
    return Finding("error", found, do)


def joined(findings: Iterable[Finding]) -> Finding:
    """Several findings, at least one, as one: as bad as the worst, all that was found, all there is to do."""
    every = list(findings)
    return Finding(
        max((finding.status for finding in every), key=_RISING.index),
        "; ".join(finding.found for finding in every),
        "; ".join(dict.fromkeys(finding.do for finding in every if finding.do)),
    )


def advice(text: str, otherwise: str) -> str:
    """The command that an error's ``text`` advises (sudo …, pip install …), else ``otherwise``."""
    named = re.search(r"sudo [^;]*|pip install [\w.<>='\[\]-]*\w", text)
    return named[0] if named else otherwise
