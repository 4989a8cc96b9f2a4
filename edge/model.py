"""A defocus model: a .tflite with its card, run by whichever TFLite runtime this machine has.

`load` → `Model`; ``model.look(frame, optics)`` → `Look`: log-probabilities over defocus bins for each
informative tile.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import card as cards
from edge import tiles
from edge.card import Card
from edge.errors import ModelError, one_line
from edge.optics import PIXELS_PER_RESOLUTION, Optics
from edge.view import Float, Frame, View

#: Runtimes in order of preference: module, and its attribute that is the interpreter.
RUNTIMES = (
    ("ai_edge_litert.interpreter", "Interpreter"),
    ("tflite_runtime.interpreter", "Interpreter"),
    # tf.lite itself is filled in when tensorflow is imported, and is empty to importlib.
    ("tensorflow.lite.python.interpreter", "Interpreter"),
)
DEFAULT_PATH = Path(__file__).parent / "models" / "default.tflite"
DEFAULT, CHOSEN = "default", "chosen"
#: Where `parfocal model use` has no say, as in a bench, both are the shipped model.
SHIPPED = (DEFAULT, CHOSEN)


@dataclass(frozen=True)
class Look:
    """What the model says of one frame.

    ``log_likelihood``: ``(bins,)`` float64, the frame's tempered log-probabilities over the card's bins,
    normalised; None when no tile was informative. ``bin_centres_dof``: ``(bins,)`` float64. ``tiles``:
    informative tiles used. ``log_probabilities``: ``(tiles, bins)`` float64 of each tile. ``contrast``: see
    `edge.tiles.TileSet`; nan where it was not measured.
    """

    log_likelihood: NDArray[np.float64] | None
    bin_centres_dof: NDArray[np.float64]
    tiles: int
    log_probabilities: NDArray[np.float64]
    contrast: float = math.nan


class Model:
    """An int8 (or, for evaluation, float) .tflite with a card. Not thread-safe; holds one interpreter.

    ``delegates`` false: the runtime's own kernels alone, without XNNPACK; slow, to compare with.
    Raises ModelError when the interpreter refuses the flatbuffer or its tensors do not fit the card.
    """

    def __init__(
        self,
        flatbuffer: bytes,
        card: Card,
        *,
        name: str,
        runtime: str | None = None,
        threads: int = 1,
        delegates: bool = True,
    ) -> None:
        self.card, self.name = card, name
        self.runtime, make = _runtime(runtime)
        own: dict[str, Any] = {} if delegates else {"experimental_op_resolver_type": _built_in(self.runtime)}
        try:
            with quiet_stderr():
                self._interpreter = make(model_content=flatbuffer, num_threads=threads, **own)
                self._interpreter.allocate_tensors()
            self._input = self._interpreter.get_input_details()[0]
            outputs = self._interpreter.get_output_details()
        except (ValueError, RuntimeError, SystemError) as error:  # SystemError: built for another NumPy
            raise ModelError(f"{name}: {self.runtime} cannot run it: {one_line(error)}") from error
        bins = len(card.bin_centres)
        wanted = [1, card.tile_px, card.tile_px, 3]
        by_width = sorted(outputs, key=lambda d: list(d["shape"]) != [1, bins])
        if list(self._input["shape"]) != wanted or not outputs or list(by_width[0]["shape"]) != [1, bins]:
            raise ModelError(
                f"{name}: the card promises input {wanted} and {bins} bins, the network has other shapes"
            )
        if any(d["dtype"] not in (np.int8, np.float32) for d in (self._input, *outputs)):
            raise ModelError(f"{name}: its input and outputs are neither int8 nor float32")
        self._quantization: tuple[float, int] | None = None
        if self._input["dtype"] is np.int8:
            self._quantization = self._input["quantization"]
        self._logits, self._features = by_width[0], by_width[1] if len(by_width) > 1 else None
        self.bin_centres = np.asarray(card.bin_centres, np.float64)
        self._head = None if card.head is None else card.head.arrays()
        if card.head is not None and card.head.features != self.features:
            raise ModelError(
                f"{name}: its card corrects a last layer of {card.head.features} features, the network gives"
                f" {self.features}"
            )

    @property
    def features(self) -> int:
        """Width F of the second output, the features before the last layer; 0 where there is none."""
        return 0 if self._features is None else int(np.prod(self._features["shape"]))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the card, which seals the network: the same for the same answers, 64 hex digits."""
        return hashlib.sha256(self.card.as_json().encode()).hexdigest()

    def bins_dof(self, optics: Optics) -> NDArray[np.float64]:
        """Bin centres in depths of field behind ``optics``, ``(bins,)`` float64."""
        return self.bin_centres if self.card.unit == "dof" else self.bin_centres / optics.dof_um

    @property
    def logit_range(self) -> tuple[float, float] | None:
        """The least and the highest logit that an int8 network can say; None for a float one."""
        if self._logits["dtype"] is not np.int8:
            return None
        scale, zero = self._logits["quantization"]
        return (-128 - zero) * scale, (127 - zero) * scale

    def infer(self, pixels: NDArray[Any], *, features: bool = True) -> tuple[Float, Float]:
        """Logits ``(N, bins)``, features ``(N, F)``, both float32, of tiles ``(N, S, S, 3)``: float32 in -1
        to 1, or int8 as an int8 network's input is quantized. ``features`` false: ``(N, 0)`` unless the card
        has a head, which needs them.
        """
        int8 = self._quantization
        data = pixels if int8 is None or pixels.dtype == np.int8 else tiles.quantize(pixels, *int8)
        if not len(data):
            return np.zeros((0, len(self.bin_centres)), np.float32), np.zeros((0, 0), np.float32)
        wanted = [self._logits]
        if self._features is not None and (features or self._head is not None):
            wanted.append(self._features)
        found: list[list[Any]] = [[] for _ in wanted]
        for tile in data:
            self._interpreter.set_tensor(self._input["index"], tile[None])
            self._interpreter.invoke()
            for values, details in zip(found, wanted, strict=True):
                values.append(np.array(self._interpreter.get_tensor(details["index"])))
        logits, *rest = (_real(values, details) for values, details in zip(found, wanted, strict=True))
        seen = rest[0] if rest else np.zeros((len(data), 0), np.float32)
        return self._corrected(logits, seen), seen

    def _corrected(self, logits: Float, features: Float) -> Float:
        """The network's logits ``(N, bins)`` with the card's head, where there is one."""
        if self._head is None or self.card.head is None:
            return logits
        weights, bias = self._head
        own = logits[:, ::-1] if self.card.head.mirrored else logits
        return np.asarray(own + features @ weights + bias, np.float32)

    def look(self, frame: Frame | View, optics: Optics, *, most_tiles: int) -> Look:
        """Read the defocus of ``frame`` ``(H, W, 3)`` uint8 RGB from its tiles. Blocks while inferring."""
        chosen = self._tiles(frame, optics, most_tiles)
        logits, _ = self.infer(chosen.pixels, features=False)
        log_p = log_softmax(logits.astype(np.float64) / self.card.temperature)
        joint = combine(log_p, self.card.tile_weight) if len(logits) else None
        return Look(joint, self.bins_dof(optics), len(logits), log_p, chosen.contrast)

    def read(
        self, frame: Frame | View, optics: Optics, *, most_tiles: int, features: bool = True
    ) -> tuple[Float, Float]:
        """`infer` of the informative tiles of ``frame`` ``(H, W, 3)`` uint8 RGB, the best first."""
        return self.infer(self._tiles(frame, optics, most_tiles).pixels, features=features)

    def _tiles(self, frame: Frame | View, optics: Optics, most: int) -> tiles.TileSet:
        return tiles.extract(
            frame,
            self.scale(optics),
            size_px=self.card.tile_px,
            most=most,
            raw=self.card.input == "raw",
            int8=self._quantization,
        )

    def scale(self, optics: Optics) -> float:
        """Factor by which frames behind ``optics`` are resampled."""
        return optics.model_scale * self.card.pixels_per_resolution / PIXELS_PER_RESOLUTION


