"""docs/model-card.md: the card of the shipped model and its figures as a page, with plots.

    make figures                      measures all of it into docs/model-card/, then
    python -m train.model_card        writes the page from there (what it needs is in the repository)

Nothing on the page is typed in but for what no measurement tells: what the model was not made for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import card as cards
from edge.errors import InputError, one_line
from edge.files import atomic_write_bytes, atomic_write_text
from edge.model import DEFAULT_PATH
from train import figures
from train.data import named_recipe
from train.model_asked import ASKED, PROCESSORS, Found

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path("docs/model-card")
PAGE = Path("docs/model-card.md")
#: What the shipped model was trained in before the last, by recipes and in edge/models/record.
STAGES = (
    *("start", "middle", "late", "lamp", "more"),
    *("fused-graft", "fused-start", "fused-middle", "fused"),
)
#: Measured by `make figures`: JSON by name, and text that is quoted as it was printed.
JSON = (
    "frames",
    "frames-fixed",
    "loop",
    "loop-fixed",
    "stacks",
    "stacks-network",
    "blood-0.5",
    "blood-1",
    "blood-2",
    *(f"speed{kind}" for kind in PROCESSORS),
)
TEXT = (*(f"verify{kind}" for kind in PROCESSORS), "arm64")


def page(found: Found) -> str:
    """The whole page."""
    parts = [
        _head(found),
        _asked(found),
        _where(found),
        _stacks(found),
        _fails(found),
        _verified(found),
    ]
    return "\n\n".join(parts) + "\n"


def _head(found: Found) -> str:
    card: cards.Card = found["card"]
    data, network = card.recipe["data"], card.recipe["network"]
    earlier = [_amount(named_recipe(f"default-{stage}").model_dump()) for stage in STAGES]
    mix = ", ".join(f"{name} {100 * share:.0f} %" for name, share in data["train_mix"].items())
    return f"""# Model card: the shipped model

Written by `make figures` from the card in the file and from measurements; edits here are lost.

| | |
|---|---|
| network | {_network(network)}; int8 in and out |
| sees | tiles of {card.tile_px} px at {card.pixels_per_resolution:g} px per λ/NA, up to \
{network["tiles_per_frame"]} of a frame |
| says | {len(card.bin_centres)} bins of signed defocus, {card.bin_centres[0]:g} to \
{card.bin_centres[-1]:g} depths of field |
| calibration | temperature {card.temperature:.2f}, tile weight {card.tile_weight:.2f}, fitted on \
validation specimens |
| trained on | {card.trained_on}; {card.trained_at} |
| | {"; then ".join([*earlier, _amount(card.recipe)])} |
| specimens of these | {mix} (`folder:N`: photographs, of which whole slides are held out); \
{100 * data["variety"]:.0f} % turned, stained and mixed as no slide is (`train/variety.py`) |
| recipes | `train/recipes/default-{STAGES[0]}.toml`, {", ".join(f"`-{stage}`" for stage in STAGES[1:])}, \
`default.toml`; logs, hashes: `edge/models/record/` |
| SHA-256 | `{card.flatbuffer_sha256}` (network without card) |"""


def _amount(recipe: dict[str, Any]) -> str:
    data = recipe["data"]
    frames = data["train_fields"] * data["defoci_per_field"]
    microscopes = f"{data['train_fields']} simulated microscopes with a specimen each"
    return f"{microscopes}, {frames} frames, {recipe['fit']['epochs']} epochs"


def _network(network: dict[str, Any]) -> str:
    blocks = ", ".join("x".join(str(part) for part in row) for row in network["blocks"])
    patch = f"{network['patch_px']} x {network['patch_px']} px"
    rows = network.get("fused", 0)
    fused = f"; of these rows the first {rows} fused" if rows else ""
    return (
        f"MobileNetV2's blocks behind patches of {patch} ({network['stem']} channels); expansion x channels x"
        f" repeats x stride: {blocks}{fused}"
    )


def _asked(found: Found) -> str:
    interval = [found["frames"]["frames"]["interval_90"], found["loop"]["all"]["interval_90_second"]]
    loop = found["loop"]["all"]
    return f"""## What is asked of it

{loop["runs"]} seeded runs, start within ±10 dof, 200 steps of backlash, each field under another microscope,
objectives {", ".join(sorted(_objectives(found["loop"])))}. Each row's command is in `make figures`.

| | at least | aim | measured | |
|---|---|---|---|---|
{chr(10).join(asked.row(found) for asked in ASKED)}
| 90 % credible interval holds the truth: frames / after two looks | 85 to 95 % | | \
{100 * interval[0]:.1f} / {100 * interval[1]:.1f} % | \
{"met" if all(0.85 <= share <= 0.95 for share in interval) else "**short**"} |

![error and direction against distance](model-card/distance.png)

