"""The USB camera class on the kernel's simulated camera: the contract, frozen, black, stalled, unplugged.

The module's own controls freeze the picture, drop all frames or break the stream; sysfs takes the device away
while it is read. Each line of output is one trial: what was said, and after how many seconds.
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sim_lines import tell

from edge.camera.health import fault_of
from edge.camera.opencv import OpenCvCamera
from edge.errors import CameraError
from firmware_iface.clock import RealClock

DEVICE = Path("/dev/video0")
DRIVER = Path("/sys/bus/platform/drivers/vivid")
CONTRACT = Path(__file__).parents[2] / "test_camera_contract.py"
#: Nothing but pytest itself, whose plugins the machine has not.
ALONE = ("-q", "--noconftest", "-c", os.devnull, "-p", "no:cacheprovider")
NEXT = 0x8000_0000  # in a query: the control after this one
QUERY, SET = struct.Struct("=II32siiiiI8x"), struct.Struct("=Ii")
OFF, ALL = 2, 0  # of "OSD Text Mode"; with its running clock no two frames are the same
#: Entries of "Test Pattern".
BARS, BLACK, WHITE = 0, 5, 6


def ioctl_number(number: int, size: int) -> int:
    """`_IOWR('V', number, size)`."""
    return 3 << 30 | size << 16 | ord("V") << 8 | number


def controls() -> dict[str, int]:
    """The device's controls by name."""
    found, last = {}, 0
    with DEVICE.open("rb", buffering=0) as device:
        while True:
            asked = bytearray(QUERY.pack(last | NEXT, 0, b"", 0, 0, 0, 0, 0))
            try:
                fcntl.ioctl(device, ioctl_number(36, QUERY.size), asked)
            except OSError:
                return found
            last, _, name, *_ = QUERY.unpack(asked)
            found[name.rstrip(b"\0").decode()] = last


def turn(name: str, value: int) -> None:
    """Set the control called ``name``."""
    with DEVICE.open("rb", buffering=0) as device:
        fcntl.ioctl(device, ioctl_number(28, SET.size), SET.pack(controls()[name], value))


def plug(there: bool) -> None:
    """Bind the driver to its device, or take the device away; wait until its file says so."""
    (DRIVER / ("bind" if there else "unbind")).write_text("vivid.0")
    wait_for(lambda: DEVICE.exists() is there)


def wait_for(true: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 20
    while not true() and time.monotonic() < until_s:
        time.sleep(0.05)


@contextmanager
def opened() -> Iterator[OpenCvCamera]:
    with OpenCvCamera(clock, str(DEVICE), size=(640, 360)) as camera:
        yield camera


def trial(name: str, camera: OpenCvCamera, before: Callable[[], None]) -> None:
    """Do something to the camera and capture until it says that something is wrong."""
    camera.capture(clock.now_s())
    before()
    began_s = clock.now_s()
    said = None
    while said is None and clock.now_s() - began_s < 10:
        try:
            camera.capture(clock.now_s())
        except CameraError as error:
            said = str(error)
    found_s = clock.now_s() - began_s
    camera.unlock()
    camera.close()
    closed_s = clock.now_s() - began_s - found_s
    tell(trial=name, said=said, found_s=found_s, closed_s=closed_s, thread=camera._thread.is_alive())


def contract() -> None:
    # A process of its own: the test class makes and closes two dozen cameras.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", CONTRACT, "-k", "device", *ALONE],
        env={**os.environ, "PARFOCAL_TEST_VIDEO": str(DEVICE), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, file=sys.stderr)
    tell(trial="contract", exit=done.returncode, summary=done.stdout.strip().splitlines()[-1])


def frames() -> None:
    with opened() as camera:
        waits_s, ages_s = [], []
        for _ in range(30):
            asked_s = clock.now_s()
            frame = camera.capture(asked_s)
            waits_s.append(clock.now_s() - asked_s)
            ages_s.append(clock.now_s() - frame.exposure_start_s)
        tell(
            trial="frames",
            period_s=camera.frame_period_s,
            stamped=camera._timing._stamped,
            wait_s=sorted(waits_s)[15],
            age_s=sorted(ages_s)[15],
        )


def pictures() -> None:
    turn("OSD Text Mode", OFF)
    for name, pattern in (("bars", BARS), ("black", BLACK), ("white", WHITE)):
        turn("Test Pattern", pattern)
        with opened() as camera:
            seen = [fault_of(camera.capture(-math.inf).image)]
            try:
                seen.append(fault_of(camera.capture(-math.inf).image))
            except CameraError as error:
                seen.append(str(error))
            tell(trial=name, first=seen[0], second=seen[1])
    turn("Test Pattern", BARS)
    turn("OSD Text Mode", ALL)


clock = RealClock()
subprocess.run(["modprobe", "vivid", "n_devs=1", "node_types=0x1"], check=True)
wait_for(DEVICE.exists)
tell(pytest=pytest.__version__, controls=sorted(controls()))
contract()
frames()
pictures()
with opened() as camera:
    trial("frozen", camera, lambda: turn("OSD Text Mode", OFF))
turn("OSD Text Mode", ALL)
with opened() as camera:
    trial("stalled", camera, lambda: turn("Percentage of Dropped Buffers", 100))
turn("Percentage of Dropped Buffers", 0)
with opened() as camera:
    trial("broken stream", camera, lambda: turn("Inject Fatal Streaming Error", 1))
with opened() as camera:
    trial("unplugged", camera, lambda: plug(False))
plug(True)
frames()
try:
    with opened(), opened():
        tell(trial="two at once", said=None)
except CameraError as error:
    tell(trial="two at once", said=str(error))
with opened() as camera:
    trial("disconnected", camera, lambda: turn("Disconnect", 1))
plug(False)
subprocess.run(["modprobe", "--remove", "vivid"], check=True)
tell(trial="module removed", gone=not DEVICE.exists())
try:
    with opened():
        tell(trial="missing", said=None)
except CameraError as error:
    tell(trial="missing", said=str(error))
