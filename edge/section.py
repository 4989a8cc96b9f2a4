"""What all sections of the configuration share. The sections are in `edge.settings`."""

from __future__ import annotations

import os
from typing import Annotated

# A device that boots is in a hurry, and to look through all installed packages for plugins takes as long as
# pydantic itself.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Name", "Section"]

Name = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line of text, not empty: a name or a path."""


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, no text read as a number, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
    )
