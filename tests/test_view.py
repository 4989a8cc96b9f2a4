"""What sharpness and tiles share of a frame: the same as each for itself, worked out once."""

from __future__ import annotations

import numpy as np
import pytest

from edge import tiles, view
from edge.sharpness import sharpness
from edge.view import Frame, View


def frame_of(height: int, width: int, seed: int = 3) -> Frame:
    """A textured frame."""
    rough = np.random.default_rng(seed).normal(size=(height // 4 + 1, width // 4 + 1, 1))
    smooth = np.kron(rough, np.ones((4, 4, 1)))[:height, :width]
    return np.clip(180 + 30 * smooth * [1.0, 0.9, 0.8], 0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [1.0, 0.6, 1.3])
@pytest.mark.parametrize("size", [(200, 264), (40, 300)], ids=["large", "padded for tiles only"])
@pytest.mark.parametrize("int8", [None, (1 / 127, 0)], ids=["float", "int8"])
def test_a_shared_view_changes_nothing(
    size: tuple[int, int], scale: float, int8: tuple[float, int] | None
) -> None:
    frame = frame_of(*size)
    shared = View(frame)
    assert sharpness(shared, scale) == sharpness(frame, scale) > 0
    one, two = (tiles.extract(f, scale, size_px=64, most=4, int8=int8) for f in (shared, frame))
    assert len(one) > 0
    np.testing.assert_array_equal(one.pixels, two.pixels)
    np.testing.assert_array_equal(one.information, two.information)
    assert sharpness(shared, scale) == sharpness(frame, scale), "in either order"


def test_it_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[str] = []
    for name in ("background_of", "noise_sigma", "brightness"):
        own = getattr(view, name)
        monkeypatch.setattr(view, name, lambda *given, own=own, name=name: worked.append(name) or own(*given))
    shared = View(frame_of(192, 192))
    sharpness(shared)
    tiles.extract(shared, 1.0, size_px=64, most=4)
    assert sorted(worked) == ["background_of", "brightness", "noise_sigma"]


def test_a_frame_of_another_kind_is_refused() -> None:
    for wrong in (np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8 is needed"):
            View(wrong)


def test_noise_is_that_of_the_frame_before_it_was_resampled() -> None:
    """Averaging makes it less and no longer white; the threshold knows how much of it is left."""
    noise = np.random.default_rng(4).normal(128, 40, (512, 512, 3)).clip(0, 255).astype(np.uint8)
    found = [tiles.extract(noise, scale, size_px=128, most=4, at_least=4) for scale in (1.0, 0.5)]
    full, half = (float(one.information.mean()) for one in found)
    assert half == pytest.approx(full, rel=0.25)
