"""The z-stack folder: what is read, what is assumed, and one clear line for each way to be wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edge.errors import InputError, StackError
from edge.files import RGB, encode_png
from edge.optics import Objective
from edge.zstack import ZStack, write_zstack


@pytest.fixture
def shared_data() -> Path:
    """Real stacks beside the repository; the test is skipped where they are absent."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real images: ../shared/data is absent")
    return folder


def picture(level: int, height: int = 4, width: int = 6) -> RGB:
    """A flat image whose grey level tells it apart."""
    return np.full((height, width, 3), level, dtype=np.uint8)


def folder_of(path: Path, table: str | bytes, about: object = None, images: str = "a b c") -> Path:
    """A stack folder written by hand; image k has grey level k."""
    path.mkdir(exist_ok=True)
    (path / "planes.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    if about is not None:
        text = about if isinstance(about, str) else json.dumps(about)
        (path / "about.json").write_text(text, encoding="utf-8")
    for level, name in enumerate(images.split()):
        (path / f"{name}.png").write_bytes(encode_png(picture(level)))
    return path


class TestOpen:
    def test_orders_by_z(self, tmp_path: Path) -> None:
        about = {"pixel_um": 0.2, "objective": "20x0.40", "focus_z": 1, "mine": [1]}
        stack = ZStack.open(folder_of(tmp_path, "file,z_um\na.png,2.5\nb.png,-1\n\nc.png,0\n", about))
        assert stack.files == ("b.png", "c.png", "a.png")
        assert stack.z_um == (-1.0, 0.0, 2.5)
        assert (len(stack), stack.shape) == (3, (4, 6, 3))
        assert [int(stack.load(k)[0, 0, 0]) for k in range(3)] == [1, 2, 0]
        assert (stack.pixel_um, stack.objective, stack.focus_um) == (0.2, Objective.parse("20x0.40"), 1.0)
        assert stack.about["mine"] == [1]
        assert stack.assumptions == ()
        assert not stack.z_in_planes
        stack.check()

    def test_planes_take_a_step(self, tmp_path: Path) -> None:
        about = {"focus_z": -2, "pixel_um": None, "objective": "not stated"}
        folder_of(tmp_path, "file,z_plane\na.png,-2\nb.png,0\nc.png,1\n", about)
        stack = ZStack.open(tmp_path, step_um=0.5)
        assert stack.z_um == (-1.0, 0.0, 0.5)
        assert stack.focus_um == -1.0
        assert stack.z_in_planes
        assert stack.pixel_um is None
        assert stack.objective is None
        assert len(stack.assumptions) == 1
        assert "taken as 0.5 µm apart" in stack.assumptions[0]
        assert "1 µm apart" in ZStack.open(tmp_path).assumptions[0]

    def test_equal_z_keep_the_order_of_the_table(self, tmp_path: Path) -> None:
        stack = ZStack.open(folder_of(tmp_path, "file,z_um\nc.png,1\na.png,0\nb.png,0\n", {}))
        assert stack.files == ("a.png", "b.png", "c.png")
        assert stack.nearest(0.1) == 0
        assert "1 more plane(s) at the z of another" in stack.assumptions[0]

    def test_without_about(self, tmp_path: Path) -> None:
        stack = ZStack.open(folder_of(tmp_path, "\ufefffile,z_um\r\na.png,0\r\n"))
        assert stack.about == {}
        assert stack.focus_um is None
        assert "no about.json" in stack.assumptions[0]

    def test_nearest(self, tmp_path: Path) -> None:
        stack = ZStack.open(folder_of(tmp_path, "file,z_um\na.png,0\nb.png,1\nc.png,5\n"))
        asked = {-9.0: 0, 0.4: 0, 0.5: 0, 0.6: 1, 3.1: 2, 99.0: 2}
        assert {z: stack.nearest(z) for z in asked} == asked
        with pytest.raises(ValueError, match="not a position"):
            stack.nearest(float("nan"))

    @pytest.mark.parametrize("plane", [-1, 3])
    def test_planes_that_are_not_there(self, tmp_path: Path, plane: int) -> None:
        stack = ZStack.open(folder_of(tmp_path, "file,z_um\na.png,0\nb.png,1\nc.png,5\n"))
        with pytest.raises(IndexError, match=r"0 to 2 is allowed"):
            stack.load(plane)

    @pytest.mark.parametrize("step_um", [0.0, -1.0, float("nan"), float("inf")])
    def test_steps_that_are_none(self, tmp_path: Path, step_um: float) -> None:
        with pytest.raises(InputError, match="a finite number above 0"):
            ZStack.open(folder_of(tmp_path, "file,z_plane\na.png,0\n"), step_um=step_um)


GOOD = "file,z_um\na.png,0\n"
BAD_TABLES: list[tuple[str | bytes, object, str]] = [
    ("", None, "planes.csv line 1: header is ''"),
    ("file;z_um\na.png;0\n", None, "header is 'file;z_um'; 'file,z_um' or 'file,z_plane' is allowed"),
    ("z_um,file\n0,a.png\n", None, "header is 'z_um,file'"),
    ("file,z_um\n", None, "planes.csv: lists no planes"),
    (b"file,z_um\n\xff.png,0\n", None, r"planes.csv: not UTF-8 text \(byte 10\)"),
    ("file,z_um\na.png,0\nb.png\n", None, "line 3: 1 cells; 2 are allowed"),
    ("file,z_um\na.png,0,9\n", None, "line 2: 3 cells"),
    ("file,z_um\na.png,up\n", None, "line 2: z_um = 'up': a finite number is allowed"),
    ("file,z_plane\na.png,nan\n", None, "line 2: z_plane = 'nan': a finite number"),
    ("file,z_um\na.png,inf\n", None, "z_um = 'inf'"),
    ("file,z_um\na.png,\n", None, "z_um = ''"),
    ("file,z_um\na.png,1e7\n", None, r"line 2: z = 1e\+07 µm: within ±1 m is allowed"),
    ("file,z_um\na.png,0\nz.png,1\n", None, "line 3: image 'z.png' is missing"),
    ("file,z_um\na.png,0\na.png,1\n", None, "line 3: 'a.png' is listed in line 2 already"),
    ("file,z_um\n../x.png,0\n", None, "line 2: '../x.png' leads out of the folder"),
    ("file,z_um\n/etc/hostname,0\n", None, "'/etc/hostname' leads out of the folder"),
    ("file,z_um\nlink.png,0\n", None, "'link.png' leads out of the folder"),
    ("file,z_um\n,0\n", None, "image '' is missing"),
    (f"file,z_um\n{'x' * 300}.png,0\n", None, "is not a usable file name|is missing"),
    ("file,z_um\na\0.png,0\n", None, "not a usable file name|not readable as CSV"),
    (f'file,z_um\n"{"y" * 140_000}",0\n', None, "line 2: not readable as CSV: field larger"),
    (GOOD, "{", "about.json: not JSON"),
    (GOOD, "[" * 100_000, "about.json: not JSON"),
    (GOOD, "[1]", "about.json: holds no object"),
    (GOOD, {"pixel_um": 0}, "about.json: pixel_um = 0: a number above 0 or null is allowed"),
    (GOOD, {"pixel_um": "0.2"}, 'pixel_um = "0.2"'),
    (GOOD, {"pixel_um": True}, "pixel_um = true"),
    (GOOD, '{"focus_z": NaN}', "focus_z = NaN: a finite number or null is allowed"),
    (GOOD, {"focus_z": [1]}, r"focus_z = \[1\]"),
]


class TestRefuses:
    @pytest.mark.parametrize(("table", "about", "says"), BAD_TABLES)
    def test_tables(self, tmp_path: Path, table: str | bytes, about: object, says: str) -> None:
        (tmp_path / "x.png").write_bytes(encode_png(picture(0)))
        stack = folder_of(tmp_path / "stack", table, about)
        (stack / "link.png").symlink_to(tmp_path / "x.png")
        with pytest.raises(StackError) as caught:
            ZStack.open(stack)
        line = str(caught.value)
        assert re.search(says, line), f"{line!r} does not say {says!r}"
        assert line.startswith(str(stack))
        assert line.isprintable()
        assert len(line) < 400

    def test_folders(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        (tmp_path / "empty").mkdir()
        for name, says in {"no": "no such folder", "file": "not a folder", "empty": "no planes.csv"}.items():
            with pytest.raises(StackError, match=says):
                ZStack.open(tmp_path / name)

    @pytest.mark.parametrize(
        ("image", "says"),
        [
            (b"not an image", "c.png: image cannot be read"),
            (encode_png(picture(0, 4, 7)), "c.png: image is 7 x 4 pixels; as a.png it must be 6 x 4"),
        ],
    )
    def test_images(self, tmp_path: Path, image: bytes, says: str) -> None:
        folder_of(tmp_path, "file,z_um\na.png,0\nb.png,1\nc.png,2\n")
        (tmp_path / "c.png").write_bytes(image)
        stack = ZStack.open(tmp_path)
        with pytest.raises(StackError, match=says):
            stack.check()


class TestWrite:
    ABOUT: ClassVar = {"pixel_um": 0.1, "objective": "20x0.40", "focus_z": 0.1, "specimen": "Gewebe µ"}

    @staticmethod
    def planes() -> Iterator[tuple[str, float, RGB]]:
        for k in (2, 0, 1):
            yield f"p{k}.png", 0.1 * k - 1 / 3, picture(k)

    def test_round_trip(self, tmp_path: Path) -> None:
        write_zstack(tmp_path / "s", self.planes(), self.ABOUT)
        stack = ZStack.open(tmp_path / "s")
        stack.check()
        assert stack.files == ("p0.png", "p1.png", "p2.png")
        assert stack.z_um == (-1 / 3, 0.1 - 1 / 3, 0.2 - 1 / 3), "z must come back to the last bit"
        assert dict(stack.about) == self.ABOUT
        assert stack.focus_um == 0.1
        assert [int(stack.load(k).mean()) for k in range(3)] == [0, 1, 2]

    def test_planes_where_the_step_is_not_known(self, tmp_path: Path) -> None:
        planes = [("a.png", -1.0, picture(0)), ("b.png", 0.0, picture(1)), ("c.png", 1.5, picture(2))]
        write_zstack(tmp_path / "s", planes, {"focus_z": 1}, z_in_planes=True)
        table = (tmp_path / "s" / "planes.csv").read_text(encoding="utf-8")
        assert table == "file,z_plane\na.png,-1\nb.png,0\nc.png,1.5\n"
        stack = ZStack.open(tmp_path / "s", step_um=2.0)
        assert (stack.z_in_planes, stack.z_um, stack.focus_um) == (True, (-2.0, 0.0, 3.0), 2.0)

    def test_overwrites_only_a_stack_and_only_when_told(self, tmp_path: Path) -> None:
        write_zstack(tmp_path / "s", self.planes(), {})
        with pytest.raises(InputError, match="not empty, it is not overwritten"):
            write_zstack(tmp_path / "s", self.planes(), self.ABOUT)
        assert dict(ZStack.open(tmp_path / "s").about) == {}
        write_zstack(tmp_path / "s", self.planes(), self.ABOUT, overwrite=True)
        assert dict(ZStack.open(tmp_path / "s").about) == self.ABOUT
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "thesis.tex").write_text("x", encoding="utf-8")
        with pytest.raises(StackError, match="something other than a z-stack"):
            write_zstack(tmp_path / "home", self.planes(), {}, overwrite=True)
        assert (tmp_path / "home" / "thesis.tex").exists()

    @pytest.mark.parametrize(
        ("planes", "about", "says"),
        [
            ([], {}, "at least one plane"),
            ([("a.jpg", 0.0, picture(0))], {}, "ends in .png"),
            ([("../a.png", 0.0, picture(0))], {}, "a plain name"),
            ([(".a.png", 0.0, picture(0))], {}, "a plain name"),
            ([("a\n.png", 0.0, picture(0))], {}, "a plain name"),
            ([("a.png", 0.0, picture(0)), ("a.png", 1.0, picture(0))], {}, "given twice"),
            ([("a.png", float("nan"), picture(0))], {}, "finite"),
            ([("a.png", 0.0, picture(0)), ("b.png", 1.0, picture(0, 5))], {}, "differs from the first"),
            ([("a.png", 0.0, np.zeros((2, 2), np.uint8))], {}, "uint8"),
            ([("a.png", 0.0, picture(0))], {"x": float("nan")}, "JSON"),
        ],
    )
    def test_refuses_and_leaves_nothing(
        self, tmp_path: Path, planes: list[tuple[str, float, RGB]], about: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(ValueError, match=says):
            write_zstack(tmp_path / "s", planes, about)
        assert list(tmp_path.iterdir()) == []

    def test_about_that_is_known_at_the_end(self, tmp_path: Path) -> None:
        written: list[str] = []

        def planes() -> Iterator[tuple[str, float, np.ndarray]]:
            for plane in self.planes():
                yield plane
                written.append(plane[0])

        write_zstack(tmp_path / "s", planes(), lambda: {"seen": written})
        assert ZStack.open(tmp_path / "s").about["seen"] == [name for name, _, _ in self.planes()]

        def refuse() -> dict[str, object]:
            raise InputError("no good")

        with pytest.raises(InputError, match="no good"):
            write_zstack(tmp_path / "t", self.planes(), refuse)
        assert [path.name for path in tmp_path.iterdir()] == ["s"]


class TestRealStacks:
    @pytest.mark.parametrize(
        ("name", "planes", "shape", "focus_plane", "in_planes", "pixel_um"),
        [
            ("vaginal_smear", 19, (284, 328, 3), 9, True, None),
            ("blood_0152", 10, (1200, 1920, 3), 5, True, None),
            ("wafer_iy000", 11, (1200, 1920, 3), None, False, 0.286),
            ("wafer_iy001", 11, (1200, 1920, 3), None, False, 0.286),
            ("unstained_cells_set1", 6, (1024, 1344, 3), 2, False, 0.2),
        ],
    )
    def test_opens(
        self,
        shared_data: Path,
        name: str,
        planes: int,
        shape: tuple[int, int, int],
        focus_plane: int | None,
        in_planes: bool,
        pixel_um: float | None,
    ) -> None:
        stack = ZStack.open(shared_data / "zstacks" / name)
        assert (len(stack), stack.shape) == (planes, shape)
        assert (stack.z_in_planes, stack.pixel_um, stack.objective) == (in_planes, pixel_um, None)
        assert stack.focus_um is not None
        if focus_plane is not None:
            assert stack.nearest(stack.focus_um) == focus_plane

    def test_check(self, shared_data: Path) -> None:
        ZStack.open(shared_data / "zstacks" / "vaginal_smear").check()
