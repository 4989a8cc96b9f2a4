"""A refitted last layer, carried by the card of a model: what is added to the network's own logits.

    logits = network's (in reverse order of the bins where ``mirrored``) + features @ weights + bias

The flatbuffer stays the parent's, byte for byte; only the card tells an adapted model from it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge.record import Record

__all__ = ["Head", "packed"]

Float = NDArray[np.float32]
_LITTLE = np.dtype("<f4")


def packed(values: Float) -> str:
    """``values`` of any shape as a card holds them: float32, little-endian, row by row, in base64."""
    return base64.b64encode(np.ascontiguousarray(values, _LITTLE).tobytes()).decode("ascii")


def _unpacked(text: str) -> Float:
    """The float32 values of `packed`, flat. Raises ValueError where they are none, or not finite."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error
    if len(data) % _LITTLE.itemsize:
        raise ValueError(f"{len(data)} bytes are no whole number of float32")
    values = np.frombuffer(data, _LITTLE).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    return values


class Head(Record, frozen=True, kw_only=True):
    """A correction of the last layer. Raises ValueError where the sizes do not fit together."""

    features: Annotated[int, Meta(ge=1, le=65_536)]
    """F, the width of the network's second output."""
    bins: Annotated[int, Meta(ge=3, le=1024)]
    """B, the number of the card's bins."""
    mirrored: bool
    """Whether the network's own logits are taken in reverse order of the bins: its plus is minus here."""
    weights: str
    """``(F, B)`` float32, as `packed` makes it."""
    bias: str
    """``(B,)`` float32, as `packed` makes it."""

    def __post_init__(self) -> None:
        for name, wanted in (("weights", self.features * self.bins), ("bias", self.bins)):
            found = len(_unpacked(getattr(self, name)))
            if found != wanted:
                raise ValueError(f"{name}: {found} numbers, {wanted} are needed")

    @classmethod
    def of(cls, weights: Float, bias: Float, *, mirrored: bool) -> Head:
        """The head of ``weights`` ``(F, B)`` and ``bias`` ``(B,)``."""
        features, bins = weights.shape
        return cls(
            features=features, bins=bins, mirrored=mirrored, weights=packed(weights), bias=packed(bias)
        )

    def arrays(self) -> tuple[Float, Float]:
        """``weights`` ``(F, B)`` and ``bias`` ``(B,)``, new float32 arrays."""
        return _unpacked(self.weights).reshape(self.features, self.bins), _unpacked(self.bias)

    def after(self, earlier: Head | None) -> Head:
        """One head for both: this one was fitted to logits that ``earlier`` had corrected already."""
        if earlier is None:
            return self
        weights, bias = self.arrays()
        first_weights, first_bias = earlier.arrays()
        order = slice(None, None, -1 if self.mirrored else 1)
        return Head.of(
            weights + first_weights[:, order],
            bias + first_bias[order],
            mirrored=self.mirrored != earlier.mirrored,
        )
