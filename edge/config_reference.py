"""The manual of the configuration, built from the models: docs/config.md, and the default file
edge/default.toml.

The default file is default, schema and manual at once: it names each key with its meaning, bounds and
default, and read back it is the default configuration. Both files are committed; tests/test_config.py fails
where they are stale.

    python -m edge.config_reference markdown|toml        print one of them
    python -m edge.config_reference --write              write both into the source tree
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge.config import allowed_values, as_toml
from edge.files import atomic_write_text
from edge.section import keys_of
from edge.settings import Config, Section

__all__ = ["default_toml", "main", "reference_markdown"]

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {"markdown": ROOT / "docs" / "config.md", "toml": ROOT / "edge" / "default.toml"}

_MARKDOWN_HEAD = """\
# Configuration

*Built from `edge/settings.py` by `python -m edge.config_reference --write`; do not edit.*

Parfocal reads one TOML file, given with `--config`. Every key has a default, so the file need only hold
what differs. `edge/default.toml` lists all of them and can be copied as a start. An unknown section or key
is an error, as is a value out of its bounds; nothing moves then. Whole numbers may stand where a number is
asked for; text may not.
"""

_TOML_HEAD = """\
# Parfocal: every key with its default. A key may be left out; one with a # in front is not set by default.
# Built from edge/settings.py by `python -m edge.config_reference --write`.
"""


def reference_markdown() -> str:
    """docs/config.md: a heading for each section, an entry for each key."""
    parts = [_MARKDOWN_HEAD]
    for name, section in sections():
        parts.append(f"\n## [{name}]\n\n{_prose(section.__doc__)}\n")
        meaning = descriptions(type(section))
        for key, kind in keys_of(type(section)).items():
            default = as_toml(getattr(section, key)) if getattr(section, key) is not None else "not set"
            parts.append(f"\n- **`{key}`** ({_allowed(kind)}; default `{default}`)  \n")
            parts.append(
                textwrap.fill(_prose(meaning[key]), 110, initial_indent="  ", subsequent_indent="  ")
            )
            parts.append("\n")
    return "".join(parts)


def default_toml() -> str:
    """edge/default.toml: the defaults, each key under a comment with its meaning and bounds."""
    parts = [_TOML_HEAD]
    for name, section in sections():
        parts.append(f"\n# {_prose(section.__doc__)}\n[{name}]\n")
        meaning = descriptions(type(section))
        for key, kind in keys_of(type(section)).items():
            comment = f"{_prose(meaning[key])} ({_allowed(kind)})"
            parts.append(
                "\n" + textwrap.fill(comment, 110, initial_indent="# ", subsequent_indent="# ") + "\n"
            )
            parts.append(_assignment(key, getattr(section, key)))
    return "".join(parts)


def sections() -> Iterator[tuple[str, Section]]:
    """Each section's name with its defaults, in the order of the file."""
    defaults = Config()
    for name in keys_of(Config):
        yield name, getattr(defaults, name)


def descriptions(section: type[Section]) -> dict[str, str]:
    """The docstring under each key of ``section``. Read from the source: whoever only runs it needs none."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node, after in itertools.pairwise(body.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[node.target.id] = text.value
    return found


def _assignment(key: str, value: Any) -> str:
    return f"# {key} =\n" if value is None else f"{key} = {as_toml(value)}\n"


def _allowed(kind: Any) -> str:
    return allowed_values(kind).rstrip(",")


def _prose(text: str | None) -> str:
    return " ".join((text or "").split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one reference or write both; 2 for other arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    texts = {"markdown": reference_markdown, "toml": default_toml}
    if words == ["--write"]:
        for name, target in TARGETS.items():
            atomic_write_text(target, texts[name]())
        return 0
    if len(words) == 1 and words[0] in texts:
        sys.stdout.write(texts[words[0]]())
        return 0
    sys.stderr.write("usage: python -m edge.config_reference markdown|toml|--write\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
