"""A thread comes first while its block lasts, and without the right to it nothing is worse than before."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from firmware_iface.urgent import SWITCH_INTERVAL_S, urgent


@pytest.fixture(autouse=True)
def usual_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    assert sys.getswitchinterval() == pytest.approx(before)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_the_interpreter_changes_hands_sooner_until_the_last_block_ends() -> None:
    usual_s = sys.getswitchinterval()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with urgent():
            inside.set()
            leave.wait(10.0)

    thread = threading.Thread(target=other)
    with urgent():
        thread.start()
        assert inside.wait(10.0)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S), "one block is left"
    leave.set()
    thread.join()
    assert sys.getswitchinterval() == pytest.approx(usual_s)


def test_a_shorter_interval_of_the_users_own_stays() -> None:
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(0.00002)
    try:
        with urgent():
            assert sys.getswitchinterval() == pytest.approx(0.00002)
        assert sys.getswitchinterval() == pytest.approx(0.00002)
    finally:
        sys.setswitchinterval(usual_s)


def test_an_error_in_the_block_comes_out_and_everything_is_as_before() -> None:
    def block() -> None:
        with urgent():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()


def test_the_policy_is_real_time_in_the_block_alone_and_for_this_thread_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        os,
        "sched_setscheduler",
        lambda pid, policy, param: asked.append((pid, policy, param.sched_priority)),
    )
    with urgent():
        assert asked == [(0, os.SCHED_FIFO, 1)]
    assert asked == [(0, os.SCHED_FIFO, 1), (0, os.SCHED_OTHER, 0)]


def test_without_the_right_to_it_the_block_runs_as_an_ordinary_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with urgent():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)


def test_a_system_without_policies_is_served_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(os, "sched_setscheduler")
        with urgent():
            assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
