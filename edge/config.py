"""Reading a configuration: a TOML file becomes a frozen `Config`, or one line that says what is wrong in it.

    {path}: [section] key = value: what is allowed
    {path}: unknown key 'x' in [section]; allowed: a, b, c

A mistyped key is fatal: a setting that is dropped in silence moves a lens into a slide. The keys themselves
are in `edge.settings`; their manual is docs/config.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from edge.errors import ConfigError, one_line
from edge.files import PathLike
from edge.settings import (
    CameraConfig,
    Config,
    FocusConfig,
    GpioConfig,
    ModelConfig,
    OpticsConfig,
    Section,
    SerialConfig,
    SimulatorConfig,
    StageConfig,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "CameraConfig",
    "Config",
    "FocusConfig",
    "GpioConfig",
    "ModelConfig",
    "OpticsConfig",
    "Section",
    "SerialConfig",
    "SimulatorConfig",
    "StageConfig",
    "allowed_values",
    "as_toml",
    "load_config",
    "override",
    "parse_config",
]

LARGEST_FILE_BYTES = 1 << 20
"""A configuration is a page or two. Beyond this it is some other file, or one that has no end."""


def load_config(path: PathLike | None = None) -> Config:
    """Read a TOML file; None gives the defaults. Blocks for the disk.

    Raises ConfigError, one line, where the file is missing, a folder, not UTF-8, not TOML, or holds an
    unknown section or key or a value that is not allowed.
    """
    if path is None:
        return Config()
    shown = one_line(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{shown}: no such file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{shown}: is a folder; a TOML file is allowed") from error
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:  # a NUL in the name
        raise ConfigError(f"{shown}: not a usable file name") from error
    if len(data) > LARGEST_FILE_BYTES:
        raise ConfigError(f"{shown}: not a configuration: larger than {LARGEST_FILE_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")  # Windows editors put a byte order mark in front
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: not UTF-8 text (byte {error.start})") from error
    return parse_config(text, source=shown)


def parse_config(text: str, *, source: str) -> Config:
    """A `Config` from TOML text; `source` names it in errors. Raises ConfigError."""
    try:
        data = tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # TOMLDecodeError is a ValueError, and so is an endless integer
        raise ConfigError(f"{source}: not TOML: {one_line(error)}") from error
    return _validated(data, source)


def override(config: Config, source: str, **sections: Mapping[str, Any]) -> Config:
    """`config` with some keys replaced and all checks made again; `source` names the giver in errors.

    `override(config, "command line", simulator={"seed": 3}, model={"threads": 2})`. Raises ConfigError.
    """
    data: dict[str, Any] = config.as_dict()
    for name, changes in sections.items():
        data[name] = {**data.get(name, {}), **changes}
    return _validated(data, source)


def _validated(data: Mapping[str, Any], source: str) -> Config:
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise ConfigError(f"{source}: {_line(details[0])}{more}") from error


def _line(detail: ErrorDetails) -> str:
    """What is wrong, as our own sentence, from what pydantic found."""
    kind, value = detail["type"], detail["input"]
    place = [one_line(part, limit=60) for part in detail["loc"]]
    name, key = place[0], place[1] if len(place) > 1 else None
    sections = Config.model_fields
    if key is None:
        if kind == "extra_forbidden":
            allowed = ", ".join(f"[{section}]" for section in sections)
            what = (
                f"unknown section [{name}]" if isinstance(value, Mapping) else f"key '{name}' in no section"
            )
            return f"{what}; allowed: {allowed}"
        if kind == "value_error":
            return f"[{name}] {detail['ctx']['error']}"
        return f"{name} = {as_toml(value)}: a section, written [{name}] on a line of its own, is allowed"
    keys = _model(sections[name]).model_fields
    if kind == "extra_forbidden":
        return f"unknown key '{key}' in [{name}]; allowed: {', '.join(keys)}"
    allowed = f"{allowed_values(keys[key])} is allowed"
    if kind == "value_error":
        allowed = str(detail["ctx"]["error"])
        if allowed.startswith(f"{key} = "):  # the error of another layer names the value once more
            allowed = allowed.split(": ", 1)[-1]
    return f"[{name}] {key} = {as_toml(value)}: {one_line(allowed)}"


def _model(field: FieldInfo) -> type[BaseModel]:
    """The class of a section."""
    section = field.annotation
    assert isinstance(section, type)
    assert issubclass(section, BaseModel)
    return section


def allowed_values(field: FieldInfo) -> str:
    """What a key takes, in words: "a number from 0.2 to 2", "'auto' or 'phase'"."""
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
    if get_origin(field.annotation) is Literal:
        words = [as_toml(word) for word in kinds]
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    kind = kinds[0]
    if get_origin(kind) is Annotated:  # an optional name
        kind = get_args(kind)[0]
    if kind is bool:
        return "true or false"
    if kind is str:
        return "one line of text, not empty,"
    bounds = {name: bound for rule in field.metadata for name, bound in _bounds(rule).items()}
    number = "a whole number" if kind is int else "a number"
    return " ".join([number, *(f"{word} {bounds[name]}" for name, word in _BOUNDS.items() if name in bounds)])


_BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}


def _bounds(rule: object) -> dict[str, str]:
    """The bounds in one piece of a field's metadata, as text."""
    found = {name: getattr(rule, name, None) for name in _BOUNDS}
    return {name: repr(bound).removesuffix(".0") for name, bound in found.items() if bound is not None}


def as_toml(value: object) -> str:
    """A value as TOML would write it, on one line and not over 60 characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        # Python refuses to write integers of more than 4300 digits.
        return str(value) if value.bit_length() < 200 else "a huge number"
    if isinstance(value, str):
        return one_line(json.dumps(value, ensure_ascii=False), limit=60)
    return one_line(value, limit=60)
