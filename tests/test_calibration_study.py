"""The study of calibration: what its microscopes are, and how its figures are counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import rig as rigs
from train import unknown_microscopes
from train.calibration_study import Run, Trial, rows
from train.unknown_microscopes import HOPELESS, SETTLED_DOF, Truth, configuration, drawn, opened


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rigs, unknown_microscopes):
        monkeypatch.setattr(module, "FRAME_PX", 64)


class TestMicroscopes:
    def test_drawn_within_what_is_asked(self) -> None:
        many = [drawn(k, 8) for k in range(200)]
        assert many == [drawn(k, 8) for k in range(200)]
        assert all(0.6 <= t.pitch_factor <= 1.7 and 0 <= t.backlash_steps <= 400 for t in many)
        assert all(0.02 <= t.settle_s <= 0.3 and abs(t.drift_dof_s) <= 0.05 for t in many)
        assert len({t.objective for t in many}) == 4
        assert 60 < sum(t.inverted for t in many) < 140
        assert {drawn(k, 8, hopeless=True).hopeless for k in range(3)} == set(HOPELESS)

    @pytest.mark.parametrize("inverted", [False, True])
    def test_steps_move_the_specimen_by_the_true_pitch(self, inverted: bool) -> None:
        truth = replace(drawn(1, 8), inverted=inverted, drift_dof_s=0.0)
        with opened(truth, configuration(truth)) as rig:
            assert rig.true_defocus_um is not None
            before_um = rig.true_defocus_um()
            rig.stage.move_by_um(5.0)
            rig.clock.sleep_s(10.0)
            moved_um = rig.true_defocus_um() - before_um
        assert moved_um == pytest.approx((-5 if inverted else 5) * truth.pitch_factor, abs=0.1)

    def test_it_rings_until_it_has_settled(self) -> None:
        truth = drawn(4, 8)
        after = [truth.ring_dof * 2.718281828 ** (-t / truth.decay_s) for t in (0.0, truth.settle_s)]
        assert after == pytest.approx([truth.ring_dof, SETTLED_DOF])

    def test_a_stuck_one_does_not_move(self) -> None:
        truth = replace(drawn(2, 8, hopeless=True), hopeless="stuck", drift_dof_s=0.0)
        with opened(truth, configuration(truth)) as rig:
            assert rig.true_defocus_um is not None
            before_um = rig.true_defocus_um()
            rig.stage.move_by_um(30.0)
            assert rig.true_defocus_um() == before_um


BAD = ("ended worse than begun", "outside the limits")


def trial(truth: Truth, **found: Any) -> Trial:
    keys = {"direction_right": True, "scale_ratio": 1.0, "network_ratio": 1.0, "slack_error": 0.0}
    keys |= {"settle_ratio": 1.0, "drift_error": 0.0}
    return Trial(truth, "", **{**keys, **found})


def figures(trials: list[Trial]) -> dict[str, str]:
    return {name: value for name, _, value in rows(trials)}


class TestRows:
    def test_shares(self) -> None:
        slack = replace(drawn(0, 8), backlash_steps=200)
        found = figures(
            [
                trial(slack, scale_ratio=1.04, slack_error=29.0),
                trial(slack, scale_ratio=0.94, slack_error=-31.0),
                trial(slack, scale_ratio=1.2, slack_error=0.0, direction_right=False),
                trial(replace(slack, backlash_steps=0), settle_ratio=1.31, slack_error=10.0),
                Trial(slack, "a reason"),
            ]
        )
        assert found["microscopes calibrated"] == "4 of 5"
        assert found["direction right"] == "75.0 %"
        assert found["scale within 5 %"] == "50.0 %"
        assert found["scale within 10 %"] == "75.0 %"
        assert found["slack within 15 % or 10 steps"] == "75.0 %"
        assert found["settling within 30 %"] == "75.0 %"

    def test_runs(self) -> None:
        good = Run(5.0, 0.9, "focused", "network", 2, 1.5, False)
        others = (
            replace(good, ended=-1.1, seconds=2.0),
            replace(good, ended=5.5, outside=True, method="sweep", seconds=9.0),
        )
        found = figures([trial(drawn(0, 8), calibrated=run) for run in (good, *others)])
        assert found["calibrated: within 1 dof"] == "33.3 %"
        assert found["calibrated: within 1.25 dof"] == "66.7 %"
        assert found["calibrated: ended worse than begun"] == "1"
        assert found["calibrated: outside the limits"] == "1"
        assert found["calibrated: by the network alone"] == "66.7 %"
        assert found["calibrated: seconds, median"] == "2.00"
        assert "uncalibrated: within 1 dof" not in found

    def test_hopeless_ones_are_counted_apart(self) -> None:
        lost = [drawn(k, 8, hopeless=True) for k in range(3)]
        found = figures([Trial(lost[0], "empty"), Trial(lost[1], "dark"), trial(lost[2])])
        assert found["hopeless ones refused"] == "2 of 3"
        assert found["microscopes calibrated"] == "0 of 0"


def test_the_page_states_what_was_found() -> None:
    docs = Path(__file__).parent.parent / "docs"
    page = (docs / "calibration.md").read_text("utf-8")
    kept = json.loads((docs / "model-card" / "calibration.json").read_text("utf-8"))["rows"]
    found = {name: value.split(".")[0] for name, _, value in kept if value.endswith("%")}
    exact = {name: value for name, _, value in kept}
    runs = [
        [found[f"{way}: within 1 dof"], found[f"{way}: within 1.25 dof"], exact[f"{way}: seconds, median"]]
        for way in ("calibrated", "uncalibrated")
    ]
    for line in (
        f"| calibrated; direction right | {exact['microscopes calibrated']}; {found['direction right']} |",
        f"| pitch within 5 %; 10 % | {found['scale within 5 %']} %; {found['scale within 10 %']} % (",
        f"| slack within 15 % or 10 steps | {found['slack within 15 % or 10 steps']} % |",
        f"| settling within 30 % | {found['settling within 30 %']} % |",
        *(f"{one} %, {wide} %, {float(seconds):.1f} s |" for one, wide, seconds in runs),
        f"refused | {exact['hopeless ones refused']} |",
        f"| drift, rms error | {exact['drift, rms error'].removesuffix(' dof/s')} depths of field/s |",
        f"| frames, time | {exact['frames, median']}, {exact['seconds, median']} s |",
        f"is {exact['calibrated: median error'].removesuffix(' dof')} instead of"
        f" {exact['uncalibrated: median error'].removesuffix(' dof')} depths of field",
    ):
        assert line in page, line
    assert all(exact[f"{way}: {bad}"] == "0" for way in ("calibrated", "uncalibrated") for bad in BAD)
