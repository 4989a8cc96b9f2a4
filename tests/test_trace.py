"""The trace file: versioned, JSON that any reader takes, and enough to judge a run by."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle, Parfocal

from edge.trace import SCHEMA_VERSION, plain


@pytest.fixture
def document(parfocal: Parfocal, network: Oracle, tmp_path: Path) -> dict[str, object]:
    """The trace of a simulated run."""
    words = ("focus", "--start-defocus-um", 18, "--seed", 3, "--json", "--trace", tmp_path / "run.json")
    code, out, _ = parfocal(*words)
    assert code == 0

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads((tmp_path / "run.json").read_text("utf-8"), parse_constant=refuse)
    assert isinstance(found, dict)
    assert {**found["result"], "rig": "simulated", "model": "oracle"} == json.loads(out)
    return found


class TestTrace:
    def test_says_with_what_the_run_was_made(self, document: dict[str, dict[str, object]]) -> None:
        assert document["schema_version"] == SCHEMA_VERSION
        assert (document["rig"], document["model"]) == ("simulated", "oracle")
        assert document["optics"]["objective"] == "20x0.40"
        assert document["optics"]["dof_um"] == pytest.approx(0.55 / 0.4**2)
        assert document["config"]["simulator"]["seed"] == 3  # type: ignore[index]
        assert document["assumed"] is False
        assert len(document["limits_um"]) == 2

    def test_has_an_entry_for_each_frame(self, document: dict[str, object]) -> None:
        entries = document["entries"]
        assert isinstance(entries, list)
        assert len(entries) == document["result"]["captures"]  # type: ignore[index]
        for entry in entries:
            assert set(entry) == {
                "time_s",
                "state",
                "position_um",
                "sharpness",
                "tiles",
                "within",
                "surprise",
                "true_defocus_um",
                "belief",
            }
        times = [entry["time_s"] for entry in entries]
        assert times == sorted(times)
        assert entries[0]["true_defocus_um"] == pytest.approx(18, abs=2)

    def test_beliefs_are_distributions_about_the_truth(self, document: dict[str, object]) -> None:
        entries = document["entries"]
        assert isinstance(entries, list)
        looks = [entry for entry in entries if entry["belief"] is not None]
        assert looks
        dof_um = document["optics"]["dof_um"]  # type: ignore[index]
        for entry in looks:
            belief = entry["belief"]
            probability = np.array(belief["probability"])
            assert probability.sum() == pytest.approx(1, abs=1e-3)
            defocus = belief["first_dof"] + belief["step_dof"] * np.arange(len(probability))
            assert defocus[probability.argmax()] == pytest.approx(entry["true_defocus_um"] / dof_um, abs=1)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (math.inf, None),
        (math.nan, None),
        (np.float64(-math.inf), None),
        (np.int64(3), 3),
        (True, True),
        ("µm", "µm"),
        (None, None),
        ({"a": (1, [math.nan, 2.5])}, {"a": [1, [None, 2.5]]}),
        (np.array([[1.0, math.inf]]), [[1.0, None]]),
    ],
)
def test_plain_values(value: object, wanted: object) -> None:
    found = plain(value)
    assert found == wanted
    assert type(found) is type(wanted)
    json.dumps(found, allow_nan=False)
