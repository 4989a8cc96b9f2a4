"""The figure of drift tracking: shares of time by hand, drift, and a short day."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
from oracle import FRAME_PX, Oracle

from edge import rig
from train import hold_day
from train.hold_day import Day, Drifting, run_day, summary


@pytest.fixture
def told(network: Oracle, monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """An oracle that knows of the rigs that are made, and small frames."""
    monkeypatch.setattr(hold_day, "FRAME_PX", FRAME_PX)
    monkeypatch.setattr(hold_day, "simulated_rig", rig.simulated_rig)
    return network


def a_day(**changes: Any) -> Day:
    made = Day(tiny.recipe(), number=3, seed=5, hours=0.5, interval_s=30.0, model="m", refocus=False)
    return replace(made, **changes)


class TestDrifting:
    def test_begins_at_none_and_is_seeded(self) -> None:
        one, two = (Drifting(np.random.default_rng(7), 24) for _ in range(2))
        assert one(0.0) == 0.0
        times = np.linspace(0, 86_400, 500).tolist()
        assert [one(t) for t in times] == [two(t) for t in times]
        assert 5 < np.ptp([one(t) for t in times]) < 80

    def test_has_no_jumps(self) -> None:
        drift = Drifting(np.random.default_rng(8), 24)
        steps = np.diff([drift(t) for t in np.arange(0, 86_400, 10.0)])
        assert np.abs(steps).max() < 0.6


def test_a_short_day_is_held(told: Oracle) -> None:
    out = run_day(a_day())
    assert (out["focus"], out["optics"], out["objective"]) == ("focused", "fixed", "20x0.40")
    assert out["within_1_dof"] == pytest.approx(1.0)
    assert out["within_1_dof"] > out["without_within_1_dof"]
    assert out["worst_dof"] < 1.0 < out["without_worst_dof"]
    assert out["moves"] > 0
    assert out["looks"] >= 60
    assert (out["given_up"], out["focus_runs"], out["reasons"]) == (0, 0, [])
    json.dumps(out)


@pytest.mark.parametrize("refocus", [False, True])
def test_where_holding_ends(told: Oracle, monkeypatch: pytest.MonkeyPatch, refocus: bool) -> None:
    made: list[hold_day.Holder] = []

    class Short(hold_day.Holder):
        """Jogged at its fourth step."""

        def step(self, **options: Any) -> Any:
            if self not in made:
                made.append(self)
            if self.status.looks > 20 and not self.hold.over:
                self._scope.rig.stage.move_by_um(5.0)
            return super().step(**options)

    monkeypatch.setattr(hold_day, "Holder", Short)
    out = run_day(a_day(hours=0.2, refocus=refocus))
    assert out["given_up"] >= 1
    assert "moved by others" in out["reasons"][0]
    assert (out["focus_runs"] > 0) == (len(made) > 1) == refocus


def test_random_optics_take_turns_with_objectives(told: Oracle) -> None:
    out = run_day(a_day(number=2, hours=0.05))
    assert (out["optics"], out["objective"]) == ("random", "40x0.65")


def test_summary_by_hand() -> None:
    row = {"within_half_dof": 0.5, "without_within_1_dof": 0.1, "given_up": 0}
    out = summary([{**row, "within_1_dof": 1.0}, {**row, "within_1_dof": 0.6, "given_up": 2}])
    assert (out["within_1_dof_mean"], out["at_least_99_percent"], out["gave_up"]) == (0.8, 1, 1)


def test_the_command(
    told: Oracle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hold_day, "named_recipe", lambda name: tiny.recipe())
    words = ["--hours", "0.05", "--interval-s", "30", "--microscopes", "2"]
    assert hold_day.main(words) == 0
    text = capsys.readouterr().out
    assert text.count("within 1 dof") == 2
    assert "not held" in text
    assert hold_day.main([*words, "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    shares = [row["within_1_dof"] for row in out["microscopes"]]
    assert shares == sorted(shares)
    assert out["all"]["microscopes"] == 2
    for wrong in ("0", "nan", "-1"):
        with pytest.raises(SystemExit):
            hold_day.main(["--hours", wrong])
