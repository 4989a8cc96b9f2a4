"""The GPIO drivers on lines of the kernel's own, through the genuine rpi-lgpio, as the kernel saw them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from firmware_iface.uln2003 import HALF_STEPS

Records = list[dict[str, Any]]
ROWS = "".join(f"{int(''.join(map(str, row)), 2):x}" for row in HALF_STEPS)


@pytest.mark.vm("half_steps", limit_s=600)
def test_ten_thousand_half_steps_each_way_are_exactly_right_on_the_lines(
    records: Records, figures: list[str]
) -> None:
    library, up, down, end = records
    assert library["library"].endswith("RPi/GPIO/__init__.py")
    for motion, way, position in ((up, 1, 10_000), (down, -1, 0)):
        start = ROWS.index(motion["first"])
        expected = "".join(ROWS[(start + way * step) % 8] for step in range(1, 10_001))
        assert motion["sampled"] == expected, "the chip's levels after each write"
        assert motion["traced"] == expected, "the kernel's trace"
        assert motion["position_steps"] == position
        assert motion["last"] == ROWS[position % 8]
        figures.append(
            f"{motion['steps']:+6d} half steps, 500 to 1000 steps/s planned, levels read back after each: "
            f"all right, {10_000 / motion['took_s']:.0f} steps/s achieved"
        )
    assert down["first"] == up["last"]
    assert library["at_import"] == end["at_end"] == [0, 0, 0, 0]


@pytest.mark.vm("timing", limit_s=600)
def test_every_step_is_made_and_when(records: Records, figures: list[str]) -> None:
    for record in records:
        assert len(record["at_us"]) == record["steps"], "a step lost, or one too many"
        gaps_ms = np.diff(record["at_us"]) / 1e3
        error_ms = np.abs(gaps_ms - 1e3 / record["rate"])
        p50, p99 = np.percentile(error_ms, [50, 99])
        figures.append(
            f"{record['rate']:4d} steps/s {'beside busy threads' if record['busy'] else 'alone':19} "
            f"{'as shipped' if record['urgent'] else 'not urgent'}: {1e3 / gaps_ms.mean():4.0f} achieved; "
            f"interval error p50 {p50:.3f}, p99 {p99:.2f}, max {error_ms.max():.2f} ms"
        )


@pytest.mark.vm("switches")
def test_a_switch_pulled_at_the_wire_stops_the_motor(records: Records, figures: list[str]) -> None:
    names = {5: "lower limit switch", 6: "upper limit switch", 13: "stop button"}
    after: dict[str, list[tuple[int, float]]] = {}
    assert len(records) == 12
    for record in records:
        name = names[record["pin"]]
        assert record["ended"] == name
        assert record["refused"] == f"z: the {name} is pressed"
        sets_us = [at_us for at_us, kind in record["events"] if kind == "set"]
        assert record["counted"] == record["way"] * len(sets_us), "counted, and seen by the kernel"
        (pulled_us,) = [at_us for at_us, kind in record["events"] if kind == "mark"]
        late_us = [at_us for at_us in sets_us if at_us > pulled_us]
        assert len(sets_us) - len(late_us) > 0, "it had not begun"
        last_ms = (late_us[-1] - pulled_us) / 1e3 if late_us else 0.0
        after.setdefault(name, []).append((len(late_us), last_ms))
    for name, ends in after.items():
        steps, last_ms = zip(*ends, strict=True)
        figures.append(
            f"{name} at 500 steps/s: {', '.join(map(str, steps))} steps later, "
            f"the last {max(last_ms):.1f} ms after the pull"
        )
        # 5 ms on a board; an emulated processor is held up by its host for longer than that.
        assert max(last_ms) < 100.0
        assert sorted(last_ms)[len(last_ms) // 2] < 10.0


@pytest.mark.vm("coils")
def test_coils_are_off_after_every_end(records: Records, figures: list[str]) -> None:
    ends = {record["way"]: record for record in records}
    codes = {way: record["code"] for way, record in ends.items() if "code" in record}
    assert codes == {
        "exit": 0,
        "exit, left open": 0,
        "exception": 1,
        "exception, left open": 1,
        "SIGTERM": -2,
        "SIGTERM, unhandled": -15,
        "SIGKILL": -9,
    }
    for way in codes:
        assert ends[way]["writes"] > 20, f"{way}: the motor never ran"
        assert ends[way]["levels"] == [0, 0, 0, 0], way
    for way in ("exit", "exit, left open", "exception", "exception, left open", "SIGTERM"):
        assert ends[way]["last_driven"] == [0, 0, 0, 0], f"{way}: the kernel had to let go of coils left on"
    assert ends["next start"]["before"] == [1, 1, 1, 1]
    assert ends["next start"]["levels"] == [0, 0, 0, 0]
    figures.append(f"coils off {ends['SIGTERM']['last_write_ms']:.1f} ms after SIGTERM")
    for way in ("SIGTERM, unhandled", "SIGKILL"):
        figures.append(
            f"{way}: coils {ends[way]['last_driven']} were on; the kernel let go of the lines, which fell to "
            "their pull (gpio-sim's behaviour, not every board's); the next start drove all low"
        )


@pytest.mark.vm("two_users")
def test_a_pin_has_one_user_in_one_process_and_in_two(records: Records) -> None:
    same, untouched, second, touched, first = records
    assert same["error"] == "second: pin 17 is used by first already"
    assert untouched["touched"] == 0
    assert second["code"] == 0, second["crash"]
    assert second["said"][0].startswith("second: cannot set up pin 17: 'GPIO busy'")
    assert second["said"][1:] == ["23 given back"]
    assert touched["touched"] == [23]
    assert first["levels"] == [0, 1]


@pytest.mark.vm("step_dir")
def test_every_pulse_of_a_step_dir_driver_reaches_the_line_in_the_right_direction(records: Records) -> None:
    constructed, up, down, end = records
    assert constructed["constructed"] == [0, 0, 1], "no current before it is enabled"
    assert (up["position_steps"], down["position_steps"]) == (3000, 1000)
    assert up["standing"] == [0, 1, 0]
    assert down["standing"] == [0, 0, 0]
    step, direction, enable = 20, 21, 16
    levels, pulses = {step: 0, direction: 0, enable: 1}, []
    for kind, pin, level in end["edges"]:
        assert kind == "set"
        if (pin, level) == (step, 1):
            assert levels[step] == 0, "no edge"
            assert levels[enable] == 0
            pulses.append(1 if levels[direction] else -1)
        levels[pin] = level
    assert [(way, len(list(run))) for way, run in itertools.groupby(pulses)] == [(1, 3000), (-1, 2000)]
