"""The figures of a trained network, as ``metrics.json`` holds them: per image, but for those under "tiles".

Every share comes with its 95 % interval and the number it is taken over.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train import evaluate
from train.evaluate import Array, Predictions
from train.judge import Judged
from train.network_size import Size
from train.report_text import count
from train.run_folder import Run, read_json

Interval = tuple[float, float]
#: Two-sided 95 % of a normal distribution.
_Z = 1.959964
_FAR_DOF = 1.0
FEW_IMAGES, FEW_EPOCHS, PAPER_PX = 200, 10, 224


def wilson(successes: int, n: int) -> Interval:
    """The 95 % interval of a share of ``successes`` among ``n``; 0 to 1 where ``n`` is 0.

    Wilson, Journal of the American Statistical Association 22, 1927: unlike the normal approximation it stays
    within 0 and 1, and has a width where nothing, or everything, succeeded.
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    middle = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    whole = 1 + _Z**2 / n
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def wrong_direction(predictions: Predictions) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whose sign is wrong, and who counts (at 1 dof from focus or more), both ``(N,)``."""
    guess, _ = predictions.estimates()
    far = np.abs(predictions.truth / predictions.dof) >= _FAR_DOF
    return far & (np.sign(guess) != np.sign(predictions.truth)), far


def errors_dof(predictions: Predictions) -> Array:
    """Distance of estimate and truth, ``(N,)`` in depths of field."""
    return np.asarray(np.abs(predictions.estimates()[0] - predictions.truth) / predictions.dof)


def figures(predictions: Predictions) -> dict[str, Any]:
    """`evaluate.figures` with more beside them; None where nothing counts, or µm are not known.

    Added are ``median_um``, ``p95_um``, ``mae_dof_argmax`` and ``mae_um_argmax`` (of the most probable bin's
    centre instead of the estimate), ``within_1_dof`` (share whose error is at most that), ``n_far`` (how many
    ``wrong_direction`` is taken over) and ``intervals`` of the three shares.
    """
    error = errors_dof(predictions)
    wrong, far = wrong_direction(predictions)
    right, within = predictions.right_class(), error <= 1
    by_argmax = np.abs(predictions.bins.centres[predictions.log_p.argmax(axis=1)] - predictions.truth)
    by_argmax = by_argmax / predictions.dof
    um = predictions.dof_um
    count, far_count = len(predictions), int(far.sum())
    return evaluate.figures(predictions) | {
        "mae_um": None if um is None else float((error * um).mean()),
        "median_um": None if um is None else float(np.median(error * um)),
        "p95_um": None if um is None else float(np.percentile(error * um, 95)),
        "mae_dof_argmax": float(by_argmax.mean()),
        "mae_um_argmax": None if um is None else float((by_argmax * um).mean()),
        "within_1_dof": float(within.mean()),
        "wrong_direction": float(wrong.sum() / far_count) if far_count else None,
        "n_far": far_count,
        "intervals": {
            "accuracy": wilson(int(right.sum()), count),
            "within_1_dof": wilson(int(within.sum()), count),
            "wrong_direction": wilson(int(wrong.sum()), far_count) if far_count else None,
        },
    }


def by_class(predictions: Predictions) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of each true class ``(B,)``: how many there are, and of how many the most probable bin is it."""
    classes, bins = predictions.bins.classes(predictions.truth), len(predictions.bins)
    right = predictions.right_class()
    return np.bincount(classes, minlength=bins), np.bincount(classes[right], minlength=bins)


def confusion(predictions: Predictions) -> NDArray[np.intp]:
    """Counts ``(B, B)``: row the true class, column the most probable one."""
    bins = len(predictions.bins)
    flat = predictions.bins.classes(predictions.truth) * bins + predictions.log_p.argmax(axis=1)
    return np.bincount(flat, minlength=bins * bins).reshape(bins, bins)


