"""Writing that survives a power cut, and reading and writing of images.

A device in a field loses its power without warning. Whoever reads one of our files must find the whole old
one or the whole new one:

    write  folder/.name.<random>.tmp
    fsync  that file             else the name may reach the disk before the bytes do
    rename over folder/name      atomic within one file system, hence the temporary file beside its target
    fsync  folder                else the rename itself may be lost

A cut in the middle leaves at worst a `.name.*.tmp` beside an untouched old file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.errors import InputError, one_line

__all__ = ["atomic_folder", "atomic_write_bytes", "atomic_write_text", "encode_png", "read_image"]

PathLike = str | os.PathLike[str]
RGB = npt.NDArray[np.uint8]


def atomic_write_bytes(path: PathLike, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all; blocks until it is on the disk.

    An old file is replaced and its permissions are kept; a symbolic link is followed. Raises InputError
    where nothing can be written there (no such folder, no permission, a folder or a device of that name),
    OSError where writing itself fails (disk full). In either case an old file is untouched and no temporary
    file remains.
    """
    target = _resolved(path)
    mode = 0o666
    keep_mode = False
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        old = target.stat()
        if not stat.S_ISREG(old.st_mode):
            raise InputError(f"{path}: is not a regular file, it is not replaced")
        mode, keep_mode = stat.S_IMODE(old.st_mode), True
    temporary = _temporary(target)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {_reason(error)}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            if keep_mode:  # the mode given to open() has been cut down by the umask
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(target.parent)


def atomic_write_text(path: PathLike, text: str) -> None:
    """`atomic_write_bytes` of `text` as UTF-8, line ends as they are."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def atomic_folder(path: PathLike, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder; when the block ends well it becomes `path`, on the disk.

    The parent must exist. Where the block raises, everything written is removed and `path` is as it was.
    Raises InputError where `path` is a file or a folder with something in it, before the block and again
    after it (another writer may have been faster). With `replace` a folder with content is moved aside and
    then deleted; a power cut between the two renames leaves it whole as `.name.*.old`.
    """
    target = _resolved(path)
    _refuse_occupied(path, target, replace)
    temporary = _temporary(target)
    try:
        temporary.mkdir()
    except OSError as error:
        raise InputError(f"{path}: cannot be created: {_reason(error)}") from error
    try:
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                _fsync_file(Path(folder, name))
            _fsync_folder(Path(folder))
        _refuse_occupied(path, target, replace)
        _swap_in(temporary, target, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _fsync_folder(target.parent)


def _swap_in(temporary: Path, target: Path, path: PathLike) -> None:
    """Rename a finished folder to its place; a folder with content there is moved aside first."""
    aside: Path | None = None
    if target.is_dir() and any(target.iterdir()):
        aside = temporary.with_suffix(".old")
        target.rename(aside)
    try:
        temporary.rename(target)
    except OSError as error:
        if aside is not None:
            aside.rename(target)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise InputError(f"{path}: another writer was faster, nothing was overwritten") from error
        raise
    if aside is not None:
        shutil.rmtree(aside)


def _refuse_occupied(path: PathLike, target: Path, replace: bool) -> None:
    """Raise InputError unless `target` is free, an empty folder, or a folder that may be replaced."""
    try:
        if not os.path.lexists(target):
            return
        if not target.is_dir():
            raise InputError(f"{path}: exists and is not a folder, it is not replaced")
        if not replace and any(target.iterdir()):
            raise InputError(f"{path}: the folder exists and is not empty, it is not overwritten")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {_reason(error)}") from error


def _resolved(path: PathLike) -> Path:
    """The absolute target, links followed, so that the temporary file lands on its file system."""
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a NUL character
        raise InputError(f"{one_line(path)}: not a usable file name") from error


def _temporary(target: Path) -> Path:
    """A hidden sibling. Not `tempfile`: its files are 0600 whatever the umask, and would stay so."""
    return target.parent / f".{target.name[:100]}.{secrets.token_hex(6)}.tmp"


def _fsync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fsync_folder(folder: Path) -> None:
    """Bring the folder's entries to the disk, where its file system can (some network ones refuse)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def read_image(path: PathLike) -> RGB:
    """Read a PNG, JPEG, TIFF or BMP: (H, W, 3) uint8 RGB, grey repeated in the three channels, alpha dropped.

    A camera's rotation mark (EXIF) is ignored: the sign of defocus is read from asymmetries of the optics,
    which stay with the sensor. Raises InputError naming the file where it is missing, unreadable, cut
    short, or has more than 8 bits a channel (how to scale those is the owner's choice, and it must be one
    choice for the whole stack).
    """
    import cv2

    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "not a usable file name"
        raise InputError(f"{one_line(path)}: image cannot be read: {reason}") from error
    if not data:
        raise InputError(f"{path}: image cannot be read: the file is empty")
    if _cut_short(data):
        raise InputError(f"{path}: image cannot be read: the file is cut short")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{path}: image cannot be read: {one_line(error)}") from error
    if image is None:
        raise InputError(f"{path}: image cannot be read: not an image, or damaged")
    if image.dtype != np.uint8:
        raise InputError(f"{path}: image has {image.dtype} pixels; 8 bits a channel are allowed")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def _cut_short(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end mark. Older OpenCV fills the missing rows with grey and says
    nothing.

    In JPEG the end mark must follow the last start of scan, since an embedded preview has an end mark of
    its own; within the scan itself a 0xFF is always followed by 0x00 or a restart mark, so neither occurs
    by chance.
    """
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") or b"\xff\xda" not in data
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:]
    return False


def encode_png(image: RGB) -> bytes:
    """An (H, W, 3) uint8 RGB image as PNG, lossless; the same image gives the same bytes with one OpenCV.

    Raises ValueError for another shape or dtype.
    """
    import cv2

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"an image to write is (H, W, 3) uint8, not {image.shape} {image.dtype}")
    done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    if not done:
        raise ValueError(f"OpenCV could not encode an image of {image.shape}")
    return data.tobytes()
