"""Memory kept between looks: counted in pages that the system had to hand out again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from edge import memory

_FAULTS = """
import resource, sys
import numpy as np
from edge.memory import keep_freed
if sys.argv[1] == "keep":
    assert keep_freed()
def look():
    arrays = [np.ones(150_000, np.float32) for _ in range(6)]
look()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    look()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_pages_are_handed_out_once_and_not_anew_for_every_look() -> None:
    assert _faults("keep") < 0.1 * _faults("as ever")


def test_a_c_library_that_knows_no_such_thing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed()
