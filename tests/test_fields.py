"""Dense stacks of a field: what is cached is what would be computed, whatever happened to the file."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_field import GRID, IMAGING, specimen
from hypothesis import given
from hypothesis import strategies as st
from scipy import interpolate

from edge.errors import InputError
from edge.simulator import fields
from edge.simulator.fields import LEVEL, Field, cache_folder, open_drawn_field, open_field, plane_grid
from edge.simulator.formation import ImageFormer, lamp
from edge.simulator.specimens import make

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fake_field import GRID, IMAGING, specimen
from edge.simulator import fields
fields.plane_grid = lambda: GRID
print("ready", flush=True)
sys.stdin.readline()
field = fields.open_field(specimen(), IMAGING, folder=Path(sys.argv[1]))
print(int(field.planes.sum()))
"""


@pytest.fixture(autouse=True)
def few_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "plane_grid", lambda: GRID)


def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each stack that is really computed."""
    calls: list[int] = []
    real = fields._compute

    def count(*arguments: object) -> object:
        calls.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fields, "_compute", count)
    return calls


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


class TestCache:
    def test_a_hit_equals_what_was_computed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = computed(monkeypatch)
        first = open_field(specimen(), IMAGING, folder=tmp_path)
        again = open_field(specimen(), IMAGING, folder=tmp_path)
        fresh = open_field(specimen(), IMAGING, folder=tmp_path / "other")
        assert len(calls) == 2
        assert again.planes.dtype == np.uint16
        assert again.planes.shape == (len(GRID), 32, 32, 3)
        for field in (again, fresh):
            np.testing.assert_array_equal(field.planes, first.planes)
            np.testing.assert_array_equal(field.defocus_dof, GRID)

    def test_is_mapped_and_not_to_be_written_to(self, tmp_path: Path) -> None:
        for _ in range(2):
            planes = open_field(specimen(), IMAGING, folder=tmp_path).planes
            assert isinstance(planes, np.memmap)
            assert not planes.flags.writeable

    def test_is_an_ordinary_npy_file(self, tmp_path: Path) -> None:
        field = open_field(specimen(), IMAGING, folder=tmp_path)
        np.testing.assert_array_equal(np.load(only_file(tmp_path)), field.planes)

    def test_outlives_its_file(self, tmp_path: Path) -> None:
        field = open_field(specimen(), IMAGING, folder=tmp_path)
        before = field.at(0.3)
        only_file(tmp_path).unlink()
        np.testing.assert_array_equal(field.at(0.3), before)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: data[:-1],
            lambda data: data[: len(data) // 2],
            lambda data: data[:60],
            lambda data: data + b"x",
            lambda data: b"PK\x03\x04" + data[4:],
            lambda data: data.replace(b"<u2", b"<i2"),
            lambda data: data.replace(b"(9, 32, 32, 3)", b"(9, 32, 96, 1)"),
            lambda data: data.replace(b"}", b" "),
            lambda data: bytes(len(data)),
        ],
        ids=[
            "empty",
            "byte short",
            "half",
            "header",
            "too long",
            "zip",
            "dtype",
            "shape",
            "open header",
            "zeros",
        ],
    )
    def test_a_damaged_file_is_computed_again(self, tmp_path: Path, damage, monkeypatch) -> None:  # type: ignore[no-untyped-def]
        sound = np.array(open_field(specimen(), IMAGING, folder=tmp_path).planes)
        path = only_file(tmp_path)
        data = path.read_bytes()
        path.write_bytes(damage(data))
        calls = computed(monkeypatch)
        np.testing.assert_array_equal(open_field(specimen(), IMAGING, folder=tmp_path).planes, sound)
        assert len(calls) == 1
        assert path.read_bytes() == data, "and put right"

    def test_whatever_decides_the_pixels_is_in_the_key(self, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
        base = specimen()
        others = [
            (specimen(1), IMAGING),
            (replace(base, od=base.od * 1.01), IMAGING),
            (replace(base, phase_rad=base.phase_rad * 1.01), IMAGING),
            (replace(base, upper_share=base.upper_share * 0.5), IMAGING),
            (base, replace(IMAGING, tilt=(0.1, 0.0))),
            (base, replace(IMAGING, thickness_dof=0.5)),
        ]
        keys = {fields._key(s, i, GRID) for s, i in [(base, IMAGING), *others]}
        keys |= {fields._key(base, IMAGING, GRID + 0.01)}
        assert len(keys) == len(others) + 2
        monkeypatch.setattr(fields, "FORMAT", -1)
        assert fields._key(base, IMAGING, GRID) not in keys
        # A name is only a name.
        assert fields._key(replace(base, name="x"), IMAGING, GRID) == fields._key(base, IMAGING, GRID)

    def test_two_writers_at_once(self, tmp_path: Path) -> None:
        here = str(Path(__file__).parent)
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), here],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(here).parent,
            )
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        said = [writer.communicate("go\n")[0] for writer in writers]
        assert [writer.returncode for writer in writers] == [0, 0]
        field = open_field(specimen(), IMAGING, folder=tmp_path)
        assert said == [f"{int(field.planes.sum())}\n"] * 2
        assert only_file(tmp_path).suffix == ".npy", "no temporary file is left"

    def test_reports_progress_while_it_computes(self, tmp_path: Path) -> None:
        shares: list[float] = []
        open_field(specimen(), IMAGING, folder=tmp_path, progress=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        open_field(
            specimen(), IMAGING, folder=tmp_path, progress=lambda _: pytest.fail("a hit takes no time")
        )


class TestWithoutACache:
    def test_where_the_folder_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        field = open_field(specimen(), IMAGING, folder=tmp_path / "file" / "cache")
        assert field.at(0.0).shape == (32, 32, 3)

    def test_where_the_file_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, data: bytes) -> None:
            raise InputError(f"{path}: cannot be written: permission denied")

        monkeypatch.setattr(fields, "atomic_write_bytes", refuse)
        assert open_field(specimen(), IMAGING, folder=tmp_path).at(0.0).shape == (32, 32, 3)

    def test_where_the_disk_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(fields, "atomic_write_bytes", refuse)
        assert open_field(specimen(), IMAGING, folder=tmp_path).at(0.0).shape == (32, 32, 3)

    def test_a_folder_of_that_name_is_in_the_way(self, tmp_path: Path) -> None:
        open_field(specimen(), IMAGING, folder=tmp_path / "one")
        (tmp_path / "two" / only_file(tmp_path / "one").name).mkdir(parents=True)
        assert open_field(specimen(), IMAGING, folder=tmp_path / "two").at(0.0).shape == (32, 32, 3)

    def test_somebody_elses_cache_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        open_field(specimen(), IMAGING, folder=tmp_path)

        def refuse(path: Path) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "utime", refuse)
        calls = computed(monkeypatch)
        open_field(specimen(), IMAGING, folder=tmp_path)
        assert not calls


class TestPruning:
    def test_the_stacks_used_longest_ago_go_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for seed in range(3):
            open_field(specimen(seed), IMAGING, folder=tmp_path)
        by_seed = [tmp_path / f"field-{fields._key(specimen(seed), IMAGING, GRID)}.npy" for seed in range(4)]
        for age, seed in enumerate((1, 0, 2)):
            os.utime(by_seed[seed], (1e9 - age, 1e9 - age))
        (tmp_path / "mine.npy").write_bytes(b"not a stack")
        monkeypatch.setattr(fields, "CACHE_BYTES", int(2.5 * by_seed[0].stat().st_size))
        open_field(specimen(0), IMAGING, folder=tmp_path)  # a hit, which makes it the latest used
        open_field(specimen(3), IMAGING, folder=tmp_path)
        assert [path.exists() for path in by_seed] == [True, False, False, True]
        assert (tmp_path / "mine.npy").exists()

    def test_the_one_just_written_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fields, "CACHE_BYTES", 1)
        open_field(specimen(), IMAGING, folder=tmp_path)
        assert only_file(tmp_path).exists()


class TestAt:
    FIELD = Field(np.random.default_rng(0).integers(0, 65536, (len(GRID), 4, 5, 3), dtype=np.uint16), GRID)

    @pytest.mark.parametrize("k", range(len(GRID)))
    def test_is_exact_on_the_planes(self, k: int) -> None:
        expected = self.FIELD.planes[k].astype(np.float32) * np.float32(1 / LEVEL)
        np.testing.assert_array_equal(self.FIELD.at(float(GRID[k])), expected)

    @given(st.floats(-30, 30))
    def test_is_the_cubic_through_the_four_nearest_and_nowhere_dark_below_0(self, defocus: float) -> None:
        image = self.FIELD.at(defocus)
        assert image.shape == (4, 5, 3)
        assert image.dtype == np.float32
        inside = float(np.clip(defocus, GRID[0], GRID[-1]))
        below = int(np.searchsorted(GRID, inside, side="left"))
        four = np.arange(4) + np.clip(below - 2, 0, len(GRID) - 4)
        cubic = interpolate.KroghInterpolator(GRID[four], self.FIELD.planes[four].astype(float) / LEVEL)
        np.testing.assert_allclose(image, np.maximum(cubic(inside), 0), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("defocus_dof", [0.37, 1.9, -4.6, 7.3])
    def test_is_what_the_optics_give_between_the_planes_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defocus_dof: float
    ) -> None:
        few = plane_grid()
        near = few[np.argsort(np.abs(few - defocus_dof))[:6]]
        monkeypatch.setattr(fields, "plane_grid", lambda: np.sort(near))
        sample = make("tissue", (96, 96), 4)
        got = open_field(sample, IMAGING, folder=tmp_path).at(defocus_dof)
        truth = ImageFormer(sample, IMAGING).images([defocus_dof], *lamp(IMAGING, defocus_dof))[0]
        assert (got - truth).std() < 0.06 * truth.std()

    def test_shape(self) -> None:
        assert self.FIELD.shape == (4, 5)

    def test_an_empty_field_is_one(self, tmp_path: Path) -> None:
        field = open_field(make("empty", (32, 32), 0), IMAGING, folder=tmp_path)
        assert field.at(2.0).mean() == pytest.approx(1.0, abs=0.1)


class TestPlaces:
    def test_the_real_grid(self) -> None:
        grid = plane_grid()
        np.testing.assert_array_equal(grid, -grid[::-1])
        assert 0.0 in grid
        assert (np.diff(grid) > 0).all()
        assert grid[-1] >= 12, "less than the bins of the network"

    @pytest.mark.parametrize(
        ("environment", "expected"),
        [
            ({"PARFOCAL_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
            ({"XDG_CACHE_HOME": "/b"}, "/b/parfocal"),
            ({"HOME": "/c"}, "/c/.cache/parfocal"),
        ],
    )
    def test_the_folder(
        self, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("PARFOCAL_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert cache_folder() == Path(expected)


class TestDrawn:
    """A drawn specimen's stack by its name: the same, and found without drawing."""

    SHAPE = (32, 32)

    def test_is_what_the_specimen_gives_and_is_found_without_drawing_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = open_drawn_field("debris", self.SHAPE, 3, IMAGING, folder=tmp_path)
        direct = open_field(make("debris", self.SHAPE, 3), IMAGING, folder=tmp_path)
        np.testing.assert_array_equal(first.planes, direct.planes)
        monkeypatch.setattr(fields.specimens, "make", lambda *_: pytest.fail("drawn"))
        again = open_drawn_field("debris", self.SHAPE, 3, IMAGING, folder=tmp_path)
        np.testing.assert_array_equal(again.planes, direct.planes)
        np.testing.assert_array_equal(again.at(0.3), direct.at(0.3))

    def test_another_seed_name_or_microscope_is_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = computed(monkeypatch)
        open_drawn_field("debris", self.SHAPE, 3, IMAGING, folder=tmp_path)
        open_drawn_field("debris", self.SHAPE, 4, IMAGING, folder=tmp_path)
        open_drawn_field("blood", self.SHAPE, 3, IMAGING, folder=tmp_path)
        open_drawn_field("debris", self.SHAPE, 3, replace(IMAGING, na_over_n=0.5), folder=tmp_path)
        assert len(calls) == 4

    @pytest.mark.parametrize("text", [b"", b"field-none.npy", b"../../etc/passwd", b"\xff\x00"])
    def test_a_damaged_name_is_drawn_anew_and_mended(
        self, text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_drawn_field("debris", self.SHAPE, 3, IMAGING, folder=tmp_path)
        (alias,) = tmp_path.glob("drawn-*.txt")
        good = alias.read_bytes()
        alias.write_bytes(text)
        open_drawn_field("debris", self.SHAPE, 3, IMAGING, folder=tmp_path)
        assert alias.read_bytes() == good

    def test_a_name_goes_with_its_stack(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        open_drawn_field("debris", self.SHAPE, 3, IMAGING, folder=tmp_path)
        (alias,) = tmp_path.glob("drawn-*.txt")
        (tmp_path / "drawn-odd.txt").write_bytes(b"\xff")
        monkeypatch.setattr(fields, "CACHE_BYTES", 1)
        open_drawn_field("debris", self.SHAPE, 4, IMAGING, folder=tmp_path)
        assert not alias.exists()
        assert not (tmp_path / "drawn-odd.txt").exists()
        assert len(list(tmp_path.glob("drawn-*.txt"))) == 1

    def test_no_such_specimen(self, tmp_path: Path) -> None:
        with pytest.raises(InputError):
            open_drawn_field("cheese", self.SHAPE, 3, IMAGING, folder=tmp_path)
