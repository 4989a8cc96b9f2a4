"""Z-stacks that the service records: field after field, one thing at a time, stop at any time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from collecting_bench import FEW, about, ended, names, recorded, waiting, when
from oracle import Oracle, Parfocal
from service_bench import CARD, running

from edge import collect
from edge.camera.simulated import SimulatedCamera
from edge.collect_plan import Plan
from edge.microscope import Microscope
from edge.service.collecting import Collecting, Ended
from edge.service.feed import Feed
from edge.service.service import Busy
from edge.zstack import ZStack
from firmware_iface.clock import RealClock
from firmware_iface.errors import MotorError
from firmware_iface.stage import Stage


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Where the service keeps the fields of the slide."""
    return tmp_path / "collected" / "blood-7"


class TestFields:
    def test_one_at_each_request(self, tmp_path: Path, slide: Path) -> None:
        with waiting(tmp_path) as bench:
            assert bench.service.status()["collect"] is None
            for number in (1, 2):
                name = f"field-00{number}"
                status = recorded(bench)
                assert status["state"] == "ready"
                assert status["reason"] == (
                    f"z-stack of blood-7/{name} is recorded: 9 planes of 2.05 µm;"
                    " move the slide, then record the next"
                )
                assert status["collect"] == {
                    "slide": "blood-7",
                    "folder": str(slide),
                    "field": name,
                    "planes_done": 9,
                    "planes": 9,
                    "fields": number,
                    "ended": status["reason"],
                }
                stack = ZStack.open(slide / name)
                stack.check()
                assert len(stack) == 9
                assert stack.focus_um == pytest.approx(status["stage"]["position_um"], abs=0.04)
                assert abs(bench.opened[0].true_defocus_um()) < bench.opened[0].optics.dof_um
        assert names(slide) == ["field-001", "field-002"]
        assert names(tmp_path / "collected") == ["blood-7"]

    def test_what_is_kept_of_it(
        self,
        tmp_path: Path,
        slide: Path,
        parfocal: Parfocal,
        network: Oracle,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with waiting(tmp_path, simulator={"seed": 5}) as bench:
            recorded(bench)
        found = about(slide / "field-001")
        assert (found["slide"], found["rig"], found["stage"]) == ("blood-7", "simulated", "simulated")
        assert (found["specimen"], found["seed"], found["objective"]) == ("tissue", 5, "20x0.40")
        assert (found["source"], found["version"], found["model"]) == ("parfocal serve", "test", vars(CARD))
        assert (found["planes"], found["exposure_locked"], found["calibration"]) == (9, True, None)
        monkeypatch.setattr(Oracle, "card", CARD, raising=False)
        assert parfocal("collect", tmp_path / "by-hand", "--fields", 1, "--planes", 9)[0] == 0
        by_hand = about(tmp_path / "by-hand" / "field-001")
        assert list(found) == list(by_hand), "the same keys as the command's"
        same = set(found) - {"source", "version", "slide", "seed", "date"}
        kinds = {key: type(found[key]) for key in same}
        assert kinds == {key: type(by_hand[key]) for key in same}

    def test_the_command_goes_on_with_it(
        self,
        tmp_path: Path,
        slide: Path,
        parfocal: Parfocal,
        network: Oracle,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with waiting(tmp_path) as bench:
            recorded(bench)
        monkeypatch.setattr(Oracle, "card", CARD, raising=False)
        code, said, _ = parfocal("collect", slide, "--fields", 2, "--planes", 9, "--yes")
        assert (code, said.splitlines()[-1]) == (0, f"{slide}: 2 of 2 fields, done")
        with waiting(tmp_path) as bench:
            assert recorded(bench)["collect"]["fields"] == 3

    def test_how_far_it_is_is_told_and_feeds_the_watchdog(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown: list[int] = []
        monkeypatch.setattr(Feed, "show", lambda self, image: shown.append(len(image)))
        with waiting(tmp_path) as bench:
            told: list[tuple[int, int]] = []
            tell = bench.feed.tell

            def heard(kind: str, data: dict[str, Any]) -> None:
                tell(kind, data)
                if kind == "status" and data["state"] == "collecting":
                    assert data["collect"]["ended"] is None
                    told.append((data["collect"]["planes_done"], bench.beats))

            monkeypatch.setattr(bench.feed, "tell", heard)
            monkeypatch.setattr(bench.service, "_cancelled", lambda: False)  # that beats while it moves
            looks = len(shown)
            recorded(bench)
            assert [done for done, _ in told] == [0, *range(10)], "begun, checked, and each plane"
            beats = [beats for _, beats in told]
            assert all(later > earlier for earlier, later in pairwise(beats))
            assert len(shown) - looks >= 2 + 9, "each look of the focus run, and each plane"
            assert bench.said[-2:] == [
                "collecting: z-stack of blood-7, asked for by test",
                f"ready: {bench.service.status()['reason']}",
            ]

    def test_exposure_is_held_and_let_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[str] = []
        monkeypatch.setattr(SimulatedCamera, "lock", lambda self: done.append("lock"))
        monkeypatch.setattr(SimulatedCamera, "unlock", lambda self: done.append("unlock"))
        with waiting(tmp_path) as bench:
            when(bench, 4, lambda: bench.service.stop("test"), monkeypatch)
            recorded(bench)
            assert done == ["lock", "unlock"] * 2

    def test_holding_ends(self, tmp_path: Path) -> None:
        with running(tmp_path, service={"hold": True}) as bench:
            bench.until("in_focus")
            bench.wait_for(lambda: bench.service.status()["hold"]["state"] == "holding", "holding")
            hold = recorded(bench)["hold"]
            assert (hold["state"], hold["reason"][:22]) == ("waiting", "let go for a z-stack; ")

    def test_it_counts_as_a_focus_for_the_clock_and_keeps_no_pictures(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scopes: list[Microscope] = []
        record = Collecting.record

        def spied(self: Collecting, scope: Microscope, plan: Plan) -> Ended:
            scopes.append(scope)
            return record(self, scope, plan)

        monkeypatch.setattr(Collecting, "record", spied)
        with waiting(tmp_path, service={"boot_focus": False, "focus_every_min": 30.0}) as bench:
            bench.wait_for(lambda: bench.service._schedule._ran_s is not None, "the clock to run")
            bench._clock.sleep_s(1700.0)
            recorded(bench)
            bench._clock.sleep_s(1000.0)
            beats = bench.beats
            bench.wait_for(lambda: bench.beats > beats, "an idle round")
            assert bench.service.status()["last"] is None, "not due: one was 1000 s ago"
            assert scopes[0].trace.entries == []

    def test_fewer_planes_where_a_limit_is_near(self, tmp_path: Path, slide: Path) -> None:
        with waiting(tmp_path, stage={"limit_high_um": 33.0}, simulator={"start_defocus_um": -20.0}) as bench:
            status = recorded(bench)
            assert status["state"] == "ready", status
            planes = status["collect"]["planes"]
            assert 5 <= planes == len(ZStack.open(slide / "field-001")) < 9
            assert f"{planes} planes of 2.05 µm of 9, for more the limits left no room" in status["reason"]


class TestStop:
    @pytest.mark.parametrize(("way", "planes"), [("stop", 3), ("press", 3), ("stop", 9)])
    def test_between_planes(
        self, way: str, planes: int, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with waiting(tmp_path) as bench:
            recorded(bench)
            kept = {path: path.read_bytes() for path in (slide / "field-001").iterdir()}

            def stop() -> tuple[list[str], float, int]:
                bench.service.stop("test") if way == "stop" else bench.service.press()
                stage = bench.opened[0].stage
                return names(slide), stage.position_um, stage.moves

            stopped = when(bench, planes, stop, monkeypatch)
            status = recorded(bench)
            there, place_um, moves = stopped[0]
            assert len(there) == 2
            assert there[0].startswith(".field-002."), "it was being written"
            assert (status["state"], status["collect"]["fields"]) == ("ready", 1)
            assert (
                status["reason"]
                == f"z-stack of blood-7/field-002 is not recorded: stopped at {place_um:.2f} µm"
            )
            assert status["stage"]["position_um"] == place_um
            assert bench.opened[0].stage.moves == moves, "nothing moves after a stop"
            assert names(slide) == ["field-001"]
            assert {path: path.read_bytes() for path in (slide / "field-001").iterdir()} == kept
            assert recorded(bench)["collect"]["field"] == "field-002"

    @pytest.mark.parametrize("heard", [True, False])
    def test_in_mid_move(
        self, heard: bool, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not ``heard``: the stage was told in the instant before the move, which makes it forget that."""
        if not heard:
            monkeypatch.setattr(Stage, "stop", lambda self: None)
        with waiting(tmp_path, RealClock()) as bench:
            bench.service.collect("blood-7", Plan(planes=5, step_dof=6.0), "test")
            bench.wait_for(
                lambda: (bench.service.status()["collect"] or {}).get("planes_done") == 1, "a plane"
            )
            stage = bench.opened[0].stage
            before_um = stage.position_um
            bench.wait_for(lambda: stage.position_um > before_um + 1.0, "the stage to move on")
            moves = stage.moves
            assert bench.service.stop("test")
            status = bench.until("ready")
            assert "z-stack of blood-7/field-001 is not recorded: z: stopped at" in status["reason"]
            assert before_um + 1.0 < status["stage"]["position_um"] < before_um + 19.0
            assert stage.moves == moves
            assert not slide.exists(), "an empty folder that was made goes again"

    def test_while_it_focuses(self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with waiting(tmp_path) as bench:
            tell = bench.feed.tell

            def stop(kind: str, data: dict[str, Any]) -> None:
                tell(kind, data)
                if kind == "look" and not moves:
                    moves.append(bench.opened[0].stage.moves)
                    bench.service.stop("test")

            moves: list[int] = []
            monkeypatch.setattr(bench.feed, "tell", stop)
            status = recorded(bench)
            assert moves == [bench.opened[0].stage.moves]
            assert (status["state"], slide.exists()) == ("ready", False)
            assert "z-stack of blood-7/field-001 is not recorded: stopped at " in status["reason"]

    def test_when_all_is_written_keeps_it(
        self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with waiting(tmp_path) as bench:
            write = collect.write_zstack

            def written(*given: Any) -> None:
                write(*given)
                bench.service.stop("test")

            monkeypatch.setattr(collect, "write_zstack", written)
            status = recorded(bench)
            assert names(slide) == ["field-001"]
            assert "is recorded: 9 planes of 2.05 µm; stopped on the way to its focus" in status["reason"]
            last_um = ZStack.open(slide / "field-001").z_um[-1]
            assert status["stage"]["position_um"] == pytest.approx(last_um)

    def test_shut_down(self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with waiting(tmp_path) as bench:
            when(bench, 3, bench.service.shut_down, monkeypatch)
            bench.service.collect("blood-7", FEW, "test")
            bench.wait_for(lambda: ended(bench) is not None, "its end")
            assert "is not recorded: stopped at" in str(ended(bench))
        assert not slide.exists()
        with pytest.raises(MotorError, match="closed"):
            bench.opened[0].stage.move_by_um(1.0)


def test_one_thing_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting(tmp_path) as bench:
        service = bench.service

        def ask_again() -> int:
            for request in (
                service.focus,
                lambda by: service.jog(1.0, by),
                lambda by: service.collect("b", FEW, by),
            ):
                with pytest.raises(Busy, match="busy: a z-stack is being recorded; stop it first"):
                    request("test")
            return 3

        asked = when(bench, 2, ask_again, monkeypatch)
        assert recorded(bench)["state"] == "ready"
        assert asked == [3]
        assert names(tmp_path / "collected") == ["blood-7"]
