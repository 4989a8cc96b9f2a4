"""What all sections of the configuration share. The sections are in `edge.settings`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

__all__ = ["Name", "NotAllowed", "Section", "keys_of"]

Name = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
"""One line of text, not empty: a name or a path."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections share: frozen, no unknown keys, no text read as a number, no NaN or infinity (every
    number has bounds). Types and bounds are checked where a configuration is read, `edge.config`; what keys
    must have in common, always.
    """


class NotAllowed(ValueError):
    """The value of ``key`` is not allowed, for a reason that its bounds do not tell."""

    def __init__(self, key: str, why: object) -> None:
        super().__init__(str(why))
        self.key = key


def keys_of(section: type[Section]) -> dict[str, Any]:
    """Each key of ``section`` with its type, in their order."""
    return {field.name: field.type for field in msgspec.structs.fields(section)}
