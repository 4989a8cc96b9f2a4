"""The card behind the flatbuffer: what goes in comes out, and damage of any kind is one clear line."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_model import FLATBUFFER, card, write_model
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.card import CARD_NAME, SCHEMA, Card, attach, read
from edge.errors import ModelError


def assert_refused(path: Path, *words: str) -> None:
    """`read` raises one line that names the file and says ``words``."""
    with pytest.raises(ModelError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: "), text
    assert "\n" not in text
    for word in words:
        assert word in text, text


def with_zip(path: Path, name: str, text: bytes, **options: Any) -> Path:
    """A model file with any zip behind it."""
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w", **options) as archive:
        archive.writestr(name, text)
    path.write_bytes(FLATBUFFER + tail.getvalue())
    return path


class TestRoundTrip:
    def test_what_goes_in_comes_out(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "m.tflite", temperature=1.7)
        flatbuffer, found = read(path)
        assert flatbuffer == FLATBUFFER
        assert found == card(temperature=1.7)

    def test_the_file_still_begins_with_the_flatbuffer_and_ends_as_a_zip(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "m.tflite")
        assert path.read_bytes().startswith(FLATBUFFER)
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == [CARD_NAME]
            assert archive.testzip() is None
            assert json.loads(archive.read(CARD_NAME))["name"] == "fake"

    def test_the_same_bytes_every_time(self) -> None:
        assert attach(FLATBUFFER, card()) == attach(FLATBUFFER, card())

    def test_a_card_of_another_flatbuffer_is_not_attached(self) -> None:
        with pytest.raises(ValueError, match="SHA-256"):
            attach(FLATBUFFER + b"x", card())

    def test_a_compressed_card_is_read(self, tmp_path: Path) -> None:
        text = card().as_json().encode()
        path = with_zip(tmp_path / "m.tflite", CARD_NAME, text, compression=zipfile.ZIP_DEFLATED)
        assert read(path) == (FLATBUFFER, card())


class TestCard:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"bin_centres": (0.0, 1.0)},
            {"bin_centres": (0.0, 1.0, 1.0)},
            {"bin_centres": (0.0, -1.0, 1.0)},
            {"bin_centres": (0.0, 1.0, float("nan"))},
            {"bin_centres": (0.0, 1.0, float("inf"))},
            {"unit": "nm"},
            {"temperature": 0.0},
            {"temperature": float("inf")},
            {"tile_weight": 0.0},
            {"tile_weight": 1.1},
            {"tile_px": 0},
            {"pixels_per_resolution": -4.0},
            {"schema_version": 0},
            {"flatbuffer_sha256": "abc"},
            {"metrics": {"int8": {"mae_dof": float("nan")}}},
            {"tile_weigth": 0.5},
        ],
    )
    def test_values_that_are_none(self, wrong: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError)):
            card(**wrong).as_json()

    def test_is_frozen(self) -> None:
        with pytest.raises(AttributeError, match="immutable"):
            card().temperature = 2.0  # type: ignore[misc]


class TestRefused:
    def test_missing(self, tmp_path: Path) -> None:
        assert_refused(tmp_path / "none.tflite", "no such model file")

    def test_a_folder(self, tmp_path: Path) -> None:
        assert_refused(tmp_path, "cannot be read")

    @pytest.mark.parametrize("data", [b"", b"TFL3", b"%PDF-1.7 something else", b"PK\x05\x06" + bytes(18)])
    def test_something_else(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "m.tflite"
        path.write_bytes(data)
        assert_refused(path, "not a TFLite file")

    def test_without_a_card(self, tmp_path: Path) -> None:
        path = tmp_path / "m.tflite"
        path.write_bytes(FLATBUFFER)
        assert_refused(path, "no card")
        assert_refused(with_zip(path, "labels.txt", b"a"), CARD_NAME)

    def test_another_flatbuffer(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "m.tflite")
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
        assert_refused(path, "damaged", "SHA-256")

    @pytest.mark.parametrize("key", [field.name for field in msgspec.structs.fields(Card) if field.required])
    def test_a_key_that_is_missing(self, tmp_path: Path, key: str) -> None:
        keys = json.loads(card().as_json())
        del keys[key]
        assert_refused(with_zip(tmp_path / "m", CARD_NAME, json.dumps(keys).encode()), "card", key)

    @pytest.mark.parametrize(
        "text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"1e999", b'{"schema_version": "x"}', b"[" * 100_000]
    )
    def test_a_card_that_is_none(self, tmp_path: Path, text: bytes) -> None:
        assert_refused(with_zip(tmp_path / "m", CARD_NAME, text), "card")

    @pytest.mark.parametrize("more", [{}, {"colour": "blue"}], ids=["same layout", "other layout"])
    def test_a_newer_schema(self, tmp_path: Path, more: dict[str, str]) -> None:
        keys = {**json.loads(card().as_json()), "schema_version": SCHEMA + 1, **more}
        path = with_zip(tmp_path / "m", CARD_NAME, json.dumps(keys).encode())
        assert_refused(path, f"schema {SCHEMA + 1}", "upgrade")

    def test_a_card_that_would_fill_the_memory(self, tmp_path: Path) -> None:
        path = with_zip(tmp_path / "m", CARD_NAME, b" " * (2 << 20), compression=zipfile.ZIP_DEFLATED)
        assert_refused(path, "damaged", "at most")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 4000))
    def test_cut_short_anywhere(self, tmp_path: Path, length: int) -> None:
        path = write_model(tmp_path / "m.tflite")
        data = path.read_bytes()
        path.write_bytes(data[: length % len(data)])
        assert_refused(path)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
    @given(st.integers(8, 10_000), st.binary(min_size=1, max_size=6), st.booleans())
    @example(len(FLATBUFFER) + 8, b"\x08", False)
    def test_overwritten_anywhere(self, tmp_path: Path, place: int, junk: bytes, packed: bool) -> None:
        """Either one line, or (in what a zip does not use) the same card; never anything else."""
        path = tmp_path / "m.tflite"
        method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        with_zip(path, CARD_NAME, card().as_json().encode(), compression=method)
        data = bytearray(path.read_bytes())
        place = place % len(data)
        data[place : place + len(junk)] = junk
        path.write_bytes(data)
        with contextlib.suppress(ModelError):
            assert read(path) == (FLATBUFFER, card())
            return
        assert_refused(path)
