"""The small pieces of the service, one by one: history, schedule, button, LED, feed, lock, systemd, logs."""

from __future__ import annotations

import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from fake_gpio import FakeGpio
from service_bench import frame

from edge.errors import InputError
from edge.service import journald
from edge.service.feed import Feed
from edge.service.messages import Status
from edge.service.notify import Watchdog, notify
from edge.service.owner import Owner, state_folder
from edge.service.panel import PATTERNS, Button, Panel, lit
from edge.service.runs import Runs
from edge.service.schedule import Schedule
from edge.service.service import State
from firmware_iface.clock import VirtualClock
from firmware_iface.errors import MotorError


class TestRuns:
    def test_numbers_go_on_after_a_restart(self, tmp_path: Path) -> None:
        assert Runs(tmp_path, 5).keep({"at": "a", "result": {}}) == 1
        assert Runs(tmp_path, 5).keep({"at": "b", "result": {}}) == 2
        assert [run["at"] for run in Runs(tmp_path, 5).newest(9)] == ["b", "a"]

    def test_what_is_damaged_or_foreign_is_left_out(self, tmp_path: Path) -> None:
        runs = Runs(tmp_path, 5)
        runs.keep({"at": "a"})
        (tmp_path / "run-000002.json").write_text("{")
        (tmp_path / "run-000003.json").write_text("[1]")
        (tmp_path / "notes.txt").write_text("mine")
        assert [run["run"] for run in runs.newest(9)] == [1]
        assert runs.read(2) is None
        assert runs.read(99) is None
        assert (tmp_path / "notes.txt").exists()

    def test_what_a_power_cut_left_goes(self, tmp_path: Path) -> None:
        (tmp_path / ".run-000001.json.0123.tmp").write_text("half")
        Runs(tmp_path, 5)
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_takes_the_oldest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from edge.files import atomic_write_text

        runs = Runs(tmp_path, 50)
        for _ in range(40):
            runs.keep({})

        def full(path: Path, text: str) -> None:
            if len(runs.numbers()) > 32:
                raise OSError(28, "No space left on device")
            atomic_write_text(path, text)

        monkeypatch.setattr("edge.service.runs.atomic_write_text", full)
        assert runs.keep({}) == 41
        assert runs.numbers() == list(range(11, 42)), "10 of 40 went to make room"
        assert runs.lost == 0

    @pytest.mark.parametrize(("kept", "left"), [(5, 5), (20, 20), (25, 20), (40, 20)])
    def test_a_disk_that_stays_full_takes_no_more_than_that(
        self, kept: int, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs = Runs(tmp_path, 500)
        for _ in range(kept):
            runs.keep({})

        def full(path: Path, text: str) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("edge.service.runs.atomic_write_text", full)
        for _ in range(4):
            runs.keep({})
        assert runs.numbers() == list(range(kept - left + 1, kept + 1)), "the newest"
        assert runs.lost == 4

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        runs = Runs(tmp_path / "file", 5)
        assert (runs.keep({}), runs.lost, runs.newest(5)) == (1, 1, [])


class TestSchedule:
    def test_so_long_after_the_last_run_whoever_asked(self) -> None:
        schedule = Schedule.of(10.0, None)
        now = datetime(2026, 1, 1)
        assert schedule.due(0.0, now) is None
        assert schedule.due(599.0, now) is None
        schedule.ran(599.0)
        assert schedule.due(700.0, now) is None
        assert schedule.due(1199.0, now) == "schedule"
        assert schedule.due(1200.0, now) is None, "once"

    @pytest.mark.parametrize(
        ("before", "now", "due"),
        [
            ("01T07:59", "01T08:00", True),
            ("01T08:00", "01T08:01", False),
            ("01T07:00", "01T07:59", False),
            ("01T23:59", "02T00:01", False),
            ("01T13:29", "01T13:31", True),
            ("01T14:00", "03T07:00", True),
            ("01T07:00", "02T06:00", True),
            ("01T14:00", "01T07:00", False),
        ],
    )
    def test_times_of_the_day(self, before: str, now: str, due: bool) -> None:
        schedule = Schedule.of(None, "8:00, 13:30")
        assert schedule.due(0.0, datetime.fromisoformat(f"2026-01-{before}")) is None
        found = schedule.due(1.0, datetime.fromisoformat(f"2026-01-{now}"))
        assert (found == "schedule") is due
        assert schedule.due(2.0, datetime.fromisoformat(f"2026-01-{now}")) is None, "once"


def _gpio(clock: VirtualClock) -> FakeGpio:
    gpio = FakeGpio(clock)
    gpio.setmode(gpio.BCM)
    return gpio


class TestPanel:
    def test_a_bouncing_contact_is_one_press(self) -> None:
        button = Button()
        readings = [0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1]
        assert [k for k, closed in enumerate(readings) if button.read(bool(closed))] == [7, 18]

    def test_held_since_the_start_is_no_press(self) -> None:
        button = Button()
        assert not any(button.read(True) for _ in range(10))
        assert not any(button.read(False) for _ in range(10))
        assert sum(button.read(True) for _ in range(10)) == 1

    def test_every_state_looks_different_and_blinks_as_its_table_says(self) -> None:
        times = [k / 100 for k in range(400)]
        shown = {state: tuple(lit(state, t) for t in times) for state in PATTERNS}
        # Starting, focusing, moving and collecting are all "at work".
        assert len(set(shown.values())) == len(PATTERNS) - 3
        assert shown["collecting"] == shown["moving"] == shown["focusing"] == shown["starting"]
        assert set(shown) == set(get_args(State)) == set(get_args(Status.model_fields["state"].annotation))
        assert all(shown["in_focus"])
        assert sum(shown["ready"]) == pytest.approx(20, abs=1)

    def test_reads_and_drives_its_pins(self, clock: VirtualClock) -> None:
        gpio, presses = _gpio(clock), []
        gpio.pull[17] = lambda: level[0]
        level, state = [1], ["in_focus"]
        with Panel(
            clock,
            button_pin=17,
            closed_level=0,
            led_pin=18,
            pressed=lambda: presses.append(1),
            state=lambda: state[0],
            gpio=gpio,
        ) as panel:
            panel._ending.set()  # by hand from here on
            panel._thread.join()
            for level[0] in (1, 1, 1, 0, 0, 0, 0):
                panel.turn()
            assert (presses, gpio.levels[18]) == ([1], 1)
            state[0] = "ready"
            clock.sleep_s(1.0)
            panel.turn()
            assert gpio.levels[18] == 0
        assert gpio.edges[-1].level == 0

    def test_a_pin_in_use(self, clock: VirtualClock) -> None:
        def panel(gpio: FakeGpio) -> Panel:
            return Panel(
                clock,
                button_pin=None,
                closed_level=0,
                led_pin=18,
                pressed=lambda: None,
                state=lambda: "fault",
                gpio=gpio,
            )

        with panel(_gpio(clock)), pytest.raises(MotorError, match="pin 18 is used by button and LED"):
            panel(_gpio(clock))


class TestFeed:
    def test_events_in_their_order(self) -> None:
        feed = Feed(fps=5, px=64)
        for k in range(300):
            feed.tell("look", {"k": k})
        assert feed.last == 300
        assert [event.data["k"] for event in feed.since(297)] == [297, 298, 299]
        assert len(feed.since(0)) == 200, "who lags far behind misses some"

    def test_a_picture_is_made_for_who_asked_and_not_too_often(self) -> None:
        now = [0.0]
        feed = Feed(fps=5, px=32, now_s=lambda: now[0])
        feed.show(frame())
        assert feed.picture() is None
        feed.show(frame())
        first = feed.picture()
        assert first is not None
        image = cv2.imdecode(np.frombuffer(first.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (32, 32, 3)
        feed.show(frame(10))
        assert feed.picture(first.number) is None, "too soon"
        now[0] = 0.2
        feed.show(frame(10))
        second = feed.picture(first.number)
        assert second is not None
        assert second.number == first.number + 1
        now[0] = 9.0
        feed.show(frame())
        assert feed.picture(second.number) is None, "nobody had asked for a while"

    def test_red_stays_red(self) -> None:
        feed = Feed(fps=5, px=64)
        feed.picture()
        feed.show(np.full((16, 16, 3), (200, 0, 0), np.uint8))
        picture = feed.picture()
        assert picture is not None
        blue, _, red = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)[8, 8]
        assert red > 180
        assert blue < 20


class TestOwner:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        with Owner(tmp_path / "a"), pytest.raises(InputError) as error:
            Owner(tmp_path / "a")
        assert f"runs already (process {os.getpid()})" in str(error.value)
        Owner(tmp_path / "a").close()

    def test_a_killed_one_leaves_it_free(self, tmp_path: Path) -> None:
        code = (
            "import os,sys,signal; from pathlib import Path; from edge.service.owner import Owner\n"
            "own = Owner(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
        Owner(tmp_path).close()

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"service\.lock: cannot be kept"):
            Owner(tmp_path / "file")

    def test_where_state_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/parfocal:/else")
        assert state_folder() == Path("/var/lib/parfocal")
        monkeypatch.delenv("STATE_DIRECTORY")
        monkeypatch.setenv("XDG_STATE_HOME", "/s")
        assert state_folder() == Path("/s/parfocal")


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The end of the notify socket that systemd would read."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


class TestNotify:
    def test_is_told(self, systemd: socket.socket) -> None:
        assert notify("READY=1", "STATUS=µ")
        assert systemd.recv(100) == "READY=1\nSTATUS=µ".encode()

    def test_without_systemd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for address in (None, "", "/nowhere", "@nobody-is-there", "tcp:1"):
            if address is None:
                monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
            else:
                monkeypatch.setenv("NOTIFY_SOCKET", address)
            assert not notify("READY=1")

    def test_the_watchdog_is_fed_by_work_and_not_more_than_needed(
        self, systemd: socket.socket, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", "8000000")
        watchdog = Watchdog(clock)
        for _ in range(10):
            watchdog.fed()
            clock.sleep_s(0.5)
        systemd.setblocking(False)
        told = 0
        while True:
            try:
                assert systemd.recv(100) == b"WATCHDOG=1"
            except BlockingIOError:
                break
            told += 1
        assert told == 3, "at 0, 2 and 4 s"

    def test_no_watchdog_no_word(self, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        told: list[object] = []
        monkeypatch.setattr("edge.service.notify.notify", lambda *words: told.append(words))
        Watchdog(clock).fed()
        assert told == []


class TestJournal:
    def test_fields(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.bind(str(tmp_path / "journal"))
            journal.settimeout(5)
            handler = journald.JournalHandler(tmp_path / "journal")
            record = logging.LogRecord("edge.x", logging.ERROR, "x.py", 7, "two\nlines", None, None, "f")
            record.fields = {"EVENT": "run", "RUN": 3, "CONFIDENCE": None}
            handler.emit(record)
            data = journal.recv(4096)
            handler.close()
        text = b"two\nlines"
        assert b"MESSAGE\n" + struct.pack("<Q", len(text)) + text + b"\n" in data
        for line in (b"PRIORITY=3", b"PARFOCAL_EVENT=run", b"PARFOCAL_RUN=3", b"CODE_LINE=7", b"CODE_FUNC=f"):
            assert line + b"\n" in data
        assert b"CONFIDENCE" not in data

    def test_a_journal_that_is_down_costs_no_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handler = journald.JournalHandler(tmp_path / "nowhere")
        handler.emit(logging.LogRecord("edge.x", logging.INFO, "x.py", 7, "hello", None, None))
        handler.close()
        assert capsys.readouterr().err == "hello\n"

    def test_who_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        assert not journald.listened_to()
        state = os.fstat(sys.__stderr__.fileno())  # type: ignore[union-attr]
        monkeypatch.setattr(sys, "stderr", sys.__stderr__)
        monkeypatch.setenv("JOURNAL_STREAM", f"{state.st_dev}:{state.st_ino}")
        assert journald.listened_to()
        monkeypatch.setenv("JOURNAL_STREAM", f"{state.st_dev}:{state.st_ino + 1}")
        assert not journald.listened_to()
