"""The sections of a report that say where the figures come from: other sets, training, data, recipe."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.errors import InputError, one_line
from train import figures, page
from train.page import Markup
from train.report_sections import Part
from train.report_text import FIGURES_HEAD, NONE, amount, count, figures_row, listed, percent
from train.run_folder import Run


def further_sets(found: dict[str, Any]) -> Part:
    """Other test sets, and the test side by kind of specimen."""
    parts: list[Markup] = []
    head = ["", *FIGURES_HEAD]
    if found["protocols"]:
        rows = [figures_row(name, row) for name, row in found["protocols"].items()]
        parts.append(page.table(head, rows, caption="Further test sets, of whole frames"))
    rows = [figures_row(name, row) for name, row in found["by_kind"].items()]
    parts.append(page.table(head, rows, caption="The test side by specimen, largest error first"))
    return Part(page.section("Other sets, and by specimen", parts), {})


def training(read: Run, found: dict[str, Any]) -> Part:
    """Accuracy and loss against epochs, and what the time went into."""
    if not read.log:
        return Part(page.section("Training", [page.paragraph("The run kept no log.")]), {})
    drawn, pictures = [], {}
    for of, caption in _CURVES.items():
        if of in read.log[0]:
            pictures[f"{of}.png"] = png = figures.curves(read.log, of)
            drawn.append(page.figure(png, alt=f"{of.capitalize()} over epochs", caption=caption))
    text = _time_spent(read, found["wait_share"])
    return Part(page.section("Training", [page.paragraph(text), page.figures(drawn)]), pictures)


_CURVES = {
    "accuracy": "Share of tiles whose most probable class is the true one. Training runs with dropout and"
    " altered tiles, so it may lie below validation; where it climbs away above it, the network learns its"
    " images by heart.",
    "loss": "Cross-entropy. The epoch of the lowest validation loss is the one that was kept.",
}


def _time_spent(read: Run, wait_share: float | None) -> str:
    seconds = [row["seconds"] for row in read.log if "seconds" in row]
    speed = [row["images_per_s"] for row in read.log if "images_per_s" in row]
    if wait_share is None and sum(seconds) > 0 and all("wait_share" in row for row in read.log):
        wait_share = float(np.average([row["wait_share"] for row in read.log], weights=seconds))
    said = [count(len(read.log), "epoch")]
    if seconds:
        said.append(f"{sum(seconds) / 60:.1f} minutes")
    if speed:
        # The first epoch also compiles.
        rate = float(np.median(speed[1:] or speed))
        said.append(f"{rate:.0f} tiles a second (median of the epochs, without the first: it warms up)")
    if wait_share is not None:
        said.append(f"{percent(wait_share)} of the time spent waiting for data")
    return ", ".join(said) + "."


def data(read: Run, held: dict[str, Any], by: str) -> Part:
    """What each side holds, the rule by which it was split, and the picture of data.png.

    ``held``: data.json. Raises InputError where data.png cannot be read.
    """
    parts: list[Markup] = [page.paragraph(_RULES.get(by, _RULES[""]))]
    sides = {name: side for name, side in held.items() if isinstance(side, dict) and "images" in side}
    if sides:
        head = ["side", "slides", "fields", "images", "tiles", "images of a class"]
        parts.append(page.table(head, [_side_row(name, side) for name, side in sides.items()]))
    if read.groups:
        rows = [[side, str(len(names)), listed(names)] for side, names in read.groups.items()]
        parts.append(page.table(["side", f"{by or 'group'}s", "which"], rows, words=3))
    pictures, path = {}, read.folder / "data.png"
    if path.is_file():
        try:
            pictures["data.png"] = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {one_line(error.strerror or error)}") from error
        alt = "Histograms of the labels of each side"
        parts.append(page.figure(pictures["data.png"], alt=alt, caption=_DATA))
    return Part(page.section("What the data hold", parts), pictures)


_RULES = {
    "slide": "Split by slide, never by tile: no slide, and so no field and no tile of it, is on two sides.",
    "field": "Split by field of view, never by tile: no field, and so no tile of it, is on two sides. Fields"
    " of one slide may be: of other slides this says less.",
    "": "Simulated data, never split by tile: each side has specimens and photographs of its own.",
}
_DATA = "Images of each side by signed defocus, and by class. A class that is rare here is learnt badly."


def _side_row(name: str, side: dict[str, Any]) -> list[str]:
    counts = side.get("class_counts") or []
    spread = f"{min(counts)} to {max(counts)}" if counts else NONE
    numbers = (side.get(key) for key in ("slides", "fields", "images", "tiles"))
    return [name, *(NONE if value is None else str(value) for value in numbers), spread]


def recipe(read: Run, found: dict[str, Any]) -> Part:
    """Network and recipe as tables."""
    rows = [
        ["parameters", amount(found["parameters"])],
        ["multiply-adds of a tile", amount(found["multiply_adds"])],
        ["multiply-adds of the median image", amount(found["multiply_adds_per_image"])],
        ["epochs run", str(found["epochs"])],
        ["started from", found["weights"]],
        ["seed", str(found["seed"])],
    ]
    tables = [page.table(["the run", ""], rows, words=2)]
    # The section on synthetic fields says nothing of images from the disk.
    sections = ["network", "fit", *(["data"] if found["sources"] == ["synthetic"] else [])]
    for name, keys in read.recipe.model_dump(mode="json").items():
        if name in sections:
            rows = [[key, _plain(value)] for key, value in keys.items()]
            tables.append(page.table([f"[{name}]", ""], rows, words=2))
    return Part(page.section(f"The recipe, {read.recipe.name}", [page.figures(tables)]), {})


def _plain(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return listed(map(str, value)) if isinstance(value, list) else str(value)
