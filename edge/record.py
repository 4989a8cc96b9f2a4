"""What files that we write and read again have in common: frozen records, checked as they are read and made.

With `msgspec`, not pydantic, which takes as long to load as NumPy does (docs/decisions/0014): a device that
boots is in a hurry.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from edge.errors import one_line

__all__ = ["Finite", "NotNegative", "Positive", "Record", "Sha256", "Unfit", "as_json", "plain", "read"]

_MOST = sys.float_info.max
Finite = Annotated[float, Meta(ge=-_MOST, le=_MOST)]
NotNegative = Annotated[float, Meta(ge=0, le=_MOST)]
Positive = Annotated[float, Meta(gt=0, le=_MOST)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_PLACE = re.compile(r"(.*) - at `(?:key` in `)?\$\.?(.*)`", re.DOTALL)


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen; extra keys are kept out, so that a typing error cannot hide. Types and bounds are checked by
    `read` and `as_json`, what fields must have in common always.
    """


class Unfit(ValueError):
    """A text or record that is not as its class says. ``where``: the key, with dots; ``why``: one line."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}" if where else why)
        self.where, self.why = where, why


R = TypeVar("R", bound=Record)


def read(text: bytes, kind: type[R]) -> R:
    """The record of ``kind`` that ``text`` (JSON) holds. Raises Unfit."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise _unfit(error) from error


def as_json(record: Record, *, absent: frozenset[str] = frozenset()) -> str:
    """The JSON of ``record``, a key a line, without those that are ``absent``: the same text for it and for
    what is read from that. Raises Unfit where it would not be read again.
    """
    try:
        again = msgspec.convert(plain(record), type(record))
    except msgspec.MsgspecError as error:
        raise _unfit(error) from error
    kept = {key: value for key, value in plain(again).items() if key not in absent}
    return msgspec.json.format(msgspec.json.encode(kept), indent=1).decode()


def plain(record: Record) -> dict[str, Any]:
    """Its keys as JSON has them: numbers, text, lists, dicts."""
    found: dict[str, Any] = msgspec.to_builtins(record, enc_hook=_of_numpy)
    return found


def _of_numpy(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__}: plain numbers, text, lists and dicts are allowed")


def _unfit(error: BaseException) -> Unfit:
    text = str(error) or type(error).__name__
    found = _PLACE.fullmatch(text)
    return Unfit(found[2], one_line(found[1])) if found else Unfit("", one_line(text))
