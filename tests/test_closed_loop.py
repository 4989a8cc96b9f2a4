"""The figures of the closed loop: shares on results made by hand, and one run on each kind of rig."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from oracle import FRAME_PX, Oracle

from train import closed_loop
from train.beliefs import Held
from train.closed_loop import by, replay, run_trial, simulated_trials, summary

SURE = Held(estimate=5.2, confidence=0.9, truth=5.0, likelier=0.3)
RUN = {
    "looks": [SURE],
    "specimen": "tissue",
    "objective": "20x0.40",
    "result": "focused",
    "method": "network",
    "captures": 2,
    "start_dof": 5.0,
    "true_defocus_dof": 0.2,
    "sharpness_start": 1.0,
    "sharpness_end": 2.0,
    "seconds": 3.0,
}


@pytest.fixture
def told(network: Oracle, monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """An oracle that knows of the rigs `train.closed_loop` makes, and small frames."""
    from edge import rig

    monkeypatch.setattr(closed_loop, "FRAME_PX", FRAME_PX)
    monkeypatch.setattr(closed_loop, "_MODELS", {})
    for name in ("simulated_rig", "replay_rig"):
        monkeypatch.setattr(closed_loop, name, getattr(rig, name))
    return network


class TestSummary:
    def test_by_hand(self) -> None:
        results: list[dict[str, Any]] = [
            RUN,
            {**RUN, "method": "sweep", "captures": 12, "true_defocus_dof": -0.9},
            {**RUN, "result": "failed", "true_defocus_dof": 6.0, "sharpness_end": 0.5},
            {**RUN, "start_dof": -0.1, "true_defocus_dof": 0.4, "sharpness_end": 0.9},
        ]
        out = summary(results)
        assert (out["runs"], out["within_1_dof"], out["focused"], out["by_network"]) == (4, 0.75, 0.75, 0.5)
        assert out["worse"] == 1, "0.4 dof is within the tolerance, 6 dof is farther than 5"
        assert out["less_sharp"] == 2
        assert out["captures_median"] == 2
        assert out["error_median_dof"] == pytest.approx(0.65)
        assert out["seconds_median"] == 3
        assert (out["wrong_direction_first"], out["far_second"], out["interval_90_first"]) == (0, 4, 1)
        json.dumps(out)

    def test_of_runs_that_saw_nothing(self) -> None:
        assert "ece_first" not in summary([{**RUN, "looks": []}])

    def test_the_worst_come_first(self) -> None:
        missed = {**RUN, "specimen": "blood", "true_defocus_dof": 3.0}
        found = by([RUN, missed, {**RUN, "specimen": "debris"}, RUN], "specimen")
        assert list(found) == ["blood", "debris", "tissue"]
        assert found["tissue"]["runs"] == 2

    def test_of_one_run(self) -> None:
        out = summary([RUN])
        assert (out["within_1_dof"], out["worse"], out["less_sharp"], out["error_p95_dof"]) == (1, 0, 0, 0.2)


class TestTrials:
    def test_are_seeded_and_spread(self) -> None:
        trials = simulated_trials(tiny.recipe(), 40, 7, 3, "m", empty=False)
        assert trials == simulated_trials(tiny.recipe(), 40, 7, 3, "m", empty=False)
        assert [t.field for t in trials[:9]] == [0, 1, 2, 3, 4, 5, 6, 0, 1]
        assert len({t.seed for t in trials}) == len({t.start_dof for t in trials}) == 40
        assert -10 <= min(t.start_dof for t in trials) < -5
        assert 5 < max(t.start_dof for t in trials) <= 10
        assert simulated_trials(tiny.recipe(), 1, 7, 4, "m", empty=False)[0].start_dof != trials[0].start_dof

    def test_a_field_keeps_its_objective(self) -> None:
        two = ("10x0.25", "40x0.65")
        trials = simulated_trials(tiny.recipe(), 8, 3, 3, "m", empty=False, objectives=two)
        assert [t.objective for t in trials[:6]] == [*two, two[0]] * 2

    def test_a_run_starts_where_it_says_and_ends_in_focus(self, told: Oracle) -> None:
        [trial] = simulated_trials(tiny.recipe(), 1, 1, 5, "m", empty=False)
        out = run_trial(replace(trial, start_dof=4.0))
        assert out["result"] == "focused"
        assert out["specimen"] in ("tissue", "debris")
        assert out["start_dof"] == pytest.approx(4, abs=0.1), "slack and all, but for ringing"
        assert abs(out["true_defocus_dof"]) < 1
        assert summary([out])["within_1_dof"] == 1
        first = out["looks"][0]
        assert first.truth == pytest.approx(out["start_dof"])
        assert abs(first.estimate - first.truth) < 1, "the oracle knows"
        assert out["objective"] == "20x0.40"

    def test_a_run_under_another_objective(self, told: Oracle) -> None:
        [trial] = simulated_trials(tiny.recipe(), 1, 1, 5, "m", empty=False, objectives=["40x0.65"])
        out = run_trial(replace(trial, start_dof=4.0))
        assert out["objective"] == "40x0.65"
        assert abs(out["true_defocus_dof"]) < 1

    def test_the_same_trial_gives_the_same_run(self, told: Oracle) -> None:
        [trial] = simulated_trials(tiny.recipe(data={"optics": "random"}), 1, 1, 6, "m", empty=False)
        assert run_trial(trial) == run_trial(trial)

    def test_an_empty_field_has_no_specimen(self, told: Oracle) -> None:
        [trial] = simulated_trials(tiny.recipe(), 1, 1, 5, "m", empty=True)
        out = run_trial(trial)
        assert (out["result"], out["specimen"]) == ("no_specimen", "empty")
        assert abs(out["position_um"]) < 1


def test_a_stack_is_replayed_from_the_plane_that_is_asked_for(told: Oracle, one_stack: Path) -> None:
    result = replay(one_stack, 1, told)  # type: ignore[arg-type]
    assert result.result == "focused"
    assert result.plane in (3, 4, 5)


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert closed_loop.main(["stacks", str(tmp_path), "--model", str(tmp_path / "none.tflite")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("closed_loop: ")
    assert err.count("\n") == 1
    with pytest.raises(SystemExit):
        closed_loop.main(["simulated", "--runs", "0"])


def test_stacks_are_reported_as_json(
    told: Oracle, one_stack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert closed_loop.main(["stacks", str(one_stack), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["stack000"]
    assert (row["planes"], row["focus_plane"]) == (9, 4)
    assert row["within_one_plane"] == 9
    assert [r["start"] for r in row["rows"]] == list(range(9))
