"""Whether a model does here what a model does: it is shown built-in pictures and must say something of them.

The pictures are always the same, so a file passes or fails alike each time. A poor model passes: how good one
is on images, `parfocal evaluate` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError, one_line
from edge.model import Model, log_softmax

__all__ = ["pictures", "self_check"]

#: Spots of these widths, as shares of a tile: in focus, near it, far from it.
_WIDTHS = (1 / 64, 1 / 24, 1 / 8)
_SPOTS = 24
#: At a second a tile the common 16 of a frame outlast half the watchdog's patience.
MOST_S = 1.0
#: Log-probabilities closer than this are the same.
_SAME = 1e-3


def self_check(model: Model, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a tile takes. BLOCKS for three of them. ModelError, one line, where the runtime fails on a
    tile, takes too long, or what comes out is no belief about defocus.
    """
    logits, took_s = [], []
    for tile in pictures(model.card.tile_px):
        begun_s = clock()
        try:
            said, _ = model.infer(tile[None])
        except (ValueError, RuntimeError, SystemError) as error:
            raise _failed(model, f"{model.runtime} fails on a tile: {one_line(error)}") from error
        took_s.append(clock() - begun_s)
        logits.append(said[0])
    if what := _fault(model, np.stack(logits).astype(np.float64)):
        raise _failed(model, what)
    fastest_s = min(took_s)  # the first one prepares, and something else may run beside it
    if fastest_s > MOST_S:
        raise _failed(model, f"{fastest_s:.1f} s a tile, at most {MOST_S:g} s is allowed")
    return fastest_s


def pictures(size_px: int) -> NDArray[np.float32]:
    """``(3, size_px, size_px, 3)`` float32 in -1 to 1: dark spots on light ground, of three widths."""
    rng = np.random.default_rng(8)
    place = rng.uniform(0, 1, (2, _SPOTS, 1))
    depth = rng.uniform(0.4, 1, (_SPOTS, 1))
    away = np.arange(size_px) / size_px - place
    tiles = []
    for width in _WIDTHS:
        channels = []
        for by in (0.9, 1.0, 1.1):  # red, green and blue are not in focus together
            down, across = np.exp(-(away**2) / (2 * (width * by) ** 2))
            channels.append(1 - 2 * np.clip((depth * down).T @ across, 0, 1))
        tiles.append(np.stack(channels, axis=-1))
    return np.asarray(tiles, np.float32)


def _fault(model: Model, logits: NDArray[np.float64]) -> str | None:
    """What is wrong with ``logits`` ``(3, bins)``; None for nothing."""
    if not np.isfinite(logits).all():
        return "its output is not finite"
    if model.logit_range is not None:
        low, high = model.logit_range
        half_step = (high - low) / 255 / 2
        if ((logits < low + half_step) | (logits > high - half_step)).all():
            return "each of its outputs is at an end of int8: the network was quantized badly"
    log_p = log_softmax(logits / model.card.temperature)
    if np.ptp(log_p, axis=1).max() < _SAME:
        return "each defocus is as likely to it as the others"
    if np.ptp(log_p, axis=0).max() < _SAME:
        return "it says the same of different pictures"
    return None


def _failed(model: Model, why: str) -> ModelError:
    return ModelError(f"{model.name}: fails its self-check: {why}")
