"""`parfocal bench focus`: beds that are the same for all, what is judged, and what the figures say."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from oracle import Parfocal

from edge import card as cards
from edge import model as models
from edge.bench import focus
from edge.bench.bed import Cost, Trial, made
from edge.bench.faults import FAULTS, Fault, FaultyCamera
from edge.bench.figures import against, best_peer, report, start_bin, summary
from edge.bench.focus import Plan, Run
from edge.camera.base import Camera, Frame
from edge.config import Config, override

CALIBRATED = override(Config(), "test", stage={"compensation": "on-reversal"})
TRIAL = Trial(bench_seed=3, field=0, objective="20x0.40", start_dof=-4.0, seed=11, range_dof=6.0, look_s=0.05)
KEYS = {
    "success",
    "seconds_median",
    "seconds_p95",
    "captures_median",
    "travel_um_median",
    "error_dof_median",
    "error_dof_p95",
    "worse",
}


@pytest.fixture(scope="module")
def network() -> models.Model:
    return models.load("default")


def ran(name: str, network: models.Model, **other: Any) -> Run:
    return focus.run(name, replace(TRIAL, **other), network, CALIBRATED)


class TestBed:
    @pytest.mark.parametrize("name", ["parfocal", "single-guess", "oracle"])
    def test_the_same_again_bit_for_bit(self, name: str, network: models.Model) -> None:
        assert ran(name, network) == ran(name, network)

    @pytest.mark.parametrize(("start_dof", "power_on"), [(-7.0, True), (5.0, False)])
    def test_the_oracle_is_the_limit(self, start_dof: float, power_on: bool, network: models.Model) -> None:
        best, ours, fast = (
            ran(name, network, start_dof=start_dof, power_on=power_on)
            for name in ("oracle", "parfocal", "openflexure-fast")
        )
        assert best.success
        assert best.error_dof < 0.1
        assert best.cost.captures == best.cost.moves == 1
        assert best.cost.seconds < ours.cost.seconds < fast.cost.seconds
        assert best.start_dof == ours.start_dof == fast.start_dof

    def test_where_it_begins(self, network: models.Model) -> None:
        bed = made(TRIAL, network, CALIBRATED)
        assert bed.true_defocus_dof == pytest.approx(-4.0, abs=0.02)
        assert bed.cost() == Cost(0.0, 0, 0, 0.0)
        assert bed.axis.slack_steps() == pytest.approx((0, 200))
        bed.close()
        bed = made(replace(TRIAL, power_on=True), network, CALIBRATED)
        assert 0 < bed.axis.slack_steps()[0] < 200
        bed.close()

    def test_each_inference_of_ours_is_charged(self, network: models.Model) -> None:
        # A run without a sweep, whose frames need no inference.
        cheap, dear = (ran("parfocal", network, start_dof=5.0, look_s=look_s) for look_s in (0.0, 1.0))
        assert cheap.cost.captures == dear.cost.captures < 6
        assert dear.cost.seconds - cheap.cost.seconds == pytest.approx(cheap.cost.captures, abs=0.2)

    def test_a_sweep_knows_where_each_frame_was_taken(self, network: models.Model) -> None:
        bed = made(TRIAL, network, CALIBRATED)
        bed.drive(-300)
        truth: list[float] = []
        places, _ = bed.record(600, lambda frame: truth.append(frame.exposure_end_s) or 0.0)
        middles = bed.rig.camera.frame_period_s
        assert len(places) >= 600 * 0.001 / middles - 3
        assert (np.diff(places) > 0).all()
        assert places.min() >= -300
        assert places.max() <= 300
        bed.close()

    def test_a_stream_gives_each_frame_and_none_of_the_motion(self, network: models.Model) -> None:
        bed = made(TRIAL, network, CALIBRATED)
        bed.drive(50)
        stood_s, period_s = bed.clock.now_s(), bed.rig.camera.frame_period_s
        frames = [bed.next_frame() for _ in range(4)]
        assert frames[0].exposure_start_s >= stood_s + CALIBRATED.stage.settle_s
        assert [b.sequence - a.sequence for a, b in itertools.pairwise(frames)] == [1, 1, 1]
        assert frames[3].exposure_start_s - frames[0].exposure_start_s == pytest.approx(3 * period_s)
        assert bed.cost().captures == 4
        bed.close()

    def test_another_field_has_another_specimen(self) -> None:
        from edge.bench.bed import field_of

        one, other = (field_of(replace(TRIAL, field=field))[0] for field in (0, 3))
        assert one.name == other.name
        assert not np.array_equal(one.od, other.od)


class Plain(Camera):
    """Grey frames, a tenth of a second apart."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def frame_period_s(self) -> float:
        return 0.1

    def capture(self, not_before_s: float) -> Frame:
        self.count += 1
        start_s = 0.1 * self.count
        return Frame(np.full((96, 120, 3), 160, np.uint8), start_s, start_s + 0.03, self.count)


