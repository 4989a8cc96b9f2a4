"""Pictures of the bench, as PNG. matplotlib is an extra, imported when a picture is asked for."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge import plot
from edge.bench.focus import TOLERANCE_DOF

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["draw", "focus_picture", "growth_picture", "latency_picture"]

_OURS, _OTHER, _INK = "#0072B2", "#8A8A8A", "#222222"
_MARKS = "osD^vPX<>"


def draw(size: tuple[float, float], paint: Callable[[Figure], None]) -> bytes:
    """What ``paint`` puts on a figure of that size in inches, as PNG."""
    matplotlib = plot.backend()
    with matplotlib.rc_context(plot.STYLE):
        figure: Figure = matplotlib.figure.Figure(figsize=size, dpi=110, layout="constrained")
        paint(figure)
        out = io.BytesIO()
        matplotlib.backends.backend_agg.FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def focus_picture(report: Mapping[str, Any]) -> bytes:
    """Seconds and final error of each strategy, median to p95, and how often it succeeds from how far."""
    tables = report["strategies"]

    def paint(figure: Figure) -> None:
        count = next(iter(tables.values()))["runs"]
        title = f"Focusing the same simulated microscopes: {count} runs each"
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, color=_INK)
        left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
        _spans(left, tables, "seconds", "virtual seconds: median, to 95 %")
        left.set_xscale("log")
        _plain_ticks(left.xaxis, [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64])
        _spans(middle, tables, "error_dof", "final distance from focus, depths of field", labels=False)
        middle.set_xscale("symlog", linthresh=1)
        _plain_ticks(middle.xaxis, [0, 0.5, 1, 2, 5, 10, 20, 50])
        middle.set_xlim(left=-0.05)
        middle.axvspan(0, TOLERANCE_DOF, color="#009E73", alpha=0.15, linewidth=0)
        _by_start(right, report["by_start_dof"], list(tables))

    return draw((14, 0.42 * len(tables) + 2.4), paint)


def _spans(axis: Axes, tables: Mapping[str, Any], key: str, title: str, *, labels: bool = True) -> None:
    for k, (name, of) in enumerate(tables.items()):
        middle, high = of[f"{key}_median"], of[f"{key}_p95"]
        colour = _OURS if name == "parfocal" else _OTHER
        axis.plot([middle, high], [k, k], color=colour, lw=5, alpha=0.45, solid_capstyle="butt")
        axis.plot(middle, k, marker="o", color=colour, ms=7)
        axis.annotate(
            f"{middle:.2f}", (middle, k), (0, 7), textcoords="offset points", ha="center", fontsize=9
        )
    axis.set_yticks(range(len(tables)), list(tables) if labels else [""] * len(tables))
    axis.set_ylim(len(tables) - 0.4, -0.7)
    axis.set_title(title)
    axis.grid(axis="x")


def _by_start(axis: Axes, bins: Mapping[str, Any], names: Sequence[str]) -> None:
    for name, mark in zip(names, _MARKS, strict=False):
        ours = name == "parfocal"
        axis.plot(
            [k for k, of in enumerate(bins.values()) if name in of],
            [100 * of[name]["success"] for of in bins.values() if name in of],
            marker=mark,
            ms=5,
            lw=2.4 if ours else 1.1,
            color=_OURS if ours else None,
            zorder=3 if ours else 2,
            label=name,
        )
    axis.set_xticks(range(len(bins)), list(bins))
    axis.set(ylim=(-3, 106), xlabel="start, depths of field from focus")
    axis.set_title("in focus at the end, %")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    axis.grid()


def _plain_ticks(axis: Axis, places: Sequence[float]) -> None:
    """Ticks at ``places``, written as plain numbers, whatever the scale."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def latency_picture(documents: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Where the time of a look goes, the median of each stage; a bar for each result by its name."""

    def paint(figure: Figure) -> None:
        figure.suptitle("One look, and the network alone", x=0.01, ha="left", fontsize=13, color=_INK)
        left, right = figure.subplots(1, 2, width_ratios=[1.4, 1])
        for row, of in enumerate(documents.values()):
            at = 0.0
            for name, colour in _STAGES.items():
                took = of["stages_ms"][name]["p50"]
                left.barh(row, took, left=at, color=colour, height=0.6, label=None if row else name)
                at += took
            left.annotate(
                f" {at:.1f} ms" + (", simulated" if of["simulated"] else ""),
                (at, row),
                va="center",
                fontsize=9,
            )
        left.set_yticks(range(len(documents)), [_short_name(name) for name in documents])
        left.set_ylim(len(documents) - 0.4, -0.6)
        left.margins(x=0.25)
        left.set_title("median of each stage, ms")
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=6, frameon=False, fontsize=9)
        _network_bars(right, documents)

    return draw((13, 3.4 + 0.5 * len(documents)), paint)


