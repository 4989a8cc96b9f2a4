"""The manual of the command line, built from the commands themselves: docs/commands.md.

    python -m edge.command_reference            print it
    python -m edge.command_reference --write    write it into the source tree

The file is committed; tests/test_docs.py fails where it is stale. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge import cli
from edge.files import atomic_write_text

__all__ = ["commands_markdown", "main"]

TARGET = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
_HEAD = """\
# Commands

*Built from the commands by `python -m edge.command_reference --write`; do not edit.*

`parfocal COMMAND --help` says the same. What is not said has the default in brackets. Exit codes are in the
[README](../README.md#bring-a-specimen-into-focus).
"""


def commands_markdown() -> str:
    """docs/commands.md: a heading for each command, a row for each of its options."""
    parts = [_HEAD]
    for name, (_, text) in cli.COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"parfocal {name}", add_help=False)
        cli.module_of(name).add_arguments(name, parser)
        parts += _sections(parser, text, level=2)
    return "".join(parts)


def _sections(parser: argparse.ArgumentParser, text: str, *, level: int) -> Iterator[str]:
    yield f"\n{'#' * level} {parser.prog}\n\n{text[0].upper() + text[1:]}.\n"
    rows = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    rows = [action for action in rows if action.dest != "help"]
    if rows:
        yield "\n| | |\n|---|---|\n"
        yield from (f"| {_words(action)} | {_meaning(action)} |\n" for action in rows)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, own in action.choices.items():
                yield from _sections(own, texts[name], level=level + 1)


def _words(action: argparse.Action) -> str:
    """How it is written on the command line."""
    values = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else "")
    shown = " ".join(values) if isinstance(values, tuple) else values
    if not action.option_strings:
        return f"`{shown or action.dest}`" + (" …" if action.nargs in ("+", "*") else "")
    many = " …" if action.nargs in ("+", "*") else ""
    return f"`{' '.join([', '.join(action.option_strings), shown]).strip()}`{many}"


def _meaning(action: argparse.Action) -> str:
    values = {**vars(action), "choices": ", ".join(map(str, action.choices or ()))}
    text = (action.help or "") % values
    return re.sub(r"(\s)([$|])", r"\1\\\2", " ".join(text.split())).replace("|", "\\|")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the manual, or write it; 2 for other arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--write"]:
        atomic_write_text(TARGET, commands_markdown())
    elif not words:
        sys.stdout.write(commands_markdown())
    else:
        sys.stderr.write("usage: python -m edge.command_reference [--write]\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
