"""The stages of a look and the move after it, timed on a rig in real time.

    asked ── wait ── capture ── checks ── tiles and inference ── belief ──┬── command ── motion ── settle ──
           for the   exposure   health,   cut; the network's    what to   │   to the     until it  until it
           exposure  to arrival sharpness `invoke` alone        do next   │   axis       stands    is still

Instruments are put around camera, network and axis; what runs between them is the product.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

from edge.autofocus import Autofocus
from edge.camera.base import Camera, Frame
from edge.config import Config
from edge.dialogue import Begin, Look
from edge.microscope import Microscope
from edge.model import Model
from edge.rig import Rig
from edge.run_result import Trace
from firmware_iface.clock import Clock

__all__ = ["AROUND", "LOOK", "MOVE", "TimedModel", "measure"]

#: Stages of a look, of the move after it, and those that are computing around `invoke`.
LOOK = ("wait", "capture", "checks", "tiles", "inference", "belief")
MOVE = ("command", "motion", "settle")
AROUND = ("checks", "tiles", "belief")

Lap = defaultdict[str, float]


class TimedModel(Model):
    """``model``, adding to ``lap``: ``inference``, seconds in the network; ``tiles``, the rest of a look."""

    def __init__(self, model: Model, lap: Lap) -> None:
        vars(self).update(vars(model))
        self._interpreter = _TimedInterpreter(self._interpreter, lap)
        self.lap = lap

    def look(self, *args: Any, **how: Any) -> Any:
        before, began_s = self.lap["inference"], time.perf_counter()
        found = super().look(*args, **how)
        self.lap["looked"] = time.perf_counter()
        self.lap["tiles"] += self.lap["looked"] - began_s - (self.lap["inference"] - before)
        return found


class _TimedInterpreter:
    def __init__(self, interpreter: Any, lap: Lap) -> None:
        self._invoke, self._lap = interpreter.invoke, lap
        self.set_tensor, self.get_tensor = interpreter.set_tensor, interpreter.get_tensor

    def invoke(self) -> None:
        began_s = time.perf_counter()
        self._invoke()
        self._lap["inference"] += time.perf_counter() - began_s


class _TimedCamera(Camera):
    def __init__(self, camera: Camera, clock: Clock, lap: Lap) -> None:
        self._camera, self._clock, self._lap = camera, clock, lap

    @property
    def frame_period_s(self) -> float:
        return self._camera.frame_period_s

    def capture(self, not_before_s: float) -> Frame:
        asked_s = self._clock.now_s()
        frame = self._camera.capture(not_before_s)
        arrived_s = self._clock.now_s()
        exposed_s = min(max(frame.exposure_start_s, asked_s), arrived_s)
        self._lap["wait"], self._lap["capture"] = exposed_s - asked_s, arrived_s - exposed_s
        self._lap["arrived"] = time.perf_counter()
        return frame

    def lock(self) -> None:
        self._camera.lock()

    def unlock(self) -> None:
        self._camera.unlock()

    def close(self) -> None:
        self._camera.close()


def measure(
    rig: Rig,
    model: Model,
    config: Config,
    *,
    looks: int,
    warm_up: int,
    step_um: float,
) -> dict[str, list[float]]:
    """Seconds of each stage of ``looks`` looks, each followed by a move of ``step_um``, up and down in turns.

    ``rig`` is entered and its clock is the real one. MOVES the stage unless ``step_um`` is 0; ends where it
    began. ``warm_up`` looks come first and are not counted.
    """
    lap: Lap = defaultdict(float)
    timed = replace(rig, camera=_TimedCamera(rig.camera, rig.clock, lap))
    scope = Microscope(timed, TimedModel(model, lap), config)
    home_um = rig.stage.position_um
    command = _CommandWatch(rig)
    taken: dict[str, list[float]] = {name: [] for name in (*LOOK, *(MOVE if step_um else ()))}
    rig.camera.lock()
    try:
        rig.stage.move_to_um(home_um)  # the slack
        for number in range(warm_up + looks):
            lap.clear()
            _look(scope, lap)
            if step_um:
                _move(rig, home_um + step_um * (number % 2 == 0), command, lap)
            if number >= warm_up:
                for name, times in taken.items():
                    times.append(lap[name])
        rig.stage.move_to_um(home_um)
    finally:
        command.close()
        rig.camera.unlock()
    return taken


def _look(scope: Microscope, lap: Lap) -> None:
    """One look as the first of a run."""
    scope.trace = Trace()
    loop = Autofocus(scope.settings())
    loop.send(Begin(scope.position_dof()))
    scope.step(loop, Look())
    ended = time.perf_counter()
    looked_s = lap["tiles"] + lap["inference"]
    lap["belief"] = ended - lap["looked"]
    lap["checks"] = lap["looked"] - lap["arrived"] - looked_s


def _move(rig: Rig, target_um: float, command: _CommandWatch, lap: Lap) -> None:
    began_s, command.seconds = rig.clock.now_s(), 0.0
    rig.stage.move_to_um(target_um)
    ended_s = rig.stage.last_motion_ended_s
    lap["command"] = command.seconds
    lap["motion"] = ended_s - began_s - command.seconds
    lap["settle"] = rig.clock.now_s() - ended_s


class _CommandWatch:
    """Seconds that the axis of ``rig`` takes to begin motions, added up in ``seconds``."""

    def __init__(self, rig: Rig) -> None:
        self.seconds = 0.0
        self._axis: Any = rig.stage._axis
        begin = self._axis.start_move

        def start_move(steps: int) -> float:
            began_s = time.perf_counter()
            planned_s: float = begin(steps)
            self.seconds += time.perf_counter() - began_s
            return planned_s

        vars(self._axis)["start_move"] = start_move

    def close(self) -> None:
        """Leave the axis as it was."""
        del vars(self._axis)["start_move"]