_STAGES = {
    "wait": "#BBBBBB",
    "capture": "#8A8A8A",
    "checks": "#E69F00",
    "tiles": "#56B4E9",
    "inference": "#0072B2",
    "belief": "#009E73",
}


def _network_bars(axis: Axes, documents: Mapping[str, Mapping[str, Any]]) -> None:
    shades = (1.0, 0.45)
    for k, of in enumerate(documents.values()):
        bars = [
            (f"{kind} {threads}", figures["inference_ms"])
            for kind, by in of["networks"].items()
            for threads, figures in (by or {}).items()
        ]
        width = 0.8 / len(documents)
        places = np.arange(len(bars)) - 0.4 + width * (k + 0.5)
        medians = [figures["p50"] for _, figures in bars]
        ends = [figures["p95"] - figures["p50"] for _, figures in bars]
        axis.bar(places, medians, width, yerr=[[0] * len(bars), ends], color=_OURS, alpha=shades[k % 2])
        axis.set_xticks(range(len(bars)), [name for name, _ in bars])
    axis.set_title("all tiles of a frame by threads, ms (to p95)")
    axis.grid(axis="y")


def _short_name(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"


def growth_picture(found: Mapping[str, Any]) -> bytes:
    """Seconds and frames against start distance and search range; a look against its tiles."""

    def paint(figure: Figure) -> None:
        figure.suptitle("How cost grows", x=0.01, ha="left", fontsize=13, color=_INK)
        axes = figure.subplots(1, 4, width_ratios=[1, 1, 1, 0.8])
        kinds = (
            ("by_start_dof", "seconds_median", "virtual seconds", "start, depths of field"),
            ("by_start_dof", "captures_median", "frames", "start, depths of field"),
            ("by_range_dof", "seconds_median", "virtual seconds", "range searched, depths of field"),
        )
        for axis, (key, figure_of, title, label) in zip(axes, kinds, strict=False):
            places = [float(value) for value in found[key]]
            for name, mark in zip(found["strategies"], _MARKS, strict=False):
                values = [of[name][figure_of] for of in found[key].values()]
                ours = name == "parfocal"
                colour, width = (_OURS, 2.4) if ours else (None, 1.1)
                axis.plot(places, values, marker=mark, ms=5, lw=width, color=colour, label=name)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
            _plain_ticks(axis.xaxis, places)
            _plain_ticks(axis.yaxis, [2.0**k for k in range(-2, 9)])
            axis.set(title=title, xlabel=label)
            axis.grid()
        axes[0].legend(frameon=False, fontsize=9)
        counts = [float(count) for count in found["inference_by_tiles"]]
        axes[3].plot(
            counts, [of["p50"] for of in found["inference_by_tiles"].values()], marker="o", color=_OURS
        )
        axes[3].set(title="a look, ms", xlabel="tiles", xlim=(0, None), ylim=(0, None))
        axes[3].grid()

    return draw((15, 4.2), paint)
