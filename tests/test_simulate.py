"""Simulated z-stacks: readable by the replay, labelled with the truth, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle, Parfocal

from edge.errors import InputError
from edge.files import encode_png
from edge.optics import Objective
from edge.sharpness import sharpness
from edge.simulator.stacks import PROCEDURAL, Plan, write_stacks
from edge.zstack import ZStack

QUICK = ("--size", 64, "--planes", 3, "--range-dof", 2)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestStacks:
    def test_are_sharpest_in_focus(self, one_stack: Path) -> None:
        stack = ZStack.open(one_stack)
        stack.check()
        values = [sharpness(stack.load(plane)) for plane in range(len(stack))]
        assert abs(int(np.argmax(values)) - 4) <= 1  # a refracting specimen may be sharpest beside it
        assert max(values) > 3 * values[0]
        assert max(values) > 3 * values[-1]

    def test_carry_their_optics_and_truth(self, one_stack: Path) -> None:
        stack = ZStack.open(one_stack)
        assert stack.focus_um == 0
        assert stack.objective == Objective(20, 0.4)
        assert stack.assumptions == ()
        dof_um = 0.55 / 0.4**2
        np.testing.assert_allclose(stack.z_um, np.linspace(-4, 4, 9) * dof_um, atol=1e-6)
        assert stack.pixel_um == pytest.approx(0.55 / 0.4 / 4)
        about = stack.about
        assert (about["na"], about["magnification"], about["wavelength_um"]) == (0.4, 20, 0.55)
        assert about["licence"] == "simulated"
        assert about["modality"].startswith("brightfield")
        assert about["seed"] == 4

    def test_an_immersion_objective_is_read_back_as_it_was(self, tmp_path: Path) -> None:
        plan = Plan(stacks=1, planes=2, range_dof=1, size_px=64, objective="60x1.20water")
        write_stacks(plan, tmp_path / "out")
        assert ZStack.open(tmp_path / "out" / "stack000").objective == plan.optics().objective

    def test_drawn_specimens_come_in_turn(self, parfocal: Parfocal, tmp_path: Path) -> None:
        code, out, err = parfocal("simulate", tmp_path / "out", "--stacks", 4, *QUICK)
        assert (code, err) == (0, "")
        assert "4 simulated z-stacks" in out
        names = [json.loads(p.read_text("utf-8"))["specimen"] for p in sorted(tmp_path.rglob("about.json"))]
        assert names == [*PROCEDURAL, PROCEDURAL[0]]

    def test_a_seed_gives_the_same_stacks_and_more_of_them_begin_alike(
        self, parfocal: Parfocal, tmp_path: Path
    ) -> None:
        words = ("--optics", "random", *QUICK)
        for name, stacks, seed in (("one", 1, 5), ("two", 2, 5), ("other", 1, 6)):
            assert parfocal("simulate", tmp_path / name, *words, "--stacks", stacks, "--seed", seed)[0] == 0
        one, two, other = (_bytes(tmp_path / name / "stack000") for name in ("one", "two", "other"))
        assert one == two
        assert one != other
        assert len(one) == 3 + 2

    def test_random_optics_differ_and_keep_the_objective(self, parfocal: Parfocal, tmp_path: Path) -> None:
        words = ("--stacks", 2, "--optics", "random", "--objective", "40x0.65", *QUICK)
        parfocal("simulate", tmp_path / "out", *words)
        first, second = (
            json.loads((tmp_path / "out" / name / "about.json").read_text("utf-8"))
            for name in ("stack000", "stack001")
        )
        assert first["imaging"] != second["imaging"]
        assert first["imaging"]["na_over_n"] == second["imaging"]["na_over_n"] == 0.65
        assert first["optics"] == "random"

    def test_photographs_are_used_in_turn(self, parfocal: Parfocal, tmp_path: Path) -> None:
        photographs = tmp_path / "photographs"
        photographs.mkdir()
        rng = np.random.default_rng(0)
        for name in ("a.png", "b.png"):
            image = rng.integers(0, 255, (200, 260, 3)).astype(np.uint8)
            (photographs / name).write_bytes(encode_png(image))
        code, *_ = parfocal("simulate", tmp_path / "out", "--specimens", photographs, "--stacks", 3, *QUICK)
        assert code == 0
        abouts = [json.loads(p.read_text("utf-8")) for p in sorted((tmp_path / "out").rglob("about.json"))]
        assert [about["specimen"] for about in abouts] == ["a.png", "b.png", "a.png"]
        assert all("photograph" in about["licence"] for about in abouts)

    def test_can_be_replayed(self, parfocal: Parfocal, network: Oracle, tmp_path: Path) -> None:
        words = ("--stacks", 1, "--size", 128, "--planes", 7, "--range-dof", 3)
        parfocal("simulate", tmp_path / "out", *words)
        code, out, _ = parfocal("focus", "--stack", tmp_path / "out" / "stack000", "--json")
        assert code == 0
        assert json.loads(out)["plane"] == 3
        assert json.loads(out)["assumptions"] == []


class TestNothingIsLeftBehind:
    def test_an_unreadable_photograph(self, tmp_path: Path) -> None:
        (tmp_path / "photographs").mkdir()
        (tmp_path / "photographs" / "a.png").write_bytes(b"no image")
        with pytest.raises(InputError, match=r"a\.png"):
            write_stacks(Plan(stacks=1, specimens=tmp_path / "photographs"), tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == ["photographs"]

    def test_an_interrupt(self, tmp_path: Path) -> None:
        def stop() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_stacks(Plan(stacks=1, planes=2, size_px=64), tmp_path / "out", progress=stop)
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_folder_is_filled(self, tmp_path: Path) -> None:
        calls: list[None] = []
        plan = Plan(stacks=2, planes=2, size_px=64)
        names = write_stacks(plan, tmp_path, progress=lambda: calls.append(None))
        assert names == ["stack000", "stack001"]
        assert sorted(p.name for p in tmp_path.iterdir()) == names
        assert len(calls) == 4
