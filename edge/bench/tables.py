"""Tables of the bench on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["compare_tables", "cost", "focus_tables", "growth_tables", "latency_tables", "row", "table"]

#: Width of a table in a pipe or a file, where a terminal has none.
_WIDTH = 118
_BY = {
    "by_objective": "by objective",
    "by_start_dof": "by distance of the start, depths of field",
    "by_specimen": "by specimen",
    "by_fault": "by what goes wrong",
}


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column is words and whose others are figures."""
    out = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for k, head in enumerate(heads):
        out.add_column(head, justify="right" if k else "left", no_wrap=not k)
    for row in rows:
        out.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(out)


def focus_tables(report: Mapping[str, Any]) -> None:
    """Print the document of `edge.bench.figures.report`."""
    plan = report["plan"]
    heads = ("", "in focus", "seconds", "p95", "frames", "moves", "travel µm", "error dof", "p95", "worse")
    rows = [(name, *row(of)) for name, of in report["strategies"].items()]
    many = next(iter(report["strategies"].values()))["runs"]
    scope = report["microscope"]
    print(
        f"{scope['um_per_step']:g} µm a step, {scope['max_rate_steps_s']:g} steps/s, slack of"
        f" {scope['backlash_steps']} steps, {scope['compensation']}; settles in {scope['settle_s']:g} s;"
        f" {1 / scope['frame_period_s']:.0f} frames/s; ours is charged {1000 * plan['look_s']:g} ms a look"
    )
    table(
        f"simulated, virtual seconds: {many} runs, {plan['fields']} fields, seed {plan['seed']}", heads, rows
    )
    print("in focus: within 1 depth of field of the truth; worse: out of focus, farther than it began\n")
    if report["against"]:
        table(
            "parfocal beside each, where both came into focus (medians)",
            ("", "runs", "its seconds", "ours", "times"),
            [
                (name, str(of["both"]), f"{of['seconds']:.2f}", f"{of['ours']:.2f}", f"{of['times']:.2f}")
                for name, of in report["against"].items()
            ],
        )
        best = report["best_peer"] or "none"
        print(f"quickest of the others that come into focus as often: {best}\n")
    names = list(report["strategies"])
    for key, title in _BY.items():
        if key in report:
            rows = [(value, *(_short(of.get(name)) for name in names)) for value, of in report[key].items()]
            table(f"{title}: in focus, and median seconds", ("", *names), rows)


def row(of: Mapping[str, Any]) -> tuple[str, ...]:
    """The figures of one strategy (`edge.bench.figures.summary`) as words."""
    return (
        f"{100 * of['success']:.1f} %",
        f"{of['seconds_median']:.2f}",
        f"{of['seconds_p95']:.2f}",
        f"{of['captures_median']:g}",
        f"{of['moves_median']:g}",
        f"{of['travel_um_median']:.0f}",
        f"{of['error_dof_median']:.2f}",
        f"{of['error_dof_p95']:.2f}",
        str(of["worse"]),
    )


def cost(of: Mapping[str, Any]) -> str:
    """Frames, seconds and successes of one strategy in short."""
    return f"{of['captures_median']:g}, {of['seconds_median']:.1f} s, {100 * of['success']:.0f} %"


def _short(of: Mapping[str, Any] | None) -> str:
    return "" if of is None else f"{100 * of['success']:.0f} % {of['seconds_median']:.1f} s"


