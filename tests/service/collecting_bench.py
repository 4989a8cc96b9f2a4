"""What tests of z-stacks that the service records share: one that waits, a field, what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from service_bench import Bench, running

from edge.collect_plan import Plan
from firmware_iface.clock import Clock

NO_BOOT = {"service": {"boot_focus": False}}
FEW = Plan(planes=9)


@contextmanager
def waiting(folder: Path, clock: Clock | None = None, **sections: dict[str, Any]) -> Iterator[Bench]:
    """A service that waits for requests."""
    with running(folder, clock, **(NO_BOOT | sections)) as bench:
        bench.until("ready")
        yield bench


def recorded(bench: Bench, slide: str = "blood-7", plan: Plan = FEW) -> dict[str, Any]:
    """Ask for a field, and wait until it has ended; the status then."""
    last = bench.feed.last
    bench.service.collect(slide, plan, "test")

    def states() -> list[str]:
        return [event.data["state"] for event in bench.feed.since(last) if event.kind == "status"]

    bench.wait_for(lambda: "collecting" in states() and states()[-1] != "collecting", "it to end")
    status = bench.service.status()
    assert status["reason"] == ended(bench)
    return status


def ended(bench: Bench) -> str | None:
    return (bench.service.status()["collect"] or {}).get("ended")


def about(field: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((field / "about.json").read_text("utf-8"))
    return found


def names(folder: Path) -> list[str]:
    """All that is in it, what is hidden, too."""
    return sorted(path.name for path in folder.iterdir())


def when(bench: Bench, planes: int, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have ``act`` done once ``planes`` are written, in the thread of the service; what it gave."""
    tell, done = bench.feed.tell, []

    def heard(kind: str, data: dict[str, Any]) -> None:
        tell(kind, data)
        recording = kind == "status" and data["state"] == "collecting"
        if recording and not done and data["collect"]["planes_done"] == planes:
            done.append(act())

    monkeypatch.setattr(bench.feed, "tell", heard)
    return done
