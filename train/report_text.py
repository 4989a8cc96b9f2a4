"""Figures in words: shares with their intervals, errors with their units, one line for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NONE = "–"
#: How the units of labels are written.
UNITS = {"um": "µm", "dof": "depths of field"}
FIGURES_HEAD = (
    "images",
    "accuracy",
    "mean error (µm)",
    "mean error (dof)",
    "within 1 dof",
    "wrong direction",
    "ECE",
)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as ``12.3 %``."""
    return NONE if share is None else f"{100 * share:.{digits}f} %"


def interval(bounds: tuple[float, float]) -> str:
    """Two shares, in per cent without the sign."""
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def share(found: Mapping[str, Any], key: str) -> str:
    """A share of ``found`` with its 95 % interval: ``12.3 % (9.1 to 16.4)``."""
    value = found[key]
    return NONE if value is None else f"{percent(value)} ({interval(found['intervals'][key])})"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash where it is not known."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def amount(value: float) -> str:
    """A large count to three digits: ``12.3 M``."""
    for size, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:g}"


def count(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Names in a row; a dash where there are none."""
    return ", ".join(names) or NONE


def headline(found: Mapping[str, Any]) -> str:
    """The main figures on one line, for the terminal."""
    error = f"{number(found['mae_dof'])} depths of field"
    if found["mae_um"] is not None:
        error = f"{number(found['mae_um'])} µm"
    said = [
        count(found["n_test"], "test image"),
        f"accuracy {share(found, 'accuracy')}",
        f"mean error {error}",
    ]
    if found["wrong_direction"] is not None:
        said.append(f"wrong direction {share(found, 'wrong_direction')}")
    return ", ".join(said)


def subtitle(found: Mapping[str, Any]) -> str:
    """What was trained, on what."""
    return (
        f"{found['network']} by the recipe {found['recipe']}, labels {found['labels']}, from"
        f" {', '.join(found['sources'])}; started from {found['weights']}, seed {found['seed']}, finished"
        f" {found['finished']}. Judged on images of the test side, which it was never trained on."
    )


def main_figures(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The cards at the top: what, its value, and what to know of it."""
    within = {
        key: f"95 % interval {interval(of)}" for key, of in found["intervals"].items() if of is not None
    }
    in_um = found["mae_um"] is not None
    key, unit = ("um", "µm") if in_um else ("dof", "dof")
    spread = f"median {number(found[f'median_{key}'])}, 95th percentile {number(found[f'p95_{key}'])}"
    in_dof = f"; the mean is {number(found['mae_dof'])} depths of field" if in_um else "; in depths of field"
    classes = f"the most probable of {len(found['per_class_accuracy'])} classes is the true one"
    tiles = (
        f"{found['tiles_per_image']:g} {'tile' if found['tiles_per_image'] == 1 else 'tiles'} each (median)"
    )
    rows = [
        ("accuracy", percent(found["accuracy"]), f"{within['accuracy']}; {classes}"),
        ("mean error", f"{number(found[f'mae_{key}'])} {unit}", spread + in_dof),
        ("within 1 depth of field", percent(found["within_1_dof"]), within["within_1_dof"]),
    ]
    if found["wrong_direction"] is not None:
        of = f"{within['wrong_direction']}; of {found['n_far']} at 1 depth of field or more"
        rows.append(("wrong direction", percent(found["wrong_direction"]), of))
    return [*rows, ("test images", str(found["n_test"]), tiles)]


def figures_row(name: str, found: Mapping[str, Any]) -> list[str]:
    """A row under ``FIGURES_HEAD``, with ``name`` before it."""
    return [
        name,
        str(found["n"]),
        share(found, "accuracy"),
        number(found["mae_um"]),
        number(found["mae_dof"]),
        share(found, "within_1_dof"),
        share(found, "wrong_direction"),
        number(found["ece"], 3),
    ]
