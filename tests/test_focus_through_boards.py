"""The whole line through emulated motor boards: where it ends and how, beside the simulated axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import focus_through_boards as through
import pytest
import tiny

from edge import model
from edge.errors import InputError
from train import closed_loop
from train.closed_loop import Trial, simulated_trials

STARTS = 4
FRAME_PX = 256
Runs = tuple[bool, list[Trial], list[dict[str, Any]]]


@pytest.fixture(scope="module", params=[True, False], ids=["still", "ringing"])
def simulated(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """Whether nothing rings; some starts on one procedural field; the runs that others are held against."""
    try:
        model.load("default")
    except InputError as error:
        pytest.skip(f"the shipped model does not run here: {error}")
    still: bool = request.param
    trials = simulated_trials(tiny.recipe(), STARTS, 1, 5, "default", empty=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed_loop, "FRAME_PX", FRAME_PX)
        yield still, trials, [through.run(trial, still=still) for trial in trials]


@pytest.mark.parametrize("board", through.BOARDS)
def test_the_same_focus_as_the_simulated_axis(board: str, simulated: Runs) -> None:
    still, trials, runs = simulated
    for trial, mine in zip(trials, runs, strict=True):
        theirs = through.run(trial, board, still=still)
        assert mine["result"] == theirs["result"] == "focused"
        assert abs(theirs["true_defocus_dof"]) < 1.0
        if still:
            assert through.differences(mine, theirs, still=True) == [], f"from {trial.start_dof:+.2f} dof"


def test_differences_are_told() -> None:
    run = dict.fromkeys(through.STILL, 1.0)
    assert through.differences(run, run, still=True) == []
    assert through.differences(run, {**run, "position_um": 1.001}) == []
    assert through.differences(run, {**run, "position_um": 1.001}, still=True) == [
        "position_um: 1.0 and 1.001"
    ]
    assert through.differences(run, {**run, "true_defocus_um": 9.0}) == ["true_defocus_um: 1.0 and 9.0"]
    assert through.differences(run, {**run, "true_defocus_um": None}) != []
    assert through.differences(run, {**run, "captures": 2}) == ["captures: 1.0 and 2"]
