"""When a belief is proof enough: each bound of it, from both sides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.belief import UNKNOWN, Belief, Reading
from edge.dialogue import Settings
from edge.proof import next_place, proved

SETTINGS = Settings(-40.0, 40.0)
#: Two looks, the last of them here; sure of a place 0.9 dof on, and not of this one.
NEAR = Reading(0.9, 0.3, 0.6, 0.9, 0.96, 0.0, 0.0)
LOOKS = (6.0, 0.0)


def said(reading: Reading, settings: Settings = SETTINGS, *, looks: tuple[float, ...] = LOOKS) -> bool:
    return proved(reading, 0.0, looks, settings, last=False)


def test_sure_of_a_place_as_near_as_the_tolerance() -> None:
    assert said(NEAR)
    assert said(replace(NEAR, target=-1.0))
    assert not said(replace(NEAR, target=1.01))
    assert said(replace(NEAR, target=1.9), replace(SETTINGS, tolerance=2.0))


def test_that_sure_and_no_less() -> None:
    assert said(replace(NEAR, target_within=0.951))
    assert not said(replace(NEAR, target_within=0.949))
    assert not said(NEAR, replace(SETTINGS, confidence=0.97)), "more was asked for"


def test_not_by_one_look_or_two_from_one_place() -> None:
    assert not said(NEAR, looks=(0.0,))
    assert not said(NEAR, looks=(0.4, 0.0))
    # Sure enough to settle it alone, but beside its middle: no blind move after a single look.
    assert not said(replace(NEAR, within=0.98, target=0.6), looks=(0.0,))
    assert said(replace(NEAR, within=0.98, target=0.4), looks=(0.0,))


def test_not_where_something_was_assumed() -> None:
    assert not said(NEAR, replace(SETTINGS, assumed=True, gains=UNKNOWN))


def test_contrast_has_a_say_where_it_is_known_to_be_highest() -> None:
    absorbing = replace(SETTINGS, absorbing=True)
    assert not said(replace(NEAR, target=0.51), absorbing)
    assert said(replace(NEAR, target=0.5), absorbing)


@pytest.mark.parametrize(("onward", "sign"), [(0, -1), (1, -1), (-1, 1)])
def test_a_first_move_ends_short_by_a_share_of_the_spread(onward: int, sign: int) -> None:
    belief = Belief(-40.0, 40.0)
    belief.mass[:] = 0
    belief.mass[0] = (abs(belief.places - 10.0) <= 3.0) / 61  # even: a deviation of 6.1 / sqrt(12)
    unsure = replace(NEAR, target=10.0, target_within=0.3)
    settings = replace(SETTINGS, onward=onward)
    place = next_place(belief, unsure, 0.0, settings, first=True)
    assert place == pytest.approx(10.0 + sign * 0.3 * 6.1 / 12**0.5, abs=0.01)
    assert next_place(belief, unsure, 0.0, settings, first=False) == 10.0
    assert next_place(belief, replace(unsure, target_within=0.9), 0.0, settings, first=True) == 10.0
