"""The journal's file: torn, cut short, damaged, foreign or in use, it never tells a wrong place for sure."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from power import Disk, Killed, blocks

from firmware_iface import journal as journal_module
from firmware_iface.errors import MotorError
from firmware_iface.journal import BLOCK_BYTES, Doubt, Journal, Record

STANDS = Record(
    position_steps=120,
    moving=None,
    axis_steps=-7,
    closed_steps=30,
    focus_steps=100,
    doubt=Doubt("a reason", -30, 150, 60),
    um_per_step=0.062,
)
MOVES = replace(STANDS, moving=(120, 480), doubt=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stage.journal"


def read(path: Path) -> tuple[Record | None, str | None]:
    """What a new process finds."""
    found = Journal(path)
    found.close()
    return found.record, found.damage


def keep(path: Path, *records: Record) -> bytes:
    """Write ``records`` one after the other; the file's content."""
    journal = Journal(path)
    for record in records:
        journal.write(record)
    journal.close()
    return path.read_bytes()


# -- what is kept -----------------------------------------------------------------------------------------


def test_a_new_file_says_nothing_and_is_not_damaged(path: Path) -> None:
    assert read(path) == (None, None)
    assert read(path) == (None, None)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "record", [STANDS, MOVES, replace(STANDS, doubt=Doubt("x", None, None, 0), focus_steps=None)]
)
def test_the_last_record_is_what_the_next_process_finds(path: Path, record: Record) -> None:
    keep(path, MOVES, STANDS, record)
    assert read(path) == (record, None)
    keep(path, replace(record, position_steps=-1))
    assert read(path) == (replace(record, position_steps=-1), None)


def test_what_is_remembered_is_not_written_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.write(STANDS)
    disk = Disk(path)
    monkeypatch.setattr(journal_module, "os", disk)
    journal.write(STANDS)
    assert disk.pending == []
    syncs: list[None] = []
    disk.at_event = lambda: syncs.append(None)
    journal.write(MOVES)
    assert len(syncs) == 3, "one write, before and after one sync"
    journal.close()


def test_a_closed_journal_takes_nothing(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(MotorError, match="journal is closed"):
        journal.write(STANDS)


def test_it_is_one_line_that_a_person_can_read(path: Path) -> None:
    for block in blocks(keep(path, MOVES, STANDS)):
        line = block.decode().rstrip()
        assert "\n" not in line
        assert '"position_steps": 120' in line


def test_a_reason_is_one_line_however_long() -> None:
    doubt = Doubt("no\nreply: \x1b[31m" + "é" * 5000 + "\ud800", None, None, 0)
    assert doubt.why.startswith("no reply: [31mé")
    assert doubt.why.isprintable()
    assert len(doubt.why) == 300


def test_the_longest_reason_fits(path: Path) -> None:
    record = replace(STANDS, doubt=Doubt("\U0001d11e" * 400, -(2**53), 2**53, 2**53))
    keep(path, record)
    assert read(path) == (record, None)


@pytest.mark.parametrize(("least", "most"), [(0, None), (None, 0), (2, 1)])
def test_impossible_doubts_are_refused(least: int | None, most: int | None) -> None:
    with pytest.raises(ValueError, match="doubt from"):
        Doubt("x", least, most, 0)


# -- damage -----------------------------------------------------------------------------------------------


def test_cut_short_at_any_byte_it_is_whole_or_known_to_be_damaged(path: Path) -> None:
    whole = keep(path, MOVES, STANDS)
    for length in reversed(range(len(whole) + 1)):
        os.truncate(path, length)
        record, damage = read(path)
        assert (read(path)[1] is None) == (damage is None), "reading makes it no worse"
        if damage is None:
            assert record == STANDS
            assert whole[length : 2 * BLOCK_BYTES].strip() == b"", "only blanks are missing"
        else:
            assert damage.isprintable()


@pytest.mark.parametrize("end_first", [False, True])
def test_a_write_torn_at_any_byte_is_seen_or_undone_or_done(
    path: Path, monkeypatch: pytest.MonkeyPatch, end_first: bool
) -> None:
    keep(path, STANDS)
    journal = Journal(path)
    disk = Disk(path)
    monkeypatch.setattr(journal_module, "os", disk)
    images: set[bytes] = set()

    def cut_here() -> None:
        images.update(disk.torn_at(cut, end_first=end_first) for cut in range(BLOCK_BYTES + 1))

    disk.at_event = cut_here
    journal.write(MOVES)
    journal.close()
    monkeypatch.undo()
    found = set()
    for image in images:
        path.write_bytes(image)
        record, damage = read(path)
        found.add((record, damage is None))
    assert found == {(STANDS, True), (MOVES, True), (STANDS, False)}


@pytest.mark.parametrize("at", [0, 5, 14, 15, 30, 60, 200, BLOCK_BYTES + 3, BLOCK_BYTES + 150])
@pytest.mark.parametrize("bit", [1, 0x20, 0x80])
def test_a_flipped_bit_is_damage_in_either_copy(path: Path, at: int, bit: int) -> None:
    content = bytearray(keep(path, MOVES, STANDS))
    content[at] ^= bit
    path.write_bytes(content)
    assert read(path)[1] is not None


def test_a_write_that_the_disk_only_pretended_to_make_is_seen(path: Path) -> None:
    before = list(blocks(keep(path, MOVES, STANDS)))
    after = list(blocks(keep(path, MOVES, STANDS, MOVES)))
    for image in (before[0] + after[1], after[0] + before[1]):
        path.write_bytes(image)
        record, damage = read(path)
        assert damage is None or damage == "its two copies do not follow each other"
        assert damage is not None or record == MOVES


@pytest.mark.parametrize("length", [3, BLOCK_BYTES + 3])
def test_the_next_write_makes_it_whole_again(path: Path, length: int) -> None:
    path.write_bytes(keep(path, STANDS, MOVES)[:length])
    keep(path, STANDS)
    assert read(path) == (STANDS, None)
    keep(path, MOVES)
    assert read(path) == (MOVES, None)


@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_garbage_is_damage_and_is_kept(
    tmp_path_factory: pytest.TempPathFactory, one: bytes, two: bytes, disguised: bool
) -> None:
    path = tmp_path_factory.mktemp("journal") / "stage.journal"
    content = b"".join(
        ((b"parfocal-stage 01234567 " if disguised else b"") + part).ljust(BLOCK_BYTES, b"\0")
        for part in (one, two)
    )
    path.write_bytes(content)
    record, damage = read(path)
    assert record is None
    assert damage is not None
    assert damage.isprintable()
    assert path.read_bytes() == content, "reading changes nothing"
    keep(path, STANDS)
    assert path.with_name("stage.journal.damaged").read_bytes() == content
    assert read(path) == (STANDS, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda text: text.replace(b'"schema": 1', b'"schema": 2'),
            r"another format \(2; this version knows 1\)",
        ),
        (lambda text: text.replace(b'"axis_steps"', b'"axis_stepz"'), "does not make sense"),
        (lambda text: text.replace(b": 120,", b": 1.5,"), "does not make sense"),
        (lambda text: text.replace(b": 0.062", b": NaN"), "does not make sense"),
        (lambda text: text.replace(b": 0.062", b": -1.0"), "does not make sense"),
        (lambda text: text.replace(b'"a reason"', b"5"), "does not make sense"),
        (lambda text: text.replace(b": 150,", b": -999,"), "does not make sense"),
        (lambda text: b"[" * 3000, "does not make sense"),
        (lambda text: b"7", "does not make sense"),
    ],
)
def test_whole_but_wrong(path: Path, change: object, says: str) -> None:
    assert callable(change)
    keep(path, STANDS, replace(STANDS, focus_steps=1))
    image = b""
    for block in blocks(path.read_bytes()):
        text = change(block[24:].strip())
        image += (b"parfocal-stage %08x " % journal_module.zlib.crc32(text) + text).ljust(BLOCK_BYTES)
    path.write_bytes(image)
    record, damage = read(path)
    assert record is None
    assert re.search(says, str(damage))