![reliability](model-card/reliability.png)"""


def _where(found: Found) -> str:
    kinds = _table(
        ("specimen", "frames", "median error", "mean error", "wrong direction"),
        [
            (
                name,
                f"{row['n']:.0f}",
                f"{row['median_dof']:.2f} dof",
                f"{row['mae_dof']:.2f} dof",
                f"{100 * row['wrong_direction']:.1f} %",
            )
            for name, row in found["frames"]["frames_by_kind"].items()
        ],
    )
    loop, fixed = found["loop"], found["loop-fixed"]
    return f"""## Where it holds, worst first

By specimen, single frames (`parfocal evaluate default synthetic`):

{kinds}

In the closed loop, by specimen and by objective (`python -m train.closed_loop simulated --optics random`):

{_loop_table({k: v for k, v in loop.items() if k not in ("all", "empty", "failures")})}

One microscope and camera for all runs, and empty fields (`--optics fixed`):

{_loop_table({"all": fixed["all"]})}

{_empty(fixed)}"""


def _empty(fixed: Found) -> str:
    if "empty" not in fixed:
        return ""
    row = fixed["empty"]
    return (
        f"Empty field: {row['runs']} runs, said to be empty in {100 * row['no_specimen']:.0f} %,"
        f" stage back at its start in {100 * row['back_at_start']:.0f} %."
    )


def _stacks(found: Found) -> str:
    rows = []
    for name, row in found["stacks"].items():
        alone = found["stacks-network"][name]
        rows.append(
            (
                name,
                _share(row["within_one_plane"], row["planes"]),
                _share(row["by_network"], row["planes"]),
                _share(alone["within_one_plane"], alone["planes"]),
                f"{row['captures_median']:.0f}",
            )
        )
    blood = [
        (f"{step} µm", _share(row["within_one_plane"], row["planes"]), str(sorted(set(row["ended_on"]))))
        for step in ("0.5", "1", "2")
        for row in found[f"blood-{step}"].values()
    ]
    return f"""## Real stacks

From every plane, with the default config; steps and optics that a stack does not state are guessed, so the
loop brackets what the network says with a contrast sweep. "Network alone" leaves out every sweep and believes
the network; there a pixel that is not stated is taken as 0.25 µm. Counted: ended within one plane of the
stated focus.

{_table(("stack", "loop", "found by the network", "network alone", "captures"), rows)}

`blood_0152`, network alone, optics assumed 100x1.25 oil at 0.08 µm a pixel, and from plane to plane:

{_table(("step", "within one plane", "ended on planes"), blood)}"""


def _fails(found: Found) -> str:
    missed = found["loop"]["failures"]
    lines = [
        f"- {run['specimen']} behind {run['objective']}, from {run['start_dof']:+.1f} dof: ended"
        f" {run['true_defocus_dof']:+.1f} dof from focus ({run['result']}, {run['method']},"
        f" {run['captures']} captures)"
        for run in missed[:12]
    ]
    more = f"\n- and {len(missed) - 12} more" if len(missed) > 12 else ""
    listed = "\n".join(lines) + more if lines else "- none"
    return f"""## Where it fails

Runs of the closed loop that ended farther than 1 dof from focus, {len(missed)} of \
{found["loop"]["all"]["runs"]}:

{listed}

Not made for, and not measured: fluorescence, dark field and phase contrast (trained on none), reflected light
(the wafers above are found by the sweep), specimens thicker than 1.5 depths of field, defocus beyond
±12 depths of field (it says "at least this far"), any diagnosis. All optics and most specimens of training
are simulated. Where a microscope is nearly symmetric about focus no single frame tells the direction: the
second look does."""


def _verified(found: Found) -> str:
    speeds = _table(
        ("processor", "stock, int8", "stock, int8 over float", "tiles of a frame", "a whole look"),
        [_speed(found[f"speed{kind}"], name) for kind, name in PROCESSORS.items()],
    )
    return f"""## The file on other runtimes and processors

`parfocal convert RUN --verify edge/models/default.tflite`:

```
{_of_this_network(found).strip()}
```

`python tests/arm64/emulated.py`:

```
{found["arm64"].strip()}
```

`python -m convert.speed default`, one thread; stock is MobileNetV2 1.0 at 224 px. Where both rows name one
processor, the second is the first as if it had no dot products of bytes (`tests/x86_64/without_vnni.py`).
Times depend on the network's shapes alone: they may be of an earlier network of the same shapes:

{speeds}

