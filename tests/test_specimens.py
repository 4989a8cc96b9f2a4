"""Specimens: the same seed the same field, seamless edges, and photographs read or refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import InputError
from edge.simulator import drawing
from edge.simulator.specimens import SPECIMENS, Specimen, from_image, images_in, make, read_image

DRAWN = [name for name in SPECIMENS if name != "empty"]
Picture = NDArray[np.uint8]


def arrays(sample: Specimen) -> list[NDArray[np.float32]]:
    return [sample.od, sample.phase_rad, sample.upper_share]


def same(one: Specimen, two: Specimen) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(two), strict=True))


def noise_picture(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(40, 256, (height, width, 3), np.uint8)


def write(path: Path, picture: Picture) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]))
    return path


class TestEverySpecimen:
    @pytest.mark.parametrize("name", SPECIMENS)
    @pytest.mark.parametrize("shape", [(64, 64), (48, 96), (97, 61), (8, 8)])
    def test_holds_what_it_promises(self, name: str, shape: tuple[int, int]) -> None:
        sample = make(name, shape, 3)
        assert sample.name == name
        assert sample.shape == shape
        assert [a.shape for a in arrays(sample)] == [(3, *shape), shape, shape]
        for array in arrays(sample):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        assert 0 <= sample.od.min() <= sample.od.max() <= 3
        assert 0 <= sample.upper_share.min() <= sample.upper_share.max() <= 1

    @pytest.mark.parametrize("name", DRAWN)
    def test_a_seed_gives_the_same_field_bit_for_bit(self, name: str) -> None:
        assert same(make(name, (64, 80), 5), make(name, (64, 80), 5))
        assert not same(make(name, (64, 80), 5), make(name, (64, 80), 6))

    def test_a_seed_gives_each_kind_its_own_randomness(self) -> None:
        shares = [make(name, (64, 64), 5).upper_share for name in DRAWN]
        assert not np.array_equal(shares[0], shares[1])
        assert not np.array_equal(shares[1], shares[2])

    @pytest.mark.parametrize("name", DRAWN)
    def test_there_is_something_to_focus_on(self, name: str) -> None:
        for seed in range(8):
            sample = make(name, (128, 128), seed)
            assert not sample.blank
            assert sample.od.mean(axis=0).std() > 0.01
            assert sample.phase_rad.std() > 0.01

    def test_the_empty_field_is_blank(self) -> None:
        sample = make("empty", (40, 50), 1)
        assert sample.blank
        assert not sample.od.any()
        assert not sample.phase_rad.any()

    def test_only_the_empty_field_is_blank(self) -> None:
        assert [name for name in SPECIMENS if make(name, (32, 32), 0).blank] == ["empty"]

    def test_unknown_names_are_refused_with_what_is_allowed(self) -> None:
        with pytest.raises(InputError, match="'cheese': allowed are tissue, blood, debris, empty"):
            make("cheese", (32, 32), 0)


class TestEdges:
    """The Fourier transform joins left to right and top to bottom: there must be no seam."""

    @pytest.mark.parametrize("shape", [(128, 128), (96, 192), (192, 96)])
    @pytest.mark.parametrize("name", DRAWN)
    def test_are_periodic(self, name: str, shape: tuple[int, int]) -> None:
        for axis in (0, 1):
            seam, inner = [], []
            for seed in range(12):
                sample = make(name, shape, seed)
                for array in (sample.od.sum(axis=0), sample.phase_rad):
                    step = np.abs(np.diff(array, axis=axis, append=np.take(array, [0], axis=axis)))
                    step = step.mean(axis=1 - axis) / step.mean()
                    seam.append(step[-1])
                    inner.append(step[:-1].mean())
            assert np.mean(seam) < 2 * np.mean(inner)

    @pytest.mark.parametrize("shape", [(64, 64), (64, 192), (192, 64)])
    def test_a_thread_ends_where_it_began_on_the_other_side(self, shape: tuple[int, int]) -> None:
        for seed in range(20):
            thread = drawing.thread(shape, np.random.default_rng(seed))
            if not thread.any(axis=1).all():
                thread = thread.T
            assert thread.any(axis=1).all(), "it runs through every row, or through every column"
            middle = (thread * np.arange(thread.shape[1])).sum(axis=1) / thread.sum(axis=1)
            assert abs(middle[0] - middle[-1]) <= 1.5 * np.abs(np.diff(middle)).max() + 1.0
            assert 0.05 < middle.min() / thread.shape[1] < middle.max() / thread.shape[1] < 0.95


class TestReadImage:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
    def test_lossless_files_keep_colours_and_their_order(self, tmp_path: Path, suffix: str) -> None:
        picture = noise_picture(20, 30)
        np.testing.assert_array_equal(read_image(write(tmp_path / f"a{suffix}", picture)), picture)

    def test_jpeg(self, tmp_path: Path) -> None:
        picture = np.full((24, 24, 3), (200, 90, 40), np.uint8)
        assert np.abs(read_image(write(tmp_path / "a.jpg", picture)).astype(int) - picture).max() < 6

    def test_grey_is_repeated(self, tmp_path: Path) -> None:
        grey = noise_picture(20, 30)[..., 0]
        for suffix in (".png", ".tif"):
            assert cv2.imwrite(str(tmp_path / f"g{suffix}"), grey)
            np.testing.assert_array_equal(read_image(tmp_path / f"g{suffix}"), np.stack([grey] * 3, axis=2))

    def test_tiffs_of_every_layout(self, tmp_path: Path) -> None:
        tifffile = pytest.importorskip("tifffile", reason="tifffile (extra: train) is not installed")
        picture = noise_picture(20, 30)
        alpha = np.full((20, 30, 1), 7, np.uint8)
        path = tmp_path / "a.ome.tif"
        tifffile.imwrite(path, picture, photometric="rgb")
        np.testing.assert_array_equal(read_image(path), picture)
        tifffile.imwrite(path, np.concatenate([picture, alpha], axis=2), photometric="rgb")
        np.testing.assert_array_equal(read_image(path), picture)
        planes = np.ascontiguousarray(np.moveaxis(picture, 2, 0))
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
        np.testing.assert_array_equal(read_image(path), picture)
        # a stack of grey pages is not one picture in strange colours: its first page is read
        pages = np.random.default_rng(0).integers(0, 256, (5, 20, 30), np.uint8)
        tifffile.imwrite(path, pages, photometric="minisblack")
        np.testing.assert_array_equal(read_image(path), np.stack([pages[0]] * 3, axis=2))

    def test_a_plain_tiff_needs_no_tifffile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tifffile", None)
        picture = noise_picture(20, 30)
        np.testing.assert_array_equal(read_image(write(tmp_path / "a.tif", picture)), picture)

    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
    @pytest.mark.parametrize(
        "content", [None, b"", b"not a picture at all"], ids=["missing", "empty", "text"]
    )
    def test_unreadable_files_are_named(self, tmp_path: Path, name: str, content: bytes | None) -> None:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: not a readable image"):
            read_image(path)


class TestImagesIn:
    def test_finds_images_below_in_order(self, tmp_path: Path) -> None:
        picture = noise_picture(8, 8)
        wanted = [tmp_path / "a.PNG", tmp_path / "b" / "c.jpg", tmp_path / "z.tif"]
        for path in reversed(wanted):
            write(path, picture)
        (tmp_path / "README.md").write_text("no image")
        (tmp_path / "folder.png").mkdir()
        assert images_in(tmp_path) == wanted

    def test_refuses_a_missing_folder_and_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nowhere: no such folder of sharp images"):
            images_in(tmp_path / "nowhere")
        with pytest.raises(InputError, match=r"a\.png: no such folder"):
            images_in(write(tmp_path / "a.png", noise_picture(8, 8)))

    def test_refuses_a_folder_without_images(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("nothing")
        with pytest.raises(InputError, match=r"no image \(\.png, .*\) in it"):
            images_in(tmp_path)


class TestFromImage:
    @pytest.mark.parametrize("shape", [(32, 48), (128, 128), (300, 50)])
    @pytest.mark.parametrize("size", [(40, 40), (200, 260), (480, 640)])
    def test_fits_any_picture_to_any_field(self, size: tuple[int, int], shape: tuple[int, int]) -> None:
        sample = from_image(noise_picture(*size), shape, np.random.default_rng(0), name="cells")
        assert (sample.name, sample.shape, sample.od.shape) == ("cells", shape, (3, *shape))
        assert not sample.blank
        for array in arrays(sample):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        assert 0 <= sample.od.min() <= sample.od.max() <= 3

    def test_a_seed_gives_the_same_field_and_leaves_the_picture_alone(self) -> None:
        picture = noise_picture(200, 260)
        untouched = picture.copy()
        one, two, other = (from_image(picture, (64, 64), np.random.default_rng(s)) for s in (1, 1, 2))
        assert same(one, two)
        assert not same(one, other)
        np.testing.assert_array_equal(picture, untouched)

    def test_a_clear_picture_has_no_density(self) -> None:
        picture = np.full((100, 100, 3), (240, 200, 180), np.uint8)
        assert from_image(picture, (64, 64), np.random.default_rng(0)).od.max() < 1e-6

    def test_density_is_the_logarithm_over_the_background_in_each_colour(self) -> None:
        picture = np.full((120, 120, 3), (239, 199, 159), np.uint8)
        picture[:, 40:80] = (119, 199, 39)  # red halved, green clear, blue a quarter
        sample = from_image(picture, (100, 100), np.random.default_rng(4), shrink=1.0)
        red, green, blue = sample.od[:, 50, 45]
        assert green == 0
        assert blue / red == pytest.approx(2.0, rel=1e-3)
        assert 0.6 * np.log(2) <= red <= 1.3 * np.log(2) + 1e-6, "the staining varies between these"
        assert not sample.od[:, :, 2].any()

    def test_a_scale_bar_at_the_border_is_cut_off(self) -> None:
        picture = np.full((240, 240, 3), 220, np.uint8)
        picture[225:235, 20:90] = 0
        assert not from_image(picture, (64, 64), np.random.default_rng(0), shrink=1.0).od.any()

    def test_a_small_picture_is_mirrored(self) -> None:
        """Up to the smooth part that takes up the jump at the edges, and is small away from them."""
        sample = from_image(noise_picture(96, 96), (128, 128), np.random.default_rng(0), shrink=1.0)
        have = 96 - 2 * 8
        mirrored, original = sample.od[:, 20:-20, have : have + 24], sample.od[:, 20:-20, have - 24 : have]
        assert np.corrcoef(mirrored.ravel(), original[..., ::-1].ravel())[0, 1] > 0.95

    def test_opposite_edges_of_a_photograph_meet(self) -> None:
        ramp = np.broadcast_to(np.linspace(60, 250, 240)[None, :, None], (240, 240, 3)).astype(np.uint8)
        sample = from_image(ramp, (96, 96), np.random.default_rng(0), shrink=2.0)
        jump = np.abs(sample.od[:, :, 0] - sample.od[:, :, -1]).mean()
        assert jump < 0.1 * np.ptp(-np.log(ramp / 250.0))

    def test_shrinking_takes_the_pictures_own_blur_away(self) -> None:
        """A wave of 24 pixels becomes one of 24 / shrink."""
        wave = np.rint(150 + 60 * np.sin(2 * np.pi * np.arange(480) / 24)).astype(np.uint8)
        picture = np.broadcast_to(wave[None, :, None], (480, 480, 3))
        for shrink in (1.0, 2.0, 3.0):
            sample = from_image(picture, (96, 96), np.random.default_rng(0), shrink=shrink)
            spectrum = np.abs(np.fft.rfft(sample.od[1, 40] - sample.od[1, 40].mean()))
            assert int(spectrum.argmax()) == 96 * shrink / 24

    def test_a_small_picture_is_shrunk_less(self) -> None:
        stripes = np.zeros((110, 110, 3), np.uint8)
        stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = 240
        sample = from_image(stripes, (64, 64), np.random.default_rng(0))
        row = sample.od[1, 30]
        assert 6 <= np.count_nonzero(np.diff(row > row.mean()) == 1) / 2 <= 10, "about 8 to 9 pixels a stripe"
