"""`adapt`: a head refitted to known truth is found again, one that is not better is refused, a damaged one is
one line, and a microscope the other way round is learned from its stacks, the file whole or as it was.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_model import BINS, FLATBUFFER, FakeInterpreter, card, write_model
from oracle import Parfocal

from edge import adapt as fitting
from edge import card as cards
from edge import model as models
from edge.adapt import Calibration, Tiles, adapt, figures, not_better
from edge.adapt_stacks import opened, read_tiles
from edge.card import Adapted, AdaptedStack
from edge.config import Config, load_config
from edge.errors import InputError, ModelError
from edge.head import Head, packed
from edge.optics import Objective, Optics
from edge.record import plain
from edge.simulator.stacks import Plan, write_stacks

CENTRES = np.asarray(BINS)
FEATURES = 5
SHARP = Calibration(1.0, 0.1)


def head(seed: int = 0, *, mirrored: bool = False, bins: int = len(BINS)) -> Head:
    """A head of some numbers."""
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(FEATURES, bins)), rng.normal(size=bins)
    return Head.of(weights.astype(np.float32), bias.astype(np.float32), mirrored=mirrored)


def adapted(**changes: Any) -> Adapted:
    """Where a head comes from."""
    stack = AdaptedStack(name="s", sha256="0" * 64, planes=9, focus_um=0.0, focus_measured=False)
    keys: dict[str, Any] = {
        "parent": "fake",
        "parent_sha256": "1" * 64,
        "at": "2026-01-01",
        "stacks": (stack,),
        "held_out": "half",
        "fields": 2,
        "frames": 18,
        "tiles": 40,
        "strength": 1.0,
        "before": {"median_dof": 1.0},
        "after": {"median_dof": 0.5},
    }
    return Adapted(**{**keys, **changes})


def with_head(**changes: Any) -> dict[str, Any]:
    """What a card with a head has beside the others."""
    return {"schema_version": 2, "head": head(), "adapted": adapted(), **changes}


class TestHead:
    def test_numbers_come_back_as_they_were(self) -> None:
        weights = np.random.default_rng(1).normal(size=(FEATURES, 7)).astype(np.float32)
        bias = np.arange(7, dtype=np.float32)
        found, found_bias = Head.of(weights, bias, mirrored=True).arrays()
        np.testing.assert_array_equal(found, weights)
        np.testing.assert_array_equal(found_bias, bias)

    @pytest.mark.parametrize("first", [False, True])
    @pytest.mark.parametrize("second", [False, True])
    def test_one_after_another_is_one(self, first: bool, second: bool) -> None:
        rng = np.random.default_rng(2)
        logits, features = rng.normal(size=(4, len(BINS))), rng.normal(size=(4, FEATURES))

        def of(one: Head, before: np.ndarray) -> np.ndarray:
            weights, bias = one.arrays()
            return (before[:, ::-1] if one.mirrored else before) + features @ weights + bias

        a, b = head(3, mirrored=first), head(4, mirrored=second)
        np.testing.assert_allclose(of(b.after(a), logits), of(b, of(a, logits)), atol=1e-5)
        assert b.after(None) == b

    @pytest.mark.parametrize(
        "wrong",
        [
            {"weights": packed(np.zeros(9, np.float32))},
            {"bias": packed(np.zeros(len(BINS) - 1, np.float32))},
            {"bias": packed(np.full(len(BINS), np.nan, np.float32))},
            {"weights": packed(np.full(FEATURES * len(BINS), np.inf, np.float32))},
            {"bias": "@@@@"},
            {"bias": "AAA="},
            {"features": 0},
            {"features": FEATURES + 1},
        ],
    )
    def test_values_that_are_none(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"numbers|base64|float32|finite"):
            Head(**{**plain(head()), **wrong})


class TestCardWithHead:
    def test_what_goes_in_comes_out(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "m.tflite", **with_head())
        assert cards.read(path) == (FLATBUFFER, card(**with_head()))

    def test_a_card_without_one_is_as_it_always_was(self) -> None:
        assert not {"head", "adapted"} & set(json.loads(card().as_json()))
        shipped = models.DEFAULT_PATH
        assert cards.attach(*cards.read(shipped)) == shipped.read_bytes()

    def test_an_older_version_says_what_to_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_model(tmp_path / "m.tflite", **with_head())
        monkeypatch.setattr(cards, "SCHEMA", 1)
        with pytest.raises(ModelError, match="schema 2; this version reads up to 1: upgrade parfocal"):
            cards.read(path)

    @pytest.mark.parametrize(
        "wrong",
        [{"schema_version": 1}, {"adapted": None}, {"head": None}, {"head": head(bins=len(BINS) - 1)}],
        ids=["schema of a plain one", "of unknown origin", "origin of nothing", "other bins"],
    )
    def test_parts_that_do_not_fit(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="head"):
            card(**with_head(**wrong))

    def test_a_damaged_head_is_one_line(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "m.tflite", **with_head())
        keys = json.loads(card(**with_head()).as_json())
        keys["head"]["weights"] = keys["head"]["weights"][:-16]
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(cards.CARD_NAME, json.dumps(keys))
        path.write_bytes(FLATBUFFER + path.read_bytes())
        with pytest.raises(ModelError) as caught:
            cards.read(path)
        assert str(caught.value).startswith(f"{path}: card: head")
        assert "102 numbers, 105 are needed" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_one_that_is_too_large_to_read_is_not_made(self) -> None:
        wide = Head.of(
            np.zeros((20_000, len(BINS)), np.float32), np.zeros(len(BINS), np.float32), mirrored=False
        )
        with pytest.raises(ValueError, match="bytes"):
            cards.attach(FLATBUFFER, card(**with_head(head=wide)))


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> type[FakeInterpreter]:
    """The one runtime there is; its features are 0 to 4."""
    made = type("Interpreter", (FakeInterpreter,), {})
    module = types.ModuleType("fake_runtime")
    module.Interpreter = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_runtime", module)
    monkeypatch.setattr(models, "RUNTIMES", (("fake_runtime", "Interpreter"),))
    return made


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_model_says_what_its_head_makes_of_it(
    interpreter: type[FakeInterpreter], tmp_path: Path, mirrored: bool
) -> None:
    own = np.linspace(-1, 1, len(BINS)).astype(np.float32)
    interpreter.network = staticmethod(lambda pixels: own)
    chosen = head(5, mirrored=mirrored)
    model = models.load(write_model(tmp_path / "m.tflite", **with_head(head=chosen)))
    logits, features = model.infer(np.zeros((2, 32, 32, 3), np.float32))
    weights, bias = chosen.arrays()
    wanted = (own[::-1] if mirrored else own) + np.arange(FEATURES) @ weights + bias
    np.testing.assert_allclose(logits, [wanted, wanted], rtol=1e-5)
    np.testing.assert_array_equal(features[0], np.arange(FEATURES))
    unasked, _ = model.infer(np.zeros((2, 32, 32, 3), np.float32), features=False)  # the head needs them
    np.testing.assert_array_equal(unasked, logits)


def test_a_head_of_other_features_is_refused(interpreter: type[FakeInterpreter], tmp_path: Path) -> None:
    interpreter.outputs = ((1, FEATURES + 1), (1, len(BINS)))
    with pytest.raises(ModelError, match="5 features, the network gives 6"):
        models.load(write_model(tmp_path / "m.tflite", **with_head()))


def tiles_of(fields: int, *, seed: int = 0, turned: bool = False, told: float = 0.0) -> Tiles:
    """Tiles whose features tell the defocus but for noise. The parent knows ``told`` of it, 0 to 1;
    ``turned``: in the wrong direction.
    """
    rng = np.random.default_rng(seed)
    frames, tiles = 13, 4
    defocus = np.tile(np.linspace(-6, 6, frames), fields)
    truth = np.repeat(defocus, tiles)
    places = np.linspace(-7, 7, 8)
    noisy = truth + rng.normal(0, 0.2, len(truth))
    features = np.exp(-0.5 * ((noisy[:, None] - places) / 1.5) ** 2)
    said = (-truth if turned else truth) * told
    logits = -0.5 * ((CENTRES[None] - said[:, None]) / 1.0) ** 2
    frame = np.repeat(np.arange(frames * fields), tiles)
    return Tiles(
        features.astype(np.float32),
        logits.astype(np.float32),
        truth,
        np.ones(len(truth)),
        np.ones(len(truth)),
        frame,
        frame // frames,
        np.ones(len(truth), bool),
    )


def judged(found: fitting.Adaptation, tiles: Tiles) -> dict[str, float]:
    """`figures` of a found head on other tiles."""
    weights, bias = found.head.arrays()
    own = tiles.logits[:, ::-1] if found.head.mirrored else tiles.logits
    logits = (own + tiles.features @ weights + bias).astype(np.float64)
    return figures(*fitting.frame_errors(logits, tiles, CENTRES, found.calibration))


class TestFit:
    def test_what_the_features_tell_is_found_and_holds_on_other_fields(self) -> None:
        found = adapt(tiles_of(3, told=0.3), CENTRES, SHARP)
        assert found.before["median_dof"] > 1.5
        assert found.after["median_dof"] < 0.35
        assert found.reason == ""
        assert not found.head.mirrored
        assert judged(found, tiles_of(2, seed=9, told=0.3))["median_dof"] < 0.35

    def test_the_other_direction_is_found(self) -> None:
        tiles = tiles_of(2, turned=True, told=1.0)
        found = adapt(tiles, CENTRES, SHARP)
        assert found.before["wrong_direction"] == 1.0
        assert found.after["wrong_direction"] == 0.0
        assert found.head.mirrored
        assert judged(found, tiles_of(1, seed=8, turned=True, told=1.0))["wrong_direction"] == 0.0

    def test_bins_that_are_not_even_have_no_other_direction(self) -> None:
        tiles = tiles_of(2, turned=True, told=1.0)
        assert not adapt(tiles, CENTRES + 0.25, SHARP).head.mirrored

    def test_a_strong_pull_leaves_the_parent_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fitting, "STRENGTHS", (1e9,))
        weights, _ = adapt(tiles_of(2, told=0.9), CENTRES, SHARP).head.arrays()
        assert np.abs(weights).max() < 1e-4

    def test_it_is_a_minimum(self) -> None:
        """The slope of the loss, by differences of the loss itself, is 0 where the fit ended."""
        tiles = tiles_of(1)
        inputs = np.concatenate(
            [tiles.features - tiles.features.mean(axis=0), np.ones((len(tiles), 1))], axis=1
        )
        labels, weight = fitting._labels(tiles.truth, CENTRES, tiles.apart), np.full(len(tiles), 0.25)
        offset = tiles.logits.astype(np.float64)
        found = np.zeros((inputs.shape[1], len(CENTRES)))
        for _ in range(20):
            found = fitting._fit(inputs, offset, labels, weight, 10.0, found)

        def loss(correction: np.ndarray) -> float:
            log_p = models.log_softmax(offset + inputs @ correction)
            return -float((weight[:, None] * labels * log_p).sum()) + 5.0 * float(
                (correction[:-1] ** 2).sum()
            )

        rng = np.random.default_rng(0)
        for _ in range(5):
            step = 1e-4 * rng.normal(size=found.shape)
            slope = (loss(found + step) - loss(found - step)) / 2e-4 / np.linalg.norm(step) * 1e-4
            assert abs(slope) < 0.01

    def test_what_the_parent_knows_better_is_not_adapted(self) -> None:
        """Features that tell nothing: of a parent that is right nothing is made that is better."""
        tiles = tiles_of(3, told=1.0)
        rng = np.random.default_rng(3)
        blind = replace(tiles, features=rng.normal(size=tiles.features.shape).astype(np.float32))
        found = adapt(blind, CENTRES, SHARP)
        assert "median error" in found.reason
        assert "before" in found.reason
        assert "after" in found.reason

    def test_progress_counts_the_fits(self) -> None:
        done: list[int] = []
        adapt(tiles_of(2), CENTRES, SHARP, progress=lambda: done.append(1))
        assert len(done) == len(fitting.STRENGTHS) * 3


def test_bins_between_two_planes_are_learned_too() -> None:
    """Planes two bins apart: no bin between the outermost is left without labels."""
    truth = np.arange(-6.0, 7.0, 2.0)
    total = fitting._labels(truth, CENTRES, np.full(7, 2.0)).sum(axis=0)
    within = np.abs(CENTRES) <= 6
    assert total[within].min() > 0.5 * total[within].max()
    narrow = fitting._labels(truth, CENTRES, np.full(7, 0.1))
    assert narrow.max() > 0.7


TRUTH = np.array([-4.0, -2.0, 2.0, 4.0, -4.0, -2.0, 2.0, 4.0])
FIELD = np.repeat([0, 1], 4)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (TRUTH + 1, TRUTH + 0.5, ""),
        (TRUTH + 1, TRUTH + 1, "median error 1.00 depths of field before, 1.00 after"),
        (TRUTH + 0.5, TRUTH + 1, "median error 0.50"),
        (TRUTH + 1, np.where(np.isin(np.arange(8), [1, 2, 5]), -TRUTH, TRUTH), "wrong direction in 0 of 8"),
        (TRUTH + 0.5, np.where(np.arange(8) == 7, 6, TRUTH), ""),
        (TRUTH + 0.5, np.where(np.arange(8) == 7, 8, TRUTH), "1 of 2 fields are worse"),
    ],
)
def test_what_counts_as_better(before: np.ndarray, after: np.ndarray, says: str) -> None:
    found = not_better((before, TRUTH), (after, TRUTH), FIELD)
    assert found.startswith(says)
    assert bool(found) == bool(says)


def _turn(stack: Path) -> Path:
    """Have the stage of ``stack`` count the other way round."""
    table = stack / "planes.csv"
    header, *rows = csv.reader(table.read_text("utf-8").splitlines())
    lines = [",".join(header), *(f"{file},{-float(z)}" for file, z in rows)]
    table.write_text("\n".join(lines) + "\n", "utf-8")
    return stack


@pytest.fixture(scope="session")
def turned_stacks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three simulated stacks, not to be changed, of a stage that counts the other way round."""
    folder = tmp_path_factory.mktemp("turned") / "made"
    names = write_stacks(Plan(stacks=3, planes=9, range_dof=6, size_px=256, seed=7), folder)
    for name in names:
        _turn(folder / name)
    return [folder / name for name in names]


