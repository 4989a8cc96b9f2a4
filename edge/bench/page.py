"""docs/benchmarks.md from what `make bench-figures` measured into docs/bench.

    python -m edge.bench.page            print the page
    python -m edge.bench.page --write    write it into the source tree

Nothing on it is typed in but what no measurement tells. tests/test_docs.py fails where it is stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge import card as cards
from edge.bench.tables import cost, row
from edge.files import atomic_write_text
from edge.model import DEFAULT_PATH

__all__ = ["main", "page"]

_DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER, TARGET = _DOCS / "bench", _DOCS / "benchmarks.md"
_HEAD = """\
# Benchmarks

*Built from `docs/bench` by `python -m edge.bench.page --write`; `make bench-figures` measures it anew. Do not edit.*

Everything on this page was computed on desktop machines, with a simulated camera and motor. **No figure is of a Raspberry
Pi or a Jetson**: [how to produce one](#how-a-figure-of-a-pi-or-a-jetson-is-produced) stands at the end.
"""
_METHOD = """\
## Method

Each strategy gets the same simulated microscopes: field, optics (another condenser, tilt, aberrations, colour, camera for each
field), noise, start, slack, frame period and speed are the same to the last random number. Specimens are drawn with seeds that
the training never saw. Time is virtual: motion at the motor's rates, frames of the camera's period that were exposed after the
motion, {look_ms:g} ms for each inference of ours; the others' computing is free. Starts are uniform within ±{start:g} depths of
field, the others search ±{reach:g} (and OpenFlexure no less than its own 2000 steps). The stage knows its slack ({backlash} steps,
`{compensation}`) and was last moved as in use. *In focus* is: the stage stands within one depth of field of the simulator's
truth. The others are written from what they have published, each on its best behaviour:

"""
_PI = """\
## How a figure of a Pi or a Jetson is produced

On the board, with its camera and motor in the configuration, a specimen in focus, and nothing else running:

    parfocal bench latency --config /etc/parfocal/parfocal.toml --out board.json
    parfocal bench latency --config /etc/parfocal/parfocal.toml --sustained 600 --out board-warm.json

(`sudo systemctl stop parfocal` first.) The file names board, system and libraries, reads temperature, clock and throttling before,
during and after, and says whether camera and motor were real. On a desktop

    parfocal bench latency --compare docs/bench/latency.json board.json --plot both.png

puts two of them side by side. The stage moves by 5 µm up and down, `--move-um 0` leaves it alone.
"""


#: The documents that depend on the network, and what the page makes of them.
_OF_A_NETWORK = {
    "focus": "focusing, by objective, start and specimen",
    "focus-one-sided": "the microscope that was not calibrated",
    "focus-faults": "when something goes wrong",
    "growth": "how cost grows",
    "latency": "latency",
}


def page(found: Mapping[str, Mapping[str, Any]], shipped_sha256: str) -> str:
    """The page; ``found``: the documents of docs/bench by name. It says so where one is not of the network
    ``shipped_sha256``.
    """
    parts = [
        _HEAD,
        *_earlier(found, shipped_sha256),
        *_focus(found["focus"], found["focus-one-sided"]),
        *_by(found["focus"]),
        *_faults(found["focus-faults"]),
        *_growth(found["growth"], found["training"]),
        *_latency(found["latency"]),
        _PI,
    ]
    return "\n".join(parts)


def _earlier(found: Mapping[str, Mapping[str, Any]], shipped_sha256: str) -> Iterator[str]:
    names = [name for name in _OF_A_NETWORK if found[name].get("model", {}).get("sha256") != shipped_sha256]
    if names:
        sections = ", ".join(_OF_A_NETWORK[name] for name in names)
        yield f"**Measured with an earlier network** than the one that is shipped: {sections}.\n"


def _focus(focus: Mapping[str, Any], one_sided: Mapping[str, Any]) -> Iterator[str]:
    plan, tables = focus["plan"], focus["strategies"]
    count = tables["parfocal"]["runs"]
    yield f"## Focusing: {count} runs\n\n`parfocal bench focus --runs {count} --seed {plan['seed']}`\n"
    yield _table(
        (
            "",
            "in focus",
            "seconds, median",
            "p95",
            "frames",
            "moves",
            "travel µm",
            "error, dof",
            "p95",
            "ended worse",
        ),
        [(name, *row(of)) for name, of in tables.items()],
    )
    yield "![Seconds, errors, and success by start distance](bench/focus.png)\n"
    best, against = focus["best_peer"], focus["against"]
    rows = [
        (name, of["both"], f"{of['seconds']:.2f}", f"{of['ours']:.2f}", f"{of['times']:.2f}")
        for name, of in against.items()
    ]
    yield "Beside each, over the runs in which both came into focus (medians; above 1 ours is quicker):\n"
    yield _table(("", "runs", "its seconds", "ours", "times"), rows)
    said = f"the quickest that does is **{best}**" if best else "**none does**"
    yield (
        "The early ends of *coarse-and-fine* and *squid* are published for starts near focus: from farther off, the flat noise of"
        " a blurred field ends their passes at once.\n"
    )
    yield f"Of the others, one would have to come into focus as often as ours to be compared by time alone: {said}.\n"
    ours, other = tables["parfocal"], one_sided["strategies"]["parfocal"]
    yield (
        "A microscope that was not calibrated (`--compensation one-sided`, the configuration's default, which needs no exact"
        f" slack; {other['runs']} runs): ours takes {other['seconds_median']:.2f} s instead of {ours['seconds_median']:.2f},"
        f" {100 * other['success']:.1f} % in focus; against the fast sweep {one_sided['against']['openflexure-fast']['times']:.1f}"
        f" times, of the oracle's time {1 / one_sided['against']['oracle']['times']:.2f} times.\n"
    )
    microscope = focus["microscope"]
    yield (
        _METHOD.format(
            look_ms=1000 * plan["look_s"],
            start=plan["start_dof"],
            reach=plan["range_dof"],
            backlash=microscope["backlash_steps"],
            compensation=microscope["compensation"],
        )
        + "\n".join(f"- **{name}**: {text}" for name, text in plan["sources"].items())
        + "\n"
    )


def _by(focus: Mapping[str, Any]) -> Iterator[str]:
    names = list(focus["strategies"])
    yield "## By objective, start and specimen\n\nIn focus, and median seconds.\n"
    for key, title in (
        ("by_objective", "objective"),
        ("by_start_dof", "start, dof"),
        ("by_specimen", "specimen"),
    ):
        yield _table((title, *names), [(value, *_cells(of, names)) for value, of in focus[key].items()])


def _faults(faults: Mapping[str, Any]) -> Iterator[str]:
    names = list(faults["strategies"])
    count = faults["strategies"][names[0]]["runs"]
    yield f"## When something goes wrong\n\n{count} runs of each (`--runs {count} --faults`). Empty field: who says that it is one?\n"
    yield _table(("", *names), [(value, *_cells(of, names)) for value, of in faults["by_fault"].items()])


def _growth(growth: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[str]:
    yield f"## How cost grows\n\n`parfocal bench growth`, {growth['runs']} runs a point: frames, seconds, in focus.\n"
    names = growth["strategies"]
    for key, title in (("by_start_dof", "start, dof"), ("by_range_dof", "range searched, dof")):
        rows = [(value, *(cost(of[name]) for name in names)) for value, of in growth[key].items()]
        yield _table((title, *names), rows)
    yield "![Seconds and frames by start and range; a look by its tiles](bench/growth.png)\n"
    tiles = growth["inference_by_tiles"]
    yield _table(
        ("tiles of a frame", *tiles), [("a look, ms", *(f"{of['p50']:.1f}" for of in tiles.values()))]
    )
    frames = growth["simulator_by_processes"]
    rates = training["images_per_s"]
    yield _table(
        ("", *(f"{count} at once" for count in frames)),
        [
            ("simulator, frames/s by processes", *(f"{of['frames_per_s']:.1f}" for of in frames.values())),
            (
                "training, images/s by threads (`python -m train.throughput`)",
                *(f"{of:.0f}" for of in rates.values()),
            ),
        ],
    )


def _latency(latency: Mapping[str, Any]) -> Iterator[str]:
    machine, model = latency["machine"], latency["model"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    yield (
        "## Latency on this machine\n\n`parfocal bench latency`. **Not a board for a microscope**: "
        f"{machine['board']}, {machine['processor']}, {machine['processors']} processors, shared with others; "
        f"{machine['system']}; Python {machine['python']}, {libraries}. {model['tiles']} tiles of a frame of "
        f"{model['frame'][1]} x {model['frame'][0]}, {model['threads']} thread. {latency['looks']} looks after "
        f"{latency['warm_up']} to warm up. Camera and motor are simulated: wait, capture, motion and settle are what they are "
        "told to take.\n"
    )
    rows = [(name, *_points(of)) for name, of in latency["stages_ms"].items()]
    yield _table(("ms", "p50", "p95", "p99", "max"), [*rows, ("a whole look", *_points(latency["look_ms"]))])
    rows = [
        (f"{kind}, threads: {threads}", *_points(of["inference_ms"]))
        for kind, by in latency["networks"].items()
        for threads, of in (by or {}).items()
    ]
    yield _table(("the network alone, ms", "p50", "p95", "p99", "max"), rows)
    yield "![Where the time of a look goes](bench/latency.png)\n"
    sustained, around = latency["sustained"], latency["around_invoke"]["median"]
    yield (
        f"All computing around `invoke` is {100 * around:.0f} % of it here. Between moves `invoke` is slower than in the table after it, where looks follow one another: caches and clock have cooled down. Looks without a rest for"
        f" {sustained['seconds']:g} s: {sustained['slower']:.2f} times as long in the last fifth as in the first. Memory:"
        f" {latency['memory_mb']['most']:.0f} MB at most, the simulator's included.\n"
    )


def _cells(of: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{100 * of[name]['success']:.0f} %, {of[name]['seconds_median']:.1f} s" for name in names]


def _points(of: Mapping[str, float]) -> list[str]:
    return [f"{of[key]:.2f}" for key in ("p50", "p95", "p99", "max")]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [" | ".join(heads), "|".join("---" for _ in heads), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" if k != 1 else f"|{line}|" for k, line in enumerate(lines)) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, or write it; 2 for other arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words not in ([], ["--write"]):
        sys.stderr.write("usage: python -m edge.bench.page [--write]\n")
        return 2
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.json")}
    text = page(found, cards.read(DEFAULT_PATH)[1].flatbuffer_sha256)
    if words:
        atomic_write_text(TARGET, text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
