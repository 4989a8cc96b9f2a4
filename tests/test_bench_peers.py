"""How others focus, on specimens of arithmetic: each does what is published of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from edge.bench import peers
from edge.bench.strategies import STRATEGIES
from edge.camera.base import Frame
from edge.config import Config
from edge.optics import Objective, Optics

OPTICS = Optics(Objective(20, 0.4), 0.34)
UM_PER_STEP = 0.0625


class FakeBed:
    """A motor without slack whose frames know where they were taken; ``contrast`` of a place in µm."""

    def __init__(self, contrast: Callable[[float], float], *, range_dof: float = 12.0) -> None:
        self.contrast, self.optics, self.um_per_step = contrast, OPTICS, UM_PER_STEP
        self.trial = SimpleNamespace(range_dof=range_dof)
        self.range_um = OPTICS.um_from_dof(range_dof)
        self.config = Config()
        self.axis = SimpleNamespace(position_steps=0)
        self.drives: list[int] = []
        self.looked_um: list[float] = []
        self.waited_s: list[float] = []
        self.free_model = SimpleNamespace(look=self._look)
        self._frames: dict[int, tuple[Frame, float]] = {}

    @property
    def position_um(self) -> float:
        return self.axis.position_steps * self.um_per_step

    def frame(self) -> Frame:
        self.looked_um.append(self.position_um)
        return self._at(self.position_um)

    next_frame = frame

    def move_to_um(self, place: float) -> None:
        self.axis.position_steps = round(place / self.um_per_step)

    def drive(self, steps: int) -> None:
        self.drives.append(steps)
        self.axis.position_steps += steps

    def record(self, steps: int, measure: Callable[[Frame], float]) -> tuple[np.ndarray, np.ndarray]:
        places = np.arange(self.axis.position_steps, self.axis.position_steps + steps, 33)
        self.drives.append(steps)
        self.axis.position_steps += steps
        return places, np.array([measure(self._at(step * self.um_per_step)) for step in places.tolist()])

    def wait(self, seconds: float) -> None:
        self.waited_s.append(seconds)

    def measured(self, image: np.ndarray) -> float:
        return self.contrast(self._frames[id(image)][1])

    def _at(self, place_um: float) -> Frame:
        frame = Frame(np.zeros((1, 1, 3), np.uint8), 0.0, 0.0, len(self._frames))
        self._frames[id(frame.image)] = frame, place_um  # kept, so that no other gets its id
        return frame

    def _look(self, image: np.ndarray, optics: Optics, *, most_tiles: int) -> SimpleNamespace:
        bins = np.linspace(-12, 12, 49)
        log_p = -0.5 * ((bins - optics.dof_from_um(self._frames[id(image)][1])) / 0.3) ** 2
        return SimpleNamespace(log_likelihood=log_p - np.log(np.exp(log_p).sum()), bin_centres_dof=bins)


def hill(peak_um: float, width_um: float = 12.0) -> Callable[[float], float]:
    return lambda place: math.exp(-(((place - peak_um) / width_um) ** 2))


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeBed]:
    def make(contrast: Callable[[float], float], **how: float) -> FakeBed:
        made = FakeBed(contrast, **how)
        monkeypatch.setattr(peers, "jpeg_bytes", lambda frame: made.measured(frame.image))
        monkeypatch.setattr(peers, "sharpness", lambda image, scale: made.measured(image))
        return made

    return make


@pytest.mark.parametrize(
    "name", [name for name, of in STRATEGIES.items() if of.peer and name != "coarse-and-fine"]
)
@pytest.mark.parametrize("peak_um", [-20.0, -3.0, 11.0])
def test_each_finds_a_clean_peak(bed: Callable[..., FakeBed], name: str, peak_um: float) -> None:
    contrast = hill(peak_um, 40.0)  # so wide that no early end is led astray
    on = bed(contrast)
    if name == "remoscope":
        on.move_to_um(-peak_um)  # its network is in focus at 0
        contrast, peak_um = hill(0.0), 0.0
    STRATEGIES[name].run(on)  # type: ignore[arg-type]
    # Half a distance of planes for the one that goes by planes.
    near = OPTICS.um_from_dof(0.76 if name == "squid" else 0.5)
    assert on.position_um == pytest.approx(peak_um, abs=near)


class TestOpenFlexure:
    def test_four_moves_of_its_own_size(self, bed: Callable[..., FakeBed]) -> None:
        on = bed(hill(5.0), range_dof=1.0)
        peers.openflexure_fast(on)  # type: ignore[arg-type]
        half = round(peers.DZ_UM / 2 / UM_PER_STEP)
        assert on.drives[:3] == [-half, 2 * half, -2 * half]
        assert len(on.drives) == 4
        assert on.looked_um == [], "no check"

    def test_a_wide_search_is_covered(self, bed: Callable[..., FakeBed]) -> None:
        on = bed(hill(0.0), range_dof=40.0)
        peers.openflexure_fast(on)  # type: ignore[arg-type]
        assert on.drives[1] * UM_PER_STEP == pytest.approx(2 * OPTICS.um_from_dof(40.0), abs=0.1)

    def test_again_while_the_peak_is_near_an_end(self, bed: Callable[..., FakeBed]) -> None:
        on = bed(hill(150.0, 60.0), range_dof=1.0)
        peers.openflexure_looping(on)  # type: ignore[arg-type]
        sweeps = sum(steps > 2 * peers.BACKLASH_STEPS for steps in on.drives)
        assert sweeps > 1
        assert on.position_um == pytest.approx(150.0, abs=4.0)

    def test_but_no_more_than_ten_times(self, bed: Callable[..., FakeBed]) -> None:
        on = bed(lambda place: place, range_dof=1.0)
        peers.openflexure_looping(on)  # type: ignore[arg-type]
        assert sum(steps > 2 * peers.BACKLASH_STEPS for steps in on.drives) == peers.ATTEMPTS


def test_brent_stays_in_its_range(bed: Callable[..., FakeBed]) -> None:
    on = bed(hill(500.0, 200.0))
    peers.brent(on)  # type: ignore[arg-type]
    assert max(map(abs, on.looked_um)) <= on.range_um + UM_PER_STEP


def test_coarse_and_fine_ends_each_pass_where_it_has_become_worse(bed: Callable[..., FakeBed]) -> None:
    on = bed(hill(0.0, 60.0))
    peers.coarse_and_fine(on)  # type: ignore[arg-type]
    coarse = [place for place in on.looked_um if abs(place) > OPTICS.um_from_dof(1.2)]
    assert min(coarse) == pytest.approx(-on.range_um, abs=UM_PER_STEP)
    assert max(coarse) < OPTICS.um_from_dof(7.0), "the first place that is clearly worse was the last"
    assert on.position_um == pytest.approx(0.0, abs=OPTICS.um_from_dof(0.3))


def test_squid_stops_at_a_plane_of_less_than_its_share(bed: Callable[..., FakeBed]) -> None:
    on = bed(hill(-20.0, 10.0))
    peers.squid(on)  # type: ignore[arg-type]
    seen = [on.contrast(place) for place in on.looked_um]
    assert seen[-1] < peers.SQUID_STOP * max(seen)
    assert all(value >= peers.SQUID_STOP * max(seen[: k + 1]) for k, value in enumerate(seen[:-1]))


def test_remoscope_moves_twice_by_means_of_twenty(bed: Callable[..., FakeBed]) -> None:
    on = bed(hill(0.0))
    on.move_to_um(9.0)
    peers.remoscope(on)  # type: ignore[arg-type]
    assert len(on.looked_um) == peers.BATCHES * peers.BATCH
    assert len(on.drives) == 2
    assert on.waited_s == [peers.PAUSE_S] * 2
    assert on.position_um == pytest.approx(0.0, abs=0.5)


def test_size_of_a_jpeg_is_larger_for_detail() -> None:
    rng = np.random.default_rng(0)
    flat, busy = np.full((64, 64, 3), 90, np.uint8), rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    small, large = (peers.jpeg_bytes(Frame(image, 0.0, 0.0, 0)) for image in (flat, busy))
    assert small < large < 64 * 64 * 3


def test_each_names_its_source() -> None:
    assert all(len(of.source) > 20 for of in STRATEGIES.values())
