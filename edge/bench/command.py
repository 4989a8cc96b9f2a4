"""The command `bench`: `focus` beside how others focus, `latency` of each stage of a look, `growth` of both.

`edge.cli` parses and turns errors into exit codes. Each kind of bench is a module that offers
``add_arguments(parser)`` and ``run(args) -> int``.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Protocol, cast

__all__ = ["KINDS", "add_arguments", "run"]

#: Name: (module, one line of help).
KINDS = {
    "focus": (
        "edge.bench.focus_command",
        "strategies of focusing side by side, simulated, in virtual seconds",
    ),
    "latency": ("edge.bench.latency_command", "each stage of a look on this machine, in milliseconds"),
    "growth": ("edge.bench.growth_command", "how cost grows with distance, range, tiles and processors"),
}


class _Kind(Protocol):
    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the kinds of bench, each with its own options."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, (_, text) in KINDS.items():
        own = kinds.add_parser(kind, help=text, description=text[0].upper() + text[1:] + ".")
        _module(kind).add_arguments(own)


def run(name: str, args: argparse.Namespace) -> int:
    """Run the bench that was chosen and return its exit code."""
    return _module(args.kind).run(args)


def _module(kind: str) -> _Kind:
    return cast(_Kind, importlib.import_module(KINDS[kind][0]))
