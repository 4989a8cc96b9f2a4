"""Kills and power cuts at any instant: the screw stays in its limits, and a certain position is true."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from power import GAP, HIGH, LOW, Disk, Killed, Life, safe_everywhere

from firmware_iface import journal as journal_module
from firmware_iface.errors import LimitError, MoveCancelled

KILLS = 20


@dataclass(frozen=True)
class Cut:
    """The state of the world at one instant."""

    image: bytes
    screw: int


def cuts_of(life: Life, disk: Disk) -> list[Cut]:
    """A list that fills with what is left if the power goes: at every system call and every sleep."""
    cuts: list[Cut] = []

    def note() -> None:
        images = {
            disk.torn_at(cut, end_first=end) for cut in (0, 1, 30, 200, 512, 4096) for end in (False, True)
        }
        cuts.extend(Cut(image, life.true_screw) for image in images)

    disk.at_event = life.clock.at_sleep = note
    return cuts


@pytest.mark.parametrize("compensation", ["one-sided", "on-reversal"])
def test_cut_at_every_instant_of_a_journey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compensation: str
) -> None:
    path = tmp_path / "stage.journal"
    life = Life(path, wishes={"compensation": compensation})
    disk = Disk(path)
    monkeypatch.setattr(journal_module, "os", disk)
    cuts = cuts_of(life, disk)
    for target in (150, -150, 100):
        life.stage.move_to_steps(target)
        life.stage.found_focus()
    life.end()
    monkeypatch.undo()
    certain = 0
    for cut in dict.fromkeys(cuts):
        copy = tmp_path / "copy"
        copy.write_bytes(cut.image)
        after = Life(copy, cut.screw, wishes=life.wishes)
        if after.stage.uncertain is None:
            certain += 1
            off = abs(after.stage.position_steps - cut.screw)
            assert off <= (GAP if compensation == "on-reversal" else 0)
        elif "the journal" not in after.stage.uncertain and compensation == "one-sided":
            assert safe_everywhere(after)
        after.end()
    assert len(set(cuts)) > 200
    assert certain >= 7, "at the start, after each move and after each focus"


FOCUS = 300
moves = st.tuples(st.just("move"), st.integers(LOW - 100, HIGH + 100))
short_moves = st.tuples(st.just("step"), st.integers(-300, 300))
others = st.sampled_from([("focus", 0), ("restart", 0)])
cancelled = st.tuples(st.just("cancel"), st.integers(LOW, HIGH))
kills = st.tuples(st.sampled_from(["power", "process"]), st.integers(0, 120))
histories = st.lists(
    st.one_of(moves, short_moves, short_moves, cancelled, others, kills), min_size=1, max_size=12
)


class World:
    """A stage whose true screw is known, through any number of lives."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, *, board: bool, **wishes: Any) -> None:
        self.path, self.patch, self.board = path, patch, board
        self.life = Life(path, wishes={"uncertain_travel_steps": 200, **wishes})
        self.left_s: int | None = None
        self.begin()

    def begin(self) -> None:
        self.disk = Disk(self.path)
        self.patch.setattr(journal_module, "os", self.disk)
        self.disk.at_event = self.life.clock.at_sleep = self.watch

    def watch(self) -> None:
        """The promises, at this instant; and the kill, when it is due."""
        assert LOW <= self.life.true_screw <= HIGH
        if self.left_s is not None:
            self.left_s -= 1
            if self.left_s < 0:
                self.torn = self.disk.torn_at(0), self.path.read_bytes()
                axis, now_s = self.life.axis, self.life.clock.now_s()
                # A board goes on to its target when the host is gone.
                goes_on = self.board and self.kind == "process"
                ahead = axis.true_position_steps(now_s + 1e3) - axis.true_position_steps() if goes_on else 0
                self.screw = self.life.true_screw + round(ahead)
                self.count = axis.position_steps + round(ahead)
                raise Killed

    def check_standing(self) -> None:
        stage = self.life.stage
        if stage.uncertain is None:
            slack = GAP if self.life.wishes.get("compensation") == "on-reversal" else 0
            assert abs(stage.position_steps - self.life.true_screw) <= slack

    def play(self, what: str, number: int) -> None:
        if what in ("power", "process"):
            self.kill(what, number)
            return
        if what == "restart":
            self.life = self.life.next(count=self.life.axis.position_steps if self.board else None)
            self.begin()
            return
        with contextlib.suppress(LimitError):
            self.move(what, number)
        self.check_standing()

    def move(self, what: str, number: int) -> None:
        stage = self.life.stage
        if what == "move":
            stage.move_to_steps(number)
        elif what == "step":
            stage.move_to_steps(stage.position_steps + number)
        elif what == "cancel":
            until_s = self.life.clock.now_s() + 0.1
            with contextlib.suppress(MoveCancelled):
                stage.move_to_steps(number, cancel=lambda: self.life.clock.now_s() > until_s)
        else:
            stage.move_to_steps(stage.position_steps + FOCUS - self.life.true_screw)
            stage.found_focus()

    def kill(self, what: str, number: int) -> None:
        """In the middle of a move, or right after it where it is short."""
        self.left_s, self.kind = number, what
        try:
            stage = self.life.stage
            far = 900 if stage.uncertain is None else 140
            stage.move_to_steps(stage.position_steps + (far if number % 2 else -far))
            self.life.clock.sleep_s(0.0)
            while True:
                self.watch()
        except LimitError:
            self.left_s = None
            return
        except Killed:
            pass
        self.left_s = None
        self.patch.undo()
        self.life.clock.at_sleep = lambda: None
        self.life.end()
        self.path.write_bytes(self.torn[0 if what == "power" else 1])
        count = self.count if self.board and what == "process" else 0
        self.life = Life(self.path, self.screw, count, self.life.wishes)
        self.begin()
        self.check_standing()


@given(histories, st.booleans(), st.sampled_from([-1, 1]))
def test_the_screw_stays_in_its_limits_and_a_certain_position_is_true(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, int]], board: bool, approach: int
) -> None:
    path = tmp_path_factory.mktemp("world") / "stage.journal"
    with pytest.MonkeyPatch.context() as patch:
        world = World(path, patch, board=board, approach=approach)
        for what, number in history:
            world.play(what, number)
        world.life.end()
        assert LOW <= world.life.true_screw <= HIGH


def test_processes_killed_at_random_instants(tmp_path: Path) -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "killed_stage.py"), str(tmp_path / "stage.journal"), str(KILLS)],
        env={**os.environ, "PYTHONPATH": str(here.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["certain"] + found["uncertain"] == KILLS
    assert found["uncertain"] > 0, "some kills hit moves"
    assert found["certain"] > 0, "and some do not"
    assert found["steps"] > 1000
