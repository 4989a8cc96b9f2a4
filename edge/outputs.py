"""What a focus run leaves behind when asked to: its trace and its picture.

The places are tried out before anything moves, and filled once the run is over.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge import plot
from edge.errors import InputError
from edge.files import atomic_write_bytes
from edge.microscope import Microscope
from edge.run_result import Result
from edge.trace import write_trace

__all__ = ["Outputs", "checked"]


@dataclass(frozen=True)
class Outputs:
    """Files to write, as they were named on the command line; None for one that is not wanted."""

    trace: str | None = None
    """The trace, JSON."""
    picture: str | None = None
    """The picture; a name that ends in ``.png``."""

    def check(self, inputs: Iterable[Path] = ()) -> None:
        """See that each file can be written and that matplotlib is there; leaves nothing behind.

        ``inputs``: files, and folders with all in them, that the run reads and no output may replace.
        Raises InputError, one line.
        """
        if self.picture is not None:
            plot.backend()
        targets = [
            checked(option, name, ending)
            for option, name, ending in (("--trace", self.trace, ".json"), ("--plot", self.picture, ".png"))
            if name is not None
        ]
        for target in targets:
            for source in (Path(name).resolve() for name in inputs):
                if target == source or source in target.parents:
                    raise InputError(f"{target}: is read by this run ({source}), it is not replaced")

    def save(self, scope: Microscope, result: Result, *, title: str, version: str) -> None:
        """Write the files, each whole or not at all. Raises OSError: by now the stage has moved."""
        try:
            if self.trace is not None:
                write_trace(self.trace, scope, result, version=version)
            if self.picture is not None:
                tolerance_dof = scope.config.focus.tolerance_dof
                optics = scope.rig.optics
                drawn = plot.draw(
                    scope.trace,
                    result,
                    optics=optics,
                    tolerance_dof=tolerance_dof,
                    title=title,
                    um_per_um=scope.rig.true_um_per_um,
                )
                atomic_write_bytes(self.picture, drawn)
        except InputError as error:  # it could be written when `check` tried
            raise OSError(str(error)) from error


def checked(option: str, name: str, ending: str) -> Path:
    """The absolute path of a file with this ``ending`` that could be made just now; else InputError."""
    if Path(name).suffix.lower() != ending:
        raise InputError(f"{option} {name}: a name that ends in {ending} is allowed")
    try:
        target = Path(name).resolve()
        if target.exists() and not target.is_file():
            raise InputError(f"{option} {name}: is not a regular file, it is not replaced")
        with tempfile.TemporaryFile(dir=target.parent):
            return target
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a circle of links; ValueError: a NUL
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{option} {name}: cannot be written: {reason.lower()}") from error
