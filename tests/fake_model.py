"""A model file without a network: a card on a few bytes, and an interpreter that knows no TFLite."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge.card import Card, attach

FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 8
BINS = tuple(float(x) for x in np.linspace(-10, 10, 21))
TILE_PX = 32


def card(flatbuffer: bytes = FLATBUFFER, **changes: Any) -> Card:
    """A sane card of ``flatbuffer``."""
    keys: dict[str, Any] = {
        "schema_version": 1,
        "name": "fake",
        "tile_px": TILE_PX,
        "pixels_per_resolution": 4.0,
        "bin_centres": BINS,
        "unit": "dof",
        "temperature": 1.0,
        "tile_weight": 0.25,
        "trained_on": "nothing",
        "trained_at": "2025-01-01",
        "recipe": {"seed": 1},
        "metrics": {"int8": {"mae_dof": 0.5}},
        "flatbuffer_sha256": hashlib.sha256(flatbuffer).hexdigest(),
    }
    return Card(**{**keys, **changes})


def write_model(path: Path, **changes: Any) -> Path:
    """A model file at ``path``."""
    path.write_bytes(attach(FLATBUFFER, card(**changes)))
    return path


class FakeInterpreter:
    """As a TFLite interpreter looks from outside. ``network``: pixels ``(S, S, 3)`` to logits ``(bins,)``."""

    network: Callable[[np.ndarray], np.ndarray] = staticmethod(lambda pixels: np.zeros(len(BINS)))
    features = 5
    input_shape: tuple[int, ...] = (1, TILE_PX, TILE_PX, 3)
    outputs: tuple[tuple[int, ...], ...] = ((1, 5), (1, len(BINS)))
    dtype: type = np.float32
    input_quantization = (1 / 127, 0)
    output_quantization = (0.1, 3)
    fails: type[Exception] | None = None

    def __init__(self, *, model_content: bytes, num_threads: int) -> None:
        if self.fails is not None:
            raise self.fails("Model provided has\nmodel identifier 'ABCD'")
        assert model_content == FLATBUFFER, "the card went into the interpreter too"
        self.threads, self.invoked = num_threads, 0
        self._buffers: dict[int, np.ndarray] = {}

    def allocate_tensors(self) -> None:
        self._buffers = {1 + k: np.zeros(shape, self.dtype) for k, shape in enumerate(self.outputs)}

    def get_input_details(self) -> list[dict[str, Any]]:
        return [self._details(0, self.input_shape, self.input_quantization)]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [self._details(1 + k, s, self.output_quantization) for k, s in enumerate(self.outputs)]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        assert index == 0
        assert value.dtype == self.dtype
        assert value.shape == self.input_shape
        self._input = value.astype(np.float64)
        if self.dtype is np.int8:
            self._input = (self._input - self.input_quantization[1]) * self.input_quantization[0]

    def invoke(self) -> None:
        self.invoked += 1
        for k, shape in enumerate(self.outputs):
            value = type(self).network(self._input[0]) if shape[-1] == len(BINS) else np.arange(shape[-1])
            if self.dtype is np.int8:
                value = np.clip(
                    np.rint(value / self.output_quantization[0]) + self.output_quantization[1], -128, 127
                )
            self._buffers[1 + k][:] = value

    def get_tensor(self, index: int) -> np.ndarray:
        """A view, as a real one may give: it changes with the next invocation."""
        return self._buffers[index]

    def _details(self, index: int, shape: tuple[int, ...], quantization: tuple[float, int]) -> dict[str, Any]:
        zero = quantization if self.dtype is np.int8 else (0.0, 0)
        return {"index": index, "shape": np.array(shape), "dtype": self.dtype, "quantization": zero}