def test_a_large_file_of_another_kind_is_left_alone(path: Path) -> None:
    path.write_bytes(b"film" * 300_000)
    with pytest.raises(MotorError, match=r"not the journal of a stage.*name another file"):
        Journal(path)
    assert path.stat().st_size == 1_200_000


# -- the file itself --------------------------------------------------------------------------------------


def test_a_cut_while_the_file_is_made_leaves_none_or_a_whole_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last in range(20):
        disk = Disk(path)
        events: list[None] = []

        def cut_here(events: list[None] = events, last: int = last) -> None:
            events.append(None)
            if len(events) > last:
                raise Killed

        disk.at_event = cut_here
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(journal_module, "os", disk)
            Journal(path).close()
        if len(events) <= last:
            break
        assert not path.exists() or read(path) == (None, None)
        path.unlink(missing_ok=True)
    assert last > 3
    assert read(path) == (None, None)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_no_room_on_the_disk_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.write(STANDS)
    disk = Disk(path)
    monkeypatch.setattr(disk, "pwrite", lambda *_: 3, raising=False)
    monkeypatch.setattr(journal_module, "os", disk)
    with pytest.raises(
        MotorError, match=r"stage.journal: the stage's position cannot be written: no space left"
    ):
        journal.write(MOVES)
    monkeypatch.undo()
    journal.write(MOVES)
    journal.close()
    assert read(path) == (MOVES, None)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_file_is_refused(path: Path, make: object) -> None:
    assert callable(make)
    make(path)
    with pytest.raises(OSError, match=r"directory|not a regular file") as caught:
        Journal(path)
    assert not isinstance(caught.value, MotorError)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Journal(tmp_path / "missing" / "stage.journal")


def test_one_stage_one_process(path: Path) -> None:
    script = """if True:
        import sys
        from firmware_iface.journal import Journal
        held = Journal(sys.argv[1])
        print(flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(MotorError, match=rf"another process \({other.pid}\) drives this stage"):
            Journal(path)
        other.communicate()
    keep(path, STANDS)
    first = Journal(path)
    with pytest.raises(MotorError, match=rf"another process \({os.getpid()}\)"):
        Journal(path)
    first.close()
    assert read(path) == (STANDS, None)
