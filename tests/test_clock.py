"""Both clocks tell a time that never goes back, and sleep no shorter than asked."""

from __future__ import annotations

import math

import pytest

from firmware_iface.clock import Clock, RealClock, VirtualClock


def test_virtual_time_passes_only_in_sleep() -> None:
    clock = VirtualClock(start_s=5.0)
    assert clock.now_s() == clock.now_s() == 5.0
    clock.sleep_s(0.25)
    clock.sleep_s(0.0)
    assert clock.now_s() == 5.25


def test_virtual_clock_starts_at_a_finite_time() -> None:
    assert VirtualClock().now_s() == 0.0
    with pytest.raises(ValueError, match="cannot start at nan s"):
        VirtualClock(math.nan)


def test_real_clock_sleeps_at_least_as_long_as_asked() -> None:
    clock = RealClock()
    begun_s = clock.now_s()
    clock.sleep_s(0.002)
    assert 0.002 <= clock.now_s() - begun_s < 2.0


@pytest.mark.parametrize("clock", [RealClock(), VirtualClock()], ids=["real", "virtual"])
@pytest.mark.parametrize("dt", [-1e-9, -1.0, math.nan, math.inf])
def test_no_clock_sleeps_for_less_than_nothing_or_for_ever(clock: Clock, dt: float) -> None:
    before_s = clock.now_s()
    with pytest.raises(ValueError, match="cannot sleep"):
        clock.sleep_s(dt)
    assert clock.now_s() - before_s < 1.0
