"""Runs overlaid: curves, accuracy of each class, and error against the work of one tile. PNG.

A run keeps its colour, its dash and its mark in every picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from train.figures import GREY, from_zero, legend_above, picture, whole_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")
#: Work in this ratio or less would have its numbers overlap.
_APART = 1.3

Logs = Mapping[str, Sequence[Mapping[str, float]]]


def curves(logs: Logs, of: str) -> bytes:
    """``val_`` ``of`` of every run against epochs, marked; the same of training, thin and unmarked."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for number, (name, log) in enumerate(logs.items()):
            style = _style(number, name)
            epochs = np.arange(1, len(log) + 1)
            axis.plot(epochs, [row.get(f"val_{of}", np.nan) for row in log], **style, ms=5)
            axis.plot(
                epochs, [row.get(of, np.nan) for row in log], color=style["color"], ls=style["ls"], lw=0.8
            )
        axis.set(xlabel="epoch", ylabel=of)
        from_zero(axis)
        whole_numbers(axis)
        legend_above(figure, axis)

    return picture(draw)


def classes(runs: Sequence[Mapping[str, Any]], unit: str) -> bytes:
    """Accuracy of each class over its centre, in ``unit`` (``um`` or ``dof``); gaps where no image is."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for number, run in enumerate(runs):
            scale = 1.0
            if unit == "dof" and run["unit"] == "um":
                scale = 1 / run["dof_um"]
            centres = scale * np.array(run["class_centres"])
            share = [np.nan if value is None else value for value in run["per_class_accuracy"]]
            axis.plot(centres, share, **_style(number, run["name"]), ms=4, lw=1.2)
        axis.set(ylim=(0, 1.02), ylabel="accuracy of the class")
        axis.set_xlabel(f"true defocus ({'µm' if unit == 'um' else 'depths of field'})")
        legend_above(figure, axis)

    return picture(draw, height=4.6)


def error_against_work(runs: Sequence[Mapping[str, Any]], key: str) -> bytes:
    """Mean error ``key`` (``mae_um`` or ``mae_dof``) over multiply-adds; hollow for int8."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for number, run in enumerate(runs):
            style = _style(number, run["name"]) | {"ls": "none", "ms": 10}
            work = run["multiply_adds"] / 1e6
            axis.plot([work], [run[key]], **style)
            axis.plot([work], [run["int8"][key]], **(style | {"mfc": "none", "mew": 2, "label": None}))
            axis.plot([work, work], [run[key], run["int8"][key]], color=style["color"], lw=1)
        axis.set_xscale("log")
        works = sorted(run["multiply_adds"] / 1e6 for run in runs)
        apart = [work for k, work in enumerate(works) if k == 0 or work > _APART * works[k - 1]]
        axis.set_xticks(apart, [f"{work:.3g}" for work in apart])
        axis.minorticks_off()
        axis.set_xlim(works[0] / 2, 2 * works[-1])
        axis.set_ylim(0, 1.25 * max(max(run[key], run["int8"][key]) for run in runs))
        axis.set_xlabel("multiply-adds of one tile (millions)")
        axis.set_ylabel(f"mean error ({'µm' if key == 'mae_um' else 'depths of field'})")
        axis.text(0.99, 0.02, "filled: float, hollow: int8", transform=axis.transAxes, ha="right", color=GREY)
        legend_above(figure, axis)

    return picture(draw, height=4.6)


def _style(number: int, name: str) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "ls": _DASHES[number % len(_DASHES)],
        # A label that begins with an underscore would be left out of the legend.
        "label": f" {name}" if name.startswith("_") else name,
    }
