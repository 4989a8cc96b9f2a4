"""`parfocal report RUN`: a network judged on what it was never trained on, as a page and as metrics.json."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from edge.plot import backend
from train import metrics, page, report_background, report_sections, report_text, saved_network
from train.judge import Judged, judge, predict
from train.network_size import size_of
from train.page import Markup
from train.run_folder import Run, read_json, read_run, write_json

_FOLDER, _PAGE, _METRICS = "report", "report.html", "metrics.json"
#: Pictures whose number varies from one report to the next.
_OWN = ("sample_*_?.png", "data.png", "accuracy.png", "loss.png")


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``parfocal report``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that `parfocal train` wrote")


def run(name: str, args: argparse.Namespace) -> int:
    """Judge, draw, write. Raises InputError, and writes nothing, where the run cannot be read."""
    backend()
    read = read_run(args.run)
    _sides(read)  # its errors now, and not after minutes of judging
    page.writable(args.run, [_PAGE, _METRICS])
    page.writable(args.run / _FOLDER)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    network = saved_network.load(args.run, read.recipe.network)  # TensorFlow: only now
    judged = judge(read, predict(read, network))
    found = metrics.of_run(read, judged, size_of(network))
    write_report(read, judged, found)
    print(f"{args.run / _PAGE}: {report_text.headline(found)}")
    return 0


def write_report(read: Run, judged: Judged, found: dict[str, Any]) -> None:
    """metrics.json, the pictures in RUN/report, and the page, which comes last.

    ``found``: `metrics.of_run`. Raises InputError or OSError where a file cannot be read or written.
    """
    parts = sections(read, judged, found)
    pictures = {name: png for part in parts for name, png in part.pictures.items()}
    write_json(read.folder / _METRICS, found)
    title = f"Report on {read.folder.resolve().name}"
    text = page.page(title, report_text.subtitle(found), [_head(found), *(part.markup for part in parts)])
    page.write(read.folder / _PAGE, text, pictures, read.folder / _FOLDER, own=_OWN)


def sections(read: Run, judged: Judged, found: dict[str, Any]) -> list[report_sections.Part]:
    """The page's sections with their pictures, in order."""
    held, by = _sides(read)
    return [
        report_sections.how_good(judged, found),
        report_sections.classes(judged),
        report_sections.errors(judged),
        report_sections.confidence(judged, found),
        report_sections.tiles_seen(judged, read.recipe.network.input),
        report_background.further_sets(found),
        report_background.training(read, found),
        report_background.data(read, held, by),
        report_background.recipe(read, found),
    ]


def _sides(read: Run) -> tuple[dict[str, Any], str]:
    """data.json, empty where there is none, and what the split is by. Raises InputError where damaged."""
    data = read.folder / "data.json"
    held = read_json(data) if data.is_file() else {}
    return held, str(read_json(read.folder / "split.json").get("by", ""))


def _head(found: dict[str, Any]) -> Markup:
    return page.joined(
        [
            page.cards(report_text.main_figures(found)),
            page.notes("Before you quote these figures", metrics.caveats(found)),
        ]
    )
