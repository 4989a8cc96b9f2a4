"""A run as one picture: what the camera saw, what was believed, where the stage stood, how sharp each frame
was.

matplotlib is an extra (``parfocal[plot]``) and is imported when a picture is asked for. Colours are those
of Okabe and Ito, which the colour-blind can tell apart; kinds of frames also differ in the shape of their
marks.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import InputError
from edge.optics import Optics
from edge.run_result import Entry, Result, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["MOST_THUMBNAILS", "STYLE", "backend", "chosen_frames", "draw"]

MOST_THUMBNAILS = 12
_PER_ROW, _FEW = 6, 2
_WIDTH = 13.0
_BLUE, _ORANGE, _GREEN, _GREY, _INK = "#0072B2", "#D55E00", "#009E73", "#8A8A8A", "#222222"
#: Widest defocus drawn, in dof: beyond it a belief only says "far away".
_WIDEST_DOF = 40.0
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "text.parse_math": False,  # a $ in a name is a $
}


def backend() -> Any:
    """The matplotlib package. Raises InputError that says how to install it."""
    try:
        import matplotlib
        import matplotlib.backends.backend_agg
        import matplotlib.figure
    except ImportError as error:
        raise InputError("a plot needs matplotlib: pip install 'parfocal[plot]'") from error
    return matplotlib


def draw(
    trace: Trace,
    result: Result,
    *,
    optics: Optics,
    tolerance_dof: float,
    title: str,
    um_per_um: float = 1.0,
) -> bytes:
    """The picture as PNG. ``um_per_um``: how far the specimen really moves for a µm of the stage.

    Raises InputError without matplotlib, ValueError for a trace without frames.
    """
    if not trace.entries:
        raise ValueError("a trace without frames cannot be drawn")
    matplotlib = backend()
    with matplotlib.rc_context(STYLE):
        shown = chosen_frames(trace.entries)
        rows = -(-len(shown) // _PER_ROW)
        few = len(shown) <= _FEW
        heights = [2.9, 3.8] if few else [2.9 if rows == 1 else 4.6, 3.6, 2.6]
        figure: Figure = matplotlib.figure.Figure(
            figsize=(_WIDTH, sum(heights) + 0.4), dpi=110, layout="constrained"
        )
        figure.suptitle(_headline(result, title), x=0.01, ha="left", fontsize=13, color=_INK)
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
        strip, curves = parts[0], parts[-1]
        if few:  # room beside the frames: the curves go there
            share = len(shown) * heights[0] / _WIDTH
            strip, curves = parts[0].subfigures(1, 2, width_ratios=[share, 1 - share])
        _draw_filmstrip(strip, trace.entries, shown, rows)
        _draw_belief(parts[1].subplots(), trace.entries, optics, tolerance_dof)
        left, right = curves.subplots(1, 2)
        _draw_position(left, trace.entries, um_per_um)
        _draw_sharpness(right, trace.entries)
        out = io.BytesIO()
        matplotlib.backends.backend_agg.FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def chosen_frames(entries: Sequence[Entry], most: int = MOST_THUMBNAILS) -> list[int]:
    """Frames for the filmstrip, from 0: the ends, the sharpest, the network's looks, then others evenly."""
    count = len(entries)
    if count <= most:
        return list(range(count))
    sharpest = max(range(count), key=lambda k: entries[k].sharpness)
    looks = [k for k in range(count) if entries[k].tiles is not None]
    chosen = {0, count - 1, sharpest, *looks[: most // 2]}
    others = [k for k in range(count) if k not in chosen]
    evenly = np.linspace(0, len(others) - 1, most - len(chosen))
    return sorted(chosen | {others[round(k)] for k in evenly.tolist()})


def _headline(result: Result, title: str) -> str:
    moves = f"{result.moves} move{'' if result.moves == 1 else 's'}"
    frames = f"{result.captures} frame{'' if result.captures == 1 else 's'}"
    head = f"focused by {result.method}" if result.result == "focused" else result.result.replace("_", " ")
    return f"{title}: {head}, {frames}, {moves}, {result.seconds:.1f} s"


def _draw_filmstrip(strip: SubFigure, entries: Sequence[Entry], shown: Sequence[int], rows: int) -> None:
    columns = min(len(shown), _PER_ROW) if len(shown) <= _FEW else min(max(len(shown), 4), _PER_ROW)
    axes = strip.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, k in zip(axes, shown, strict=False):
        entry = entries[k]
        axis.axis("on")
        axis.imshow(entry.image, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set(visible=True, color=_colour(entry), linewidth=2.5)
        words = "no specimen seen" if entry.tiles == 0 else entry.state
        axis.set_title(f"{k + 1}  {words}", color=_colour(entry), fontsize=10)
        axis.set_xlabel(f"{entry.position_um:+.1f} µm".replace("-", "−"), color=_INK, fontsize=9, labelpad=2)


def _draw_belief(axis: Axes, entries: Sequence[Entry], optics: Optics, tolerance_dof: float) -> None:
    """A ridge for each look: the wider, the more probable; with the truth where it is known."""
    numbers = np.arange(1, len(entries) + 1)
    width = 0.8 * max(1.0, len(entries) / 24)
    axis.axhspan(-tolerance_dof, tolerance_dof, color=_GREEN, alpha=0.15, linewidth=0, label="in focus")
    low, high = _defocus_range(entries, optics, tolerance_dof)
    labelled = False
    for k, entry in zip(numbers.tolist(), entries, strict=True):
        if entry.belief is None:
            continue
        defocus, probability = entry.belief
        shape = k + width * probability / probability.max()
        axis.fill_betweenx(
            defocus, k, shape, color=_BLUE, alpha=0.75, linewidth=0.6, label=None if labelled else "belief"
        )
        labelled = True
        if entry.within is not None:
            axis.annotate(
                f"{100 * entry.within:.0f}",
                (k, high),
                (7, -3),
                textcoords="offset points",
                va="top",
                color=_BLUE,
                fontsize=9,
            )
    known = [
        (k, optics.dof_from_um(e.true_defocus_um))
        for k, e in enumerate(entries, 1)
        if e.true_defocus_um is not None
    ]
    if known:
        axis.plot(
            *zip(*known, strict=True),
            ls="none",
            marker="D",
            ms=6,
            mfc="none",
            mec=_ORANGE,
            mew=1.6,
            label="truth",
        )
    if not labelled:
        axis.text(0.5, 0.85, "no look told anything", transform=axis.transAxes, ha="center", color=_GREY)
    axis.set(xlim=(0.6, len(entries) + 0.1 + width), ylim=(low, high))
    axis.set_title("belief after each look, and its mass within tolerance in %")
    axis.set_xlabel("frame")
    axis.set_ylabel("signed defocus (depths of field)")
    _whole_numbers(axis)
    dof_um = optics.dof_um
    other = axis.secondary_yaxis(
        "right", functions=(lambda d: np.multiply(d, dof_um), lambda um: np.divide(um, dof_um))
    )
    other.set_ylabel("µm")
    axis.legend(loc="lower right", frameon=False, ncols=3)
    axis.grid(axis="y")


def _draw_position(axis: Axes, entries: Sequence[Entry], um_per_um: float) -> None:
    time_s = [entry.time_s for entry in entries]
    known = [
        (e.time_s, e.position_um - e.true_defocus_um / um_per_um)
        for e in entries
        if e.true_defocus_um is not None
    ]
    if known:
        t, focus_um = (list(part) for part in zip(*known, strict=True))
        axis.plot(t, focus_um, color=_ORANGE, ls="--", lw=1.6, label="focus (truth)")
        if len(t) == 1:
            axis.axhline(focus_um[0], color=_ORANGE, ls="--", lw=1.6)
    axis.plot(time_s, [entry.position_um for entry in entries], color=_GREY, lw=1)
    _draw_marks(axis, entries, time_s, [entry.position_um for entry in entries])
    axis.set_title("stage")
    axis.set_xlabel("time (s)")
    axis.set_ylabel("position (µm)")
    axis.margins(y=0.15)
    axis.legend(loc="best", frameon=False)
    axis.grid()


def _draw_sharpness(axis: Axes, entries: Sequence[Entry]) -> None:
    best = max(entry.sharpness for entry in entries) or 1.0
    shares = [entry.sharpness / best for entry in entries]
    numbers = [float(k) for k in range(1, len(entries) + 1)]
    axis.plot(numbers, shares, color=_GREY, lw=1)
    _draw_marks(axis, entries, numbers, shares)
    axis.set(ylim=(0, 1.08), xlim=(0.6, len(entries) + 0.4))
    axis.set_title("sharpness")
    axis.set_xlabel("frame")
    axis.set_ylabel("share of the best")
    _whole_numbers(axis)
    axis.grid()


def _draw_marks(axis: Axes, entries: Sequence[Entry], x: Sequence[float], y: Sequence[float]) -> None:
    """Frames the network looked at as discs, the others as rings."""
    for label, looked, marker in (("network's look", True, "o"), ("sharpness only", False, "s")):
        chosen = [k for k, entry in enumerate(entries) if (entry.tiles is not None) == looked]
        if chosen:
            colour = _BLUE if looked else _GREY
            axis.plot(
                [x[k] for k in chosen],
                [y[k] for k in chosen],
                ls="none",
                marker=marker,
                ms=7 if looked else 4.5,
                color=colour,
                mfc=colour if looked else "white",
                label=label,
            )


def _defocus_range(entries: Sequence[Entry], optics: Optics, tolerance_dof: float) -> tuple[float, float]:
    """What the belief's axis must show: tolerance, truth, and nearly all of every belief."""
    reach = [-3 * tolerance_dof, 3 * tolerance_dof]
    for entry in entries:
        if entry.true_defocus_um is not None:
            reach.append(optics.dof_from_um(entry.true_defocus_um))
        if entry.belief is not None:
            defocus, probability = entry.belief
            seen = defocus[probability > 0.05 * probability.max()]
            reach += [float(seen.min()), float(seen.max())]
    low, high = max(min(reach), -_WIDEST_DOF), min(max(reach), _WIDEST_DOF)
    margin = 0.08 * (high - low)
    return low - margin, high + 2 * margin


def _colour(entry: Entry) -> str:
    return _BLUE if entry.tiles is not None else _GREY


def _whole_numbers(axis: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