@pytest.fixture
def two_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice of two is enough where the choice is not the matter."""
    monkeypatch.setattr(fitting, "STRENGTHS", (60.0, 2.5))


@pytest.mark.usefixtures("two_strengths")
class TestCommand:
    def test_a_stage_the_other_way_round_is_learned(
        self, parfocal: Parfocal, turned_stacks: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "own.tflite"
        code, said, _ = parfocal("adapt", *turned_stacks, "--out", out, "--json")
        assert code == 0
        document = json.loads(said)
        assert document["before"]["wrong_direction"] > 0.9
        assert document["after"]["wrong_direction"] < 0.1
        assert document["after"]["median_dof"] < 0.5 * document["before"]["median_dof"]
        flatbuffer, made = cards.read(out)
        parent_flatbuffer, parent = cards.read(models.DEFAULT_PATH)
        assert flatbuffer == parent_flatbuffer
        assert made.schema_version == 2
        assert models.load(out).fingerprint != models.load(models.DEFAULT_PATH).fingerprint
        assert made.adapted is not None
        assert made.adapted.parent == parent.name
        assert [of.name for of in made.adapted.stacks] == [path.name for path in turned_stacks]
        assert made.adapted.fields == 3
        assert "nothing was learned beyond the planes" in document["notes"][-1]

    def test_an_adapted_model_is_adapted_again(
        self, parfocal: Parfocal, turned_stacks: list[Path], tmp_path: Path
    ) -> None:
        """To one direction, then back to the other."""
        first, second = tmp_path / "first.tflite", tmp_path / "second.tflite"
        assert parfocal("adapt", turned_stacks[0], "--out", first)[0] == 0
        back = [_turn(Path(shutil.copytree(of, tmp_path / of.name))) for of in turned_stacks]
        code, said, error = parfocal("adapt", *back, "--out", second, "--model", first)
        assert code == 0, error
        assert "judged on 27 frames of 3 stacks, each left out in turn" in said
        assert "before: median error" in said
        made = cards.read(second)[1]
        assert made.adapted is not None
        assert made.adapted.parent == made.name == "parfocal-default-adapted"
        assert made.adapted.parent_sha256 == hashlib.sha256(first.read_bytes()).hexdigest()
        assert made.head is not None
        assert not made.head.mirrored, "turned twice"
        assert made.trained_on.count("adapted to") == 1

    def test_one_stack_is_judged_half_by_half(
        self, parfocal: Parfocal, turned_stacks: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "own.tflite"
        code, said, _ = parfocal("adapt", turned_stacks[0], "--out", out)
        assert code == 0
        record = cards.read(out)[1].adapted
        assert record is not None
        assert (record.held_out, record.fields, len(record.stacks)) == ("half", 2, 1)
        assert record.stacks[0].planes <= 9
        assert "2 halves of the frame" in said

    @pytest.mark.parametrize("optics", [True, False])
    def test_stacks_that_do_not_state_their_focus(
        self, parfocal: Parfocal, tmp_path: Path, optics: bool
    ) -> None:
        """The theory needs to know the optics; without it the sharpest place is taken."""
        folder, config = tmp_path / "made", tmp_path / "own.toml"
        plan = Plan(stacks=2, planes=21, range_dof=6, size_px=256, seed=8)
        paths = [_turn(folder / name) for name in write_stacks(plan, folder)]
        config.write_text('[optics]\nobjective = "20x0.40"\n')
        for path in paths:
            about = json.loads((path / "about.json").read_text())
            del about["focus_z"]
            if not optics:
                del about["objective"]
            (path / "about.json").write_text(json.dumps(about))
        out = tmp_path / "own.tflite"
        code, said, error = parfocal("adapt", *paths, "--out", out, "--config", config, "--json")
        assert code == 0, error
        notes = [note for note in json.loads(said)["notes"] if "focus measured on its planes" in note]
        assert len(notes) == 2
        words = "by the wave theory of its objective" if optics else "where they are sharpest"
        assert all(words in note for note in notes)
        made = cards.read(out)[1].adapted
        assert made is not None
        assert all(of.focus_measured for of in made.stacks)
        assert all(abs(of.focus_um) < (0.8 if optics else 2.0) * 3.4375 for of in made.stacks)

    def test_what_is_not_better_is_not_written(
        self,
        parfocal: Parfocal,
        turned_stacks: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        out = tmp_path / "own.tflite"
        out.write_bytes(b"old")
        monkeypatch.setattr(fitting, "not_better", lambda *given: "1.00 before, 2.00 after")
        code, said, error = parfocal("adapt", turned_stacks[0], "--out", out)
        assert (code, said) == (4, "")
        assert "not better than parfocal-default on fields left out: 1.00 before, 2.00 after" in error
        assert error.count("\n") == 1
        assert out.read_bytes() == b"old"

    def test_a_full_disk_leaves_the_old_file(
        self,
        parfocal: Parfocal,
        turned_stacks: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        out = tmp_path / "own.tflite"
        out.write_bytes(b"old")

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        code, _, error = parfocal("adapt", turned_stacks[0], "--out", out)
        assert code == 1
        assert "No space left" in error
        assert [path.name for path in tmp_path.iterdir()] == ["own.tflite"]
        assert out.read_bytes() == b"old"


def _spoiled(stack: Path, folder: Path, **about: Any) -> Path:
    """A copy of a stack whose about.json says other things; ``planes``: its table counts planes, so many."""
    copy = Path(shutil.copytree(stack, folder / "spoiled"))
    planes = about.pop("planes", None)
    if planes is not None:
        _, *rows = (copy / "planes.csv").read_text("utf-8").splitlines()
        lines = [f"{row.split(',')[0]},{k}" for k, row in enumerate(rows[:planes])]
        (copy / "planes.csv").write_text("\n".join(["file,z_plane", *lines]) + "\n", "utf-8")
    said = json.loads((copy / "about.json").read_text("utf-8"))
    (copy / "about.json").write_text(json.dumps({**said, **about}), "utf-8")
    return copy


def test_bins_in_um_are_taught_um(
    interpreter: type[FakeInterpreter], turned_stacks: list[Path], tmp_path: Path
) -> None:
    """The truth is in the unit of the bins, the planes' z turned as the stage counts."""
    model = models.load(write_model(tmp_path / "m.tflite", unit="um"))
    (stack,) = opened(turned_stacks[:1], load_config(None), model, step_um=None)
    tiles = read_tiles(model, [stack, stack], 2)
    assert tiles.dof[0] == stack.optics.dof_um
    np.testing.assert_allclose(np.unique(tiles.truth), stack.stack.z_um)
    np.testing.assert_allclose(tiles.apart, np.diff(stack.stack.z_um)[0])
    assert set(tiles.field.tolist()) == {0, 1}
    assert np.bincount(tiles.frame[tiles.judged]).max() == 2
    assert np.bincount(tiles.frame).max() > 2


