"""The focus of a stack, measured on its own planes: what is a peak, to which fraction of a plane, and what is
none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from focus_bench import peaked, refracting
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import StackError
from edge.files import RGB
from edge.optics import Objective
from edge.stack_focus import focus_scale, measured_focus, peak_of, plane_at
from edge.zstack import ZStack, write_zstack

EVEN = [float(k) for k in range(-6, 7)]
UNEVEN = [-40.0, -19.0, -10.2, -5.3, 0.0, 0.8, 6.5, 6.6, 16.8, 43.0]


def blurred(sigma_px: float, seed: int = 0) -> RGB:
    """Grain of 96 x 80 pixels, blurred: its sharpness falls as ``sigma_px`` grows."""
    import cv2

    grain = np.random.default_rng(seed).integers(0, 2, (80, 96)).astype(np.float32)
    soft = cv2.GaussianBlur(grain, (0, 0), math.hypot(1.0, sigma_px))
    return np.repeat((60 + 180 * soft)[..., None], 3, axis=2).astype(np.uint8)


def stack_of(
    path: Path, z: Sequence[float], sigma_px: Callable[[float], float], about: dict[str, object] | None = None
) -> ZStack:
    """A stack on disk whose plane at z is blurred by ``sigma_px(z)``."""
    write_zstack(
        path, ((f"p{k}.png", place, blurred(sigma_px(place))) for k, place in enumerate(z)), about or {}
    )
    return ZStack.open(path)


class TestPeak:
    @given(st.floats(-4, 4), st.floats(1.5, 4))
    def test_even_planes(self, focus: float, width: float) -> None:
        peak = peak_of(EVEN, [peaked(focus, width=width)(z) for z in EVEN])
        assert peak.clear, peak.reason
        assert peak.position == pytest.approx(focus, abs=0.15)

    @pytest.mark.parametrize(("focus", "within"), [(0.4, 0.5), (6.55, 1.5), (-6.0, 1.5)])
    def test_uneven_planes(self, focus: float, within: float) -> None:
        """To a fraction of the distance to the planes beside it, which is 5 to 10 here."""
        peak = peak_of(UNEVEN, [peaked(focus, width=4)(z) for z in UNEVEN])
        assert peak.clear, peak.reason
        assert peak.position == pytest.approx(focus, abs=within)

    def test_equal_z_count_once(self) -> None:
        peak = peak_of([0, 1, 2, 2, 3, 4], [1e-5, 4e-5, 9e-5, 11e-5, 4e-5, 1e-5])
        assert (peak.clear, peak.position) == (True, pytest.approx(2.0))
        assert peak.sharpness == pytest.approx(1e-4)

    def test_noise_between_planes_at_nearly_one_z_does_not_lead_astray(self) -> None:
        places = [-10.0, -5.0, 0.0, 0.01, 5.0, 10.0]
        peak = peak_of(places, [1e-6, 5e-5, 1e-4, 0.99e-4, 5e-5, 1e-6])
        assert peak.position == pytest.approx(0.0, abs=0.1)

    @pytest.mark.parametrize(
        ("z", "values", "says"),
        [
            (EVEN, [1e-9] * 13, "nothing with contrast"),
            (EVEN, [1e-4 + 1e-7 * k for k in range(13)], "no clear peak: the sharpness hardly changes"),
            (
                EVEN,
                [peaked(-9)(z) for z in EVEN],
                "the first plane is the sharpest: the focus may lie before it",
            ),
            (
                EVEN,
                [peaked(6)(z) for z in EVEN],
                "the last plane is the sharpest: the focus may lie beyond it",
            ),
            ([0, 1, 2, 3, 3], [1e-5, 2e-5, 3e-5, 9e-5, 9e-5], "the last plane"),
            (EVEN, [refracting(0, beside=3)(z) for z in EVEN], "two peaks, near z = -3 and 3"),
            (EVEN, [peaked(-3)(z) + 0.7 * peaked(4)(z) for z in EVEN], "two peaks, near z = -3 and 4"),
            ([0, 1, 2, 3, 4], [1e-5, 9e-5, 1e-5, 9e-5, 1e-5], "two peaks, near z = 1 and 3"),
            ([0, 1, 2, 3, 4], [7e-5, 1e-5, 9e-5, 3e-5, 1e-5], "two peaks, near z = 2 and 0"),
            ([0, 1], [1e-5, 9e-5], "2 different z: 3 or more are needed"),
            ([0, 1, 1, 1], [1e-5, 9e-5, 1e-5, 1e-5], "2 different z"),
            ([5], [1e-5], "1 different z"),
        ],
    )
    def test_what_is_none(self, z: list[float], values: list[float], says: str) -> None:
        peak = peak_of(z, values)
        assert not peak.clear
        assert says in peak.reason

    @pytest.mark.parametrize("second", [0.3, 0.5])
    def test_a_lower_second_peak_is_let_pass(self, second: float) -> None:
        peak = peak_of(EVEN, [peaked(-3)(z) + second * peaked(4)(z) for z in EVEN])
        assert peak.clear, peak.reason
        assert peak.position == pytest.approx(-3, abs=0.1)

    def test_a_broad_uneven_top_is_one_peak(self) -> None:
        peak = peak_of(range(8), [1e-5, 4e-5, 9.5e-5, 9e-5, 9.3e-5, 10e-5, 4e-5, 1e-5])
        assert peak.clear, peak.reason
        assert 4 < peak.position < 6

    @pytest.mark.parametrize(("z", "values"), [([], []), ([1.0], []), ([1.0], [1.0, 2.0])])
    def test_lengths(self, z: list[float], values: list[float]) -> None:
        with pytest.raises(ValueError, match="as many of both"):
            peak_of(z, values)


def test_plane_numbers() -> None:
    asked = {-40.0: 0.0, -99.0: 0.0, 0.4: 4.5, 43.0: 9.0, 99.0: 9.0}
    assert {z: plane_at(UNEVEN, z) for z in asked} == pytest.approx(asked)
    assert plane_at([0, 1, 1, 1, 2], 1.0) == 2.0, "of equal z the middle"


@pytest.mark.parametrize(
    ("objective", "pixel_um", "scale"),
    [
        (None, 0.2, 1.0),
        ("20x0.40", None, 1.0),
        ("20x0.40", 0.34375, 1.0),
        ("20x0.40", 0.171875, 0.5),
        ("20x0.40", 0.6875, 2.0),
        ("20x0.40", 6.5, 1.0),
    ],
)
def test_scale(objective: str | None, pixel_um: float | None, scale: float) -> None:
    parsed = None if objective is None else Objective.parse(objective)
    assert focus_scale(parsed, pixel_um) == pytest.approx(scale)


class TestStack:
    @pytest.mark.parametrize("about", [{}, {"objective": "20x0.40", "pixel_um": 0.2}])
    def test_is_measured(self, tmp_path: Path, about: dict[str, object]) -> None:
        stack = stack_of(tmp_path / "s", [0, 2, 4, 5, 6, 8, 11], lambda z: abs(z - 4.5), about)
        focus = measured_focus(stack)
        assert focus.z_um == pytest.approx(4.5, abs=0.4)
        assert focus.plane == pytest.approx(2.5, abs=0.4)
        assert len(focus.sharpness) == 7
        assert max(focus.sharpness) in focus.sharpness[2:4]

    @pytest.mark.parametrize(
        ("z", "focus", "says"),
        [
            ([0, 1, 2, 3], 0.0, "the first plane is the sharpest"),
            ([0, 1, 2, 3], 9.0, "the last plane is the sharpest"),
            ([0, 3], 0.0, "2 different z"),
        ],
    )
    def test_says_why_not(self, tmp_path: Path, z: list[float], focus: float, says: str) -> None:
        stack = stack_of(tmp_path / "s", z, lambda place: abs(place - focus))
        with pytest.raises(StackError) as caught:
            measured_focus(stack)
        line = str(caught.value)
        assert line.startswith(f"{stack.path}: the focus cannot be measured: ")
        assert says in line

    def test_unreadable_images(self, tmp_path: Path) -> None:
        stack = stack_of(tmp_path / "s", [0, 1, 2], lambda z: abs(z - 1))
        (stack.path / "p1.png").write_bytes(b"no image")
        with pytest.raises(StackError, match=r"p1.png: image cannot be read"):
            measured_focus(stack)


class TestRealStacks:
    """The stated focus was set by eye or by the stage's own focus; blood_0152 is tilted (6 left, 5 right)."""

    @pytest.fixture
    def stacks(self) -> Path:
        folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "zstacks"
        if not folder.is_dir():
            pytest.skip("no real images: ../shared/data is absent")
        return folder

    @pytest.mark.parametrize(
        ("name", "stated", "within"),
        [
            ("vaginal_smear", 0.0, 0.25),
            ("blood_0152", 5.5, 0.5),
            ("wafer_iy000", 0.0, 0.8),
            ("wafer_iy001", 0.0, 1.5),
            ("unstained_cells_set1", 0.0, 2.0),
        ],
    )
    def test_is_where_it_was_stated(self, stacks: Path, name: str, stated: float, within: float) -> None:
        assert measured_focus(ZStack.open(stacks / name)).z_um == pytest.approx(stated, abs=within)
