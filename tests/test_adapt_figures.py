"""The figures of `adapt`: microscopes beyond the span of the training, judged on fields not adapted on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import adapt
from edge import model as models
from edge.adapt_command import Parent
from edge.config import load_config
from train import adapt_figures
from train.adapt_figures import BEYOND, Scope, beyond_span, main, run_scope, summary


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few small frames."""
    few = {"FRAME_PX": 160, "PLANES": 7, "STACKS": 2, "HELD_OUT_FIELDS": 1, "HELD_OUT_FRAMES": 5}
    for name, value in {**few, "FAR_FRAMES": 2}.items():
        monkeypatch.setattr(adapt_figures, name, value)


def test_the_same_seed_is_the_same_microscope_and_each_number_another() -> None:
    assert Scope.of(3, 1)[0] == Scope.of(3, 1)[0]
    assert Scope.of(3, 1)[0] != Scope.of(3, 2)[0]
    scopes = [Scope.of(number, 1)[0] for number in range(12)]
    assert [scope.mirrored for scope in scopes[:6]] == [False, False, True, False, False, True]
    assert {name for scope in scopes for name in scope.beyond} == set(BEYOND)
    assert all(len(set(scope.beyond)) == 2 for scope in scopes)


@pytest.mark.parametrize("name", BEYOND)
def test_properties_lie_beyond_the_span(name: str) -> None:
    """At least two standard deviations of what `Imaging.random` draws, or outside its range."""
    for seed in range(20):
        ((key, value),) = beyond_span(name, np.random.default_rng(seed)).items()
        if key == "condenser_ratio":
            assert value < 0.2 or value > 0.85
            continue
        width = {"tilt": 0.13, "coma_waves": 0.07, "spherical_waves": 0.07, "astigmatism_waves": 0.03}
        if key in width:
            middle = 0.04 if key == "spherical_waves" else 0.0
            assert float(np.linalg.norm(np.atleast_1d(value) - middle)) >= 2 * width[key]
        else:
            red, green, blue = value
            assert green == 0.0
            assert abs(red - 0.25) >= 2 * 0.25
            assert abs(blue + 0.35) > 0.6


@pytest.mark.usefixtures("small")
def test_a_microscope_the_other_way_round() -> None:
    row = run_scope(14, 1, Parent(models.DEFAULT_PATH), load_config(None), stated=True)
    assert row["mirrored"]
    assert row["refused"] == ""
    assert row["before"]["wrong_direction"] > 0.5
    assert row["after"]["wrong_direction"] < 0.5 * row["before"]["wrong_direction"]
    assert row["before"]["n"] == row["after"]["n"] == 5


@pytest.mark.usefixtures("small")
def test_where_it_is_refused_the_parent_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adapt, "not_better", lambda *given: "1.0 before, 2.0 after")
    assert main(["--microscopes", "1", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    (row,) = out["microscopes"]
    assert "1.0 before, 2.0 after" in row["refused"]
    assert row["before"] == row["after"]
    assert out["all"]["refused"] == 1


def test_summary_counts_what_is_worse() -> None:
    def row(before: float, after: float, refused: str = "") -> dict[str, Any]:
        keys = ("median_dof", "mae_dof", "wrong_direction", "far_wrong_direction")
        return {
            "before": dict.fromkeys(keys, before),
            "after": dict.fromkeys(keys, after),
            "refused": refused,
            "seconds": 2.0,
        }

    found = summary([row(1.0, 0.5), row(1.0, 0.25), row(0.5, 0.75), row(2.0, 2.0, "no")])
    assert found["median_dof"]["worse"] == 1
    assert found["median_dof"]["before_median"] == 1.0
    assert found["median_ratio"] == 0.75
    assert found["refused"] == 1


def test_a_stack_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


FOUND = Path(__file__).resolve().parent.parent / "docs"


def test_the_page_states_what_was_measured() -> None:
    page = (FOUND / "adapt.md").read_text("utf-8")
    found = json.loads((FOUND / "model-card" / "adapt.json").read_text("utf-8"))["all"]
    for words, key, kind in (
        ("error of a frame in depths of field, median over microscopes", "median_dof", "median"),
        ("mean error, mean over microscopes", "mae_dof", "mean"),
    ):
        of = found[key]
        row = f"| {words} | {of[f'before_{kind}']:.2f} | {of[f'after_{kind}']:.2f} | {of['worse']} of 20 |"
        assert row in page
    for words, key, kind in (
        ("wrong direction at 1 depth of field and more, median", "wrong_direction", "median"),
        ("wrong direction, mean over microscopes", "wrong_direction", "mean"),
        (
            "wrong direction 7 to 11 depths of field out, beyond the planes, mean",
            "far_wrong_direction",
            "mean",
        ),
    ):
        shares = [100 * found[key][f"{when}_{kind}"] for when in ("before", "after")]
        assert f"| {words} | {shares[0]:.1f} % | {shares[1]:.1f} % |" in page
    blood = json.loads((FOUND / "model-card" / "adapt-blood.json").read_text("utf-8"))
    before, after = blood["before"], blood["after"]
    said = " ".join(page.split())
    assert f"{before['within_one_plane']} of 10 before, {after['within_one_plane']} of 10 after" in said
    assert f"{before['median_planes']:.2f} planes before, {after['median_planes']:.2f} after" in said
    assert f"in {before['wrong_direction']} frames before, in {after['wrong_direction']} after" in said
    measured = json.loads((FOUND / "model-card" / "adapt-measured.json").read_text("utf-8"))
    median, refused = measured["all"]["median_dof"], measured["all"]["refused"]
    assert f"{refused} of 20 are refused" in said
    assert f"from {median['before_median']:.2f} to {median['after_median']:.2f}" in said
    wrong = [100 * measured["all"]["wrong_direction"][f"{when}_median"] for when in ("before", "after")]
    assert f"wrong direction from {wrong[0]:.1f} % to {wrong[1]:.1f} %" in said
    assert sum(bool(row["refused"]) for row in measured["microscopes"]) == refused
    whole = measured["all"]
    assert (
        f"measured {whole['seconds_median']:.0f} s (beside other work) and {whole['peak_mb']:.0f} MB" in said
    )
