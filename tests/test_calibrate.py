"""`parfocal calibrate` on simulated microscopes: what it finds, what it refuses, what it leaves behind."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from oracle import Oracle, Parfocal

from edge import calibration
from edge.calibrate import Calibrator, for_measuring
from edge.calibration_found import Refused
from edge.camera.base import Frame
from edge.config import Config, load_config, override
from edge.rig import Rig, simulated_rig

PITCH, SLACK = 0.062, 140


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


def written(folder: Path, **simulator: Any) -> str:
    """A configuration whose microscope is not what it says."""
    keys = {"pitch_factor": 1.4, "inverted": True, "backlash_steps": SLACK, **simulator}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    file = folder / "own.toml"
    file.write_text("[simulator]\n" + "\n".join(lines) + "\n")
    return str(file)


class TestCommand:
    @pytest.mark.parametrize(("factor", "inverted"), [(1.4, True), (0.7, False)])
    def test_what_it_finds(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path, factor: float, inverted: bool
    ) -> None:
        config = written(tmp_path, pitch_factor=factor, inverted=inverted, drift_um_s=0.05)
        code, out, err = parfocal("calibrate", "--config", config, "--json")
        assert code == 0, err
        found = json.loads(out)
        sign = -1 if inverted else 1
        assert found["dof_per_step"] == pytest.approx(sign * factor * PITCH / 3.4375, rel=0.03)
        assert found["backlash_steps"] == pytest.approx(SLACK, abs=10)
        assert found["drift_dof_s"] == pytest.approx(0.05 / 3.4375, abs=0.004)
        assert found["settle_s"] < 0.1
        assert found["direction_odds"] > 5

    def test_a_stage_that_approaches_from_above(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path
    ) -> None:
        config = Path(written(tmp_path))
        config.write_text(config.read_text() + '[stage]\napproach = "negative"\n')
        code, out, err = parfocal("calibrate", "--config", config, "--json")
        assert code == 0, err
        found = json.loads(out)
        assert found["dof_per_step"] == pytest.approx(-1.4 * PITCH / 3.4375, rel=0.03)
        assert found["backlash_steps"] == pytest.approx(SLACK, abs=10)

    def test_the_simulated_rig_says_nothing_of_the_motor_that_is_named(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path
    ) -> None:
        config = Path(written(tmp_path))
        named = '[stage]\ndriver = "marlin"\n[serial]\nport = "/dev/ttyACM0"\nsteps_per_mm = 400.0\n'
        config.write_text(config.read_text() + named)
        assert parfocal("calibrate", "--config", config, "--rig", "simulated")[0] == 0
        drive = f"simulated pitch_factor 1.4 inverted backlash_steps {SLACK}"
        assert [one.stage for one in calibration.everything()[0]] == [drive]
        assert calibration.in_force(load_config(config)) == (None, None)

    def test_focus_uses_it_and_is_quicker(self, parfocal: Parfocal, network: Oracle, tmp_path: Path) -> None:
        config = written(tmp_path)
        before, after = [], []
        for runs in (before, after):
            for start in ("-25", "18", "30"):
                args = ("focus", "--config", config, "--start-defocus-um", start, "--json")
                code, out, err = parfocal(*args)
                assert code == 0, err
                assert ("calibrated on 20" in err) == (runs is after)
                runs.append(json.loads(out))
            if runs is before:
                assert parfocal("calibrate", "--config", config)[0] == 0
        assert all(abs(run["true_defocus_dof"]) < 1 for run in before + after)
        assert sum(run["seconds"] for run in after) < 0.8 * sum(run["seconds"] for run in before)
        assert all("not calibrated" in run["assumptions"][0] for run in before)
        assert all(run["assumptions"] == [] for run in after)

    def test_a_simulated_stage_that_is_as_configured_is_calibrated_like_any_other(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path
    ) -> None:
        network.offset_dof = 0.8
        ended = []
        for calibrate_first in (False, True):
            if calibrate_first:
                assert parfocal("calibrate")[0] == 0
            code, out, err = parfocal("focus", "--start-defocus-um", "18", "--json")
            assert code == 0, err
            ended.append(float(json.loads(out)["true_defocus_dof"]))
        assert [one.stage for one in calibration.everything()[0]] == ["simulated"]
        assert abs(ended[1]) < 0.6 * abs(ended[0]), "kept, and not used"
        # Another drive: a calibration that is not its own would be worse than none.
        code, out, err = parfocal(
            "focus", "--config", written(tmp_path), "--start-defocus-um", "18", "--json"
        )
        assert code == 0, err
        assert "not calibrated" in json.loads(out)["assumptions"][0]

    def test_what_cannot_be_kept_is_not_measured(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "file"))
        monkeypatch.setattr(Calibrator, "run", lambda self: pytest.fail("measured in vain"))
        code, out, err = parfocal("calibrate")
        assert (code, out) == (2, "")
        assert "a calibration cannot be kept there" in err
        assert "Traceback" not in err

    def test_what_the_network_says_in_focus_is_taken_off(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path
    ) -> None:
        network.offset_dof = 0.8
        config = written(tmp_path)
        ask = ("focus", "--config", config, "--start-defocus-um", "18", "--json")

        def ended() -> float:
            code, out, err = parfocal(*ask)
            assert code == 0, err
            return float(json.loads(out)["true_defocus_dof"])

        assert ended() == pytest.approx(-0.8, abs=0.25)
        code, out, _ = parfocal("calibrate", "--config", config)
        assert code == 0
        found = calibration.everything()[0][0]
        assert found.network_offset_dof == pytest.approx(0.85 * 0.8, abs=0.1)
        assert f"offset      {found.network_offset_dof:+.2f} ± {found.network_offset_dof_sigma:.2f}" in out
        assert ended() == pytest.approx(0.0, abs=0.25)
        network.fingerprint = "another model"
        assert ended() == pytest.approx(-0.8, abs=0.25), "measured with another model, it means nothing"

    def test_it_says_what_it_found_and_draws_it(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path, state: Path
    ) -> None:
        picture = tmp_path / "seen.png"
        code, out, err = parfocal("calibrate", "--config", written(tmp_path), "--plot", str(picture))
        assert code == 0, err
        for text in ("a step up lowers defocus", "(configuration: 200)", "kept in"):
            assert text in out
        (slack,) = re.findall(r"^slack +(\d+) ± ", out, re.MULTILINE)
        assert abs(int(slack) - SLACK) <= 5
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert len(list((state / "calibration").glob("*.json"))) == 1

    def test_refused_keeps_the_one_before(self, parfocal: Parfocal, network: Oracle, tmp_path: Path) -> None:
        config = written(tmp_path)
        assert parfocal("calibrate", "--config", config)[0] == 0
        kept, _ = calibration.everything()
        code, out, err = parfocal("calibrate", "--config", written(tmp_path, specimen="empty"))
        assert (code, out) == (4, "")
        assert "refused: nothing to measure by" in err
        assert f"the calibration of {kept[0].date[:10]} stays in force" in err
        assert calibration.everything()[0] == kept

    def test_a_stack_of_planes_too_far_apart(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path
    ) -> None:
        """Between them nothing is known: what came out would be a pitch of nothing."""
        tiny.write_stack(tmp_path / "stack", {**tiny.LABELLED, "objective": "100x1.25oil"})
        code, out, err = parfocal("calibrate", "--stack", tmp_path / "stack")
        assert (code, out) == (2, "")
        assert "no more than a depth of field (0.53" in err
        assert err.count("\n") == 1

    def test_bad_input_is_one_line(self, parfocal: Parfocal, network: Oracle, tmp_path: Path) -> None:
        for args in (
            ("--objective", "best one"),
            ("--plot", str(tmp_path / "seen.gif")),
            ("--plot", str(tmp_path / "no" / "seen.png")),
        ):
            code, out, err = parfocal("calibrate", *args)
            assert (code, out, err.count("\n")) == (2, "", 1)

    def test_interrupted_it_keeps_nothing(self, parfocal: Parfocal, network: Oracle, tmp_path: Path) -> None:
        config = written(tmp_path)
        looks = 0
        real = network.look

        def interrupted(*given: Any, **named: Any) -> Any:
            nonlocal looks
            looks += 1
            if looks == 40:
                raise KeyboardInterrupt
            return real(*given, **named)

        network.look = interrupted  # type: ignore[method-assign]
        assert parfocal("calibrate", "--config", config)[0] == 130
        assert calibration.everything() == ([], [])


class Bench:
    """A simulated microscope to be measured, its oracle, and what was told."""

    def __init__(self, oracle: Oracle, **simulator: Any) -> None:
        config = override(
            Config(), "test", simulator={"pitch_factor": 1.2, "backlash_steps": SLACK, **simulator}
        )
        self.config = config
        self.rig: Rig = simulated_rig(for_measuring(config), start_defocus_um=15.0)
        oracle.rig = self.rig
        self.oracle = oracle

    def run(self) -> Any:
        with self.rig:
            return Calibrator(self.rig, self.oracle, self.config).run()  # type: ignore[arg-type]


def test_exposure_is_held_from_the_first_look_to_the_last(network: Oracle) -> None:
    bench = Bench(network)
    camera = bench.rig.camera
    calls: list[str] = []
    real = camera.capture

    def capture(not_before_s: float) -> Frame:
        calls.append("frame")
        return real(not_before_s)

    vars(camera).update(
        lock=lambda: calls.append("lock"), unlock=lambda: calls.append("unlock"), capture=capture
    )
    bench.run()
    runs = [list(same) for _, same in itertools.groupby(calls)]
    assert [of[0] for of in runs] == ["lock", "frame", "unlock", "lock", "frame", "unlock"], (
        "focus, then all looks"
    )
    assert len(runs[4]) > 150


@pytest.mark.parametrize(("drift_um_s", "sure_s", "motions"), [(0.0, 1.0, 6), (0.1, 1.0, 6), (0.0, 0.0, 12)])
def test_frames_come_at_all_phases_behind_its_motions(
    network: Oracle, monkeypatch: pytest.MonkeyPatch, drift_um_s: float, sure_s: float, motions: int
) -> None:
    """Else a stage that rings faster than the camera sees is caught at one phase each time; motions are made
    twice where the settling is not sure.
    """
    monkeypatch.setattr("edge.settling_watch.SURE_S", sure_s)
    monkeypatch.setattr("edge.settling_watch.SURE_SHARE", 0.0)
    bench = Bench(network, drift_um_s=drift_um_s)
    since_s = bench.run().watched[0]
    period_s = bench.rig.camera.frame_period_s
    first = np.sort(since_s[since_s < period_s])
    assert len(first) == motions
    assert np.diff(first, append=first[0] + period_s).max() < 1.6 * period_s / motions


class TestRefused:
    def test_a_stage_that_does_not_move(self, network: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench(network)
        monkeypatch.setattr(bench.rig.camera, "_defocus_dof", lambda t_s: 0.3)
        object.__setattr__(bench.rig, "true_defocus_um", lambda: 0.3 * 3.4375)
        with pytest.raises(Refused, match="does not change as the motor turns"):
            bench.run()
        assert abs(bench.rig.stage.position_um) < 30

    @pytest.mark.parametrize("high_um", [14.0, 22.0])
    def test_a_focus_at_the_end_of_the_travel(self, network: Oracle, high_um: float) -> None:
        config = override(
            Config(), "test", stage={"limit_low_um": -80.0, "limit_high_um": high_um},
            simulator={"pitch_factor": 1.2, "backlash_steps": SLACK, "inverted": True},
        )  # fmt: skip
        rig = simulated_rig(for_measuring(config), start_defocus_um=15.0)
        network.rig = rig
        with rig, pytest.raises(Refused, match="too near the end of the travel"):
            Calibrator(rig, network, config).run()  # type: ignore[arg-type]
        low, high = rig.stage.limits_um
        assert low <= rig.stage.position_um <= high

    @pytest.mark.parametrize("favour", [0.0, 0.6])
    def test_sides_that_look_alike(self, network: Oracle, favour: float) -> None:
        # A little in favour of one side in each look is much in a hundred, and no proof: they err alike.
        bench = Bench(network)
        real = network.look

        def two_sided(*given: Any, **named: Any) -> Any:
            look = real(*given, **named)
            if look.log_likelihood is not None:
                both = np.logaddexp(look.log_likelihood, look.log_likelihood[::-1] - favour)
                object.__setattr__(look, "log_likelihood", both)
            return look

        network.look = two_sided  # type: ignore[method-assign]
        with pytest.raises(Refused, match=r"direction cannot be told|focus was not found"):
            bench.run()


def test_it_ends_in_focus(network: Oracle) -> None:
    bench = Bench(network, inverted=True)
    bench.run()
    assert bench.rig.true_defocus_um is not None
    assert abs(bench.rig.true_defocus_um()) < 0.5 * 3.4375
