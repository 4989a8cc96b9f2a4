"""What a data set holds: slides, fields, images, tiles, how many of each class (the paper's figures 4, 5)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.files import atomic_write_bytes
from edge.plot import backend
from train.labels import Bins
from train.run_folder import summary, write_json
from train.shots import Shot
from train.tile_data import TileData

_HISTOGRAM_BINS = 24
_COLOURS = {"train": "#0072B2", "val": "#E69F00", "test": "#009E73"}
_OTHERS = ("#CC79A7", "#56B4E9", "#F0E442")


@dataclass(frozen=True)
class SideSummary:
    """One side of a split, or a whole collection.

    ``slides`` is None where data knows none (synthetic); ``defocus`` ``(N,)`` of its images in the bins'
    unit; ``classes`` ``(B,)`` images of each class; ``tiles`` and ``details`` where images were read.
    """

    slides: int | None
    fields: int
    images: int
    tiles: int | None
    defocus: NDArray[np.float64]
    classes: NDArray[np.intp]
    details: dict[str, object]

    def as_dict(self) -> dict[str, Any]:
        """For data.json."""
        counts, edges = np.histogram(self.defocus, _HISTOGRAM_BINS)
        return {
            "slides": self.slides,
            "fields": self.fields,
            "images": self.images,
            "tiles": self.tiles,
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
            "class_counts": self.classes.tolist(),
            **self.details,
        }


def of_shots(shots: Sequence[Shot], bins: Bins) -> SideSummary:
    """Images that were not read."""
    um = np.array([shot.defocus_um for shot in shots])
    defocus = um if bins.unit == "um" else um / [shot.optics.dof_um for shot in shots]
    slides, fields = ({getattr(shot, of) for shot in shots} for of in ("slide", "field"))
    return SideSummary(len(slides), len(fields), len(shots), None, defocus, _counts(defocus, bins), {})


def of_tiles(data: TileData, bins: Bins, shots: Sequence[Shot] | None) -> SideSummary:
    """Images as tiles; ``shots`` where they came from the disk."""
    _, first = np.unique(data.frame, return_index=True)
    defocus = data.truth(bins.unit)[first]
    details = summary(data)
    fields, images, tiles = (int(str(details.pop(key))) for key in ("fields", "frames", "tiles"))
    slides = len({shot.slide for shot in shots}) if shots else None
    return SideSummary(slides, fields, images, tiles, defocus, _counts(defocus, bins), details)


def _counts(defocus: NDArray[np.float64], bins: Bins) -> NDArray[np.intp]:
    return np.bincount(bins.classes(defocus), minlength=len(bins))


def empty_classes(side: SideSummary, bins: Bins) -> str:
    """The classes that no image of ``side`` is of, in words; empty where there is none."""
    empty = np.flatnonzero(side.classes == 0)
    if not len(empty):
        return ""
    shown = ", ".join(f"{k} ({bins.centres[k]:+.2f})" for k in empty[:6])
    more = f" and {len(empty) - 6} more" if len(empty) > 6 else ""
    reach = f"{side.defocus.min():+.2f} to {side.defocus.max():+.2f}"
    return f"{len(empty)} of {len(bins)} classes: {shown}{more}; the images reach from {reach} {_unit(bins)}"


def lines(sides: dict[str, SideSummary], bins: Bins) -> list[str]:
    """The summary as text, a line a side."""
    out = []
    for name, side in sides.items():
        slides = "" if side.slides is None else f"{side.slides} slides, "
        tiles = "" if side.tiles is None else f", {side.tiles} tiles"
        filled = side.classes[side.classes > 0]
        each = f"{filled.min()} to {filled.max()} images in {len(filled)} of {len(bins)} classes"
        span = f"{side.defocus.min():+.2f} to {side.defocus.max():+.2f} {_unit(bins)}"
        out.append(f"{name:9} {slides}{side.fields} fields, {side.images} images{tiles}; {span}; {each}")
    return out


def write(folder: Path, sides: dict[str, SideSummary], bins: Bins) -> None:
    """``data.json`` and ``data.png`` in ``folder``."""
    unit = _unit(bins)
    write_json(
        folder / "data.json",
        {
            "unit": unit,
            "class_centres": bins.centres.tolist(),
            **{name: side.as_dict() for name, side in sides.items()},
        },
    )
    atomic_write_bytes(folder / "data.png", draw(sides, bins))


def draw(sides: dict[str, SideSummary], bins: Bins) -> bytes:
    """PNG: above the images by defocus, below by class, stacked by side. Raises InputError: no matplotlib."""
    matplotlib = backend()
    style = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
    }
    with matplotlib.rc_context(style):
        figure = matplotlib.figure.Figure(figsize=(10, 6.4), dpi=110, layout="constrained")
        above, below = figure.subplots(2, 1)
        others = cycle(_OTHERS)
        colours = [_COLOURS.get(name) or next(others) for name in sides]
        above.hist(
            [side.defocus for side in sides.values()],
            bins=_HISTOGRAM_BINS,
            stacked=True,
            color=colours,
            label=[f"{name} ({side.images})" for name, side in sides.items()],
        )
        above.set(xlabel=f"signed defocus ({_unit(bins)})", ylabel="images")
        above.set_title("Images by defocus")
        figure.legend(frameon=False, loc="outside right upper")
        base = np.zeros(len(bins))
        for side, colour in zip(sides.values(), colours, strict=True):
            below.bar(np.arange(len(bins)), side.classes, bottom=base, color=colour, width=0.85)
            base += side.classes
        below.set(xlabel=f"class (the middle one, {len(bins) // 2}, is in focus)", ylabel="images")
        below.set_title(f"Images of each of {len(bins)} classes")
        below.set_xlim(-0.8, len(bins) - 0.2)
        out = io.BytesIO()
        matplotlib.backends.backend_agg.FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def _unit(bins: Bins) -> str:
    return "µm" if bins.unit == "um" else "depths of field"