class TestFaults:
    def frames(self, name: Fault) -> list[np.ndarray]:
        camera = FaultyCamera(Plain(), name, np.random.default_rng(2))
        return [camera.capture(0.0).image for _ in range(6)]

    def test_dust_is_in_every_frame_at_the_same_place(self) -> None:
        first, *others = self.frames("dust")
        assert 0.005 < (first[:, :, 0] < 130).mean() < 0.5
        assert all((first == other).all() for other in others)

    def test_a_lamp_flickers_as_a_whole(self) -> None:
        levels = [frame[0, 0, 0] for frame in self.frames("lamp flicker")]
        assert all((frame == frame[0, 0, 0]).all() for frame in self.frames("lamp flicker"))
        assert 4 < np.ptp(levels) < 25

    def test_exposure_changes_once(self) -> None:
        levels = [int(frame[0, 0, 0]) for frame in self.frames("exposure change")]
        assert levels[0] == levels[1] == 160
        assert levels[-1] == levels[-2] == 120

    def test_a_bubble_has_a_dark_rim(self) -> None:
        frame = self.frames("bubble")[0]
        assert frame.min() < 80
        assert (frame > 150).mean() > 0.5

    def test_drift_and_missed_steps_are_in_the_bed(self, network: models.Model) -> None:
        bed = made(replace(TRIAL, fault="drift"), network, CALIBRATED)
        before = bed.true_defocus_dof
        bed.wait(10.0)
        assert bed.true_defocus_dof - before == pytest.approx(0.5, abs=0.01)
        bed.close()
        bed = made(replace(TRIAL, fault="missed steps"), network, CALIBRATED)
        bed.drive(1000)
        gone_um = bed.optics.um_from_dof(bed.true_defocus_dof + 4.0)
        assert 0.97 < gone_um / (1000 * bed.um_per_step) < 0.998
        bed.close()

    def test_an_empty_field_is_a_success_where_it_is_said(self, network: models.Model) -> None:
        ours, fast = (ran(name, network, fault="empty field") for name in ("parfocal", "openflexure-fast"))
        assert (ours.said, ours.success) == ("no_specimen", True)
        assert (fast.said, fast.success) == (None, False)


def one(
    strategy: str, seed: int, seconds: float, error: float, *, start: float = 5.0, fault: Fault = "none"
) -> Run:
    trial = replace(TRIAL, seed=seed, start_dof=start, fault=fault)
    return Run(strategy, trial, "tissue", Cost(seconds, 2, 1, 10.0), start, error, None)


class TestFigures:
    FOUND = (
        one("parfocal", 1, 1.0, 0.2),
        one("parfocal", 2, 2.0, 0.4),
        one("parfocal", 3, 9.0, 5.2),
        one("oracle", 1, 0.5, 0.0),
        one("oracle", 2, 0.5, 0.0),
        one("oracle", 3, 0.5, 0.0),
        one("brent", 1, 6.0, 0.9),
        one("brent", 2, 8.0, 1.5),
        one("brent", 3, 7.0, 0.1),
    )

    def of(self, name: str) -> Sequence[Run]:
        return [run for run in self.FOUND if run.strategy == name]

    def test_summary(self) -> None:
        found = summary(self.of("parfocal"))
        assert set(found) >= KEYS
        assert found["runs"] == 3
        assert found["success"] == pytest.approx(2 / 3)
        assert found["seconds_median"] == 2.0
        assert found["error_dof_median"] == 0.4
        assert found["worse"] == 1

    def test_worse_is_out_of_focus_and_farther_off(self) -> None:
        assert not one("a", 1, 1.0, 0.9, start=0.1).worse
        assert not one("a", 1, 1.0, 4.9, start=5.0).worse
        assert one("a", 1, 1.0, 1.2, start=-1.0).worse

    def test_side_by_side_where_both_succeeded(self) -> None:
        found = against(self.FOUND)
        assert found["oracle"] == {"both": 2, "ours": 1.5, "seconds": 0.5, "times": pytest.approx(1 / 3)}
        assert found["brent"] == {"both": 1, "ours": 1.0, "seconds": 6.0, "times": 6.0}

    def test_the_best_peer_succeeds_as_often(self) -> None:
        tables = {name: summary(self.of(name)) for name in ("parfocal", "oracle", "brent")}
        assert best_peer(tables) == "brent", "the oracle is nobody's"
        tables["brent"]["success"] = 0.5
        assert best_peer(tables) is None

    def test_faults_stand_apart(self) -> None:
        plan = Plan(count=3, seed=1, fields=1, strategies=("parfocal",), faults=True)
        found = [*self.of("parfocal"), one("parfocal", 1, 50.0, 9.0, fault="dust")]
        document = report(found, plan, CALIBRATED)
        assert document["strategies"]["parfocal"]["runs"] == 3
        assert document["by_fault"]["dust"]["parfocal"]["seconds_median"] == 50.0
        assert document["microscope"]["compensation"] == "on-reversal"
        shipped = cards.read(models.DEFAULT_PATH)[1].flatbuffer_sha256
        assert document["model"] == {"name": "default.tflite", "sha256": shipped}

    @pytest.mark.parametrize(
        ("start", "words"), [(0.0, "0 to 1"), (-1.0, "1 to 3"), (5.9, "3 to 6"), (-9, "over 6")]
    )
    def test_bins(self, start: float, words: str) -> None:
        assert start_bin(one("a", 1, 1.0, 0.0, start=start)) == words


