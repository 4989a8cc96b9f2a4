"""Kills processes that move a stage, with SIGKILL, and looks at what each has left. Prints counts as JSON.

    python killed_stage.py JOURNAL KILLS

The motor is a ULN2003 on fake pins in real time. Its steps are counted in memory that outlives the process.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from fake_gpio import FakeGpio
from power import Board

from firmware_iface.clock import RealClock, VirtualClock
from firmware_iface.journal import Journal
from firmware_iface.stage import Stage
from firmware_iface.stepper import Rates, Switches
from firmware_iface.uln2003 import Uln2003Axis

SHAPE = {"um_per_step": 0.1, "limits_steps": (-1000, 1000), "backlash_steps": 20, "settle_s": 0.03}
READY = 8
"""Where in the shared memory, after the screw, a process says that its stage is ready, and counts steps."""


class CountedAxis(Uln2003Axis):
    """Each step it makes is counted in ``memory`` too."""

    memory: mmap.mmap

    def _step(self, direction: int) -> None:
        super()._step(direction)
        (screw,) = struct.unpack_from("q", self.memory, 0)
        (steps,) = struct.unpack_from("q", self.memory, 16)
        struct.pack_into("q", self.memory, 0, screw + direction)
        struct.pack_into("q", self.memory, 16, steps + 1)


def live(path: Path, memory: mmap.mmap, luck: random.Random) -> None:
    """Move until killed."""
    clock = RealClock()
    gpio = FakeGpio(clock)
    gpio.setmode(gpio.BCM)
    rates = Rates(start_rate_steps_s=4000.0, max_rate_steps_s=4000.0, acceleration_steps_s2=1e5)
    axis = CountedAxis(clock, (17, 18, 27, 22), rates=rates, switches=Switches(), gpio=gpio)
    axis.memory = memory
    with Stage(axis, clock, journal=Journal(path), **SHAPE) as stage:
        memory[READY] = 1
        while True:
            # Focus is at 0, and there is somebody who sees it.
            (screw,) = struct.unpack_from("q", memory, 0)
            stage.move_to_steps(stage.position_steps - screw)
            stage.found_focus()
            assert stage.uncertain is None
            for _ in range(5):
                stage.move_to_steps(luck.randint(-150, 150))


def look(path: Path, memory: mmap.mmap) -> bool:
    """Whether the next process is certain of the position; it must be right, and safe."""
    clock = VirtualClock()
    axis = Board(clock)
    stage = Stage(axis, clock, journal=Journal(path), **SHAPE)
    (screw,) = struct.unpack_from("q", memory, 0)
    slack = screw - stage.position_steps
    assert stage.uncertain is not None or slack == 0, f"certain of {stage.position_steps}, is at {screw}"
    assert all(-1000 <= round(um / 0.1) + slack <= 1000 for um in stage.limits_um)
    stage.close()
    return stage.uncertain is None


def main(path: Path, kills: int) -> None:
    luck = random.Random(3)
    memory = mmap.mmap(-1, 4096)
    certain = 0
    for _ in range(kills):
        memory[READY] = 0
        pid = os.fork()
        if pid == 0:
            live(path, memory, luck)
        while not memory[READY]:
            time.sleep(0.001)
        time.sleep(luck.uniform(0.0, 0.1))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "it ended by itself"
        certain += look(path, memory)
    (steps,) = struct.unpack_from("q", memory, 16)
    print(json.dumps({"certain": certain, "uncertain": kills - certain, "steps": steps}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
