"""The service works with what was measured, logs what cannot be read, and remembers whether it fits."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fake_calibration import found

from edge import calibration
from edge import rig as rigs
from edge.config import Config, override
from edge.service import command
from firmware_iface.clock import VirtualClock

OTHER_WAY = override(Config(), "test", simulator={"inverted": True})


@pytest.fixture(autouse=True)
def small_and_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rigs, "FRAME_PX", 64)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))


def test_each_time_it_opens_the_rig_it_reads_the_calibration() -> None:
    open_rig = command._opener("simulated", OTHER_WAY, VirtualClock(), lambda: None)  # type: ignore[arg-type]
    before = open_rig()
    assert before.scale == 1
    assert before.assumptions == (rigs.UNCALIBRATED,)
    calibration.write(found(), OTHER_WAY)
    after = open_rig()
    assert after.calibration == found()
    assert after.scale == calibration.scale_of(OTHER_WAY, found()) < 0
    assert after.stage.settle_s == pytest.approx(0.26)


def test_one_that_cannot_be_read_is_logged_and_not_used(caplog: pytest.LogCaptureFixture) -> None:
    calibration.write(found(), OTHER_WAY).write_text("{")
    open_rig = command._opener("simulated", OTHER_WAY, VirtualClock(), lambda: None)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        assert open_rig().calibration is None
    assert "calibrate again" in caplog.text
