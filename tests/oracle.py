"""A stand-in for the network that reads the truth off the rig: the rest is tested without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge import model, rig, tiles
from edge.model import Look
from edge.optics import Optics
from edge.rig import Rig
from edge.view import View

#: Runs the command line with these words: (exit code, stdout, stderr).
Parfocal = Callable[..., tuple[int, str, str]]

FRAME_PX = 128
"""Small simulated frames: one tile, and a field that is computed in half a second."""


class Oracle:
    """Looks like `edge.model.Model`. ``rig``: the last that was made; ``error``: raised at each look;
    ``offset_dof``: what it says in focus.
    """

    name = "oracle"
    fingerprint = "oracle"
    offset_dof = 0.0

    def __init__(self) -> None:
        self.rig: Rig | None = None
        self.error: BaseException | None = None
        self.centres = np.linspace(-12, 12, 49)

    def bins_dof(self, optics: Optics) -> NDArray[np.float64]:
        return self.centres

    def look(self, frame: NDArray[np.uint8] | View, optics: Optics, *, most_tiles: int) -> Look:
        if self.error is not None:
            raise self.error
        assert self.rig is not None
        assert self.rig.true_defocus_um is not None
        count = len(tiles.extract(frame, optics.model_scale, size_px=128, most=most_tiles))
        truth_dof = optics.dof_from_um(self.rig.true_defocus_um()) + self.offset_dof
        truth = float(np.clip(truth_dof, -12, 12))
        log_p = model.log_softmax(-0.5 * ((self.centres - truth) / 0.5) ** 2)
        return Look(log_p if count else None, self.centres, count, log_p[None])


def install(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """Have the commands load an oracle, tell it of the rig they make, and simulate small frames."""
    oracle = Oracle()
    monkeypatch.setattr(model, "load", lambda *given, **named: oracle)
    monkeypatch.setattr(rig, "FRAME_PX", FRAME_PX)
    for name in ("simulated_rig", "replay_rig"):
        monkeypatch.setattr(rig, name, _telling(oracle, getattr(rig, name)))
    return oracle


def _telling(oracle: Oracle, make: Any) -> Any:
    def made(*given: Any, **named: Any) -> Rig:
        oracle.rig = make(*given, **named)
        return oracle.rig

    return made
