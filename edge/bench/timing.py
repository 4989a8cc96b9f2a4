"""How long pieces of work take beside one another: in turns, so that what slows the machine slows them all.

Warm-up rounds come first and are not counted: caches, memory and the processor's clock settle in them.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS, WARM_UP = 40, 5


@dataclass(frozen=True)
class Timing:
    """Median and quartiles over the counted rounds, in milliseconds."""

    median_ms: float
    p25_ms: float
    p75_ms: float

    def as_dict(self) -> dict[str, float]:
        """For compare.json."""
        return asdict(self)


def interleaved(work: Mapping[str, Callable[[], object]], **how: Any) -> dict[str, Timing]:
    """Median and quartiles of `taken_s`."""
    return {name: _timing(times) for name, times in taken_s(work, **how).items()}


def taken_s(
    work: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    warm_up: int = WARM_UP,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Time every piece of ``work`` once a round, each round beginning with another one: seconds. Blocks.

    ``clock`` in seconds; ``progress`` is called after each round, warm-up included.
    """
    names = list(work)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start_s = clock()
            work[name]()
            took_s = clock() - start_s
            if number >= warm_up:
                taken[name].append(took_s)
        if progress is not None:
            progress()
    return taken


def percentiles_ms(times_s: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max in milliseconds."""
    p50, p95, p99 = (float(1000 * of) for of in np.percentile(times_s, [50, 95, 99]))
    return {"p50": p50, "p95": p95, "p99": p99, "max": 1000 * max(times_s)}


def _timing(times_s: Sequence[float]) -> Timing:
    low, middle, high = (float(1000 * of) for of in np.percentile(times_s, [25, 50, 75]))
    return Timing(middle, low, high)


def machine() -> str:
    """This machine in a few words: processor, number of processors, system."""
    return f"{processor()}, {os.cpu_count()} processors, {platform.system()} {platform.machine()}"


def processor() -> str:
    """Make and kind of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    for wanted in ("model name", "Model", "Hardware"):
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == wanted and value.strip():
                return " ".join(value.split())
    return platform.processor() or "a processor of unknown make"