class TestRefused:
    @pytest.mark.parametrize(
        ("about", "words", "says"),
        [
            ({"planes": 9}, [], "counts planes: say how far apart they are with --step-um"),
            ({"planes": 9}, ["--step-um", "0"], "finite number above 0"),
            ({"planes": 4}, ["--step-um", "1"], "4 different z: 5 or more"),
            ({"focus_z": 99.0}, [], "not between its first and last plane"),
            ({"pixel_um": 0.2}, [], "give two stacks or more"),
            ({"pixel_um": 1e4}, [], "objective or pixel_um is wrong"),
        ],
    )
    def test_stacks_that_cannot_be_used(
        self,
        parfocal: Parfocal,
        turned_stacks: list[Path],
        tmp_path: Path,
        about: dict[str, Any],
        words: list[str],
        says: str,
    ) -> None:
        stack = _spoiled(turned_stacks[0], tmp_path, **about)
        code, said, error = parfocal("adapt", stack, "--out", tmp_path / "own.tflite", *words)
        assert (code, said) == (2, "")
        assert says in error
        assert error.count("\n") == 1
        assert not (tmp_path / "own.tflite").exists()

    def test_outputs_and_stacks_that_make_no_sense(
        self, parfocal: Parfocal, turned_stacks: list[Path], tmp_path: Path
    ) -> None:
        parent = Path(shutil.copy(models.DEFAULT_PATH, tmp_path / "parent.tflite"))
        before = parent.read_bytes()
        first, out = turned_stacks[0], tmp_path / "own.tflite"
        for words, says in (
            ((first, "--out", tmp_path / "own.bin"), "ends in .tflite"),
            ((first, "--out", tmp_path / "none" / "own.tflite"), "cannot be written"),
            ((first, "--out", parent, "--model", parent), "is the model to start from"),
            ((first, first, "--out", out), "is given twice"),
            ((tmp_path / "none", "--out", out), "no such folder"),
            ((first, "--out", out, "--model", tmp_path / "none.tflite"), "no such model file"),
        ):
            code, said, error = parfocal("adapt", *words)
            assert (code, said) == (2, "")
            assert says in error
            assert error.count("\n") == 1
        assert parent.read_bytes() == before
        assert not out.exists()

    def test_a_model_without_features(
        self,
        interpreter: type[FakeInterpreter],
        parfocal: Parfocal,
        turned_stacks: list[Path],
        tmp_path: Path,
    ) -> None:
        interpreter.outputs = ((1, len(BINS)),)
        path = write_model(tmp_path / "m.tflite")
        code, _, error = parfocal(
            "adapt", turned_stacks[0], "--out", tmp_path / "own.tflite", "--model", path
        )
        assert code == 2
        assert "has no features output" in error


