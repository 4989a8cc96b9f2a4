"""What cannot be used is refused: exit code 2, one line on stderr, nothing moved and nothing written."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import oracle
import pytest
from oracle import Oracle, Parfocal

from edge import card, model
from edge.camera.replay import ReplayCamera
from edge.microscope import Microscope
from firmware_iface.stage import Stage


def _model_file(**changes: object) -> bytes:
    """A model file whose card is valid but for ``changes``; no interpreter would run it."""
    flatbuffer = b"\x1c\x00\x00\x00TFL3" + bytes(64)
    values = {
        "schema_version": card.SCHEMA,
        "name": "test",
        "tile_px": 128,
        "pixels_per_resolution": 4.0,
        "bin_centres": [-1.0, 0.0, 1.0],
        "unit": "dof",
        "temperature": 1.0,
        "tile_weight": 0.5,
        "trained_on": "nothing",
        "trained_at": "2025-01-01",
        "recipe": {},
        "metrics": {},
        "flatbuffer_sha256": hashlib.sha256(flatbuffer).hexdigest(),
    }
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w") as archive:
        archive.writestr(card.CARD_NAME, json.dumps({**values, **changes}))
    return flatbuffer + tail.getvalue()


def _spoil(stack: Path, name: str, content: bytes | None) -> None:
    """Replace a file of the stack, or remove it."""
    (stack / name).unlink()
    if content is not None:
        (stack / name).write_bytes(content)


def _png(height: int, width: int) -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1])


def _image_cut_short(stack: Path) -> None:
    _spoil(stack, "plane008.png", (stack / "plane008.png").read_bytes()[:500])


#: Words of the command line, with {tmp} and {stack} filled in, and what the line on stderr must say.
BAD_WORDS: list[tuple[str, str]] = [
    ("", "COMMAND"),
    ("frobnicate", "frobnicate"),
    ("--vers", "COMMAND"),
    ("focus --unknown", "--unknown"),
    ("focus --js", "--js"),
    ("focus extra", "extra"),
    ("focus --rig microscope", "microscope"),
    ("focus --rig hardware", '[stage] driver = "none"'),
    ("focus --rig replay", "--stack"),
    ("focus --rig simulated --stack {stack}", "--stack"),
    ("focus --start-plane 3", "--start-plane"),
    ("focus --step-um 1", "--step-um"),
    ("focus --start-defocus-um 5 --start-plane 3", "not allowed with"),
    ("focus --start-defocus-um nan", "finite"),
    ("focus --start-defocus-um much", "number"),
    ("focus --start-defocus-um 151", "151"),
    ("focus --start-defocus-um=-1e300", "allowed"),
    ("focus --seed -1", "seed = -1"),
    ("focus --seed 1.5", "1.5"),
    ("focus --specimen cheese", "cheese"),
    ("focus --specimen {tmp}", "no image"),
    ("focus --config {tmp}/none.toml", "no such file"),
    ("focus --config {tmp}", "is a folder"),
    ("focus --stack {tmp}/none", "no such folder"),
    ("focus --stack {tmp}", "planes.csv"),
    ("focus --stack {stack}/plane000.png", "not a folder"),
    ("focus --stack {stack} --start-plane 9", "planes 0 to 8"),
    ("focus --stack {stack} --start-plane -1", "planes 0 to 8"),
    ("focus --stack {stack} --start-defocus-um 3", "--start-defocus-um"),
    ("focus --stack {stack} --specimen tissue", "--specimen"),
    ("focus --stack {stack} --step-um 0", "step = 0"),
    ("focus --stack {stack} --step-um inf", "finite"),
    ("focus --trace {tmp}/none/run.json", "--trace"),
    ("focus --trace {tmp}", "ends in .json"),
    ("focus --trace /dev/null", "ends in .json"),
    ("focus --stack {stack} --trace {stack}/about.json", "is read by this run"),
    ("focus --stack {stack} --plot {stack}/plane000.png", "is read by this run"),
    ("focus --stack {stack} --plot {stack}/new.png", "is read by this run"),
    ("focus --plot {tmp}/none/run.png", "--plot"),
    ("focus --plot {tmp}/run.pdf", ".png"),
    ("focus --plot {tmp}/run.png --trace {tmp}/run.png", "ends in .json"),
    ("simulate", "OUT"),
    ("simulate {stack}", "not empty"),
    ("simulate {stack}/planes.csv", "not a folder"),
    ("simulate {tmp}/none/out", "cannot be created"),
    ("simulate {tmp}/out --stacks 0", "stacks = 0"),
    ("simulate {tmp}/out --planes 1", "planes = 1"),
    ("simulate {tmp}/out --size 9", "size"),
    ("simulate {tmp}/out --seed -4", "seed = -4"),
    ("simulate {tmp}/out --range-dof 0", "range"),
    ("simulate {tmp}/out --range-dof inf", "finite"),
    ("simulate {tmp}/out --objective big", "big"),
    ("simulate {tmp}/out --objective 20x1.40air", "NA"),
    ("simulate {tmp}/out --optics odd", "odd"),
    ("simulate {tmp}/out --specimens {tmp}/none", "no such folder"),
    ("simulate {tmp}/out --specimens {tmp}", "no image"),
    ("config --all", "--all"),
]

#: What is wrong with a stack, as a change to a good one, and what the line must say.
BAD_STACKS: list[tuple[str, Callable[[Path], None], str]] = [
    ("missing image", lambda s: _spoil(s, "plane003.png", None), "plane003.png"),
    ("text for an image", lambda s: _spoil(s, "plane008.png", b"not an image"), "plane008.png"),
    ("image cut short", _image_cut_short, "plane008.png"),
    ("empty image", lambda s: _spoil(s, "plane000.png", b""), "plane000.png"),
    ("another size", lambda s: _spoil(s, "plane005.png", _png(64, 128)), "128 x 64"),
    ("no table", lambda s: _spoil(s, "planes.csv", None), "planes.csv"),
    ("table of another kind", lambda s: _spoil(s, "planes.csv", b"a,b\n1,2\n"), "header"),
    ("z not a number", lambda s: _spoil(s, "planes.csv", b"file,z_um\nplane000.png,up\n"), "'up'"),
    ("one z for all", lambda s: _spoil(s, "planes.csv", b"file,z_um\nplane000.png,1\n"), "one z"),
    ("about.json damaged", lambda s: _spoil(s, "about.json", b"{"), "about.json"),
    ("absurd pixel", lambda s: _spoil(s, "about.json", b'{"pixel_um": 900}'), "900"),
]

#: A configuration that cannot be used, and what the line must say.
BAD_CONFIGS: list[tuple[str, str]] = [
    ("[focus]\ntolerence_dof = 1\n", "unknown key 'tolerence_dof' in [focus]"),
    ("[fokus]\n", "unknown section [fokus]"),
    ("[stage]\nlimit_low_um = 10\nlimit_high_um = 80\n", "limit"),
    ("[stage]\num_per_step = -1\n", "um_per_step = -1"),
    ("[model]\npath = 'gone.tflite'\n", "gone.tflite"),
    ("[simulator]\nspecimen = 'cheese'\n", "cheese"),
    ("focus = [", "not TOML"),
]

#: A model file that cannot be used, and what the line must say.
BAD_MODELS: dict[str, tuple[Callable[[], bytes | None], str]] = {
    "missing": (lambda: None, "no such model file"),
    "empty": (lambda: b"", "not a TFLite file"),
    "no TFLite": (lambda: b"PK" + bytes(100), "not a TFLite file"),
    "without a card": (lambda: b"\x1c\x00\x00\x00TFL3" + bytes(100), "no card"),
    "cut short": (lambda: _model_file()[:-30], "no card"),
    "card of a newer schema": (lambda: _model_file(schema_version=99), "schema 99"),
    "card with an unknown key": (lambda: _model_file(colour="red"), "colour"),
    "card with a bad value": (lambda: _model_file(temperature=-1.0), "temperature"),
    "no network behind the card": (_model_file, "cannot run it"),
    "another flatbuffer": (lambda: _model_file().replace(b"TFL3", b"TFL3\x01", 1), "damaged"),
}


class TestBadInput:
    """One line on stderr, exit code 2; nothing moves, nothing is written."""

    @pytest.fixture(autouse=True)
    def nothing_moves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def moved(*given: object, **named: object) -> None:
            raise AssertionError("the stage was moved")

        monkeypatch.setattr(Stage, "move_to_steps", moved)
        monkeypatch.setattr(Microscope, "focus", moved)
        monkeypatch.setattr(ReplayCamera, "capture", moved)

    def check(self, parfocal: Parfocal, folder: Path, words: list[str], said: str) -> None:
        before = _listing(folder)
        code, out, err = parfocal(*words)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1, err
        assert said in err
        assert _listing(folder) == before

    @pytest.mark.parametrize(("words", "said"), BAD_WORDS, ids=[words or "nothing" for words, _ in BAD_WORDS])
    def test_words(
        self, parfocal: Parfocal, network: Oracle, stack: Path, tmp_path: Path, words: str, said: str
    ) -> None:
        places = {"tmp": tmp_path, "stack": stack, "name": tmp_path.name}
        # a folder without images for --specimens: the stack's own images would do
        if "--specimen" in words:
            for image in stack.glob("*.png"):
                image.unlink()
        self.check(parfocal, tmp_path, [word.format(**places) for word in words.split()], said)

    @pytest.mark.parametrize(
        ("spoil", "said"), [case[1:] for case in BAD_STACKS], ids=[c[0] for c in BAD_STACKS]
    )
    def test_stack(
        self, parfocal: Parfocal, network: Oracle, stack: Path, spoil: Callable[[Path], None], said: str
    ) -> None:
        spoil(stack)
        self.check(parfocal, stack, ["focus", "--stack", str(stack), "--json"], said)

    @pytest.mark.parametrize(("text", "said"), BAD_CONFIGS, ids=[said for _, said in BAD_CONFIGS])
    def test_config(
        self, parfocal: Parfocal, tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "path" not in text:
            oracle.install(monkeypatch)
        file = tmp_path / "parfocal.toml"
        file.write_text(text, encoding="utf-8")
        self.check(parfocal, tmp_path, ["focus", "--config", str(file)], said)

    @pytest.mark.parametrize("case", BAD_MODELS)
    def test_model(self, parfocal: Parfocal, tmp_path: Path, case: str) -> None:
        content, said = BAD_MODELS[case]
        file = tmp_path / "m.tflite"
        data = content()
        if data is not None:
            file.write_bytes(data)
        self.check(parfocal, tmp_path, ["focus", "--model", str(file), "--trace", str(tmp_path / "t")], said)

    def test_shipped_model_cut_short(self, parfocal: Parfocal, tmp_path: Path) -> None:
        if not model.DEFAULT_PATH.is_file():
            pytest.skip("no shipped model: edge/models/default.tflite is absent")
        data = model.DEFAULT_PATH.read_bytes()
        for name, part in (("half", data[: len(data) // 2]), ("tail", data[:-1])):
            (tmp_path / name).write_bytes(part)
            self.check(parfocal, tmp_path, ["focus", "--model", str(tmp_path / name)], "no card")

    def test_folder_that_may_not_be_written(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path
    ) -> None:
        if not Path("/proc/self").is_dir():
            pytest.skip("no /proc, the one folder in which nobody can write")
        self.check(parfocal, tmp_path, ["focus", "--trace", "/proc/run.json"], "cannot be written")

    def test_no_matplotlib(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        words = ["focus", "--plot", str(tmp_path / "run.png")]
        self.check(parfocal, tmp_path, words, "pip install 'parfocal[plot]'")

    def test_file_names_cannot_break_the_line(
        self, parfocal: Parfocal, network: Oracle, tmp_path: Path
    ) -> None:
        self.check(parfocal, tmp_path, ["focus", "--stack", str(tmp_path / "a\nb\x1b[31m")], "a b")


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(p): p.stat() for p in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}
