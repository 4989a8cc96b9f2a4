"""The model files that this device keeps, and which of them it uses.

    models/NAME-<12 digits of its SHA-256>.tflite    copied in whole, never changed
    models/chosen.json                               {"schema_version": 1, "current": …, "previous": …}
    models/loading                                   what is loaded just now, see `edge.model_trial`

`models` lies where the stage's journal does. A model file is there before the pointer names it, and each is
put in its place by one rename: whenever the power goes, the pointer names whole files. `default` in it is the
shipped model, which lies with the program. Only `parfocal model` changes the pointer. Whoever finds that the
current model fails takes the previous one, then the shipped one, and leaves the pointer as it is: the model
runs again once what it lacked is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edge import model
from edge.config import Config
from edge.errors import InputError, ModelError, one_line
from edge.files import atomic_write_bytes, atomic_write_text
from edge.model import CHOSEN, DEFAULT, Model
from edge.model_trial import Trial
from edge.self_check import self_check
from edge.service.owner import state_folder

__all__ = ["Pointer", "Store", "open_chosen", "open_model", "path_of"]

SCHEMA = 1
#: Files that are neither current nor previous, of which only the newest are kept.
KEPT = 10
_DIGITS = 12
_STORED = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}-[0-9a-f]{{{_DIGITS}}}\.tflite"
_LARGEST_POINTER = 1 << 16


@dataclass(frozen=True)
class Pointer:
    """Which model is used, and which was before: `default`, or the name of a stored file."""

    current: str = DEFAULT
    previous: str | None = None

    @classmethod
    def parse(cls, data: bytes) -> Pointer:
        """What `as_json` gave. ValueError that says what is wrong."""
        found = json.loads(data)
        if not isinstance(found, dict) or set(found) != {"schema_version", "current", "previous"}:
            raise ValueError("other keys than schema_version, current and previous")
        if found["schema_version"] != SCHEMA:
            raise ValueError(f"schema_version = {found['schema_version']!r}, this version reads {SCHEMA}")
        current, previous = found["current"], found["previous"]
        for name in (current,) if previous is None else (current, previous):
            if name != DEFAULT and not (isinstance(name, str) and re.fullmatch(_STORED, name)):
                raise ValueError(f"{name!r} is not the name of a model")
        return cls(current, previous)

    def as_json(self) -> str:
        """The text of the pointer's file."""
        return json.dumps({"schema_version": SCHEMA, **asdict(self)}, indent=1) + "\n"

    def then(self, name: str) -> Pointer:
        """With ``name`` as the current one."""
        return self if name == self.current else Pointer(name, self.current)


class Store:
    """The models in ``folder``, by default those beside the journal. Makes no folder before it writes."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = state_folder() / "models" if folder is None else folder
        self._pointer = self.folder / "chosen.json"

    def pointer(self) -> Pointer:
        """What is chosen; the shipped model where nothing ever was. ModelError for a damaged file, else
        InputError for one that cannot be read.
        """
        try:
            with self._pointer.open("rb") as file:
                return Pointer.parse(file.read(_LARGEST_POINTER))
        except FileNotFoundError:
            return Pointer()
        except (ValueError, RecursionError) as error:
            why = f"damaged: {one_line(error)} (`parfocal model use` writes it anew)"
            raise ModelError(f"{self._pointer}: {why}") from error
        except OSError as error:
            raise InputError(f"{self._pointer}: cannot be read: {error.strerror or error}") from error

    def names(self) -> list[str]:
        """The stored files, newest first."""
        found = [path for path in self._files("*.tflite") if re.fullmatch(_STORED, path.name)]
        return [path.name for path in sorted(found, key=_written_s, reverse=True)]

    def path(self, name: str) -> Path:
        """The file of ``name``."""
        return model.DEFAULT_PATH if name == DEFAULT else self.folder / name

    def open(self, name: str, *, threads: int = 1) -> Model:
        """``name``, loaded, its self-check passed. ModelError, one line."""
        self.check_bytes(name)
        found = model.load(self.path(name), threads=threads)
        self_check(found)
        return found

    def check_bytes(self, name: str) -> None:
        """ModelError where a stored file is not the one that was copied in. One that is missing passes."""
        path = self.path(name)
        with contextlib.suppress(OSError):  # `load` says what is wrong then
            if name != DEFAULT and not name.endswith(_end(path.read_bytes())):
                raise ModelError(f"{path}: damaged: not the file that was stored (SHA-256 differs)")

    def add(self, source: Path) -> str:
        """Copy ``source`` in; its name here. A file that is here already keeps its name.

        InputError where it cannot be read or the folder cannot be written to, OSError for a full disk.
        """
        try:
            data = source.read_bytes()
        except OSError as error:
            raise ModelError(f"{source}: cannot be read: {error.strerror or error}") from error
        end = _end(data)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem).lstrip("._-")[:64] or "model"
        name = next((name for name in self.names() if name.endswith(end)), stem + end)
        with self._locked():
            for left in self._files(".*.tmp"):  # by a power cut
                left.unlink(missing_ok=True)
            atomic_write_bytes(self.folder / name, data)
        return name

    def point(self, to: Pointer) -> None:
        """Have ``to`` in force from now on, with one rename. Then old files go. Errors as `add`."""
        with self._locked():
            atomic_write_text(self._pointer, to.as_json())
            others = [name for name in self.names() if name not in (to.current, to.previous)]
            for name in others[KEPT:]:
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()

    def _files(self, pattern: str) -> list[Path]:
        try:
            return list(self.folder.glob(pattern))
        except OSError:  # what `pointer` then says
            return []

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written to: {error.strerror or error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def open_model(config: Config) -> tuple[Model, list[str]]:
    """The model that ``config`` names, as `open_chosen` where that is ``chosen``. ModelError, one line."""
    if config.model.path == CHOSEN:
        return open_chosen(Store(), threads=config.model.threads)
    return model.load(config.model.path, threads=config.model.threads), []


def path_of(config: Config) -> Path:
    """The file of the model that ``config`` names. ModelError where what points to it is damaged."""
    named = config.model.path
    if named == CHOSEN:
        store = Store()
        return store.path(store.pointer().current)
    return model.file_of(named)


def open_chosen(store: Store, *, threads: int = 1) -> tuple[Model, list[str]]:
    """The current model, else the previous one, else the shipped one; and a line for each that failed.

    ModelError where the shipped one does not load either.
    """
    notes = []
    try:
        pointer = store.pointer()
    except InputError as error:
        notes.append(str(error))
        pointer = Pointer()
    names = [pointer.current, pointer.previous or DEFAULT, DEFAULT]
    if stored := names[: names.index(DEFAULT)]:
        with Trial(store.folder / "loading") as trial:
            for name in stored:
                try:
                    trial.begin(name)
                    return store.open(name, threads=threads), _told(notes, name)
                except ModelError as error:
                    notes.append(str(error))
    # Not checked: there is nothing else, and a start waits for it.
    return model.load(DEFAULT, threads=threads), _told(notes, "the shipped model")


def _told(notes: list[str], instead: str) -> list[str]:
    return [*notes[:-1], f"{notes[-1]}; {instead} is used instead"] if notes else []


def _end(data: bytes) -> str:
    """How the name ends under which ``data`` is stored."""
    return f"-{hashlib.sha256(data).hexdigest()[:_DIGITS]}.tflite"


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