What int8 gains depends on the processor. Dot-product instructions for int8 (VNNI; most Arm since Cortex-A76)
are what it gains by; the Pi 4 and older have none. It depends
on float, too: an AMD EPYC with VNNI ran the network before this one, none of whose blocks was fused, 1.83
times as fast in int8 as in float, one without it 0.81 times."""


def _of_this_network(found: Found) -> str:
    """What `parfocal convert --verify` printed of a network of this calibration, on either processor."""
    card: cards.Card = found["card"]
    calibration = f"temperature {card.temperature:.2f}, tile weight {card.tile_weight:.2f}"
    printed = [str(found[f"verify{kind}"]) for kind in PROCESSORS]
    return next((text for text in printed if calibration in text), printed[0])


def _speed(speed: dict[str, Any], processor: str) -> tuple[str, ...]:
    ms = {name: timing["median_ms"] for name, timing in speed["ms"].items()}
    return (
        f"{speed['machine']}: {processor}",
        f"{ms['stock']:.1f} ms",
        f"{speed['stock_speedup']:.2f} times as fast",
        f"{ms['tiles']:.1f} ms ({speed['tiles']})",
        f"{ms['look']:.1f} ms",
    )


def _loop_table(rows: dict[str, Found]) -> str:
    head = ("", "runs", "within 1 dof", "by network", "captures", "error", "wrong way first / second look")
    return _table(
        head,
        [
            (
                name,
                str(row["runs"]),
                f"{100 * row['within_1_dof']:.1f} %",
                f"{100 * row['by_network']:.1f} %",
                f"{row['captures_median']:.0f} / {row['captures_p95']:.0f}",
                f"{row['error_median_dof']:.2f} / {row['error_p95_dof']:.2f} dof",
                f"{_percent(row, 'wrong_direction_first')} / {_percent(row, 'wrong_direction_second')}",
            )
            for name, row in rows.items()
        ],
    )


def _percent(row: Found, key: str) -> str:
    """A dash where no run had a look to count."""
    return f"{100 * row[key]:.1f} %" if key in row else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _share(count: int | None, of: int) -> str:
    return "focus not stated" if count is None else f"{count} of {of}"


def _objectives(loop: Found) -> list[str]:
    return [name for name in loop if "x" in name and name[0].isdigit()]


def distance(found: Found) -> bytes:
    """Error and wrong direction against |defocus|, as PNG."""

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True)
        sides = (
            ("frames", "another for each", figures.BLUE),
            ("frames-fixed", "one for all", figures.ORANGE),
        )
        for name, label, colour in sides:
            rows = found[name]["frames_by_distance"]
            middle = [(row["from"] + row["to"]) / 2 for row in rows]
            top.plot(middle, [row["median_dof"] for row in rows], "o-", color=colour, label=label)
            far = [
                (m, 100 * row["wrong_direction"])
                for m, row in zip(middle, rows, strict=True)
                if row["from"] >= 1  # nearer to focus a direction means nothing
            ]
            bottom.plot(*zip(*far, strict=True), "o-", color=colour)
        top.set_ylabel("median error, dof")
        top.set_ylim(bottom=0)
        top.legend(title="microscope")
        bottom.set_ylabel("wrong direction, %")
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel("distance from focus, depths of field")

    return figures.picture(draw, height=5.4)


def reliability(found: Found) -> bytes:
    """Share of right answers against confidence, as PNG."""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=figures.GREY, linewidth=1)
        rows = found["frames"]["reliability"]
        most = max(row["n"] for row in rows)
        axis.plot([r["confidence"] for r in rows], [r["right"] for r in rows], color=figures.BLUE)
        for row in rows:
            axis.plot(
                row["confidence"], row["right"], "o", color=figures.BLUE, markersize=3 + 12 * row["n"] / most
            )
        axis.set_xlabel("stated probability of being within 1 dof")
        axis.set_ylabel("share that was (larger dots: more frames)")
        axis.set_xlim(0, 1.02)
        axis.set_ylim(0, 1.02)

    return figures.picture(draw)


def read(folder: Path, model: Path) -> Found:
    """Everything that the page needs. Raises InputError naming a file that is missing or not JSON."""
    _, card = cards.read(model)
    found: Found = {"card": card, "bytes": model.stat().st_size}
    for name in (*JSON, *TEXT):
        path = folder / f"{name}.{'json' if name in JSON else 'txt'}"
        try:
            text = path.read_text("utf-8")
            found[name] = json.loads(text) if name in JSON else text
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read: {one_line(error)}; `make figures` writes it"
            ) from error
    return found


def main() -> int:
    """Write the page and its plots; run from the repository root."""
    argparse.ArgumentParser(prog="python -m train.model_card", description=main.__doc__).parse_args()
    try:
        found = read(FOLDER, DEFAULT_PATH)
        for name, draw in (("distance", distance), ("reliability", reliability)):
            atomic_write_bytes(FOLDER / f"{name}.png", draw(found))
        atomic_write_text(PAGE, page(found))
    except InputError as error:
        print(f"model_card: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyError as error:
        print(f"model_card: {FOLDER}: no {error} in its figures: run `make figures` again", file=sys.stderr)
        return 2
    for asked in ASKED:
        print(asked.row(found))
    print(f"{PAGE}: written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
