"""The service: boot focus, one thing at a time, stop at any time, faults that pass, traces that stay."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from service_bench import Bench, config, running, started

from edge.errors import CameraError, InputError
from edge.hold_dialogue import Holding as Stage
from edge.holder import Holder, HoldStatus
from edge.service.service import Busy
from firmware_iface.clock import RealClock, VirtualClock
from firmware_iface.errors import LimitError, MotorError

NO_BOOT = {"service": {"boot_focus": False}}


def test_in_focus_when_it_boots(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        status = bench.until("in_focus")
        assert bench.said == [
            "ready: waiting for a request",
            "focusing: asked for by boot",
            "focusing: the first frame is judged",
            f"in_focus: {status['reason']}",
        ]
        assert status["last"]["by"] == "boot"
        assert status["last"]["result"]["result"] == "focused"
        assert abs(bench.opened[0].true_defocus_um()) < bench.opened[0].optics.dof_um
        assert bench.service.judged.is_set()
    assert bench.service.runs.newest(5)[0]["by"] == "boot"


def test_without_boot_focus_nothing_moves(tmp_path: Path) -> None:
    with running(tmp_path, **NO_BOOT) as bench:
        status = bench.until("ready")
        bench.wait_for(bench.service.judged.is_set, "the page may load")
        assert bench.opened[0].stage.moves == 0
        assert status["last"] is None
        assert status["stage"] == {
            "position_um": 0.0,
            "limits_um": [pytest.approx(-149.978), pytest.approx(149.978)],
            "uncertain": None,
        }
    assert bench.service.runs.numbers() == []


def test_an_empty_field_is_told(tmp_path: Path) -> None:
    with running(tmp_path, empty=True) as bench:
        assert bench.until("failed")["last"]["result"]["result"] == "no_specimen"
        assert bench.service.state == "failed"


def test_a_trace_for_each_run_and_the_newest_are_kept(tmp_path: Path) -> None:
    with running(tmp_path, service={"boot_focus": False, "history": 3}) as bench:
        bench.until("ready")
        for count in range(1, 6):
            bench.service.focus("test")
            bench.wait_for(lambda n=count: (bench.service.status()["last"] or {}).get("run") == n, "the run")
            bench.until("in_focus")
        assert bench.service.runs.numbers() == [3, 4, 5]
    whole = json.loads((tmp_path / "runs" / "run-000005.json").read_text())
    assert (whole["run"], whole["by"], whole["result"]["result"]) == (5, "test", "focused")
    assert len(whole["entries"]) == whole["result"]["captures"]
    assert datetime.fromisoformat(whole["at"]).tzinfo is not None


def test_one_thing_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, **NO_BOOT) as bench:
        bench.until("ready")
        refused: list[str] = []
        tell = bench.feed.tell

        def ask_again(kind: str, data: dict[str, Any]) -> None:
            tell(kind, data)
            if kind == "look" and not refused:
                for request in (bench.service.focus, lambda by: bench.service.jog(1.0, by)):
                    with pytest.raises(Busy, match="busy: a focus run or a move is under way") as error:
                        request("test")
                    refused.append(str(error.value))

        monkeypatch.setattr(bench.feed, "tell", ask_again)
        bench.service.focus("test")
        bench.until("in_focus")
        assert len(refused) == 2
    assert len(bench.service.runs.numbers()) == 1


@pytest.mark.parametrize("way", ["stop", "press"])
def test_stop_in_the_middle_of_a_run(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, **NO_BOOT) as bench:
        bench.until("ready")
        tell = bench.feed.tell
        said: list[object] = []

        def stop(kind: str, data: dict[str, Any]) -> None:
            tell(kind, data)
            if kind == "look" and not said:
                said.append(bench.service.stop("test") if way == "stop" else bench.service.press())

        monkeypatch.setattr(bench.feed, "tell", stop)
        bench.service.focus("test")
        status = bench.until("failed")
        assert status["last"]["result"]["reason"].startswith("stopped")
        assert said == [way == "stop" or None]
        # It is at the service of the next one at once.
        monkeypatch.setattr(bench.feed, "tell", tell)
        bench.service.press()
        assert bench.until("in_focus")["last"]["by"] == "button"


def test_stop_in_mid_move_in_real_time(tmp_path: Path) -> None:
    with running(tmp_path, RealClock(), **NO_BOOT) as bench:
        bench.until("ready")
        bench.service.jog(140.0, "test")
        bench.wait_for(lambda: bench.opened[0].stage.position_um > 2.0, "the stage to move")
        assert bench.service.stop("test")
        status = bench.until("ready")
        assert 2.0 < status["stage"]["position_um"] < 100.0
        assert "stopped at" in status["reason"]
        assert not bench.service.stop("test"), "nothing is under way any more"


def test_shut_down_in_mid_move_stops_releases_and_then_writes(tmp_path: Path) -> None:
    with running(tmp_path, RealClock()) as bench:
        bench.wait_for(lambda: bool(bench.opened) and bench.opened[0].stage.moves > 0, "the boot focus")
    stage = bench.opened[0].stage
    with pytest.raises(MotorError, match="closed"):
        stage.move_by_um(1.0)
    (number,) = bench.service.runs.numbers()
    found = bench.service.runs.read(number)
    assert found is not None
    assert found["result"]["result"] == "failed"


class TestJog:
    def test_moves_and_ends_the_claim_of_focus(self, tmp_path: Path) -> None:
        with running(tmp_path) as bench:
            bench.until("in_focus")
            before = bench.opened[0].stage.position_um
            bench.service.jog(5.0, "test")
            bench.wait_for(lambda: "moved +5 µm" in bench.service.status()["reason"], "the move")
            assert bench.until("ready")["stage"]["position_um"] == pytest.approx(before + 5.0, abs=0.07)

    def test_beyond_the_limits_nothing_moves(self, tmp_path: Path) -> None:
        with running(tmp_path, **NO_BOOT) as bench:
            bench.until("ready")
            with pytest.raises(LimitError, match="allowed is"):
                bench.service.jog(151.0, "test")
            assert bench.opened[0].stage.moves == 0


def _unplugged() -> None:
    raise CameraError("camera: unplugged")


class TestFaults:
    def test_what_does_not_open_is_tried_again(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, config(), VirtualClock())
        bench.fails = [
            CameraError("camera: unplugged"),
            MotorError("no board"),
            InputError("journal: no room"),
        ]
        clock = bench._clock
        with started(bench):
            bench.wait_for(lambda: bench.service.status()["reason"] == "camera: unplugged", "the fault")
            assert bench.said == ["fault: camera: unplugged"], "up, and telling what is wrong"
            with pytest.raises(Busy, match="not yet: camera: unplugged"):
                bench.service.focus("test")
            for reason in ("no board", "journal: no room"):
                clock.sleep_s(60.0)
                bench.wait_for(lambda r=reason: bench.service.status()["reason"] == r, reason)
            beats = bench.beats
            bench.wait_for(lambda: bench.beats > beats, "a beat: a loop that waits for a camera is not hung")
            clock.sleep_s(60.0)
            bench.until("in_focus")

    def test_it_waits_1_2_4_and_at_most_30_s_and_1_again_after_good_work(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = Bench(tmp_path, config(), VirtualClock())
        bench.fails = [CameraError("camera: unplugged")] * 7
        waited: list[float] = []

        def rest(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 8:
                bench.service.shut_down()

        monkeypatch.setattr(bench.service, "_rest", rest)
        monkeypatch.setattr(bench.service, "_turn", lambda scope: _unplugged())
        bench.service.run()
        assert waited == [1, 2, 4, 8, 16, 30, 30, 1]

    def test_a_mistake_in_the_configuration_ends_it(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, config(), VirtualClock())
        bench.fails = [InputError("[gpio] in1_pin is not set")]
        with pytest.raises(InputError, match="in1_pin"):
            bench.service.run()

    def test_a_camera_that_dies_during_a_run(self, tmp_path: Path) -> None:
        with running(tmp_path, **NO_BOOT) as bench:
            bench.until("ready")
            bench.oracle.error = CameraError("camera: no frame for 2 s")
            bench.service.focus("test")
            status = bench.until("fault")
            assert "no frame for 2 s" in status["last"]["result"]["reason"]
            assert status["stage"] is None
            bench.oracle.error = None
            bench._clock.sleep_s(60.0)
            assert bench.until("ready")["state"] == "ready", "boot focus is off, so it waits"
            assert len(bench.opened) == 2
        kept = bench.service.runs.read(1)
        assert kept is not None
        assert kept["result"]["result"] == "failed"

    def test_an_idle_camera_that_dies(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with running(tmp_path, **NO_BOOT) as bench:
            bench.until("ready")

            def dead(not_before_s: float) -> None:
                raise CameraError("camera: unplugged")

            monkeypatch.setattr(bench.opened[0].camera, "capture", dead)
            bench._clock.sleep_s(6.0)
            assert bench.until("fault")["reason"] == "camera: unplugged"


def test_an_idle_service_feeds_the_watchdog_by_looking(tmp_path: Path) -> None:
    with running(tmp_path, **NO_BOOT) as bench:
        bench.until("ready")
        beats = bench.beats
        bench._clock.sleep_s(6.0)
        bench.wait_for(lambda: bench.beats > beats, "a beat")
        assert bench.service.state == "ready"


def test_pictures_only_for_who_watches(tmp_path: Path) -> None:
    with running(tmp_path, **NO_BOOT) as bench:
        bench.until("ready")
        assert bench.feed.picture() is None, "asking is watching"
        bench.wait_for(lambda: bench.feed.picture() is not None, "a picture")


def test_the_schedule_asks(tmp_path: Path) -> None:
    with running(tmp_path, service={"boot_focus": False, "focus_every_min": 30.0}) as bench:
        bench.until("ready")
        bench.wait_for(lambda: bench.service._schedule._ran_s is not None, "the clock to run")
        bench._clock.sleep_s(1801.0)
        assert bench.until("in_focus")["last"]["by"] == "schedule"


def test_a_full_disk_costs_the_trace_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.service.runs.atomic_write_text", full)
    with running(tmp_path) as bench:
        status = bench.until("in_focus")
        assert status["lost_traces"] == 1
    assert "the trace of run 1 is lost" in caplog.text


def test_what_happens_is_logged_with_fields(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with running(tmp_path) as bench:
        bench.until("in_focus")
    (record,) = [r for r in caplog.records if getattr(r, "fields", {}).get("EVENT") == "run"]
    assert record.fields["RESULT"] == "focused"  # type: ignore[attr-defined]
    assert record.fields["BY"] == "boot"  # type: ignore[attr-defined]


def test_nothing_is_taken_while_it_stops(tmp_path: Path) -> None:
    with running(tmp_path, **NO_BOOT) as bench:
        bench.until("ready")
    with pytest.raises(Busy, match="stopping"):
        bench.service.focus("test")


def test_day(tmp_path: Path) -> None:
    """Times of the day, by a clock that the network sets meanwhile."""
    now = [datetime(2026, 1, 1, 7, 59)]
    bench = Bench(tmp_path, config(service={"boot_focus": False, "focus_at": "08:00"}), VirtualClock())
    bench.service._local_time = lambda: now[0]
    with started(bench):
        bench.until("ready")
        bench.wait_for(lambda: bench.service._schedule._looked is not None, "the first round")
        now[0] += timedelta(minutes=2)
        assert bench.until("in_focus")["last"]["by"] == "schedule"


class TestHold:
    def test_holds_after_a_focus_and_stops_where_a_hand_moves(self, tmp_path: Path) -> None:
        with running(tmp_path, service={"hold": True}) as bench:
            bench.until("in_focus")
            bench.wait_for(lambda: bench.service.status()["hold"]["state"] == "holding", "holding")
            for _ in range(4):  # past the reference looks, in virtual time
                bench._clock.sleep_s(11.0)
            bench.service.jog(3.0, "test")
            bench.until("ready")
            hold = bench.service.status()["hold"]
            assert (hold["on"], hold["state"]) == (True, "waiting")
            assert "moved by hand" in hold["reason"]
            bench.service.focus("test")
            bench.until("in_focus")
            bench.wait_for(lambda: bench.service.status()["hold"]["state"] == "holding", "holding again")

    def test_is_switched_while_it_stands_in_focus(self, tmp_path: Path) -> None:
        with running(tmp_path) as bench:
            bench.until("in_focus")
            assert bench.service.status()["hold"]["state"] == "off"
            bench.service.hold(True)
            bench.wait_for(lambda: bench.service.status()["hold"]["state"] == "holding", "holding")
            holder = bench.service._holding._holder
            bench.service.hold(True)
            assert bench.service._holding._holder is holder, "what is held already does not begin anew"
            bench.service.hold(False)
            assert bench.service.status()["hold"]["state"] == "off"

    def test_follows_a_drift(self, tmp_path: Path) -> None:
        with running(tmp_path, simulator={"drift_um_s": 0.01}, service={"hold": True}) as bench:
            bench.until("in_focus")
            rig = bench.opened[0]
            moves = rig.stage.moves
            for _ in range(200):
                bench._clock.sleep_s(2.0)
                bench.wait_for(lambda: not bench.service._holding.due, "a look")
            assert bench.service.status()["state"] == "in_focus"
            assert rig.stage.moves > moves
            assert abs(rig.true_defocus_um()) < rig.optics.dof_um

    def test_where_it_gives_up_a_focus_is_found_anew_but_not_at_once_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gives_up(holder: Holder, *, cancel: object) -> HoldStatus:
            holder.hold.state, holder.hold.reason = Stage.STOPPED, "nothing to go by"
            return holder.status

        with running(tmp_path, service={"hold": True}) as bench:
            bench.until("in_focus")
            monkeypatch.setattr(Holder, "step", gives_up)
            bench.wait_for(lambda: (bench.service.status()["last"] or {}).get("by") == "hold", "a new focus")
            bench.until("ready")
            assert bench.service.status()["reason"] == "nothing to go by"
            assert len(bench.service.runs.numbers()) == 2
