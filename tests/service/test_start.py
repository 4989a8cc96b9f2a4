"""What `parfocal serve` does not load before its first frame is judged: it would be late in focus."""

from __future__ import annotations

import subprocess
import sys

LATER = (
    "pydantic", "fastapi", "starlette", "scipy", "numpy.ma", "importlib.metadata", "edge.collect",
    "edge.service.collecting", "edge.holder", "edge.zstack", "edge.service.panel",
)  # fmt: skip
FIRST_LOOK = f"""
import sys
import numpy as np
from edge import cli, model
from edge.optics import Objective, Optics, natural_pixel_um
from edge.sharpness import sharpness
cli.module_of("serve")
frame = np.random.default_rng(1).integers(0, 255, (200, 200, 3)).astype(np.uint8)
objective = Objective(20, 0.4)
network = model.load("default")
sharpness(frame)
looked = network.look(frame, Optics(objective, natural_pixel_um(objective)), most_tiles=4)
print(sorted(set({LATER!r}) & set(sys.modules)))
"""


def test_what_the_first_look_does_not_need_is_not_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_LOOK], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
