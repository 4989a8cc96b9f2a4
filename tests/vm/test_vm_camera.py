"""The USB camera class on a camera of the kernel's own (vivid): the contract, and everything that breaks."""

from __future__ import annotations

from typing import Any

import pytest

FAULTS = ("frozen", "stalled", "broken stream", "unplugged", "disconnected")


@pytest.mark.vm("vivid", limit_s=600)
def test_a_kernel_camera(records: list[dict[str, Any]], figures: list[str]) -> None:
    first, *rest = records
    assert "pytest" in first
    trials = {record["trial"]: record for record in rest}
    assert trials["contract"]["exit"] == 0, trials["contract"]["summary"]
    assert "passed" in trials["contract"]["summary"]
    figures.append(f"camera contract on vivid: {trials['contract']['summary']}")
    for name in FAULTS:
        end = trials[name]
        assert end["said"] is not None, f"{name}: never noticed"
        assert end["found_s"] < 2.0, name
        assert not end["thread"], f"{name}: its thread is still there"
        figures.append(f"camera {name}: {end['found_s']:.2f} s, {end['said']!r}")
    assert trials["bars"]["first"] is None
    assert trials["black"]["first"].startswith("black")
    assert trials["white"]["first"].startswith("saturated")
    assert "in use" in trials["two at once"]["said"]
    assert trials["module removed"]["gone"]
    assert "video0" in trials["missing"]["said"]
    assert trials["frames"]["period_s"] == pytest.approx(1 / 30, rel=0.1)
    figures.append(f"a frame of vivid: {trials['frames']['wait_s']:.3f} s from request to arrival (median)")
