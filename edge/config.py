"""Reading a configuration: a TOML file becomes a frozen `Config`, or one line that says what is wrong in it.

    {path}: [section] key = value: what is allowed
    {path}: unknown key 'x' in [section]; allowed: a, b, c

A mistyped key is fatal: a setting that is dropped in silence moves a lens into a slide. The keys themselves
are in `edge.settings`; their manual is docs/config.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from edge.errors import ConfigError, one_line
from edge.files import PathLike
from edge.section import NotAllowed, keys_of
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
        return msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        first, *others = _wrong(data)
        more = f" (and {len(others)} more)" if others else ""
        raise ConfigError(f"{source}: {first}{more}") from error


def _wrong(data: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each thing that is not allowed."""
    sections = keys_of(Config)
    for name, section in sections.items():
        if isinstance(data.get(name, {}), Mapping):
            yield from _wrong_in(name, section, data.get(name, {}))
        else:
            shown = as_toml(data[name])
            yield f"{name} = {shown}: a section, written [{name}] on a line of its own, is allowed"
    allowed = ", ".join(f"[{section}]" for section in sections)
    for name in [name for name in data if name not in sections]:
        shown = one_line(name, limit=60)
        is_one = isinstance(data[name], Mapping)
        what = f"unknown section [{shown}]" if is_one else f"key '{shown}' in no section"
        yield f"{what}; allowed: {allowed}"


def _wrong_in(name: str, section: type[Section], values: Mapping[str, Any]) -> Iterator[str]:
    keys = keys_of(section)
    wrong = [key for key, kind in keys.items() if key in values and not _fits(values[key], kind)]
    for key in wrong:
        yield f"[{name}] {key} = {as_toml(values[key])}: {one_line(allowed_values(keys[key]))} is allowed"
    unknown = [key for key in values if key not in keys]
    for key in unknown:
        yield f"unknown key '{one_line(key, limit=60)}' in [{name}]; allowed: {', '.join(keys)}"
    try:
        msgspec.convert({key: values[key] for key in keys if key in values and key not in wrong}, section)
    except msgspec.ValidationError as error:
        yield _disagreement(name, values, error.__cause__)


def _disagreement(name: str, values: Mapping[str, Any], why: BaseException | None) -> str:
    """What the section itself found: of one key, or of several together."""
    if not isinstance(why, NotAllowed):
        return f"[{name}] {why}"
    text = str(why)
    if text.startswith(f"{why.key} = "):  # the error of another layer names the value once more
        text = text.split(": ", 1)[-1]
    return f"[{name}] {why.key} = {as_toml(values.get(why.key))}: {one_line(text)}"


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def allowed_values(kind: Any) -> str:
    """What a key of type ``kind`` takes, in words: "a number from 0.2 to 2", "'auto' or 'phase'"."""
    [kind] = [part for part in (get_args(kind) if _is_optional(kind) else (kind,)) if part is not type(None)]
    if get_origin(kind) is Literal:
        words = [as_toml(word) for word in get_args(kind)]
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    kind, *rules = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if kind is bool:
        return "true or false"
    if kind is str:
        return "one line of text, not empty,"
    number = "a whole number" if kind is int else "a number"
    bounds = [(word, getattr(rule, name)) for rule in rules for name, word in _BOUNDS.items()]
    said = [f"{word} {bound!r}".removesuffix(".0") for word, bound in bounds if bound is not None]
    return " ".join([number, *said])


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


_BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}


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
