"""Black and saturated pictures are named; ordinary ones, however dull, are not."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edge.camera.health import fault_of
from edge.simulator.sensor import Exposer, Sensor

SHAPE = (192, 256)


def field(sensor: Sensor, intensity: float = 1.0, specimen: float = 0.0) -> np.ndarray:
    """An evenly lit field, with a darker square that covers a share of it."""
    light = np.full((*SHAPE, 3), intensity, np.float32)
    side = round((specimen * SHAPE[0] * SHAPE[1]) ** 0.5)
    light[:side, :side] *= np.random.default_rng(1).uniform(0.2, 0.7, (side, side, 1)).astype(np.float32)
    return Exposer(sensor, SHAPE, np.random.default_rng(0)).expose(light)


def random_sensors() -> list[Sensor]:
    rng = np.random.default_rng(5)
    return [Sensor.random(rng) for _ in range(30)]


@pytest.mark.parametrize("sensor", [Sensor(), *random_sensors()], ids=str)
def test_an_ordinary_empty_field_is_healthy(sensor: Sensor) -> None:
    assert fault_of(field(sensor)) is None


@pytest.mark.parametrize("full_well_e", [1500.0, 6000.0, 20000.0])
def test_a_background_that_just_clips_is_healthy(full_well_e: float) -> None:
    assert fault_of(field(Sensor(background=1.0, full_well_e=full_well_e, vignetting=0.0))) is None


@pytest.mark.parametrize("over", [1.2, 3.0])
def test_a_background_that_clips_as_a_whole_leaves_the_specimen(over: float) -> None:
    sensor = Sensor(vignetting=0.0)
    specimen = field(sensor, over / sensor.background, specimen=0.3)
    assert np.mean(specimen == 255) > 0.5
    assert fault_of(specimen) is None


def test_saturated() -> None:
    fault = fault_of(field(Sensor(), 5.0))
    assert fault is not None
    assert fault.startswith("saturated (100.0% of its pixels; 98% is allowed): too much light")


@pytest.mark.parametrize("sensor", [Sensor(), *random_sensors()], ids=str)
def test_black(sensor: Sensor) -> None:
    dark = Sensor(**{**vars(sensor), "read_noise_e": min(sensor.read_noise_e, sensor.full_well_e / 1000)})
    fault = fault_of(field(dark, 0.0))
    assert fault is not None
    assert fault.startswith("black (")
    assert fault.endswith("lamp off, lens covered, or exposure far too short")


def test_hot_pixels_do_not_light_a_covered_sensor() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    image[::100, ::100] = 255
    assert str(fault_of(image)).startswith("black (")


@pytest.mark.parametrize("share", [0.005, 0.5])
def test_a_dark_field_with_bright_specks_is_healthy(share: float) -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    image[np.random.default_rng(0).random((480, 640)) < share] = 200
    assert fault_of(image) is None


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_colour_is_light_too(channel: int) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., channel] = 255
    assert fault_of(image) is None, "neither black nor without detail in the other channels"


@pytest.mark.parametrize(("share", "healthy"), [(0.89, True), (0.975, True), (0.985, False)])
@pytest.mark.parametrize("shape", [(300, 400), (1200, 1600)])
def test_how_much_is_clipped_is_told_finely(share: float, healthy: bool, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 255, np.uint8)
    image[np.random.default_rng(0).random(shape) >= share] = 120
    said = fault_of(image)
    assert (said is None) == healthy
    assert healthy or said is None or "98.5%" in said or "98.4%" in said or "98.6%" in said


def test_large_frames_are_sampled() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        assert fault_of(image) is None
        took_s.append(time.perf_counter() - began_s)
    assert min(took_s) < 0.02, "all twelve million pixels were looked at"


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_images_that_are_none(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        fault_of(image)
