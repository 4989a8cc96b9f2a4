"""The sections of a report that judge: each with its pictures, and sentences on how to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.estimate import TOLERANCE_DOF
from train import figures, metrics, page, samples
from train.evaluate import Array, Predictions
from train.judge import Judged, Side
from train.page import Markup
from train.report_text import FIGURES_HEAD, UNITS, count, figures_row, number, percent


@dataclass(frozen=True)
class Part:
    """A section: its markup, and its pictures by file name."""

    markup: Markup
    pictures: dict[str, bytes]


@dataclass(frozen=True)
class Shown:
    """Predictions in the unit they are drawn in: µm where those are known, else depths of field.

    ``truth``, ``guess`` and ``error`` ``(N,)``; ``depth``: the median depth of field in that unit.
    """

    truth: Array
    guess: Array
    error: Array
    depth: float
    unit: str


def shown(predictions: Predictions) -> Shown:
    """Truth, estimate and error of every image."""
    dof = np.ones(len(predictions)) if predictions.dof_um is None else predictions.dof_um
    scale = dof / predictions.dof
    truth, guess = predictions.truth * scale, predictions.estimates()[0] * scale
    unit = "dof" if predictions.dof_um is None else "µm"
    return Shown(truth, guess, np.abs(guess - truth), float(np.median(dof)), unit)


def how_good(judged: Judged, found: dict[str, Any]) -> Part:
    """The whole test side in a table and two pictures."""
    images = judged.test.images
    test = shown(images)
    wrong, _ = metrics.wrong_direction(images)
    scatter = figures.predicted_against_true(test.truth, test.guess, wrong, test.depth, test.unit)
    matrix = figures.confusion(metrics.confusion(images), judged.bins.centres, UNITS[judged.bins.unit])
    rows = [
        figures_row("test", found | {"n": found["n_test"]}),
        figures_row("test, single tiles", found["tiles"]),
        figures_row("validation", found["val"]),
    ]
    calibrated = (
        f"a temperature of {found['temperature']:.2f} and a tile weight of {found['tile_weight']:.2f}"
    )
    by_argmax = f"{number(found['mae_dof_argmax'])} depths of field"
    if found["mae_um_argmax"] is not None:
        by_argmax += f" ({number(found['mae_um_argmax'])} µm)"
    parts = [
        page.paragraph(_IMAGES.format(calibrated=calibrated)),
        page.table(["", *FIGURES_HEAD], rows, caption="Shares with their 95 % intervals"),
        page.paragraph(_ARGMAX.format(error=by_argmax)),
        page.figures(
            [
                page.figure(
                    scatter,
                    alt=f"Predicted over true defocus of {count(len(images), 'test image')}",
                    caption=_SCATTER.format(depth=f"{number(test.depth)} {test.unit}"),
                ),
                page.figure(matrix, alt="Confusion matrix of the classes", caption=_CONFUSION),
            ]
        ),
    ]
    pictures = {"predicted_against_true.png": scatter, "confusion.png": matrix}
    return Part(page.section("How good it is", parts), pictures)


_IMAGES = (
    "An image is one frame. The tiles of an image are put together as on the device, with {calibrated}, both"
    " chosen on the validation side. Intervals are Wilson's, at 95 %. They take images as independent, but"
    " images of one field err alike, so the truth is wider. Validation images chose the epoch, so their"
    " figures flatter."
)
_ARGMAX = "With the centre of the most probable class as the estimate, the mean error is {error}."
_SCATTER = (
    "Each mark is a test image. On the line the estimate is right; in the green band it is within 1 depth of"
    " field ({depth}). Triangles are on the wrong side of focus: the motor would move away from it."
)
_CONFUSION = (
    "Confusion matrix: rows are true classes, columns the most probable ones, colour is the share of the row"
    " (its scale is stretched at the low end). The diagonal from bottom left is right; a trace along the"
    " other one is the right distance on the wrong side. Grey rows have no image."
)


def classes(judged: Judged) -> Part:
    """Accuracy of each class, on the test side and on the validation side."""
    drawn, pictures = [], {}
    for name, words in (("test", "test image"), ("val", "validation image")):
        images = judged.sides[name].images
        total, right = metrics.by_class(images)
        png = figures.class_bars(total, right, judged.bins.centres, UNITS[judged.bins.unit])
        pictures[f"classes_{name}.png"] = png
        median = count(int(np.median(total[total > 0])), "image")
        drawn.append(
            page.figure(
                png,
                alt=f"Bars: accuracy of each of {len(total)} classes, {words}s",
                caption=_BARS.format(images=count(len(images), words), median=median),
            )
        )
    section = page.section("Accuracy of each class", [page.paragraph(_CLASSES), page.figures(drawn)])
    return Part(section, pictures)


_CLASSES = (
    "A class counts as right only where exactly it is the most probable one. The neighbour of the true class"
    " is wrong here, though it may be as good for focusing."
)
_BARS = (
    "{images}. A blue bar is the share of a class's images whose most probable class is the true one; the"
    " grey bar below is how many images that rests on: {median} in the median class, so a single bar says"
    " little where there are few."
)


def errors(judged: Judged) -> Part:
    """Error and wrong direction against the distance from focus."""
    test = shown(judged.test.images)
    distance = np.abs(test.truth)
    wrong, _ = metrics.wrong_direction(judged.test.images)
    pictures = {
        "error.png": figures.error_by_distance(distance, test.error, test.depth, test.unit),
        "wrong_direction.png": figures.direction_by_distance(distance, wrong, test.depth, test.unit),
    }
    drawn = [
        page.figure(pictures["error.png"], alt="Error over the distance from focus", caption=_ERROR),
        page.figure(
            pictures["wrong_direction.png"],
            alt="Share of wrong directions over the distance from focus",
            caption=_DIRECTION,
        ),
    ]
    return Part(page.section("Far from focus and near it", [page.figures(drawn)]), pictures)


_ERROR = (
    "Error of the estimate in slices of the distance from focus. A mean far above the median comes from few"
    " images that are far off, mostly on the wrong side."
)
_DIRECTION = (
    "Share of images taken for the other side of focus. A wrong side near focus costs little; far from it, it"
    " sends the motor away."
)


def confidence(judged: Judged, found: dict[str, Any]) -> Part:
    """Reliability diagram."""
    images = judged.test.images
    png = figures.reliability(images.estimates()[1], metrics.errors_dof(images) <= TOLERANCE_DOF)
    drawn = page.figure(
        png,
        alt="Reliability diagram: share right over stated confidence",
        caption=_RELIABILITY.format(ece=number(found["ece"], 3)),
    )
    return Part(
        page.section("Whether its confidence holds", [page.figures([drawn])]), {"reliability.png": png}
    )


_RELIABILITY = (
    "Images in ten slices by the probability that the network states of being within 1 depth of field, and"
    " the share of each slice that is. Below the dashed line it is too sure of itself. The mean distance from"
    " the line, weighted by images, is the expected calibration error (ECE): {ece}."
)


def tiles_seen(judged: Judged, kind: str) -> Part:
    """Sample tiles with their predictions; ``kind`` is the recipe's input."""
    chosen = samples.choose(judged.test)
    parts: list[Markup] = [page.paragraph(f"{_SEEN[kind]} {_SAMPLES}")]
    pictures: dict[str, bytes] = {}
    for group, words in samples.GROUPS.items():
        members = [sample for sample in chosen if sample.group == group]
        if members:
            parts.append(page.subheading(words))
            parts.append(page.thumbnails([_thumbnail(judged.test, sample) for sample in members]))
        pictures |= {f"sample_{group}_{k}.png": sample.png for k, sample in enumerate(members, 1)}
    return Part(page.section("Samples", parts), pictures)


_SEEN = {
    "raw": "The tiles are shown as the network sees them: the camera's own pixels.",
    "normalised": "The tiles are shown as the network sees them: without background and mean, and with their"
    " contrast stretched.",
}
_SAMPLES = "Of several tiles of an image the most informative is shown; the prediction is that of the image."


def _thumbnail(side: Side, sample: samples.Sample) -> tuple[bytes, str, list[str]]:
    k, test = sample.index, shown(side.images)
    truth, guess = (f"{values[k]:+.2f}".replace("-", "−") for values in (test.truth, test.guess))
    sure = percent(float(side.images.estimates()[1][k]), 0)
    kind = side.data.kinds[int(side.images.kind[k])]
    lines = [f"true {truth} {test.unit}", f"predicted {guess}", f"{sure} sure · {kind}"]
    return sample.png, f"Tile of a test image, true defocus {truth} {test.unit}, predicted {guess}", lines
