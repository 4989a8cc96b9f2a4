"""The card: what a model file says about itself, in JSON, appended to the .tflite as TFLite Metadata is.

A flatbuffer is read from its front and a zip from its back, so one file is both: every TFLite runtime loads
it, and ``unzip -p FILE card.json`` shows the card.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from edge.errors import ModelError
from edge.head import Head
from edge.record import Finite, Positive, Record, Sha256, Unfit, as_json
from edge.record import read as read_record

#: The newest layout that is read here; cards with a `Head` have it.
SCHEMA = 2
#: The layout of a card without a head, which older versions read too.
PLAIN_SCHEMA = 1
CARD_NAME = "card.json"
_LARGEST_CARD = 1 << 20


class AdaptedStack(Record, frozen=True, kw_only=True):
    """One z-stack that a model was adapted on."""

    name: str
    """Name of its folder."""
    sha256: Sha256
    """SHA-256 of its table and images, in the order of z."""
    planes: Annotated[int, Meta(ge=1)]
    """Its planes with anything to see in them."""
    focus_um: Finite
    """Where it was taken to be sharp, in µm of its stage."""
    focus_measured: bool
    """Whether that was measured on its planes, or stated in its about.json."""


class Adapted(Record, frozen=True, kw_only=True):
    """Where the head of an adapted model comes from."""

    parent: str
    """Name in the parent's card."""
    parent_sha256: Sha256
    """SHA-256 of the parent's whole file."""
    at: str
    """Date, ISO 8601."""
    stacks: Annotated[tuple[AdaptedStack, ...], Meta(min_length=1)]
    """What it was fitted to."""
    held_out: Literal["stack", "half"]
    """What was left out in turn to judge it: each stack, or of a single one each half of the frame."""
    fields: Annotated[int, Meta(ge=2)]
    """How many such parts."""
    frames: Annotated[int, Meta(ge=1)]
    """Planes of all parts."""
    tiles: Annotated[int, Meta(ge=1)]
    """Tiles that the head was fitted to."""
    strength: Positive
    """Pull towards the parent, chosen on the parts left out."""
    before: dict[str, Finite]
    """The parent on the frames of all parts; names as `edge.adapt.figures`."""
    after: dict[str, Finite]
    """The same of heads fitted without the part that each was judged on."""


class Card(Record, frozen=True, kw_only=True):
    """What must be known to use a model. Extra keys are kept out, so that a typing error cannot hide."""

    schema_version: Annotated[int, Meta(ge=1)]
    """Version of this layout; a newer one than `SCHEMA` is refused."""
    name: str
    """Name of the recipe."""
    tile_px: Annotated[int, Meta(ge=16, le=1024)]
    """Width and height of the input."""
    pixels_per_resolution: Positive
    """Pixels per wavelength / NA that frames are resampled to."""
    input: Literal["normalised", "raw"] = "normalised"
    """What a tile holds: shape alone, as `edge.tiles` makes it, or the camera's bytes less 128."""
    bin_centres: Annotated[tuple[Finite, ...], Meta(min_length=3, max_length=1024)]
    """Centres of the defocus bins, rising; the outermost stand for "at least this far"."""
    unit: Literal["dof", "um"]
    """Unit of the bins."""
    temperature: Positive
    """Divides the logits before the softmax; fitted on held-out fields."""
    tile_weight: Annotated[float, Meta(gt=0, le=1)]
    """Evidence of one tile of a frame of several: tiles of one frame err together."""
    trained_on: str
    """One sentence."""
    trained_at: str
    """Date, ISO 8601."""
    recipe: dict[str, Any]
    """The whole recipe, seed included."""
    metrics: dict[str, dict[str, Finite]]
    """Held-out figures: ``float`` and ``int8``, names as `parfocal evaluate` prints them."""
    flatbuffer_sha256: Sha256
    """SHA-256 of the bytes before the zip."""
    head: Head | None = None
    """What `parfocal adapt` adds to the network's last layer; None for a model as it was converted."""
    adapted: Adapted | None = None
    """Where the head comes from."""

    def __post_init__(self) -> None:
        if any(b <= a for a, b in zip(self.bin_centres, self.bin_centres[1:], strict=False)):
            raise ValueError("bin_centres must rise")
        if (self.head is None) != (self.adapted is None):
            raise ValueError("head and adapted belong together")
        if self.head is None:
            return
        if self.schema_version <= PLAIN_SCHEMA:
            raise ValueError(f"a card with a head is of schema {PLAIN_SCHEMA + 1} or newer")
        if self.head.bins != len(self.bin_centres):
            raise ValueError(f"head: {self.head.bins} bins, bin_centres has {len(self.bin_centres)}")

    def as_json(self) -> str:
        """The card's text; without a head, what older versions wrote and read. Raises `edge.record.Unfit`."""
        absent = frozenset(name for name in ("head", "adapted") if getattr(self, name) is None)
        return as_json(self, absent=absent)