class TestPlan:
    def test_fields_and_objectives_take_turns_and_starts_are_spread(self) -> None:
        plan = Plan(count=200, seed=5, fields=10)
        trials = focus.trials(plan)
        assert len(trials) == plan.total == 200
        assert {t.field for t in trials} == set(range(10))
        assert len({t.objective for t in trials}) == 4
        assert all(len({t.objective for t in trials if t.field == k}) == 1 for k in range(10))
        starts = np.array([t.start_dof for t in trials])
        assert np.abs(starts).max() <= 10
        assert 4 < np.abs(starts).mean() < 6
        assert len({t.seed for t in trials}) == 200
        assert trials == focus.trials(plan)
        assert trials != focus.trials(replace(plan, seed=6))

    def test_faults_meet_the_same_starts(self) -> None:
        trials = focus.trials(Plan(count=5, seed=5, fields=5, faults=True))
        assert len(trials) == 5 * len(FAULTS)
        by_fault = [[t.start_dof for t in trials if t.fault == name] for name in FAULTS]
        assert all(starts == by_fault[0] for starts in by_fault)

    def test_exactly(self) -> None:
        starts = {t.start_dof for t in focus.trials(Plan(count=20, seed=1, fields=4, exactly=True))}
        assert starts == {-10.0, 10.0}

    def test_processes_change_nothing(self) -> None:
        plan = Plan(count=4, seed=2, fields=2, strategies=("oracle",), objectives=("20x0.40",))
        done: list[int] = []
        alone = focus.runs(plan, CALIBRATED, workers=1, progress=done.append)
        assert sum(done) == 4
        assert focus.runs(plan, CALIBRATED, workers=2) == alone


class TestCommand:
    def test_json_and_picture(self, parfocal: Parfocal, tmp_path: Path) -> None:
        picture = tmp_path / "bench.png"
        code, out, _ = parfocal(
            *("bench", "focus", "--runs", 2, "--seed", 4, "--objective", "20x0.40", "--json"),
            *("--strategies", "parfocal,openflexure-fast,oracle", "--workers", 1, "--plot", picture),
        )
        assert code == 0
        document = json.loads(out)
        assert list(document["strategies"]) == ["parfocal", "openflexure-fast", "oracle"]
        assert all(set(of) >= KEYS for of in document["strategies"].values())
        assert document["simulated"] is True
        assert document["plan"]["objectives"] == ["20x0.40"]
        assert cv2.imread(str(picture)).shape[1] > 1000

    def test_table(self, parfocal: Parfocal) -> None:
        code, out, _ = parfocal(
            *("bench", "focus", "--runs", 2, "--fields", 1, "--strategies", "parfocal,oracle"),
            *("--objective", "20x0.40", "--workers", 1, "--faults", "--compensation", "one-sided"),
        )
        assert code == 0
        for words in ("one-sided", "oracle", "by objective", "empty field", "virtual seconds"):
            assert words in out

    def test_photographs(self, parfocal: Parfocal, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        blurred = cv2.GaussianBlur(rng.uniform(0, 255, (420, 420, 3)), (0, 0), 3)
        photograph = np.clip((blurred - 127) * 6 + 150, 0, 255).astype(np.uint8)
        (tmp_path / "slide").mkdir()
        cv2.imwrite(str(tmp_path / "slide" / "one.png"), photograph)
        code, out, _ = parfocal(
            *("bench", "focus", "--runs", 1, "--strategies", "oracle", "--specimens", tmp_path),
            *("--objective", "20x0.40", "--json", "--workers", 1),
        )
        assert code == 0
        assert list(json.loads(out)["by_specimen"]) == ["slide"]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--runs", 0), "--runs 0: 1 to"),
            (("--runs", 3, "--fields", 4), "--fields 4: 1 to 3"),
            (("--seed", -1), "--seed -1: 0 to"),
            (("--strategies", "parfocal,best"), "--strategies 'best': allowed are parfocal,"),
            (("--objective", "20x"), "--objective '20x'"),
            (("--specimens", "/nowhere"), "/nowhere: no such folder"),
            (("--start-dof", 0), "--start-dof 0: 0.1 to"),
            (("--start-dof", 5, "--range-dof", 4), "--range-dof 4: 5 to"),
            (("--look-ms", "nan"), "a finite number is allowed"),
            (("--workers", 0), "--workers 0: 1 to"),
            (("--model", "/none.tflite"), "/none.tflite"),
            (("--config", "/none.toml"), "/none.toml: no such file"),
            (("--plot", "x.jpg"), "--plot x.jpg: a name that ends in .png"),
        ],
    )
    def test_bad_input(self, parfocal: Parfocal, words: tuple[object, ...], said: str) -> None:
        code, out, err = parfocal("bench", "focus", *words)
        assert (code, out) == (2, "")
        assert said in err
        assert err.count("\n") == 1

    def test_a_kind_is_needed(self, parfocal: Parfocal) -> None:
        code, _, err = parfocal("bench")
        assert code == 2
        assert "KIND" in err
