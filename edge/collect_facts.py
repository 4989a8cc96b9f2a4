"""What about.json says of a field beside what its planes show: slide, microscope, model and date."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from edge import calibration
from edge.config import Config
from edge.microscope import Microscope
from edge.record import plain
from edge.rig import without_hardware
from edge.simulator.recording import optics_parameters

__all__ = ["facts"]


def facts(scope: Microscope, *, kind: str, slide: str, source: str, version: str) -> dict[str, Any]:
    """The keys that are known before the first plane. ``kind``: hardware or simulated; ``source``: who
    records. The date is this computer's.
    """
    config = scope.config if kind == "hardware" else without_hardware(scope.config)
    card, found = scope.model.card, scope.rig.calibration
    return {
        "source": source,
        "version": version,
        "slide": slide,
        "objective": config.optics.objective.strip(),
        "rig": kind,
        "stage": calibration.stage_identity(config),
        "um_per_step": config.stage.um_per_step,
        "approach": config.stage.approach,
        "camera": config.camera.driver if kind == "hardware" else "simulated",
        "model": {"name": card.name, "flatbuffer_sha256": card.flatbuffer_sha256},
        "calibration": None if found is None else plain(found),
        **optics_parameters(scope.rig.optics),
        **({} if kind == "hardware" else _simulated(config)),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _simulated(config: Config) -> dict[str, Any]:
    sim = config.simulator
    return {"specimen": Path(sim.specimen).name, "seed": sim.seed, "modality": "brightfield, simulated"}