def attach(flatbuffer: bytes, card: Card) -> bytes:
    """The file's bytes: ``flatbuffer``, ``card`` behind it. Raises ValueError for a card of another one, one
    that is not as `Card` says, or one too large to be read again.
    """
    if hashlib.sha256(flatbuffer).hexdigest() != card.flatbuffer_sha256:
        raise ValueError("the card's SHA-256 is not that of the flatbuffer")
    text = card.as_json().encode()
    if len(text) > _LARGEST_CARD:
        raise ValueError(f"a card of {len(text)} bytes; at most {_LARGEST_CARD} is allowed")
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w", zipfile.ZIP_STORED) as archive:
        info = zipfile.ZipInfo(CARD_NAME, date_time=(1980, 1, 1, 0, 0, 0))
        archive.writestr(info, text)
    return flatbuffer + tail.getvalue()


def read(path: Path) -> tuple[bytes, Card]:
    """The flatbuffer and card of ``path``; raises ModelError with one line that says what is wrong."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such model file") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if data[4:8] != b"TFL3":
        raise ModelError(f"{path}: not a TFLite file (its identifier is missing)")
    text, flatbuffer = _split(path, data)
    card = _parse(path, text)
    if hashlib.sha256(flatbuffer).hexdigest() != card.flatbuffer_sha256:
        raise ModelError(
            f"{path}: damaged: the flatbuffer is not the one its card describes (SHA-256 differs)"
        )
    return flatbuffer, card


def _split(path: Path, data: bytes) -> tuple[bytes, bytes]:
    """The card's text and the bytes before the zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            info = archive.getinfo(CARD_NAME)
            fits = info.file_size <= _LARGEST_CARD
            text = _unpacked(archive, info) if fits else b""
            start = min(entry.header_offset for entry in archive.infolist())
    except KeyError as error:
        raise ModelError(f"{path}: a zip without {CARD_NAME} is appended; convert the run again") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        ValueError,
        OSError,
        EOFError,
        RuntimeError,
    ) as error:
        raise ModelError(f"{path}: no card: truncated, or not made by `parfocal convert`") from error
    if not fits:
        raise ModelError(
            f"{path}: damaged: a card of {info.file_size} bytes, at most {_LARGEST_CARD} is allowed"
        )
    return text, data[:start]


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # The other methods have errors of their own, and modules that a small Python may lack.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"compression method {info.compress_type}")
    return archive.read(info)


def _parse(path: Path, text: bytes) -> Card:
    newer = _newer_schema(text)
    if newer is not None:
        raise ModelError(
            f"{path}: card of schema {newer}; this version reads up to {SCHEMA}: upgrade parfocal"
        )
    try:
        return read_record(text, Card)
    except Unfit as error:
        raise ModelError(f"{path}: card: {error.where or 'card'}: {error.why}") from error


def _newer_schema(text: bytes) -> int | None:
    try:
        version = json.loads(text).get("schema_version")
    except (ValueError, AttributeError, RecursionError):
        return None
    return version if isinstance(version, int) and version > SCHEMA else None
