"""`parfocal compare RUN… --out DIR`: trained networks side by side, float and int8, as a page and as JSON."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from convert import compare_page, trial
from convert.same_test import JudgedOn, difference, judged_on, shared_sets
from edge.bench import timing
from edge.errors import InputError
from edge.plot import backend
from train import page
from train.run_folder import read_run, write_json

_PAGE, _JSON = "compare.html", "compare.json"


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``parfocal compare``."""
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders that `parfocal train` wrote, two or more")
    add(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the page; made where it is missing"
    )
    add(
        "--allow-different-tests",
        action="store_true",
        help="compare runs that were judged on different images; the page says so",
    )


def run(name: str, args: argparse.Namespace) -> int:
    """Check, judge, time, write. Raises InputError, one line, where the runs cannot be compared."""
    backend()
    names = distinct_names(args.runs)
    # One run at a time is kept: the tiles of a few would fill the memory.
    tests = [judged_on(read_run(folder)) for folder in args.runs]
    differences = _differences(names, tests)
    if differences and not args.allow_different_tests:
        raise InputError(
            f"the runs were not judged on the same images: {differences[0]}; --allow-different-tests compares"
            " them all the same"
        )
    page.writable(args.out, [_PAGE, _JSON])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    trials = [
        trial.put_to_trial(read_run(folder), name) for folder, name in zip(args.runs, names, strict=True)
    ]
    write_comparison(args.out, trials, tests, differences)
    return 0


def write_comparison(
    out: Path, trials: Sequence[trial.Trial], tests: Sequence[JudgedOn], differences: Sequence[str]
) -> None:
    """Time the int8 files, then write compare.json, the pictures and the page into ``out``.

    Raises InputError or OSError where a file cannot be written.
    """
    timings, runtime = trial.time_all(trials)
    runs = [trial.as_json(of, timings[of.name]) for of in trials]
    about = {
        "machine": timing.machine(),
        "runtime": runtime,
        "rounds": timing.ROUNDS,
        "warm_up_rounds": timing.WARM_UP,
        "same_test_images": not differences,
        "shared_sets": shared_sets(tests),
    }
    if any(run["labels"] == "jiang41" for run in runs):
        about["paper"] = compare_page.PAPER
    fits = [(of.fit.label_sigma_dof, of.fit.label_sigma_slope) for of in trials]
    notes = compare_page.notes_on(runs, fits, differences)
    text, pictures = compare_page.write_up(runs, {of.name: of.log for of in trials}, notes, about)
    write_json(out / _JSON, {**about, "notes": notes, "runs": runs})
    page.write(out / _PAGE, text, pictures, out, own=compare_page.PICTURES)
    print(f"{out / _PAGE}: {len(runs)} runs")
    for line in compare_page.lines(runs):
        print(f"  {line}")


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """What to call each run: its folder's name, with those above it where two would be called the same.

    Raises InputError for fewer than two runs, or one that is named twice.
    """
    paths = [folder.resolve() for folder in folders]
    if len(paths) < 2:
        raise InputError(f"{folders[0]}: two runs or more are needed to compare")
    for k, path in enumerate(paths):
        if path in paths[:k]:
            raise InputError(f"{folders[k]}: is named twice")
    deep = 1
    while len({path.parts[-deep:] for path in paths}) < len(paths):
        deep += 1
    return ["/".join(path.parts[-deep:]) for path in paths]


def _differences(names: Sequence[str], tests: Sequence[JudgedOn]) -> list[str]:
    out = []
    for name, test in zip(names[1:], tests[1:], strict=True):
        what = difference(tests[0], test)
        if what is not None:
            out.append(f"{names[0]} and {name}: {what}")
    return out
