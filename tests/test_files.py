"""Atomic writes leave the old or the new, never half; images are read as RGB or refused by name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import InputError
from edge.files import atomic_folder, atomic_write_bytes, atomic_write_text, encode_png, read_image

RED = np.array([[[255, 0, 0]]], dtype=np.uint8)


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(entry.name for entry in folder.iterdir())


def failing(number: int) -> Callable[..., None]:
    """A stand-in for a system call that fails with errno `number`."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


class TestAtomicWrite:
    def test_writes_and_replaces(self, tmp_path: Path) -> None:
        target = tmp_path / "a.txt"
        atomic_write_text(target, "old\r\n")
        atomic_write_text(str(target), "µm\n")
        assert target.read_bytes() == "µm\n".encode()
        assert names(tmp_path) == ["a.txt"]

    @pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "replace")])
    def test_failure_midway_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str
    ) -> None:
        target = tmp_path / "a.bin"
        target.write_bytes(b"old")
        monkeypatch.setattr(owner, call, failing(errno.ENOSPC))
        with pytest.raises(OSError, match="No space left") as caught:
            atomic_write_bytes(target, b"new")
        assert not isinstance(caught.value, InputError)
        assert target.read_bytes() == b"old"
        assert names(tmp_path) == ["a.bin"], "a temporary file stayed"

    def test_bytes_reach_the_disk_before_the_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []
        fsync, replace = os.fsync, Path.replace

        def record_fsync(handle: int) -> None:
            calls.append("fsync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
            fsync(handle)

        def record_replace(source: Path, target: Path) -> None:
            assert source.parent == target.parent, "not one file system for certain"
            assert source.read_bytes() == b"new", "renamed before it was complete"
            calls.append("replace")
            replace(source, target)

        monkeypatch.setattr(os, "fsync", record_fsync)
        monkeypatch.setattr(Path, "replace", record_replace)
        atomic_write_bytes(tmp_path / "a.bin", b"new")
        assert calls == ["fsync file", "replace", "fsync folder"]

    def test_permissions(self, tmp_path: Path) -> None:
        new, old = tmp_path / "new", tmp_path / "old"
        old.write_bytes(b"")
        old.chmod(0o664)
        umask = os.umask(0o027)
        try:
            atomic_write_bytes(new, b"1")
            atomic_write_bytes(old, b"1")
        finally:
            os.umask(umask)
        assert stat.S_IMODE(new.stat().st_mode) == 0o640, "a new file follows the umask"
        assert stat.S_IMODE(old.stat().st_mode) == 0o664, "a replaced file keeps its mode"

    def test_follows_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").write_bytes(b"old")
        (tmp_path / "link").symlink_to("real")
        atomic_write_bytes(tmp_path / "link", b"new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_bytes() == b"new"

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            (".", "is not a regular file"),
            ("/dev/null", "is not a regular file"),
            ("no/such/a.txt", "cannot be written: no such file or directory"),
            ("file/a.txt", "cannot be written: not a directory"),
            ("a\0b", "not a usable file name"),
        ],
    )
    def test_refuses(self, tmp_path: Path, name: str, says: str) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(InputError, match=says):
            atomic_write_bytes(tmp_path / name, b"x")
        assert names(tmp_path) == ["file"]
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    def test_a_file_system_that_cannot_sync_folders(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        number = errno.EINVAL
        fsync = os.fsync

        def no_folders(handle: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", no_folders)
        atomic_write_bytes(tmp_path / "a", b"1")
        number = errno.EIO  # this one is a dying disk, not a missing feature
        with pytest.raises(OSError, match="Input/output error"):
            atomic_write_bytes(tmp_path / "a", b"2")


class TestAtomicFolder:
    def test_appears_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "out"
        target.mkdir()  # an empty folder may be taken
        with atomic_folder(target) as folder:
            assert folder.parent == tmp_path
            (folder / "sub").mkdir()
            (folder / "sub" / "a").write_bytes(b"1")
            assert names(target) == []
        assert (target / "sub" / "a").read_bytes() == b"1"
        assert names(tmp_path) == ["out"]

    def test_failure_inside_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError), atomic_folder(tmp_path / "out") as folder:  # noqa: PT012
            (folder / "a").write_bytes(b"1")
            raise KeyError
        assert names(tmp_path) == []

    def test_refuses_content(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_bytes(b"1")
        (tmp_path / "file").write_bytes(b"1")
        with (
            pytest.raises(InputError, match="not empty, it is not overwritten"),
            atomic_folder(tmp_path / "out"),
        ):
            pytest.fail("the block must not run")
        with pytest.raises(InputError, match="not a folder"), atomic_folder(tmp_path / "file"):
            pytest.fail("the block must not run")
        with pytest.raises(InputError, match="no such file"), atomic_folder(tmp_path / "no" / "out"):
            pytest.fail("the block must not run")
        assert names(tmp_path) == ["file", "out"]
        assert names(tmp_path / "out") == ["mine"]

    def test_a_faster_writer_wins(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not empty"), atomic_folder(tmp_path / "out"):  # noqa: PT012
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").write_bytes(b"1")
        assert names(tmp_path) == ["out"]
        assert names(tmp_path / "out") == ["theirs"]

    def test_replace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target = tmp_path / "out"
        target.mkdir()
        (target / "old").write_bytes(b"1")
        with atomic_folder(target, replace=True) as folder:
            (folder / "new").write_bytes(b"1")
        assert names(tmp_path) == ["out"]
        assert names(target) == ["new"]

        rename = Path.rename

        def second_fails(source: Path, destination: Path) -> None:
            if source.suffix == ".tmp":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rename(source, destination)

        monkeypatch.setattr(Path, "rename", second_fails)
        with pytest.raises(OSError, match="Input/output"), atomic_folder(target, replace=True) as folder:
            (folder / "newer").write_bytes(b"1")
        assert names(tmp_path) == ["out"]
        assert names(target) == ["new"], "the old folder did not come back"


class TestImages:
    def test_round_trip_and_channel_order(self, tmp_path: Path) -> None:
        image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        (tmp_path / "a.png").write_bytes(encode_png(image))
        back = read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(back, image)
        assert back.flags.c_contiguous
        assert back.flags.writeable
        cv2.imwrite(str(tmp_path / "red.png"), RED[..., ::-1])
        np.testing.assert_array_equal(read_image(tmp_path / "red.png"), RED)
        assert encode_png(image) == encode_png(image)

    @pytest.mark.parametrize("channels", [1, 4])
    def test_grey_and_alpha(self, tmp_path: Path, channels: int) -> None:
        stored = np.full((4, 6, channels), 77, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "a.png"), stored)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.full((4, 6, 3), 77, dtype=np.uint8))

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (None, "no such file"),
            (b"", "is empty"),
            (b"not an image", "not an image, or damaged"),
            (cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()[:-14], "cut short"),
            (cv2.imencode(".jpg", np.zeros((99, 99, 3), np.uint8))[1].tobytes()[:-3], "cut short"),
            (cv2.imencode(".jpg", np.zeros((99, 99, 3), np.uint8))[1].tobytes()[:50], "cut short"),
            (cv2.imencode(".png", np.zeros((9, 9, 3), np.uint16))[1].tobytes(), "uint16 pixels; 8 bits"),
        ],
    )
    def test_refuses(self, tmp_path: Path, content: bytes | None, says: str) -> None:
        path = tmp_path / "a.png"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=says) as caught:
            read_image(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    def test_refuses_a_folder_and_a_nul(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a directory"):
            read_image(tmp_path)
        with pytest.raises(InputError, match="not a usable file name"):
            read_image("a\0b")

    @pytest.mark.parametrize(
        "image", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.float32), np.zeros((0, 2, 3), np.uint8)]
    )
    def test_png_of_another_shape(self, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
            encode_png(image)
