"""Two results of `parfocal bench latency` side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.errors import InputError, one_line

__all__ = ["ratios", "read"]

_LARGEST_BYTES = 1 << 24


def read(name: str) -> dict[str, Any]:
    """A result that was written with --out. Raises InputError for any other file."""
    try:
        with Path(name).open("rb") as file:
            document = json.loads(file.read(_LARGEST_BYTES))
        figures = [document["machine"]["board"], document["networks"], document["look_ms"]["p50"]]
        figures += [of["p50"] for of in document["stages_ms"].values()]
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = f"{one_line(name)}: is no result of `parfocal bench latency --out`"
        raise InputError(text) from error
    return dict(document)


def ratios(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Each figure's medians in ``a`` and ``b``, and how many times that of ``a`` it is in ``b``."""
    pairs = {"look": (a["look_ms"], b["look_ms"])}
    pairs |= {
        name: (of, b["stages_ms"][name]) for name, of in a["stages_ms"].items() if name in b["stages_ms"]
    }
    for kind, by_threads in a["networks"].items():
        other = b["networks"].get(kind) or {}
        for threads, of in (by_threads or {}).items():
            if threads in other:
                pairs[f"{kind}, threads: {threads}"] = (of["inference_ms"], other[threads]["inference_ms"])
    machines = [{"board": of["machine"]["board"], "simulated": of["simulated"]} for of in (a, b)]
    return {
        "a": machines[0],
        "b": machines[1],
        "ratios": {
            name: {
                "a_ms": left["p50"],
                "b_ms": right["p50"],
                "b_over_a": right["p50"] / left["p50"] if left["p50"] else None,
                "p95_b_over_a": right["p95"] / left["p95"] if left["p95"] else None,
            }
            for name, (left, right) in pairs.items()
        },
    }
