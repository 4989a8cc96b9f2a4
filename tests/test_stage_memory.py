"""The stage that remembers: across restarts, kills and power cuts, and what it may do while in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest
from power import GAP, HIGH, LOW, UM, Board, Disk, Life, safe_everywhere

from firmware_iface import journal as journal_module
from firmware_iface.clock import VirtualClock
from firmware_iface.errors import LimitError, MotorError, MoveCancelled
from firmware_iface.journal import BLOCK_BYTES
from firmware_iface.stage import Stage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stage.journal"


# -- across restarts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps_count", [True, False])
@pytest.mark.parametrize("compensation", ["one-sided", "on-reversal"])
def test_it_is_where_it_was_left(path: Path, keeps_count: bool, compensation: str) -> None:
    life = Life(path, wishes={"compensation": compensation})
    for target in (300, -40, 25, 1200, 1150):
        life.stage.move_to_steps(target)
        assert life.stage.position_steps == target
        life = life.next(count=life.axis.position_steps if keeps_count else None)
        assert life.stage.position_steps == target
        assert life.stage.uncertain is None
    life.end()


def test_the_first_start_is_at_0_where_it_stands(path: Path) -> None:
    life = Life(path, count=-70)
    assert (life.stage.position_steps, life.stage.uncertain) == (0, None)
    life.stage.move_to_steps(-30)
    assert life.axis.position_steps == -100
    life.end()


def test_the_count_goes_on_after_a_cancel_and_a_stop(path: Path) -> None:
    life = Life(path)
    with pytest.raises(MoveCancelled):
        life.stage.move_to_steps(1500, cancel=lambda: life.clock.now_s() > 0.4)
    life = life.next()
    assert life.stage.uncertain is None
    assert 0 < life.stage.position_steps == life.true_screw < 1500
    life.end()


@pytest.mark.parametrize(
    ("left_at", "moved", "certain"),
    [(1000, 90, True), (1000, -100, True), (0, 700, True), (1000, 400, False)],
)
def test_others_moved_the_board_meanwhile(path: Path, left_at: int, moved: int, certain: bool) -> None:
    life = Life(path, count=left_at - 500)
    life.stage.move_to_steps(500)
    life = life.next(count=left_at + moved, shift=moved)
    assert life.stage.position_steps == 500 + moved == life.true_screw
    assert (life.stage.uncertain is None) == certain
    if not certain:
        assert "counts 1400 steps and was left at 1000" in str(life.stage.uncertain)
        assert safe_everywhere(life)
    life.end()


def test_the_board_may_have_been_reset_and_then_moved(path: Path) -> None:
    life = Life(path, count=500)
    life.stage.move_to_steps(500)
    life = life.next(count=700, shift=700)
    assert life.stage.uncertain is not None
    assert safe_everywhere(life)
    life.end()


def test_another_pitch_is_a_doubt_and_the_old_one_ends_it(path: Path) -> None:
    life = Life(path)
    life.stage.move_to_steps(500)
    life.stage.found_focus()
    life = life.next(um_per_step=0.25)
    assert "um_per_step was 0.5 when it was written down, and is 0.25 now" in str(life.stage.uncertain)
    assert life.stage.limits_um == (125 - 200, 125 + 200)
    life.stage.move_to_steps(510)
    life.stage.found_focus()
    assert life.stage.uncertain is not None, "the old focus was counted in other steps"
    life.end()


@pytest.mark.parametrize("content", [b"", b"my thesis, only copy", bytes(2 * BLOCK_BYTES)])
def test_a_journal_that_is_none_is_a_doubt_in_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for _ in range(2):
        life = Life(path)
        said = life.stage.uncertain
        assert said is not None
        assert said.isprintable()
        assert f"the journal {path} is " in said
        assert "; -400 to 400 um is allowed until home is found (without a switch: put" in said
        life.end()
    life = Life(path)
    life.stage.move_to_steps(300)
    life = life.next()
    assert "the journal" in str(life.stage.uncertain), "written down, the doubt goes on"
    assert life.stage.limits_um == (-400, 400), "counted from where it began"
    life.end()


def test_without_a_journal_nothing_is_written_and_doubt_is_the_same() -> None:
    clock = VirtualClock()
    axis = Board(clock)
    stage = Stage(axis, clock, um_per_step=UM, limits_steps=(LOW, HIGH), uncertain_travel_steps=100)
    axis.enable()
    cut = iter(range(100))

    def stop_it() -> bool:
        if next(cut) == 50:
            axis.stop()
        return False

    with pytest.raises(MotorError, match="should be at 1000"):
        stage.move_to_steps(1000, cancel=stop_it)
    here = stage.position_steps
    assert "stands at" in str(stage.uncertain)
    with pytest.raises(LimitError, match="more than 50 um from where the position became uncertain"):
        stage.move_to_steps(here + 101)
    stage.move_to_steps(here + 100)


# -- in doubt ---------------------------------------------------------------------------------------------


def test_a_cut_off_move_narrows_what_is_allowed(path: Path) -> None:
    life = Life(path, wishes={"uncertain_travel_steps": 300})
    life.stage.move_to_steps(400)
    life = life.killed_on_the_way_to(1800, after=60)
    assert 400 < life.true_screw < 1800
    said = str(life.stage.uncertain)
    assert said.startswith(
        "z: the position is uncertain: a move between 200 and 900 um was cut off; 400 to 625 um is"
    )
    low, high = (round(um / UM) for um in life.stage.limits_um)
    assert safe_everywhere(life)
    assert life.stage.position_steps == 1100, "half way"
    assert (low, high) == (800, 1100 + HIGH - (1800 + GAP))
    with pytest.raises(
        LimitError, match="might pass a soft limit, the position is uncertain: a move between"
    ):
        life.stage.move_to_steps(high + 1)
    with pytest.raises(
        LimitError, match=r"more than 150 um from where the position became uncertain: a move"
    ):
        life.stage.move_to_steps(low - 1)
    reach = [round(um / UM) for um in life.stage.reachable_um]
    for target in (*reach, *reversed(reach)):
        life.stage.move_to_steps(target)
        assert life.stage.position_steps == target
    again = life.next()
    assert again.stage.uncertain == life.stage.uncertain
    again.end()


@pytest.mark.parametrize("count", [900, 2500])
def test_a_cut_off_move_of_a_board_that_others_moved_after_it(path: Path, count: int) -> None:
    life = Life(path)
    life.stage.move_to_steps(400)
    life = life.killed_on_the_way_to(1800, after=60, count=count)
    moved_since = count not in range(400, 1801)
    assert ("the axis was moved by others since" in str(life.stage.uncertain)) == moved_since
    assert life.stage.limits_um == ((1100 - 800) * UM, (1100 + (800 if moved_since else 150)) * UM)
    life.end()


def test_a_cut_in_doubt_widens_the_doubt(path: Path) -> None:
    life = Life(path, wishes={"uncertain_travel_steps": 3000})
    life = life.killed_on_the_way_to(1000, after=222)
    assert life.true_screw > 950, "nearly there"
    assert life.stage.limits_um == ((LOW + 550) * UM, (HIGH - 550) * UM)
    life = life.killed_on_the_way_to(life.stage.position_steps - 300, after=1)
    assert life.true_screw > 950, "hardly begun"
    assert "a move between 0 and 500 um" in str(life.stage.uncertain), "the first reason stays"
    # Half of the 300 steps and of the overshoot, and a gap's width, to either side.
    assert life.stage.limits_um == ((LOW + 550 + 225) * UM, (HIGH - 550 - 225) * UM)
    assert safe_everywhere(life)
    assert LOW <= life.stage.limits_um[1] / UM + life.true_screw - life.stage.position_steps <= HIGH
    life.end()


def test_a_second_doubt_keeps_to_where_the_first_began(path: Path) -> None:
    life = Life(path, wishes={"uncertain_travel_steps": 400})
    life = life.killed_on_the_way_to(1000, after=60)
    life = life.killed_on_the_way_to(life.stage.position_steps - 300, after=10)
    assert life.stage.limits_um == ((500 - 400) * UM, (500 + 400) * UM)
    life.end()


def test_where_the_stage_may_be_anywhere_nothing_is_safe(path: Path) -> None:
    life = Life(path)
    life.stage.move_to_steps(LOW + GAP)
    life = life.killed_on_the_way_to(HIGH, after=100)
    here = life.stage.position_um
    assert life.stage.limits_um == life.stage.reachable_um == (here, here)
    with pytest.raises(LimitError, match="might pass a soft limit, the position is uncertain"):
        life.stage.move_to_steps(life.stage.position_steps)
    life.end()


def test_the_last_focus_ends_the_doubt_where_it_can(path: Path) -> None:
    life = Life(path)
    life.stage.move_to_steps(700)
    life.stage.found_focus()
    life.stage.move_to_steps(400)
    life = life.killed_on_the_way_to(900, after=40)
    assert "until home, or the focus where it was, is found" in str(life.stage.uncertain)
    life.stage.found_focus()
    assert life.stage.uncertain is not None, "the nut may lie anywhere in its gap"
    life.stage.move_to_steps(life.stage.position_steps + 700 - life.true_screw)
    life.stage.found_focus()
    assert life.stage.uncertain is None
    assert life.stage.position_steps == life.true_screw == 700
    assert life.stage.limits_um == (LOW * UM, HIGH * UM)
    life = life.next()
    assert (life.stage.position_steps, life.stage.uncertain) == (700, None)
    life.end()


def test_a_focus_that_cannot_be_the_last_one_ends_no_doubt(path: Path) -> None:
    life = Life(path)
    life.stage.move_to_steps(-1500)
    life.stage.found_focus()
    life.stage.move_to_steps(400)
    life = life.killed_on_the_way_to(900, after=40)
    life.stage.move_by_um(0.0)
    life.stage.found_focus()
    assert life.stage.uncertain is not None
    life.end()


def test_no_farther_than_that_from_the_last_good_focus(path: Path) -> None:
    life = Life(path, wishes={"focus_travel_steps": 100})
    life.stage.move_to_steps(1000)
    life.stage.found_focus()
    life = life.next()
    assert life.stage.limits_um == life.stage.reachable_um == (450, 550)
    for target in (899, 1101):
        with pytest.raises(
            LimitError, match=r"more than 50 um from the last good focus at 500 um\); allowed is 450"
        ):
            life.stage.move_to_steps(target)
    life.stage.move_to_steps(900)
    life.stage.move_to_steps(1000)
    life.stage.found_focus()
    life.end()


def test_a_journal_that_fails_stops_the_move_before_it_begins(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(path)
    disk = Disk(path)
    monkeypatch.setattr(disk, "pwrite", lambda *_: 0, raising=False)
    monkeypatch.setattr(journal_module, "os", disk)
    with pytest.raises(MotorError, match="the stage's position cannot be written"):
        life.stage.move_to_steps(100)
    assert life.true_screw == 0
    life.end()
