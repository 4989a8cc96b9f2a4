"""The page of a comparison. ``runs`` are those of compare.json, as `convert.trial.as_json` makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convert import compare_figures
from train import metrics, page
from train.page import Markup
from train.report_text import FIGURES_HEAD as HEAD
from train.report_text import NONE, UNITS, amount, figures_row, number, percent, share

_Run = Mapping[str, Any]
_PAPER_ACCURACY = 0.3356
#: The one figure of the paper that is shown, and the only words it is shown with.
PAPER = {
    "accuracy": _PAPER_ACCURACY,
    "what": "the paper's figure on the paper's data (11,396 tiles), not ours",
}


def write_up(
    runs: Sequence[_Run], logs: compare_figures.Logs, notes: Sequence[str], about: Mapping[str, Any]
) -> tuple[str, dict[str, bytes]]:
    """The page and its pictures by file name. ``about``: the other keys of compare.json."""
    names = ", ".join(run["name"] for run in runs)
    drawn, pictures = pictures_of(runs, logs)
    parts: list[Markup] = [
        page.notes("Before you quote these figures", notes),
        page.section("How good they are", [_good(runs), page.paragraph(_CHANCE)]),
        page.section("What they cost", [_cost(runs), page.paragraph(_latency(about))]),
        page.section("What they are", [_what(runs)]),
        page.section("Side by side", [page.figures(drawn)]),
    ]
    if about["shared_sets"]:
        parts.append(_further(runs, about["shared_sets"]))
    if "paper" in about:
        parts.append(_paper(runs))
    below = f"{len(runs)} runs, judged on "
    below += "the same test images." if about["same_test_images"] else "DIFFERENT test images."
    return page.page(f"Comparison of {names}", below, parts), pictures


def notes_on(
    runs: Sequence[_Run], fits: Sequence[tuple[float, float]], differences: Sequence[str]
) -> list[str]:
    """What to know before quoting: what differs, and the caveats of each run; what holds for all stands once.

    ``fits``: label sigma and slope of each run, which decide what its loss means.
    """
    out = [
        f"The runs were not judged on the same images: {text}. Their figures do not compare."
        for text in differences
    ]
    if len({(run["unit"], tuple(run["class_centres"])) for run in runs}) > 1:
        out.append(
            "The runs have different classes: their accuracies and losses do not compare. Their errors do,"
            " but a truth beyond the outermost class of a run counts as if within."
        )
    elif len(set(fits)) > 1:
        out.append("The runs were fitted to labels of different width: their losses do not compare.")
    said = {run["name"]: metrics.caveats(dict(run)) for run in runs}
    texts = dict.fromkeys(text for of in said.values() for text in of)
    holders = {text: [name for name, of in said.items() if text in of] for text in texts}
    out += [text for text, names in holders.items() if len(names) == len(runs)]
    return out + [f"{', '.join(of)}: {text}" for text, of in holders.items() if len(of) < len(runs)]


_CHANCE = (
    "Per image, with Wilson's 95 % intervals. Where intervals overlap widely, the difference may be chance,"
    " and another seed may turn it round: each run is one training."
)


def _latency(about: Mapping[str, Any]) -> str:
    return (
        f"Latencies are medians of {about['rounds']} rounds (quartiles in brackets), after"
        f" {about['warm_up_rounds']} rounds of warm-up that do not count, on one thread, every network once a"
        f" round in turns, so that the ratios hold. They are of this machine ({about['machine']};"
        f" {about['runtime']}), which is not the device. An image is the tiles of the median test image;"
        " cutting it into tiles is not in the time. The file is without its card of a few kB."
    )


def _rows(
    runs: Sequence[_Run], rows: Sequence[tuple[str, Callable[[_Run], str]]], *, words: bool = False
) -> Markup:
    head = ["", *(run["name"] for run in runs)]
    body = [[title, *(value(run) for run in runs)] for title, value in rows]
    return page.table(head, body, words=len(head) if words else 1)


def _good(runs: Sequence[_Run]) -> Markup:
    return _rows(
        runs,
        [
            ("accuracy", lambda run: share(run, "accuracy")),
            ("accuracy, int8", lambda run: share(run["int8"], "accuracy")),
            ("mean error (µm)", lambda run: number(run["mae_um"])),
            ("mean error (µm), int8", lambda run: number(run["int8"]["mae_um"])),
            ("mean error (dof)", lambda run: number(run["mae_dof"])),
            ("mean error (dof), int8", lambda run: number(run["int8"]["mae_dof"])),
            ("median error (dof)", lambda run: number(run["median_dof"])),
            ("within 1 dof", lambda run: share(run, "within_1_dof")),
            ("wrong direction", lambda run: share(run, "wrong_direction")),
            ("wrong direction, int8", lambda run: share(run["int8"], "wrong_direction")),
            ("ECE", lambda run: number(run["ece"], 3)),
            ("test images", lambda run: str(run["n_test"])),
        ],
    )


def _cost(runs: Sequence[_Run]) -> Markup:
    least = min(run["int8"]["latency_tile_ms"]["median_ms"] for run in runs)
    return _rows(
        runs,
        [
            ("parameters", lambda run: amount(run["parameters"])),
            ("multiply-adds of a tile", lambda run: amount(run["multiply_adds"])),
            ("int8 file", lambda run: f"{run['int8']['file_bytes'] / 1000:.0f} kB"),
            ("int8, one tile (ms)", lambda run: _ms(run["int8"]["latency_tile_ms"])),
            ("times the fastest", lambda run: f"{run['int8']['latency_tile_ms']['median_ms'] / least:.2f}"),
            ("tiles of an image", lambda run: str(run["int8"]["tiles_in_image"])),
            ("int8, one image (ms)", lambda run: _ms(run["int8"]["latency_image_ms"])),
        ],
    )


def _ms(timing: Mapping[str, float]) -> str:
    middle, low, high = (f"{timing[key]:.3g}" for key in ("median_ms", "p25_ms", "p75_ms"))
    return f"{middle} ({low} to {high})"


def _what(runs: Sequence[_Run]) -> Markup:
    return _rows(
        runs,
        [
            ("network", lambda run: run["network"]),
            ("recipe", lambda run: run["recipe"]),
            (
                "labels",
                lambda run: f"{run['labels']}, {len(run['class_centres'])} classes in {UNITS[run['unit']]}",
            ),
            ("started from", lambda run: run["weights"]),
            ("epochs", lambda run: str(run["epochs"])),
            ("input", lambda run: f"{run['input_px']} px, {run['input']}"),
            ("data", lambda run: ", ".join(run["sources"])),
            ("images trained on", lambda run: NONE if run["n_train"] is None else str(run["n_train"])),
            ("seed", lambda run: str(run["seed"])),
        ],
        words=True,
    )


def pictures_of(runs: Sequence[_Run], logs: compare_figures.Logs) -> tuple[list[Markup], dict[str, bytes]]:
    """The overlaid pictures as they stand in the page, and by file name; no curves where there is no log."""
    all_um = all(run["unit"] == "um" for run in runs)
    known_um = all(run["mae_um"] is not None for run in runs)
    drawn, pictures = [], {}

    def add(name: str, png: bytes, alt: str, caption: str) -> None:
        pictures[name] = png
        drawn.append(page.figure(png, alt=alt, caption=caption))

    logged = {name: log for name, log in logs.items() if log}
    if logged:
        thin = "Marked lines: validation; thin lines: training, on altered tiles and with dropout."
        add(
            "accuracy.png", compare_figures.curves(logged, "accuracy"), "Accuracy over epochs, overlaid", thin
        )
        add(
            "loss.png",
            compare_figures.curves(logged, "loss"),
            "Loss over epochs, overlaid",
            f"{thin} {_LOSS}",
        )
    add(
        "classes.png",
        compare_figures.classes(runs, "um" if all_um else "dof"),
        "Accuracy of each class, overlaid",
        "Share of the test images of a class whose most probable class is the true one. Gaps: no test image.",
    )
    add(
        "error_against_work.png",
        compare_figures.error_against_work(runs, "mae_um" if known_um else "mae_dof"),
        "Mean error over multiply-adds",
        "Down and to the left is better. Work is counted, not timed; a filled mark and the hollow one on its"
        " stem are the same network before and after quantization.",
    )
    return drawn, pictures


_LOSS = "Losses compare only between runs with the same labels."
#: Every picture that a comparison may have.
PICTURES = ("accuracy.png", "loss.png", "classes.png", "error_against_work.png")


def _further(runs: Sequence[_Run], names: Sequence[str]) -> Markup:
    tables = [
        page.table(
            ["", *HEAD], [figures_row(run["name"], run["protocols"][name]) for run in runs], caption=name
        )
        for name in names
    ]
    return page.section("Further test sets", tables)


def _paper(runs: Sequence[_Run]) -> Markup:
    rows = [[str(PAPER["what"]), percent(_PAPER_ACCURACY, 2)]]
    for run in runs:
        if run["labels"] == "jiang41":
            of = f"{run['name']}, on its own {run['n_test']} test images, not the paper's"
            rows.append([of, share(run, "accuracy")])
    text = (
        "Other images, another split and other labels by another hand: the two kinds of figure stand here for"
        " orientation and cannot be set against each other."
    )
    return page.section(
        "Beside the paper", [page.table(["accuracy over 41 classes", ""], rows), page.paragraph(text)]
    )


def lines(runs: Sequence[_Run]) -> list[str]:
    """The main figures of each run, a line each, for the terminal."""
    out = []
    for run in runs:
        int8 = run["int8"]
        error = f"mean error {number(run['mae_dof'])} dof (int8 {number(int8['mae_dof'])})"
        size = f"{amount(run['multiply_adds'])} multiply-adds, int8 {int8['file_bytes'] / 1000:.0f} kB"
        speed = f"{int8['latency_tile_ms']['median_ms']:.3g} ms a tile here"
        out.append(f"{run['name']}: accuracy {share(run, 'accuracy')}, {error}, {size}, {speed}")
    return out
