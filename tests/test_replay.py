"""The replay camera shows the plane nearest the stage, and keeps a bounded number of decoded planes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.camera.replay import ReplayCamera
from edge.errors import CameraError
from edge.files import encode_png
from edge.zstack import ZStack, write_zstack
from firmware_iface.clock import VirtualClock

PLANE_BYTES = 4 * 6 * 3


@pytest.fixture
def shared_data() -> Path:
    """Real stacks beside the repository; the test is skipped where they are absent."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real images: ../shared/data is absent")
    return folder


class Rig:
    """A replay with a stage that the test moves by hand; plane k has grey level k and lies at 10 k µm."""

    def __init__(self, folder: Path, *, planes: int = 5, cache_bytes: int = 10**6) -> None:
        write_zstack(
            folder,
            ((f"{k}.png", 10.0 * k, np.full((4, 6, 3), k, dtype=np.uint8)) for k in range(planes)),
            {},
        )
        self.z_um = 0.0
        self.clock = VirtualClock()
        self.stack = ZStack.open(folder)
        self.camera = ReplayCamera(
            self.stack, self.clock, lambda: self.z_um, frame_period_s=0.04, cache_bytes=cache_bytes
        )

    def level(self, z_um: float) -> int:
        """The grey level in view with the stage at `z_um`."""
        self.z_um = z_um
        return int(self.camera.capture(-np.inf).image[0, 0, 0])


def test_shows_the_nearest_plane(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "s")
    assert rig.camera.plane is None
    asked = {-500.0: 0, 4.9: 0, 5.1: 1, 20.0: 2, 36.0: 4, 500.0: 4}
    for z_um, plane in asked.items():
        assert rig.level(z_um) == plane
        assert rig.camera.plane == plane


def test_the_stage_is_read_when_the_exposure_starts(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "s")
    rig.camera = ReplayCamera(rig.stack, rig.clock, lambda: 10.0 if rig.clock.now_s() < 1.0 else 30.0)
    assert rig.camera.capture(0.99).image[0, 0, 0] == 1
    frame = rig.camera.capture(2.0)
    assert frame.image[0, 0, 0] == 3
    assert frame.exposure_start_s == 2.0
    assert rig.camera.stack is rig.stack


def test_exposures_take_the_frame_period(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "s")
    for k in range(3):
        frame = rig.camera.capture(0.0)
        assert frame.exposure_end_s - frame.exposure_start_s == pytest.approx(rig.camera.frame_period_s)
        assert frame.sequence == k
    assert rig.clock.now_s() == pytest.approx(3 * 0.04)


def test_images_are_read_only(tmp_path: Path) -> None:
    image = Rig(tmp_path / "s").camera.capture(0.0).image
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 9


@pytest.mark.parametrize(("kept", "loads"), [(0, 8), (1, 8), (2, 6), (3, 4)])
def test_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, loads: int) -> None:
    rig = Rig(tmp_path / "s", cache_bytes=kept * PLANE_BYTES)
    decoded: list[int] = []
    load = ZStack.load

    def counting(stack: ZStack, plane: int) -> np.ndarray:
        decoded.append(plane)
        return load(stack, plane)

    monkeypatch.setattr(ZStack, "load", counting)
    for plane in (0, 1, 0, 2, 0, 1, 1, 3, 0):
        assert rig.level(10.0 * plane) == plane
    assert len(decoded) == loads, f"decoded {decoded}"


def test_a_damaged_plane(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "s")
    (tmp_path / "s" / "3.png").write_bytes(b"gone")
    (tmp_path / "s" / "4.png").write_bytes(encode_png(np.zeros((5, 6, 3), np.uint8)))
    assert rig.level(0.0) == 0
    with pytest.raises(CameraError, match=r"3\.png: image cannot be read"):
        rig.level(30.0)
    with pytest.raises(CameraError, match=r"4\.png: image is 6 x 5 pixels, the ones before were 6 x 4"):
        rig.level(40.0)
    assert rig.level(10.0) == 1, "the camera must go on after a bad plane"
    assert rig.camera.plane == 1


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), float("inf")])
def test_frame_periods_that_are_none(tmp_path: Path, period_s: float) -> None:
    rig = Rig(tmp_path / "s")
    with pytest.raises(ValueError, match="frame_period_s"):
        ReplayCamera(rig.stack, rig.clock, lambda: 0.0, frame_period_s=period_s)


def test_real_stack(shared_data: Path) -> None:
    stack = ZStack.open(shared_data / "zstacks" / "unstained_cells_set1")
    camera = ReplayCamera(stack, VirtualClock(), lambda: 9.0)
    assert camera.capture(0.0).image.shape == (1024, 1344, 3)
    assert camera.plane is not None
    assert stack.files[camera.plane] == "fine_z+009.75um.png"


def test_imports_nothing_heavy() -> None:
    code = (
        "import sys, edge.camera.replay, edge.config, edge.files, edge.zstack\n"
        "print(*{'cv2', 'tensorflow', 'picamera2', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
