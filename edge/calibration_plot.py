"""A calibration as one picture: sharpness and defocus over the place, of all passes, and how it settled."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from edge.calibration_found import Found
from edge.plot import STYLE, backend
from edge.settling import SETTLED_DOF

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_ON, _BACK, _INK, _GREY = "#0072B2", "#D55E00", "#222222", "#8A8A8A"
_MARKS = ("o", "s", "^", "v")


def draw(found: Found, *, title: str) -> bytes:
    """The picture as PNG. Raises InputError without matplotlib."""
    matplotlib = backend()
    with matplotlib.rc_context(STYLE):
        figure = matplotlib.figure.Figure(figsize=(13.0, 4.4), dpi=110, layout="constrained")
        figure.suptitle(f"calibration of {title}", x=0.01, ha="left", fontsize=13, color=_INK)
        sharp, says, settling = figure.subplots(1, 3)
        _draw_sharpness(sharp, found)
        _draw_defocus(says, found)
        _draw_settling(settling, found)
        out = io.BytesIO()
        matplotlib.backends.backend_agg.FigureCanvasAgg(figure).print_png(out)
        return out.getvalue()


def _draw_sharpness(axis: Axes, found: Found) -> None:
    curve = found.curve
    at = np.linspace(curve.low, curve.high, 300)
    axis.plot(at - found.scale.focus, np.exp(curve.spline(at)), color=_GREY, lw=1)
    for one, mark in zip(found.passes, _MARKS, strict=True):
        axis.plot(
            curve.places(one) - found.scale.focus,
            np.exp(one.log_sharpness),
            mark,
            color=_BACK if one.back else _ON,
            mfc="none",
            ms=4,
            label="back" if one.back else "going on",
        )
    axis.set_title(f"one curve with {curve.slack:.0f} steps of slack")
    axis.set_xlabel("place of the stage (steps from focus)")
    axis.set_ylabel("sharpness")
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[:2], labels[:2], frameon=False)
    axis.grid()


def _draw_defocus(axis: Axes, found: Found) -> None:
    ends: list[float] = []
    for one, looks, mark in zip(found.passes, found.says, _MARKS, strict=True):
        told = np.array([np.nan if says is None else np.exp(says) @ found.bin_centres for says in looks])
        places = found.curve.places(one) - found.scale.focus
        axis.plot(places, told, mark, color=_BACK if one.back else _ON, mfc="none", ms=4)
        ends += [float(places.min()), float(places.max())]
    line = np.array([min(ends), max(ends)])
    axis.plot(line, found.scale.scale * line, color=_INK, lw=1)
    axis.set_title(f"{1 / abs(found.scale.scale):.1f} steps a depth of field")
    axis.set_xlabel("place of the stage (steps from focus)")
    axis.set_ylabel("defocus as the network sees it (dof)")
    axis.grid()


def _draw_settling(axis: Axes, found: Found) -> None:
    since_s, deviation = found.watched
    axis.axhspan(-SETTLED_DOF, SETTLED_DOF, color="#E3E3E3")
    axis.plot(since_s, deviation, ".", color=_ON, ms=4)
    axis.axvline(found.settling.settle_s, color=_BACK, lw=1.2)
    axis.set_title(f"settled after {found.settling.settle_s:.3f} s")
    axis.set_xlabel("time after the motion (s)")
    axis.set_ylabel("beside where it comes to rest (dof)")
    axis.grid()
