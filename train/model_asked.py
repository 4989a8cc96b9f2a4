"""What is asked of the shipped model, figure by figure, and where each comes from in what was measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: By the names of `train.model_card`: parsed JSON, quoted text, ``card`` and ``bytes`` of the file.
Found = dict[str, Any]
#: What speed in int8 depends on, by the ending of the files that `make figures` writes there.
PROCESSORS = {
    "-vnni": "x86_64 with dot products of bytes (VNNI)",
    "": "x86_64 without",
}


@dataclass(frozen=True)
class Asked:
    """One figure: what is asked of it, what is aimed at, and where it comes from.

    ``most``: whether the value may be at most so much; else it must be at least so much.
    """

    name: str
    least: float
    aim: float
    unit: str
    value: Callable[[Found], float]
    most: bool = True

    def row(self, found: Found) -> str:
        """A row of the table."""
        value = self.value(found)
        met = [value <= bound if self.most else value >= bound for bound in (self.least, self.aim)]
        word = "aim met" if met[1] else "met" if met[0] else "**short**"
        shown = (_shown(x, self.unit) for x in (self.least, self.aim, value))
        return f"| {self.name} | {' | '.join(shown)} | {word} |"


def _over_stock(kind: str) -> Asked:
    name = "all tiles of a frame, one thread, over one stock MobileNetV2 1.0 at 224 px int8"
    return Asked(
        f"{name}; {PROCESSORS[kind]}", 1.0, 0.5, "", lambda f: float(f[f"speed{kind}"]["tiles_over_stock"])
    )


def _speedup(kind: str) -> Asked:
    """As `convert.verify.Verified.lines` prints it."""

    def value(found: Found) -> float:
        return float(_number(r"float [\d.]+ ms: ([\d.]+) times as fast", found[f"verify{kind}"])[0])

    name = "int8 against float, the same network, one thread: times as fast"
    return Asked(f"{name}; {PROCESSORS[kind]}", 1.4, 2.0, "", value, most=False)


def _apart(found: Found) -> float:
    """The largest median that the comparison with arm64 printed."""
    return max(float(value) for value in _number(r"median ([\d.]+) dof", found["arm64"]))


def _number(pattern: str, text: str) -> list[str]:
    values = re.findall(pattern, text)
    if not values:
        raise KeyError(pattern)
    return values


def _loss(found: Found) -> float:
    metrics = found["card"].metrics
    return float(metrics["int8"]["frame_mae_dof"] / metrics["float"]["frame_mae_dof"] - 1)


_FRAMES = "frames of held-out specimens and optics"
_LOOP = "closed loop, other optics each field"
ASKED = (
    Asked(
        f"{_FRAMES}: median error of \\|defocus\\| within ±3 dof",
        0.5,
        0.2,
        "dof",
        lambda f: f["frames"]["frames"]["median_abs_dof_within_3"],
    ),
    Asked(
        f"{_FRAMES}: wrong direction at 1 dof or more, first look",
        0.10,
        0.03,
        "%",
        lambda f: f["frames"]["frames"]["wrong_direction"],
    ),
    Asked(
        "the same in the loop, first look",
        0.10,
        0.03,
        "%",
        lambda f: f["loop"]["all"]["wrong_direction_first"],
    ),
    Asked(
        "the same after a second look",
        0.01,
        0.002,
        "%",
        lambda f: f["loop"]["all"]["wrong_direction_second"],
    ),
    Asked(
        "frames, optics held fixed: wrong direction, first look",
        0.02,
        0.007,
        "%",
        lambda f: f["frames-fixed"]["frames"]["wrong_direction"],
    ),
    Asked("int8 against float: mean error of frames", 0.05, 0.01, "%", _loss),
    Asked(f"{_FRAMES}: calibration error", 0.05, 0.05, "", lambda f: f["frames"]["frames"]["ece"]),
    Asked("after two looks: calibration error", 0.05, 0.05, "", lambda f: f["loop"]["all"]["ece_second"]),
    Asked(
        f"{_LOOP}: ended within 1 dof",
        0.99,
        0.999,
        "%",
        lambda f: f["loop"]["all"]["within_1_dof"],
        most=False,
    ),
    Asked(f"{_LOOP}: captures, median", 3, 2, "", lambda f: f["loop"]["all"]["captures_median"]),
    Asked(f"{_LOOP}: captures, 95 %", 6, 3, "", lambda f: f["loop"]["all"]["captures_p95"]),
    Asked(
        f"{_LOOP}: by the network, without sweep",
        0.90,
        0.98,
        "%",
        lambda f: f["loop"]["all"]["by_network"],
        most=False,
    ),
    Asked("file", 1.5, 0.7, "MB", lambda f: f["bytes"] / 1e6),
    *(_over_stock(kind) for kind in PROCESSORS),
    *(_speedup(kind) for kind in PROCESSORS),
    Asked("x86_64 and arm64, XNNPACK and built-in kernels: median apart", 0.1, 0.03, "dof", _apart),
)


def _shown(value: float, unit: str) -> str:
    return f"{100 * value:.3g} %" if unit == "%" else f"{value:.3g} {unit}".strip()
