"""`parfocal doctor` on devices that are not here: access, camera."""

from __future__ import annotations

import os
from typing import NoReturn

import numpy as np
import pytest
from fake_machine import CSI, PICAMERA2, USB, Computer, uln2003

from edge import hardware
from edge.camera import Camera, Frame
from edge.config import Config, override
from edge.doctor import devices
from edge.doctor.finding import ok, warning
from edge.errors import CameraError

pytestmark = pytest.mark.usefixtures("state")


class TestAccess:
    """The files of this test belong to the group that `os.getgid` names."""

    @pytest.fixture
    def pi(self, computer: Computer) -> Computer:
        for name in ("gpiochip0", "gpiomem", "video0", "media0", "dma_heap/system"):
            computer.put(f"/dev/{name}").chmod(0o660)
        computer.put(
            "/etc/group", f"root:x:0:\nvideo:x:{os.getgid()}:bob\nempty\n".replace("root:x:0:\n", "")
        )
        return computer

    def test_open(self, pi: Computer) -> None:
        finding = devices.access(pi.machine(), PICAMERA2)
        assert finding == ok("ada may open /dev/dma_heap/system, /dev/media0, /dev/video0")
        assert devices.access(pi.machine(user_id=0), PICAMERA2).found == "root may open everything"

    def test_not_in_the_group(self, pi: Computer) -> None:
        pi.closed = {"/dev/video0", "/dev/media0"}
        finding = devices.access(pi.machine(), PICAMERA2)
        assert finding.status == "error"
        assert finding.found == "ada may not open /dev/media0, /dev/video0 (group video)"
        assert finding.do == "sudo usermod -aG video ada, then log in again"

    def test_in_the_group_from_the_next_login(self, pi: Computer) -> None:
        pi.closed = {"/dev/video0"}
        finding = devices.access(pi.machine(user="bob"), PICAMERA2)
        assert "although in group video" in finding.found
        assert "log out and in again" in finding.do

    def test_what_is_not_needed_is_a_warning(self, pi: Computer) -> None:
        pi.closed = {"/dev/gpiochip0"}
        assert devices.access(pi.machine(), PICAMERA2).status == "warning"
        assert devices.access(pi.machine(), uln2003()).status == "error"

    def test_what_no_group_opens(self, pi: Computer) -> None:
        (pi.root / "dev/dma_heap/system").chmod(0o600)
        pi.closed = {"/dev/dma_heap/system"}
        assert devices.access(pi.machine(), USB).status == "ok", "of no interest to a USB camera"
        finding = devices.access(pi.machine(), PICAMERA2)
        assert finding.status == "error"
        assert "udev rules" in finding.do

    def test_a_serial_port(self, pi: Computer) -> None:
        pi.put("/dev/ttyACM0").chmod(0o660)
        pi.link("/dev/serial/by-id/usb-Sangaboard", "../../ttyACM0")
        port = "/dev/serial/by-id/usb-Sangaboard"
        board = override(Config(), "test", stage={"driver": "sangaboard"}, serial={"port": port})
        pi.closed = {port}
        assert f"ada may not open {port}" in devices.access(pi.machine(), board).found

    def test_many(self, pi: Computer) -> None:
        for number in range(10, 20):
            pi.put(f"/dev/video{number}")
            pi.closed.add(f"/dev/video{number}")
        found = devices.access(pi.machine(), PICAMERA2).found
        assert "/dev/video10, /dev/video11, /dev/video12, /dev/video13 and 6 more" in found


class Shots(Camera):
    """A camera that gives ``images`` one after the other, and the last for ever."""

    frame_period_s = 0.1

    def __init__(self, *levels: int) -> None:
        self.levels = list(levels)
        self.taken = 0
        self.closed = False

    def capture(self, not_before_s: float) -> Frame:
        level = self.levels[min(self.taken, len(self.levels) - 1)]
        self.taken += 1
        return Frame(np.full((48, 64, 3), level, np.uint8), 0.0, 0.1, self.taken)

    def close(self) -> None:
        self.closed = True


class TestCamera:
    @pytest.fixture
    def shots(self, monkeypatch: pytest.MonkeyPatch) -> Shots:
        made = Shots(100)
        monkeypatch.setattr(hardware, "open_camera", lambda config, clock: made)
        return made

    def test_none(self, computer: Computer) -> None:
        computer.put("/dev/video0")
        finding = devices.camera(computer.machine(), Config())
        assert finding == warning("not configured; there is /dev/video0", "set [camera] driver")

    def test_a_frame(self, computer: Computer, shots: Shots) -> None:
        assert devices.camera(computer.machine(), USB) == ok("opencv 0: 64 x 48, mean 100 of 255")
        assert shots.taken == 1
        assert shots.closed

    def test_automatic_exposure_is_given_time(self, computer: Computer, shots: Shots) -> None:
        shots.levels = [255, 255, 255, 120]
        assert devices.camera(computer.machine(), USB).status == "ok"

    def test_a_black_frame(self, computer: Computer, shots: Shots) -> None:
        shots.levels = [0]
        finding = devices.camera(computer.machine(), USB)
        assert finding.status == "warning"
        assert "the frame is black" in finding.found
        assert 1 < shots.taken < 100
        assert shots.closed

    @pytest.fixture
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(config: Config, clock: object) -> NoReturn:
            raise CameraError("camera 0: does not open")

        monkeypatch.setattr(hardware, "open_camera", fail)

    @pytest.mark.usefixtures("broken")
    def test_in_use(self, computer: Computer) -> None:
        computer.put("/dev/video0")
        computer.put("/proc/4711/comm", "cheese\n")
        computer.link("/proc/4711/fd/9", str(computer.root / "dev/video0"))
        computer.link(f"/proc/{os.getpid()}/fd/9", "/dev/video0")
        for number in (8, 10):
            computer.link(f"/proc/4711/fd/{number}", "/dev/video0")
        finding = devices.camera(computer.machine(), USB)
        assert finding.status == "error"
        assert finding.found.endswith("the camera is in use by cheese (pid 4711)")
        assert finding.do == "end that program first"

    @pytest.mark.usefixtures("broken")
    @pytest.mark.parametrize(
        ("config", "do"), [(PICAMERA2, "rpicam-hello"), (USB, "[camera] device"), (CSI, "nvargus-daemon")]
    )
    def test_not_there(self, computer: Computer, config: Config, do: str) -> None:
        finding = devices.camera(computer.machine(), config)
        assert finding.found == "camera 0: does not open"
        assert do in finding.do
