"""The manual of the HTTP interface, built from its OpenAPI document: docs/api.md.

    python -m edge.service.api_reference            print it
    python -m edge.service.api_reference --write    write it into the source tree

The file is committed; tests/test_docs.py fails where it is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from fastapi import FastAPI

from edge.files import atomic_write_text
from edge.service import messages
from edge.service.api import Streams, create_app
from edge.service.service import Service

__all__ = ["api_markdown", "main"]

TARGET = Path(__file__).resolve().parents[2] / "docs" / "api.md"
_HEAD = """\
# HTTP interface

*Built from the interface by `python -m edge.service.api_reference --write`; do not edit.*

A running service describes itself, in full, at `/api/openapi.json`. Bodies and replies are JSON where nothing
else is said. Any request may be refused with 401 (the token is missing or wrong) or 403 (another host or
origin); an error is `{"error": "one sentence"}`. [service.md](service.md) says what each is for.
"""
#: Codes that any request may be answered with.
_ALWAYS = ("401", "403")


def api_markdown() -> str:
    """docs/api.md: a heading for each request, then the models."""
    # Nothing is asked of the service in describing what could be.
    nobody = cast(Service, SimpleNamespace(feed=None))
    app = create_app(nobody, Streams(), token="token", names=frozenset()).app
    document = cast(FastAPI, app).openapi()
    parts = [_HEAD]
    for path, methods in document["paths"].items():
        for method, of in methods.items():
            parts += _request(method.upper(), path, of)
    schemas = document["components"]["schemas"]
    parts.append("\n## Models\n")
    for name in sorted(set(messages.__all__) & set(schemas)):
        parts += _model(name, schemas[name])
    return "".join(parts)


def _request(method: str, path: str, of: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## {method} {path}\n\n{_prose(of.get('description') or of['summary'])}\n"
    lines = [
        f"- `{given['name']}` ({given['in']}, {_type(given['schema'])})" for given in of.get("parameters", ())
    ]
    if "requestBody" in of:
        [body] = [content["schema"] for content in of["requestBody"]["content"].values()]
        lines.append(f"- body: {_type(body)}")
    for code, reply in of["responses"].items():
        if code not in _ALWAYS:
            kinds = [f"`{kind}`" if kind != "application/json" else "" for kind in reply.get("content", {})]
            types = [_type(content.get("schema", {})) for content in reply.get("content", {}).values()]
            words = " ".join(dict.fromkeys(word for word in (*kinds, *types) if word))
            lines.append(f"- **{code}** {_prose(reply['description'])}" + (f": {words}" if words else ""))
    yield "\n" + "\n".join(lines) + "\n"


def _model(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n### {name}\n\n{_prose(schema.get('description', ''))}\n\n| | | |\n|---|---|---|\n"
    for key, of in schema.get("properties", {}).items():
        yield f"| `{key}` | {_type(of)} | {_prose(of.get('description', ''))} |\n"


def _type(schema: Mapping[str, Any]) -> str:
    """A type in words: ``number``, ``Status``, ``list of Run``, ``"on" or "off"``."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name in messages.__all__ else "what was wrong"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value!r}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else _pair(schema)
    bounds = [f"{schema[key]:g}" for key in ("minimum", "maximum") if key in schema]
    return str(schema.get("type", "")) + (f", {' to '.join(bounds)}" if len(bounds) == 2 else "")


def _pair(schema: Mapping[str, Any]) -> str:
    """Values of a fixed number, such as limits."""
    return ", ".join(_type(one) for one in schema.get("prefixItems", ()))


def _prose(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the manual, or write it; 2 for other arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--write"]:
        atomic_write_text(TARGET, api_markdown())
    elif not words:
        sys.stdout.write(api_markdown())
    else:
        sys.stderr.write("usage: python -m edge.service.api_reference [--write]\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
