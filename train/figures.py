"""Pictures of how good a network is, as PNG. Numbers in, bytes out; the one place that draws for the pages.

Colours are those of Okabe and Ito, which the colour-blind can tell apart. Every picture is a column wide and
its letters are large, so that it can be read on a phone.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.plot import backend
from train.metrics import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

Array = NDArray[np.float64]
BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8A8A8A", "#222222"
_WIDTH, _DPI = 6.4, 150
_STYLE = {
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a name is a $
}
_SLICES = 8


def picture(draw: Callable[[Figure], None], *, height: float = 4.2) -> bytes:
    """What ``draw`` puts on a figure of one column. Raises InputError without matplotlib."""
    matplotlib = backend()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes, and stands in the page beside it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure: Figure = matplotlib.figure.Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
        draw(figure)
        out = io.BytesIO()
        matplotlib.backends.backend_agg.FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def curves(log: Sequence[dict[str, float]], of: str) -> bytes:
    """Column ``of`` of a log against epochs, for training and validation (``val_`` before its name)."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        epochs = np.arange(1, len(log) + 1)
        for column, label, colour, line, marker in (
            (of, "training", BLUE, "-", "o"),
            (f"val_{of}", "validation", ORANGE, "--", "s"),
        ):
            values = [row.get(column, np.nan) for row in log]
            axis.plot(epochs, values, color=colour, ls=line, marker=marker, ms=5, label=label)
        best = int(np.nan_to_num([row.get("val_loss", 0.0) for row in log], nan=np.inf).argmin())
        axis.axvline(epochs[best], color=GREY, ls=":", label="kept epoch (lowest validation loss)")
        axis.set(xlabel="epoch", ylabel=of)
        from_zero(axis)
        whole_numbers(axis)
        axis.legend(fontsize=11)

    return picture(draw)


def class_bars(total: NDArray[np.intp], right: NDArray[np.intp], centres: Array, unit: str) -> bytes:
    """Accuracy of each class ``(B,)`` as bars, and below it how many images it rests on."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        classes = np.arange(len(centres))
        known = total > 0
        share = right / np.maximum(total, 1)
        above.bar(classes[known], share[known], width=0.85, color=BLUE)
        if (~known).any():
            missing = classes[~known]
            low = np.full(len(missing), 0.02)
            above.plot(missing, low, ls="none", marker="x", color=ORANGE, label="no image")
        above.axhline(right.sum() / max(1, total.sum()), color=ORANGE, ls="--", label="all classes")
        above.axhline(1 / len(centres), color=GREY, ls=":", label="by chance")
        above.set(ylim=(0, 1.18), ylabel="accuracy", yticks=np.linspace(0, 1, 6))
        above.legend(fontsize=11, ncols=3, loc="upper center")
        below.bar(classes, total, width=0.85, color=GREY)
        below.set(ylabel="images", xlim=(-0.7, len(centres) - 0.3))
        below.set_xlabel(f"true class, by its centre ({unit})")
        below.yaxis.set_major_locator(_integers(3))
        class_ticks(below, centres)

    return picture(draw, height=4.8)


def confusion(counts: NDArray[np.intp], centres: Array, unit: str) -> bytes:
    """The confusion matrix ``(B, B)``, each row as shares of its true class."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        rows = counts.sum(axis=1, keepdims=True)
        share = np.where(rows > 0, counts / np.maximum(rows, 1), np.nan)
        colours = backend().colormaps["cividis"].with_extremes(bad="#E0E0E0")
        # A few per cent on the wrong side must be seen beside a full diagonal.
        scale = backend().colors.PowerNorm(0.5, vmin=0, vmax=1)
        shown = axis.imshow(share, origin="lower", cmap=colours, norm=scale, aspect="auto")
        figure.colorbar(shown, ax=axis, label="share of the true class", shrink=0.85)
        middle = (len(centres) - 1) / 2
        for line in (axis.axhline, axis.axvline):
            line(middle, color="white", lw=0.8, alpha=0.7)
        axis.grid(visible=False)
        axis.set(xlabel=f"most probable class ({unit})", ylabel=f"true class ({unit})")
        class_ticks(axis, centres, most=7)
        class_ticks(axis, centres, most=7, vertical=True)

    return picture(draw, height=5.2)