def _real(values: list[Any], details: dict[str, Any]) -> Float:
    """What tensors of one output, ``(1, …)`` each, say: ``(N, width)`` float32."""
    value = np.concatenate(values).reshape(len(values), -1)
    if details["dtype"] is np.int8:
        scale, zero = details["quantization"]
        value = (value.astype(np.float32) - zero) * scale
    return np.asarray(value, np.float32)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis, stable."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def combine(log_p: NDArray[np.float64], tile_weight: float) -> NDArray[np.float64]:
    """Log-probabilities of a frame ``(bins,)`` from those of its tiles ``(N, bins)``.

    Tiles of one frame share their errors, so N of them weigh ``1 + (N - 1) * tile_weight``, not N.
    """
    count = len(log_p)
    return log_softmax(log_p.mean(axis=0) * (1 + (count - 1) * tile_weight))


def load(path: str | Path, *, runtime: str | None = None, threads: int = 1) -> Model:
    """Open a model file, or the shipped one for ``default`` and, without asking the store, for ``chosen``:
    see `edge.model_store`. ``runtime`` a module of `RUNTIMES`, or the best here.

    Raises ModelError with one line: missing, truncated or damaged file, card missing, newer or unfit, no
    runtime.
    """
    path = file_of(path)
    flatbuffer, card = cards.read(path)
    return Model(flatbuffer, card, name=str(path), runtime=runtime, threads=threads)


def file_of(path: str | Path) -> Path:
    """The file that `load` opens for ``path``."""
    return DEFAULT_PATH if str(path) in SHIPPED else Path(path)


def available_runtimes() -> list[str]:
    """Module names of `RUNTIMES` that import here, best first."""
    found = []
    for module, _ in RUNTIMES:
        try:
            _runtime(module)
        except ModelError:
            continue
        found.append(module)
    return found


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep the runtime's greeting, which its C++ side writes, off stderr; its errors come as exceptions."""
    try:
        kept = os.dup(2)
    except OSError:  # a daemon may have closed it
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _built_in(runtime: str) -> Any:
    """How to ask a runtime for its own kernels."""
    return importlib.import_module(runtime).OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def _runtime(wanted: str | None) -> tuple[str, Callable[..., Any]]:
    for module, attribute in RUNTIMES:
        if wanted not in (None, module):
            continue
        try:
            return module, getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
    raise ModelError(
        f"no TFLite runtime{'' if wanted is None else ' ' + wanted} here: "
        "pip install ai-edge-litert (or tflite-runtime)"
    )
