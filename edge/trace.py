"""The trace of a run as a file: JSON, one object, versioned, written whole or not at all.

    schema_version   1; a reader refuses a higher one
    parfocal, rig, model, optics, config      with what, and by what rules, the run was made
    limits_um        where the stage could be sent
    assumed          whether pitch or optics were guesses
    result           as ``parfocal focus --json`` prints it
    entries          one for each frame: time_s, state, position_um, sharpness, tiles, within, surprise,
                     true_defocus_um, and belief: probability over signed defocus, even steps of ``step_dof``
                     from ``first_dof`` on; null where nothing was taken in

Images are not kept: ``--plot`` shows them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.files import PathLike, atomic_write_text
from edge.microscope import Microscope
from edge.run_result import Entry, Result

__all__ = ["SCHEMA_VERSION", "document", "plain", "write_trace"]

SCHEMA_VERSION = 1
_BELIEF_DECIMALS, _DIGITS = 6, 9


def write_trace(path: PathLike, scope: Microscope, result: Result, *, version: str) -> None:
    """Write the trace of the run that ``scope`` made last.

    Raises InputError or OSError as `edge.files.atomic_write_text` does.
    """
    text = json.dumps(document(scope, result, version=version), allow_nan=False)
    atomic_write_text(path, text + "\n")


def document(scope: Microscope, result: Result, *, version: str) -> dict[str, Any]:
    """The whole file as plain values."""
    optics = scope.rig.optics
    return {
        "schema_version": SCHEMA_VERSION,
        "parfocal": version,
        "rig": scope.rig.name,
        "model": scope.model.name,
        "optics": {
            "objective": str(optics.objective),
            "na": optics.objective.na,
            "immersion_index": optics.objective.immersion_index,
            "pixel_um": optics.pixel_um,
            "wavelength_um": optics.wavelength_um,
            "dof_um": optics.dof_um,
        },
        "config": plain(scope.config.as_dict()),
        "limits_um": list(scope.rig.stage.reachable_um),
        "assumed": scope.rig.assumed,
        "result": plain(result.as_dict()),
        "entries": [_entry(entry) for entry in scope.trace.entries],
    }


def plain(value: Any) -> Any:
    """Values that JSON knows: tuples and arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entry(entry: Entry) -> dict[str, Any]:
    numbers = ("time_s", "position_um", "sharpness", "within", "surprise", "true_defocus_um")
    out: dict[str, Any] = {"state": entry.state, "tiles": entry.tiles}
    out |= {name: _rounded(getattr(entry, name)) for name in numbers}
    return {**out, "belief": None if entry.belief is None else _belief(*entry.belief)}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")


def _belief(defocus_dof: NDArray[np.float64], probability: NDArray[np.float64]) -> dict[str, Any]:
    """By rising defocus. The grid is even, so its first value and its step say all of it."""
    rising = np.argsort(defocus_dof)
    grid = defocus_dof[rising]
    step = float(grid[-1] - grid[0]) / max(len(grid) - 1, 1)
    values = [round(float(p), _BELIEF_DECIMALS) for p in probability[rising]]
    return {"first_dof": _rounded(float(grid[0])), "step_dof": _rounded(step), "probability": values}
