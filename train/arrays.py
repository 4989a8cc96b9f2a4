"""Reading NumPy files that a person names: whatever is wrong with one is a single line."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError, one_line

# What numpy and zipfile raise for a missing, truncated or damaged file, between them.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(path: Path, what: str) -> dict[str, NDArray[Any]]:
    """Every array of an ``.npz``, in the order of the file. Nothing pickled is opened.

    Raises InputError "``path``: not ``what``: why".
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise InputError(f"{path}: not {what}: not an .npz")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {key: np.asarray(archive[key]) for key in archive.files}
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{path}: not {what}: {_why(error)}") from error


def read_npy(path: Path, what: str) -> NDArray[Any]:
    """The array of an ``.npy``. Raises InputError "``path``: not ``what``: why"."""
    try:
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise InputError(f"{path}: not {what}: not an .npy")
            file.seek(0)
            return np.asarray(np.load(file, allow_pickle=False))
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{path}: not {what}: {_why(error)}") from error


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return one_line(error) or type(error).__name__