def predicted_against_true(
    truth: Array, guess: Array, wrong: NDArray[np.bool_], depth: float, unit: str
) -> bytes:
    """Signed defocus as estimated over the true one; the band is ``depth`` to either side of the truth."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        reach = 1.05 * max(float(np.abs(truth).max()), float(np.abs(guess).max()), depth)
        ends = np.array([-reach, reach])
        axis.fill_between(
            ends, ends - depth, ends + depth, color=GREEN, alpha=0.2, lw=0, label="within 1 depth of field"
        )
        axis.plot(ends, ends, color=GREEN, lw=1)
        for chosen, colour, marker, label in (
            (~wrong, BLUE, "o", "image"),
            (wrong, ORANGE, "^", "wrong direction"),
        ):
            if chosen.any():
                axis.plot(
                    truth[chosen], guess[chosen], ls="none", marker=marker, ms=4.5, color=colour,
                    alpha=0.6, mew=0, label=f"{label} ({int(chosen.sum())})",
                )  # fmt: skip
        axis.axhline(0, color=GREY, lw=0.8)
        axis.axvline(0, color=GREY, lw=0.8)
        axis.set(xlim=ends, ylim=ends, aspect="equal")
        axis.set(xlabel=f"true defocus ({unit})", ylabel=f"predicted defocus ({unit})")
        legend_above(figure, axis)

    return picture(draw, height=6.2)


def error_by_distance(distance: Array, error: Array, depth: float, unit: str) -> bytes:
    """Median, mean and 90th percentile of ``error`` over slices of ``distance`` from focus, one unit."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        x, members = _slices(distance)
        for of, colour, marker, line, label in (
            (lambda e: np.percentile(e, 90), GREY, "^", ":", "90th percentile"),
            (np.mean, ORANGE, "s", "--", "mean"),
            (np.median, BLUE, "o", "-", "median"),
        ):
            axis.plot(x, [of(error[m]) for m in members], color=colour, marker=marker, ls=line, label=label)
        axis.axhspan(0, depth, color=GREEN, alpha=0.2, lw=0, label="within 1 depth of field")
        axis.set(xlabel=f"distance from focus ({unit})", ylabel=f"error ({unit})", xlim=(0, None))
        from_zero(axis)
        legend_above(figure, axis)

    return picture(draw)


def direction_by_distance(distance: Array, wrong: NDArray[np.bool_], depth: float, unit: str) -> bytes:
    """Share of ``wrong`` signs over slices of ``distance`` from ``depth`` on, with 95 % intervals."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        far = distance >= depth * (1 - 1e-9)
        axis.axvspan(0, depth, color=GREEN, alpha=0.2, lw=0, label="within 1 depth of field: not counted")
        if far.any():
            x, members = _slices(distance[far], depth)
            shares(axis, x, [wrong[far][m] for m in members], BLUE, "share, with its 95 % interval")
        axis.set(xlabel=f"distance from focus ({unit})", ylabel="wrong direction", xlim=(0, None))
        axis.set_ylim(0, min(1.02, max(0.1, axis.get_ylim()[1])))
        legend_above(figure, axis, columns=1)

    return picture(draw)


def reliability(confidence: Array, right: NDArray[np.bool_]) -> bytes:
    """Share right over stated confidence in ten slices, and how many images each slice holds."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        above.plot([0, 1], [0, 1], color=GREY, ls="--", label="confidence that holds")
        slices = np.clip((confidence * 10).astype(int), 0, 9)
        members = [slices == k for k in range(10) if (slices == k).any()]
        x = np.array([confidence[m].mean() for m in members])
        shares(above, x, [right[m] for m in members], BLUE, "share right, with its 95 % interval")
        above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="within 1 depth of field")
        above.legend(fontsize=11, loc="upper left")
        below.hist(confidence, bins=np.linspace(0, 1, 11), color=GREY, rwidth=0.9)
        below.set(xlabel="stated probability of being within 1 depth of field", ylabel="images")
        below.yaxis.set_major_locator(_integers(3))

    return picture(draw, height=5.0)


def shares(axis: Axes, x: Array, parts: Sequence[NDArray[np.bool_]], colour: str, label: str) -> None:
    """The share of True in each of ``parts`` at ``x``, with Wilson intervals."""
    means = np.array([part.mean() for part in parts])
    bounds = np.array([wilson(int(part.sum()), len(part)) for part in parts])
    below, above = np.maximum(means - bounds[:, 0], 0), np.maximum(bounds[:, 1] - means, 0)
    axis.errorbar(x, means, yerr=(below, above), color=colour, marker="o", capsize=3, label=label)


def class_ticks(axis: Axes, centres: Array, *, most: int = 11, vertical: bool = False) -> None:
    """Ticks on an axis that counts classes, marked with their centres; the middle class among them."""
    last = len(centres) - 1
    middle = last // 2
    step = -(-len(centres) // most)
    places = [k for k in range(last + 1) if (k - middle) % step == 0]
    texts = [f"{centres[k]:+.1f}".replace("-", "−") if k != middle else f"{centres[k]:.3g}" for k in places]
    (axis.set_yticks if vertical else axis.set_xticks)(places, texts)


def _slices(distance: Array, start: float = 0.0) -> tuple[Array, list[NDArray[np.bool_]]]:
    """Equal slices of ``distance`` from ``start`` on that hold something: mean distance and members."""
    edges = np.linspace(start, max(float(distance.max()), start + 1e-9), _SLICES + 1)
    which = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, _SLICES - 1)
    members = [which == k for k in range(_SLICES) if (which == k).any()]
    return np.array([distance[m].mean() for m in members]), members


def from_zero(axis: Axes) -> None:
    """Let the vertical axis begin at 0 and end a little above what is drawn."""
    axis.set_ylim(0, 1.03 * axis.get_ylim()[1])


def legend_above(figure: Figure, axis: Axes, columns: int = 2) -> None:
    """The legend of ``axis`` above it, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=11)


def whole_numbers(axis: Axes) -> None:
    """Ticks of the horizontal axis at whole numbers only."""
    axis.xaxis.set_major_locator(_integers(9))


def _integers(most: int) -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=most, integer=True)