def test_a_folder_of_stacks_is_all_of_them(turned_stacks: list[Path], tmp_path: Path) -> None:
    for k, stack in enumerate(turned_stacks[:2]):
        shutil.copytree(stack, tmp_path / "mine" / f"field-{k}")
    shutil.copytree(turned_stacks[0], tmp_path / "mine" / ".field-2.unfinished")
    network = models.load("default")
    found = opened([tmp_path / "mine"], Config(), network, step_um=None)
    assert [of.stack.path.name for of in found] == ["field-0", "field-1"]
    again = [tmp_path / "mine", tmp_path / "mine" / "field-1"]
    with pytest.raises(InputError, match="field-1: is given twice"):
        opened(again, Config(), network, step_um=None)


class TestCalibratedStacks:
    def opened(self, folder: Path, **about: Any) -> np.ndarray:
        """Labels of the first stack with this in its about.json."""
        text = json.loads((folder / "about.json").read_text())
        (folder / "about.json").write_text(json.dumps({**text, **about}))
        (labelled,) = opened([folder], Config(), models.load("default"), step_um=None)
        return labelled.defocus_dof()

    def test_labels_have_the_direction_and_scale_of_the_calibration(
        self, turned_stacks: list[Path], tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(turned_stacks[0], tmp_path / "stack"))
        plain = self.opened(folder)
        found = {"dof_per_step": -0.03}
        calibrated = self.opened(folder, um_per_step=0.062, calibration=found)
        dof_um = Optics(Objective(20, 0.4), 0.34).dof_um
        assert calibrated == pytest.approx(plain * dof_um * -0.03 / 0.062)

    @pytest.mark.parametrize(
        "about", [{"calibration": None}, {"calibration": {}}, {"calibration": {"dof_per_step": "x"}}]
    )
    def test_without_a_calibration_they_are_as_the_stage_counts(
        self, turned_stacks: list[Path], tmp_path: Path, about: dict[str, Any]
    ) -> None:
        folder = Path(shutil.copytree(turned_stacks[0], tmp_path / "stack"))
        assert self.opened(folder, um_per_step=0.062, **about) == pytest.approx(self.opened(folder))
