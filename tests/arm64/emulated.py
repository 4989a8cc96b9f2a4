"""The model on an emulated arm64 processor: the same tiles as here, and how far apart the estimates are.

    python tests/arm64/emulated.py [MODEL.tflite]

User-mode emulation (qemu) of the wheels that a Raspberry Pi installs. Without /proc: that would describe this
computer's processor to them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.verify import Difference, difference
from edge import card as cards
from edge import tiles
from edge.model import DEFAULT_PATH, Model
from edge.optics import Objective
from edge.simulator.recording import exposures, microscope
from edge.simulator.specimens import make
from train.labels import Bins

HERE = Path(__file__).parent
TREE = HERE.parents[1]
#: Signed defocus in dof of the frames of each specimen.
DEFOCI = (-9.0, -5.0, -2.0, -0.7, 0.0, 0.7, 2.0, 5.0, 9.0)
_TOOLS = {"mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static"}
_LIMIT_S = 600


@dataclass(frozen=True)
class Apart:
    """Distances of estimates over the same tiles, by what is compared with what; ``machine``: as it says."""

    machine: str
    tiles: int
    pairs: dict[str, Difference]


def missing() -> list[str]:
    """What this computer lacks, in words; empty when nothing is."""
    lacks = [
        f"{tool} (apt install {package})" for tool, package in _TOOLS.items() if shutil.which(tool) is None
    ]
    return lacks if os.geteuid() == 0 else [*lacks, "root, to change into the arm64 tree"]


def some_tiles(tile_px: int) -> NDArray[np.float32]:
    """``(N, S, S, 3)`` float32 in -1 to 1, of drawn specimens under random optics at `DEFOCI`."""
    found = []
    for seed, name in enumerate(("tissue", "blood", "debris")):
        rng = np.random.default_rng(seed)
        imaging, sensor = microscope(Objective(20, 0.4), rng)
        for frame in exposures(make(name, (384, 384), seed), imaging, sensor, DEFOCI, rng):
            found.append(tiles.extract(frame, 1.0, size_px=tile_px, most=4).pixels)
    return np.concatenate(found)


def compare(model: Path, folder: Path) -> Apart:
    """Run ``model`` here and on arm64. ``folder``, empty at first, keeps the tree. BLOCKS for a minute.

    CalledProcessError where the tree cannot be made or the emulated Python fails.
    """
    tree = folder / "tree"
    subprocess.run([HERE / "build_tree.sh", tree, sys.executable], check=True, timeout=_LIMIT_S)
    flatbuffer, card = cards.read(model)
    pixels = some_tiles(card.tile_px)
    np.save(tree / "tiles.npy", pixels)
    shutil.copy(model, tree / "model.tflite")
    shutil.copytree(TREE / "edge", tree / "repository" / "edge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "infer.py", tree / "infer.py")
    words = ["chroot", tree, "/usr/bin/qemu-aarch64-static", "-E", "PYTHONPATH=/site:/repository"]
    words += ["/usr/bin/python3.11", "-B", "/infer.py"]
    done = subprocess.run(words, check=True, timeout=_LIMIT_S, stdout=subprocess.PIPE, text=True)
    with np.load(tree / "logits.npz") as logits:
        arm = {name: logits[name].astype(np.float64) for name in ("xnnpack", "built_in")}
    here = {
        name: Model(flatbuffer, card, name=name, delegates=delegates).infer(pixels)[0].astype(np.float64)
        for name, delegates in (("xnnpack", True), ("built_in", False))
    }
    bins = Bins.of_centres(np.asarray(card.bin_centres), card.unit)
    pairs = {
        "x86_64 from arm64, XNNPACK": difference(here["xnnpack"], arm["xnnpack"], bins),
        "x86_64 from arm64, built-in kernels": difference(here["built_in"], arm["built_in"], bins),
        "XNNPACK from built-in kernels, x86_64": difference(here["xnnpack"], here["built_in"], bins),
        "XNNPACK from built-in kernels, arm64": difference(arm["xnnpack"], arm["built_in"], bins),
    }
    return Apart(json.loads(done.stdout)["machine"], len(pixels), pairs)


def lines(apart: Apart) -> list[str]:
    """The figures, for people."""
    return [
        f"{name}: median {d.median_dof:.3f} dof, 95 % {d.p95_dof:.3f}, over {apart.tiles} tiles"
        for name, d in apart.pairs.items()
    ]


def main(argv: Sequence[str]) -> int:
    """Print the figures; 1 where a tool is missing."""
    if missing():
        print(f"no arm64 without {', '.join(missing())}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        print(*lines(compare(Path(argv[0]) if argv else DEFAULT_PATH, Path(folder))), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
