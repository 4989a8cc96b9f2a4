"""In the arm64 tree: /tiles.npy ``(N, S, S, 3)`` float32 through /model.tflite to /logits.npz."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np

from edge import card as cards
from edge.model import Model

tiles = np.load("/tiles.npy")
flatbuffer, card = cards.read(Path("/model.tflite"))
plain = Model(flatbuffer, card, name="built-in", delegates=False)
xnnpack = Model(flatbuffer, card, name="XNNPACK")
np.savez("/logits.npz", xnnpack=xnnpack.infer(tiles)[0], built_in=plain.infer(tiles)[0])
print(json.dumps({"machine": platform.machine(), "runtime": xnnpack.runtime}))
