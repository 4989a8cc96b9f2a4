"""A service on a small simulated microscope with an oracle for a network, run in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_field import blurred_field, empty_field
from oracle import Oracle

from edge import rig as rigs
from edge.camera.simulated import SimulatedCamera
from edge.config import Config, override
from edge.optics import Optics, natural_pixel_um
from edge.rig import Rig
from edge.service.feed import Feed
from edge.service.runs import Runs
from edge.service.service import Service
from edge.simulator.sensor import Sensor
from firmware_iface.clock import Clock, VirtualClock
from firmware_iface.simulated import SimulatedAxis

PATIENCE_S = 20.0
#: What a model file says of itself.
CARD = SimpleNamespace(name="oracle", flatbuffer_sha256="0" * 64)


def config(**sections: dict[str, Any]) -> Config:
    """Defaults but for ``sections``; the oracle's frames are so small that a look is a millisecond."""
    return override(Config(), "test", **sections)


def small_rig(config: Config, clock: Clock, *, empty: bool = False) -> Rig:
    """20 µm past the focus of blurred spots, or of nothing."""
    sim = config.simulator
    objective = config.optics.optics().objective
    optics = Optics(objective, natural_pixel_um(objective, 0.55), 0.55)
    axis = SimulatedAxis(clock, backlash_steps=sim.backlash_steps, seed=sim.seed)
    stage = rigs.stage_of(config, axis, clock)

    def defocus_um(t_s: float) -> float:
        gone_um = axis.true_position_steps(t_s) * config.stage.um_per_step
        return sim.start_defocus_um + gone_um + sim.drift_um_s * t_s

    camera = SimulatedCamera(
        empty_field() if empty else blurred_field(),
        Sensor(),
        clock,
        lambda t_s: optics.dof_from_um(defocus_um(t_s)),
        seed=1,
        frame_period_s=config.camera.frame_period_s,
    )
    return Rig("simulated", clock, stage, camera, optics, lambda: defocus_um(clock.now_s()))


class Bench:
    """``opened``: the rigs so far; ``fails``: raised instead of the next opening, first come first served."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        clock: Clock,
        *,
        empty: bool = False,
        model_note: str | None = None,
    ) -> None:
        self.oracle, self.opened = Oracle(), []
        self.oracle.card = CARD  # type: ignore[attr-defined]
        self.fails: list[Exception] = []
        self.beats = 0
        self.said: list[str] = []
        self._config, self._clock, self._empty = config, clock, empty
        self.feed = Feed(fps=config.api.preview_fps, px=config.api.preview_px)
        self.service = Service(
            config,
            self.oracle,  # type: ignore[arg-type]
            self.open_rig,
            runs=Runs(folder / "runs", config.service.history),
            feed=self.feed,
            collected=folder / "collected",
            clock=clock,
            version="test",
            model_note=model_note,
            beat=self.beat,
            announce=self.said.append,
        )

    def open_rig(self) -> Rig:
        if self.fails:
            raise self.fails.pop(0)
        rig = small_rig(self._config, self._clock, empty=self._empty)
        self.oracle.rig = rig
        self.opened.append(rig)
        return rig

    def beat(self) -> None:
        self.beats += 1

    def wait_for(self, true: Callable[[], bool], what: str) -> None:
        """Wait, in real time, until ``true()``; AssertionError after `PATIENCE_S`."""
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / 0.005)):
            if true():
                return
            pause.wait(0.005)
        raise AssertionError(f"waited for {what}; {self.service.status()}")

    def until(self, *states: str) -> dict[str, Any]:
        """Wait for one of ``states``; the status then."""
        self.wait_for(lambda: self.service.status()["state"] in states, " or ".join(states))
        return self.service.status()


@contextmanager
def running(
    folder: Path, clock: Clock | None = None, *, empty: bool = False, **sections: dict[str, Any]
) -> Iterator[Bench]:
    """A bench whose service runs in a thread; shut down at the end, and every motor found released."""
    bench = Bench(folder, config(**sections), VirtualClock() if clock is None else clock, empty=empty)
    with started(bench):
        yield bench


@contextmanager
def started(bench: Bench) -> Iterator[None]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            bench.service.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            errors.append(error)

    thread = threading.Thread(target=run, name="service")
    thread.start()
    try:
        yield
    finally:
        bench.service.shut_down()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def frame(value: int = 90, size: int = 64) -> np.ndarray:
    """``(size, size, 3)`` uint8 of one grey."""
    return np.full((size, size, 3), value, np.uint8)
