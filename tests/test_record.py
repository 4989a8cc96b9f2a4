"""Records on disk: what goes in comes out, and what could not be read again is not written."""

from __future__ import annotations

import json
from typing import Any

import fake_calibration
import msgspec
import numpy as np
import pytest

from edge.calibration import Calibration
from edge.card import Card
from edge.record import Unfit, as_json, plain, read


def found(**changes: Any) -> Calibration:
    """A calibration with some of its numbers changed."""
    return msgspec.structs.replace(fake_calibration.found(), **changes)


def test_what_goes_in_comes_out() -> None:
    assert read(as_json(found()).encode(), Calibration) == found()


def test_whole_numbers_are_written_as_they_are_read() -> None:
    text = as_json(found(settle_s=1))
    assert text == as_json(read(text.encode(), Calibration)) == as_json(found(settle_s=1.0))


def test_numbers_of_numpy_are_numbers() -> None:
    kept = found(settle_s=np.float32(0.5), background=np.float64(100), by_theory=np.bool_(True))
    assert json.loads(as_json(kept))["settle_s"] == 0.5
    assert plain(kept) == plain(found(settle_s=0.5, background=100.0, by_theory=True))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dof_per_step", float("nan")),
        ("settle_s", float("inf")),
        ("settle_s", -1.0),
        ("clipped", 1.5),
        ("date", 3),
    ],
)
def test_what_could_not_be_read_again_is_not_written(key: str, value: object) -> None:
    with pytest.raises(Unfit) as caught:
        as_json(found(**{key: value}))
    assert caught.value.where == key


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ('{"date": 3}', "date", "str"),
        ('{"dato": ""}', "", "dato"),
        ("{}", "", "date"),
        ("[]", "", "array"),
        (b"\xff", "", "malformed|utf"),
    ],
)
def test_what_is_wrong_is_one_line(text: str | bytes, where: str, why: str) -> None:
    with pytest.raises(Unfit, match=f"(?i){why}") as caught:
        read(text if isinstance(text, bytes) else text.encode(), Calibration)
    assert caught.value.where == where
    assert "\n" not in str(caught.value)


def test_depth_without_end_is_one_line() -> None:
    with pytest.raises(Unfit, match="recursion"):
        read(b'{"recipe": {"a": ' + b"[" * 100_000, Card)
