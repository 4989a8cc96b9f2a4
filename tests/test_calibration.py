"""What is kept of a calibration, how it is put into force, and what damage does."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from fake_calibration import found
from fake_machine import Computer, uln2003

from edge import calibration
from edge.belief import KNOWN
from edge.calibration import calibrated, in_force, note_run, scale_of, stage_identity
from edge.config import Config, override
from edge.doctor import motor
from edge.errors import InputError
from edge.microscope import Microscope
from edge.record import as_json
from edge.rig import UNCALIBRATED, as_measured, measured, simulated_rig

DOF_UM = 3.4375


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    return tmp_path


class TestKept:
    def test_nothing_is_kept_at_first(self) -> None:
        assert in_force(Config()) == (None, None)
        assert calibration.everything() == ([], [])

    def test_written_and_read(self, state: Path) -> None:
        path = calibration.write(found(), Config())
        assert path.parent == state / "calibration"
        assert in_force(Config()) == (found(), None)

    def test_objectives_and_stages_are_kept_side_by_side(self) -> None:
        other = override(Config(), "test", optics={"objective": "40x0.65"})
        calibration.write(found(), Config())
        calibration.write(found(objective="40x0.65", dof_per_step=0.1), other)
        assert in_force(Config())[0] == found()
        assert in_force(other)[0] == found(objective="40x0.65", dof_per_step=0.1)
        assert in_force(uln2003()) == (None, None)
        assert [one.objective for one in calibration.everything()[0]] == ["20x0.40", "40x0.65"]

    def test_another_wiring_is_another_stage(self) -> None:
        turned = override(uln2003(), "test", stage={"inverted": True})
        rewired = override(uln2003(), "test", gpio={"in1_pin": 5})
        board = override(Config(), "test", stage={"driver": "sangaboard"}, serial={"port": "/dev/ttyUSB0"})
        names = {stage_identity(config) for config in (Config(), uln2003(), turned, rewired, board)}
        assert len(names) == 5

    @pytest.mark.parametrize(
        "text", ["", "{}", "[1]", "\0" * 40, '{"dof_per_step": 1e999}', as_json(found())[:-9]]
    )
    def test_a_damaged_file_is_one_line_and_not_used(self, text: str) -> None:
        path = calibration.write(found(), Config())
        path.write_text(text)
        with pytest.raises(InputError, match=f"{path}: no calibration"):
            calibration.read(Config())
        nothing, note = in_force(Config())
        assert nothing is None
        assert note is not None
        assert "calibrate again" in note
        assert "\n" not in note
        assert len(calibration.everything()[1]) == 1

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_full_disk_or_a_power_cut_leaves_the_one_before(
        self, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calibration.write(found(), Config())
        for _ in range(5):
            note_run(Config(), 1.4)

        def fails(*given: Any, **named: Any) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os if call == "fsync" else Path, call, fails)
            with pytest.raises(OSError, match="no space"):
                calibration.write(found(dof_per_step=0.5), Config())
        assert in_force(Config()) == (found(), None)
        assert calibration.misfit(Config()) is not None, "what runs saw of it is remembered, too"


class TestInForce:
    def test_an_overshoot_is_longer_than_the_slack_and_a_wait_than_the_settling(self) -> None:
        own = calibrated(Config(), found()).stage
        assert own.backlash_steps == 132  # 120, 3 standard deviations, 5 %
        assert own.settle_s == pytest.approx(0.26)

    def test_on_reversal_takes_the_slack_as_it_is(self) -> None:
        config = override(Config(), "test", stage={"compensation": "on-reversal"})
        assert calibrated(config, found()).stage.backlash_steps == 120

    def test_slack_without_a_calibration_may_be_twice_what_was_thought(self) -> None:
        assert measured(Config(), None).stage.backlash_steps == 400
        narrow = override(Config(), "test", stage={"limit_low_um": -20.0, "limit_high_um": 20.0})
        assert measured(narrow, None).stage.backlash_steps == 200
        exact = override(Config(), "test", stage={"compensation": "on-reversal"})
        assert measured(exact, None).stage.backlash_steps == 200

    def test_positions_in_depths_of_field_have_the_direction_of_defocus(self) -> None:
        rig = simulated_rig(Config(), start_defocus_um=0.0)
        known = as_measured(rig, Config(), found())
        steps_a_dof_um = 0.062 / 0.03
        assert scale_of(Config(), found()) == pytest.approx(-DOF_UM / steps_a_dof_um)
        assert known.dof_from_um(0.062) == pytest.approx(-0.03)
        assert known.um_from_dof(-0.03) == pytest.approx(0.062)
        assert known.assumptions == ()
        assert UNCALIBRATED in as_measured(rig, Config(), None).assumptions

    @pytest.mark.parametrize("compensation", ["one-sided", "on-reversal"])
    def test_the_loop_counts_in_the_direction_of_defocus(self, compensation: str) -> None:
        config = override(Config(), "test", stage={"compensation": compensation})
        rig = simulated_rig(config, start_defocus_um=0.0)
        network: Any = None  # not asked
        plain, turned = (
            Microscope(of, network, config).settings() for of in (rig, as_measured(rig, config, found()))
        )
        scale = scale_of(config, found())
        assert (turned.low, turned.high) == pytest.approx((plain.high * scale, plain.low * scale))
        approach = 1 if compensation == "one-sided" else 0
        assert (plain.onward, turned.onward) == (approach, -approach)
        assert turned.gains == KNOWN

    def test_a_corrected_pitch_leaves_steps_a_depth_of_field_as_they_are(self) -> None:
        config = override(Config(), "test", stage={"um_per_step": 0.1})
        rig = as_measured(simulated_rig(config, start_defocus_um=0.0), config, found())
        assert rig.dof_from_um(0.1) == pytest.approx(-0.03)


class TestDoctor:
    def check(self, computer: Computer, config: Config | None = None) -> tuple[str, str]:
        finding = motor.calibration(computer.machine(), Config() if config is None else config)
        return finding.status, finding.found

    def test_none(self, computer: Computer) -> None:
        assert self.check(computer) == ("warning", "none for 20x0.40 on simulated")
        calibration.write(found(), Config())
        other = override(Config(), "test", optics={"objective": "40x0.65"})
        assert "calibrated: 20x0.40 on simulated" in self.check(computer, other)[1]

    def test_in_words(self, computer: Computer) -> None:
        calibration.write(found(), Config())
        status, text = self.check(computer)
        assert status == "ok"
        assert text == (
            "20x0.40 on simulated, 2026-01-02: a step up lowers defocus, 33.3 steps a depth of field"
            " (0.103 µm a step), slack 120 steps, settled after 0.25 s"
        )

    def test_it_warns_when_most_runs_see_something_else(self, computer: Computer) -> None:
        calibration.write(found(), Config())
        for gain in (1.0, 1.0, 1.4, 1.4):
            note_run(Config(), gain)
        assert self.check(computer)[0] == "ok"  # too few to say
        note_run(Config(), -1.0)
        status, text = self.check(computer)
        assert status == "warning"
        assert "3 of the last 5 runs saw the focus move by -1 or 1.4 times what was measured" in text
        calibration.write(found(), Config())
        assert self.check(computer)[0] == "ok", "a new calibration begins anew"

    def test_a_damaged_one(self, computer: Computer) -> None:
        calibration.write(found(), Config()).write_text("{")
        assert self.check(computer)[0] == "warning"

    def test_a_damaged_memory_of_runs_is_begun_anew(self) -> None:
        path = calibration.write(found(), Config()).with_suffix(".fits")
        path.write_text("nonsense")
        assert calibration.misfit(Config()) is None
        for _ in range(30):
            note_run(Config(), 0.7)
        assert "20 of the last 20" in (calibration.misfit(Config()) or "")
