"""A model over tiles with one TFLite runtime, in a process that holds no other: two may break one another.

python -m convert.alone MODEL.tflite TILES.npy LOGITS.npy RUNTIME
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge import card as cards
from edge import model as models
from edge.card import Card
from edge.errors import ModelError, ParfocalError, one_line

_LIMIT_S = 600


def logits_alone(
    flatbuffer: bytes, card: Card, pixels: NDArray[np.float32], runtime: str
) -> NDArray[np.float64]:
    """Logits ``(N, bins)`` of ``pixels`` ``(N, S, S, 3)`` float32. Blocks for a process's start and its work.

    Raises ModelError with what the process said last, or how it ended.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(cards.attach(flatbuffer, card))
        np.save(folder / "tiles.npy", pixels)
        files = [str(folder / file) for file in ("model.tflite", "tiles.npy", "logits.npy")]
        command = [sys.executable, "-m", "convert.alone", *files, runtime]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise ModelError(f"converted model: {runtime} gave no answer in {_LIMIT_S} s") from error
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
            raise ModelError(f"converted model: {runtime} cannot run it: {one_line(said[-1])}")
        return np.asarray(np.load(folder / "logits.npy"), np.float64)


def main(words: Sequence[str]) -> int:
    """Infer, as the module says; one line and 1 where the runtime refuses."""
    model, tiles, out, runtime = words
    try:
        logits, _ = models.load(model, runtime=runtime).infer(np.load(tiles))
    except ParfocalError as error:
        print(one_line(error), file=sys.stderr)
        return 1
    np.save(out, logits)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