def of_run(run: Run, judged: Judged, size: Size) -> dict[str, Any]:
    """What ``metrics.json`` holds. Raises InputError where data.json is damaged."""
    test, images = judged.test, judged.test.images
    total, right = by_class(images)
    per_class = [int(r) / int(n) if n else None for n, r in zip(total, right, strict=True)]
    tiles = float(np.median(test.tiles_per_image))
    return {
        "recipe": run.recipe.name,
        "network": run.recipe.network.base,
        "labels": run.recipe.network.labels,
        "input": run.recipe.network.input,
        "input_px": run.recipe.network.tile_px,
        "sources": list(run.record.sources),
        "weights": run.record.weights,
        "seed": run.record.seed,
        "epochs": len(run.log) or run.recipe.fit.epochs,
        "finished": run.record.finished,
        "n_train": _train_images(run),
        "n_val": len(judged.sides["val"].images),
        "n_test": len(images),
        "groups": {side: list(run.groups.get(side, ())) for side in ("train", "val", "test")},
        **figures(images),
        "per_class_accuracy": per_class,
        "per_class_images": total.tolist(),
        "class_centres": judged.bins.centres.tolist(),
        "unit": judged.bins.unit,
        "dof_um": None if images.dof_um is None else float(np.median(images.dof_um)),
        "confusion": confusion(images).tolist(),
        "beyond_bins": test.beyond,
        "tiles": figures(test.tiles),
        "val": figures(judged.sides["val"].images),
        "protocols": {
            name: figures(side.images) | {"beyond_bins": side.beyond}
            for name, side in judged.sides.items()
            if name not in ("val", "test")
        },
        "by_kind": by_kind(images, test.data.kinds),
        "temperature": judged.temperature,
        "tile_weight": judged.tile_weight,
        "tile_weight_was_fitted": judged.weight_was_fitted,
        "parameters": size.parameters,
        "multiply_adds": size.multiply_adds,
        "tiles_per_image": tiles,
        "multiply_adds_per_image": round(size.multiply_adds * tiles),
        "wait_share": run.record.wait_share,
    }


def by_kind(predictions: Predictions, kinds: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """`figures` of each kind of specimen, the one of largest error first."""
    members = {name: predictions.kind == number for number, name in enumerate(kinds)}
    found = {name: figures(predictions.at(of)) for name, of in members.items() if of.any()}
    return dict(sorted(found.items(), key=lambda item: -item[1]["mae_dof"]))


def _train_images(run: Run) -> int | None:
    """Images trained on, as run.json says, else data.json; None where neither does."""
    said = run.record.counts.get("train")
    if said is None and (run.folder / "data.json").is_file():
        side = read_json(run.folder / "data.json").get("train")
        said = side.get("images") if isinstance(side, dict) else None
    return said if isinstance(said, int) else None


def caveats(found: dict[str, Any]) -> list[str]:
    """What is small or missing in a run whose metrics are ``found``, a sentence each."""
    out = []
    groups, classes = found["groups"]["test"], found["per_class_images"]
    if found["n_test"] < FEW_IMAGES:
        out.append(
            f"Only {count(found['n_test'], 'test image')}, fewer than {FEW_IMAGES}: read the intervals,"
            " not the shares."
        )
    if 0 < len(groups) < 3:
        out.append(
            f"The test images come from {count(len(groups), 'group')} only: that says little of others."
        )
    if found["sources"] == ["synthetic"]:
        out.append("Trained and tested on simulated images: no real microscope has confirmed these figures.")
    if found["weights"] == "scratch":
        out.append("Started from scratch, without ImageNet weights.")
    if found["epochs"] < FEW_EPOCHS:
        out.append(f"Trained for {count(found['epochs'], 'epoch')}, fewer than {FEW_EPOCHS}.")
    if found["input_px"] < PAPER_PX:
        out.append(f"Tiles are {found['input_px']} px wide; the paper's networks see {PAPER_PX} px.")
    empty = classes.count(0)
    if empty:
        out.append(f"{empty} of {len(classes)} classes have no test image, so nothing is known of them.")
    if found["n_far"] == 0:
        out.append("No test image is 1 depth of field or more from focus: nothing is known of direction.")
    if found["beyond_bins"]:
        out.append(
            f"{count(found['beyond_bins'], 'test image')} beyond the outermost classes: counted as if within."
        )
    if not found["tile_weight_was_fitted"]:
        out.append(
            "Each validation image is a single tile, so nothing tells how to weigh several tiles of an image:"
            f" the tile weight of {found['tile_weight']:.2f} is not a fitted one."
        )
    return out
