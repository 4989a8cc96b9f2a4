"""What every test gets: a virtual clock, and the promise that no test leaves a thread behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

from firmware_iface.clock import VirtualClock

# The same examples in every run, so that a red run is about the change and not about luck.
# HYPOTHESIS_PROFILE=explore draws new ones, and many more of them.
settings.register_profile("same", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

_PATIENCE_S = 1.0


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail the test that leaves a Python thread running, daemon or not; one about to end may do so."""
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + _PATIENCE_S
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"this test left threads running: {', '.join(alive)}"


@pytest.fixture
def clock() -> VirtualClock:
    """A virtual clock at 0 s."""
    return VirtualClock()