def latency_tables(report: Mapping[str, Any]) -> None:
    """Print the document of `edge.bench.latency.measure`."""
    machine, model = report["machine"], report["model"]
    lines = [
        f"{machine['board']}; {machine['processor']}, {machine['processors']} processors",
        machine["system"],
        f"Python {machine['python']}, " + ", ".join(f"{k} {v}" for k, v in machine["libraries"].items()),
        f"model {model['name']}: {model['tiles']} tiles of a frame of {model['frame'][1]} x"
        f" {model['frame'][0]}, {_threads(model['threads'])}, {model['runtime']}",
    ]
    if report["simulated"]:
        lines.append("SIMULATED camera or motor: wait, capture, motion and settle are not this machine's")
    print("\n".join(lines))
    heads = ("", "p50 ms", "p95", "p99", "max")
    title = f"each stage of {report['looks']} looks, after {report['warm_up']} to warm up"
    rows = {**report["stages_ms"], "a look, wait to belief": report["look_ms"]}
    table(title, heads, [(name, *(f"{of[key]:.2f}" for key in _POINTS)) for name, of in rows.items()])
    around = report["around_invoke"]["median"]
    print(f"all computing but the network's own takes {around:.2f} times as long as that (median)\n")
    rows = {
        f"{kind}, {_threads(threads)}": of["inference_ms"]
        for kind, by in report["networks"].items()
        for threads, of in (by or {}).items()
    }
    title = "the network alone, all tiles of a frame, in turns"
    table(title, heads, [(name, *(f"{of[key]:.2f}" for key in _POINTS)) for name, of in rows.items()])
    print("\n".join(_rest(report)))


def compare_tables(found: Mapping[str, Any]) -> None:
    """Print the document of `edge.bench.compared.ratios`."""
    for name in ("a", "b"):
        simulated = " (simulated camera or motor)" if found[name]["simulated"] else ""
        print(f"{name.upper()}: {found[name]['board']}{simulated}")
    rows = [
        (name, f"{of['a_ms']:.2f}", f"{of['b_ms']:.2f}", _ratio(of["b_over_a"]), _ratio(of["p95_b_over_a"]))
        for name, of in found["ratios"].items()
    ]
    table("medians", ("", "A ms", "B ms", "B / A", "of p95"), rows)


_POINTS = ("p50", "p95", "p99", "max")


def _rest(report: Mapping[str, Any]) -> list[str]:
    """Memory, heat, and what a sustained run did."""
    memory = report["memory_mb"]
    lines = []
    if memory["most"] is not None:
        lines.append(f"memory: {memory['resident']:.0f} MB resident, {memory['most']:.0f} at most")
    if (sustained := report["sustained"]) is not None:
        first, last = sustained["first_fifth_ms"], sustained["last_fifth_ms"]
        text = f"{sustained['seconds']:g} s of looks without a rest: {first:.1f} ms at first"
        lines.append(f"{text}, {last:.1f} in the end, {sustained['slower']:.2f} times")
    health = report["health"]["after"]
    known = {
        "temperature": None if health["temperature_c"] is None else f"{health['temperature_c']:.0f} °C",
        "clock": None if health["clock_mhz"] is None else f"{health['clock_mhz']:.0f} MHz",
        "throttled": None if health["throttled"] is None else ", ".join(health["throttled"]) or "no",
    }
    lines.append("; ".join(f"{name} {text or 'not told by this machine'}" for name, text in known.items()))
    return lines


def _threads(count: int | str) -> str:
    return "1 thread" if str(count) == "1" else f"{count} threads"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def growth_tables(found: Mapping[str, Any]) -> None:
    """Print the document of `edge.bench.growth.measure`."""
    names = found["strategies"]
    titles = {
        "by_start_dof": "start, depths of field from focus: median frames, seconds, and in focus",
        "by_range_dof": f"range searched, start at {found['start_of_ranges_dof']:g} depths of field",
    }
    for key, title in titles.items():
        rows = [(value, *(cost(of[name]) for name in names)) for value, of in found[key].items()]
        table(title, ("", *names), rows)
    rows = [
        (count, f"{of['p50']:.1f}", f"{of['p95']:.1f}") for count, of in found["inference_by_tiles"].items()
    ]
    table("a look at so many tiles, on this machine", ("", "p50 ms", "p95"), rows)
    rows = [
        (count, f"{of['frames_per_s']:.1f}", f"{of['against_one']:.2f}")
        for count, of in found["simulator_by_processes"].items()
    ]
    table("simulator by processes, on this machine", ("", "frames/s", "times one"), rows)
