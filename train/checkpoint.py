"""What a killed run goes on from: every variable after the last whole epoch, and the log up to it.

    checkpoint.npz   model and optimizer after the last epoch, the rows of the log as JSON, the run's hash
    best.npz         the model at the epoch of least validation loss

Each is replaced atomically, so a kill, a power cut or a full disk leaves the one before.
"""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge.errors import InputError
from train.arrays import read_npz
from train.run_folder import TO_RESUME, write_arrays, write_log

CHECKPOINT, BEST = TO_RESUME
Row = dict[str, float]


def identity(*parts: object) -> str:
    """A hash of what must be the same for a run to be gone on with."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Keeper:
    """Saves and restores ``model`` and ``optimizer`` in the folder ``run``, and keeps its ``identity``."""

    run: Path
    model: keras.Model
    optimizer: Any
    identity: str

    def save(self, rows: list[Row]) -> None:
        """After an epoch: the best model where this was it, then the log and the checkpoint.

        Raises InputError where the disk is full: the checkpoint of the epoch before is whole then.
        """
        try:
            if rows[-1]["val_loss"] <= min(row["val_loss"] for row in rows):
                write_arrays(self.run / BEST, **_values(self.model.variables))
            state = _values([*self.model.variables, *self.optimizer.variables])
            text = json.dumps({"rows": rows, "identity": self.identity})
            write_arrays(self.run / CHECKPOINT, **state, state=np.frombuffer(text.encode(), np.uint8))
            write_log(self.run, rows)
        except OSError as error:
            raise _full(self.run, error, len(rows)) from error

    def restore(self) -> list[Row]:
        """Put the last whole epoch back; the rows of the log so far, none where no epoch was finished.

        Raises InputError for a checkpoint that is damaged, or of another recipe, seed or data.
        """
        path = self.run / CHECKPOINT
        if not path.exists():
            return []
        arrays = read_npz(path, "a readable checkpoint")
        variables = [*self.model.variables, *self.optimizer.variables]
        try:
            state = json.loads(arrays.pop("state").tobytes())
            rows: list[Row] = state["rows"]
            same = state["identity"] == self.identity
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path}: not a readable checkpoint: its state is damaged") from error
        if not same:
            raise InputError(
                f"{self.run}: was begun with another recipe, seed, weights, teachers or data: --resume goes"
                " on only with the same"
            )
        _assign(variables, arrays, path)
        return rows

    def best(self) -> None:
        """Put the best epoch's model in place. Raises InputError where it cannot be read."""
        path = self.run / BEST
        _assign(self.model.variables, read_npz(path, "readable weights"), path)


def _values(variables: list[Any]) -> dict[str, Any]:
    return {f"v{k:04d}": np.asarray(keras.ops.convert_to_numpy(v)) for k, v in enumerate(variables)}


def _assign(variables: list[Any], arrays: dict[str, Any], path: Path) -> None:
    wanted = {f"v{k:04d}": tuple(v.shape) for k, v in enumerate(variables)}
    if {key: value.shape for key, value in arrays.items()} != wanted:
        raise InputError(f"{path}: is of another network")
    for variable, key in zip(variables, wanted, strict=True):
        variable.assign(arrays[key])


def _full(run: Path, error: OSError, epoch: int) -> InputError:
    why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
    kept = f"epoch {epoch - 1} is kept" if epoch > 1 else "no epoch is kept"
    return InputError(
        f"{run}: epoch {epoch} cannot be saved: {why.lower()}; {kept}: make room, then --resume"
    )
