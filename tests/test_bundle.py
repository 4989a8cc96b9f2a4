"""`parfocal bundle` and what the installer thinks of its work. Small fake wheels; nothing is fetched."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from oracle import Parfocal

from convert import bundle, bundle_seal, bundle_wheels
from convert.bundle_wheels import BOARDS, Board, lacking

SYSTEMD = bundle.TREE / "systemd"
needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="no ssh-keygen (apt install openssh-client)"
)
#: bundle.sh alone, as install.sh sets the stage for it. The board is always the right one here.
_CHECK = """
set -euo pipefail
ETC=$1 work=$2 top=$3 bundle_key=$4 PYTHON=$5
refuse() { echo "parfocal: $*" >&2; exit 2; }
. "$6/bundle.sh"
board_check() { :; }
bundle_check "$top"
[ -z "$new_signer" ] || { mkdir -p "$ETC"; cp "$new_signer" "$SIGNERS"; }
"""


def _wheel(folder: Path, name: str, version: str = "1.0", needs: tuple[str, ...] = ()) -> Path:
    """A wheel with nothing but its metadata in it."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    with zipfile.ZipFile(path, "w") as wheel:
        # ZipInfo: of no particular time
        entry = zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA")
        wheel.writestr(entry, "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Private keys `mine` and `other`, the public ones beside them."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True
        )
    return folder


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of pip: a wheel that is Parfocal's, and one that it needs."""

    def own_wheel(tree: Path, folder: Path) -> Path:
        return _wheel(folder, "parfocal", "7.1")

    def gather(own: Path, board: Board) -> None:
        _wheel(own.parent, "numpy", "1.24.4")

    monkeypatch.setattr(bundle, "own_wheel", own_wheel)
    monkeypatch.setattr(bundle, "gather", gather)


@pytest.fixture
def unpacked(no_pip: None, keys: Path, tmp_path: Path) -> Path:
    """A bundle, sealed with the key `mine`, as it lies on a device; a test may spoil it."""
    folder = bundle.prepare(bundle.TREE, "pi-bookworm", BOARDS["pi-bookworm"], tmp_path)
    bundle_seal.seal(folder, keys / "mine")
    return folder


class Device:
    """Where bundles come to: its trusted keys, in a folder of the test's."""

    def __init__(self, folder: Path) -> None:
        self.etc = folder / "etc"
        self._folder = folder

    def check(self, top: Path, key: Path | str = "", typed: str | None = None) -> tuple[int, str]:
        """The installer's exit code and errors; ``typed``: at a terminal, where this is typed."""
        work = self._folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        words = map(str, (self.etc, work, top, key, "/usr/bin/python3", SYSTEMD))
        keyboard, terminal = pty.openpty()
        if typed is not None:
            os.write(keyboard, typed.encode())
        done = subprocess.run(
            ["bash", "-c", _CHECK, "bundle", *words],
            stdin=subprocess.DEVNULL if typed is None else terminal,
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )
        os.close(keyboard)
        os.close(terminal)
        assert ("SHA256:" in done.stdout) == (typed is not None)
        return done.returncode, done.stderr


@pytest.fixture
def device(tmp_path: Path) -> Device:
    (tmp_path / "device").mkdir()
    return Device(tmp_path / "device")


def _changed(top: Path) -> None:
    with (top / "wheels" / "numpy-1.24.4-py3-none-any.whl").open("ab") as file:
        file.write(b"!")


def _listed_by_hand(top: Path) -> None:
    """A changed file whose checksum was put right: only the signature can tell."""
    _changed(top)
    signature = (top / "SHA256SUMS.sig").read_bytes()
    names = [line.split("  ")[1] for line in (top / "SHA256SUMS").read_text().splitlines()]
    sums = subprocess.run(["sha256sum", *names], cwd=top, capture_output=True, text=True, check=True).stdout
    (top / "SHA256SUMS").write_text(sums)
    (top / "SHA256SUMS.sig").write_bytes(signature)


def _outside(top: Path) -> None:
    """A link in the place of a file, with the same content."""
    script = top / "systemd" / "install.sh"
    away = top.parent / "install.sh"
    script.rename(away)
    script.symlink_to(away)


#: What is done to a bundle: what the installer says of it.
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed wheel": (_changed, "wheels/numpy-1.24.4-py3-none-any.whl was changed since the bundle was made"),
    "changed, and listed so": (_listed_by_hand, "not signed by a key in "),
    "missing wheel": (
        lambda top: (top / "wheels" / "numpy-1.24.4-py3-none-any.whl").unlink(),
        "wheels/numpy-1.24.4-py3-none-any.whl is missing",
    ),
    "extra wheel": (
        lambda top: (top / "wheels" / "rich-9.whl").write_bytes(b""),
        "wheels/rich-9.whl does not belong to the bundle",
    ),
    "extra script": (
        lambda top: (top / "systemd" / ".hidden.sh").write_text("echo"),
        "systemd/.hidden.sh does not belong to the bundle",
    ),
    "changed installer": (
        lambda top: (top / "systemd" / "install.sh").write_text("true"),
        "systemd/install.sh was changed since the bundle was made",
    ),
    "link": (_outside, "systemd/install.sh: neither a file nor a folder"),
    "no signature": (lambda top: (top / "SHA256SUMS.sig").unlink(), "no SHA256SUMS.sig; a bundle as "),
    "empty signature": (lambda top: (top / "SHA256SUMS.sig").write_text(""), "not signed by a key in "),
    "no checksums": (lambda top: (top / "SHA256SUMS").unlink(), "no SHA256SUMS; a bundle as "),
    "no description": (lambda top: (top / "bundle.info").unlink(), "no bundle.info; a bundle as "),
}


@needs_ssh_keygen
class TestDevice:
    def test_a_named_key_is_trusted_from_then_on(self, device: Device, unpacked: Path, keys: Path) -> None:
        assert device.check(unpacked, keys / "mine.pub") == (0, "")
        assert (
            (device.etc / "signers")
            .read_text()
            .startswith('parfocal-bundle namespaces="parfocal-bundle" ssh-')
        )
        assert device.check(unpacked) == (0, "")
        assert device.check(unpacked, keys / "mine.pub") == (0, "")

    @pytest.mark.parametrize("what", SPOILT)
    @pytest.mark.parametrize("trusted", [True, False])
    def test_refuses_what_was_spoilt(
        self, device: Device, unpacked: Path, keys: Path, what: str, trusted: bool
    ) -> None:
        if trusted:
            assert device.check(unpacked, keys / "mine.pub") == (0, "")
        spoil, says = SPOILT[what]
        spoil(unpacked)
        code, said = device.check(unpacked, "" if trusted else keys / "mine.pub")
        assert code == 2
        assert said.startswith(f"parfocal: {unpacked}: ")
        assert (says if trusted else says.replace("by a key in ", "by the key in ")) in said
        assert said.count("\n") == 1
        assert (device.etc / "signers").exists() == trusted

    def test_refuses_another_key_than_the_trusted_one(
        self, device: Device, unpacked: Path, keys: Path
    ) -> None:
        assert device.check(unpacked, keys / "mine.pub") == (0, "")
        bundle_seal.seal(unpacked, keys / "other")
        code, said = device.check(unpacked)
        assert (code, said) == (
            2,
            f"parfocal: {unpacked}: not signed by a key in {device.etc}/signers, or changed since\n",
        )
        code, said = device.check(unpacked, keys / "other.pub")
        assert code == 2
        assert "trusts another key; remove that file to trust this one" in said

    def test_refuses_another_key_than_the_named_one(self, device: Device, unpacked: Path, keys: Path) -> None:
        code, said = device.check(unpacked, keys / "other.pub")
        assert code == 2
        assert f"not signed by the key in {keys}/other.pub, or changed since" in said

    def test_trusts_nobody_unasked(self, device: Device, unpacked: Path) -> None:
        code, said = device.check(unpacked)
        assert code == 2
        assert said.startswith("parfocal: no key is trusted yet: --bundle-key FILE names the public key")
        assert "SHA256:" in said
        assert not device.etc.exists()

    @pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("no\n", 2), ("y\n", 2), ("\x04", 2)])
    def test_asks_at_a_terminal(self, device: Device, unpacked: Path, answer: str, code: int) -> None:
        got, said = device.check(unpacked, typed=answer)
        assert got == code
        assert ("is not trusted" in said) == (code == 2)
        assert (device.etc / "signers").exists() == (code == 0)

    @pytest.mark.parametrize("content", ["", "a word\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n"])
    def test_refuses_a_key_that_is_none(
        self, device: Device, unpacked: Path, tmp_path: Path, content: str
    ) -> None:
        (tmp_path / "key").write_text(content)
        code, said = device.check(unpacked, tmp_path / "key")
        assert (code, said.count("\n")) == (2, 1)
        assert "not a public key" in said

    def test_refuses_a_key_that_is_not_there(self, device: Device, unpacked: Path, tmp_path: Path) -> None:
        assert device.check(unpacked, tmp_path / "key") == (
            2,
            f"parfocal: --bundle-key {tmp_path}/key: no such file\n",
        )


class TestImage:
    """`install.sh --no-start`: for a computer that does not run yet."""

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--no-start", "--uninstall"), "--uninstall: no other option but --purge and --yes"),
            (("--no-starts",), "--no-starts: unknown; --build, --bundle, --bundle-key, --no-start, "),
        ],
    )
    def test_refuses(self, words: tuple[str, ...], says: str) -> None:
        done = subprocess.run([SYSTEMD / "install.sh", *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"parfocal: {says}")

    @pytest.mark.parametrize(
        ("board", "python", "library"),
        [
            ("pi-bookworm", 11, "rpi-lgpio"),
            ("pi-trixie", 13, ""),
            ("jetson-jp6", 10, "Jetson.GPIO"),
            ("test", 11, ""),
        ],
    )
    @pytest.mark.parametrize("no_start", ["1", ""])
    def test_the_bundle_says_what_board_it_is(
        self, tmp_path: Path, board: str, python: int, library: str, no_start: str
    ) -> None:
        """Where the installer runs on the board itself, the board does: this computer, which is none."""
        (tmp_path / "bundle.info").write_text(f"board={board}\nversion=1\n")
        script = 'set -eu; top=$1 no_start=$2 ETC=/; . "$3/bundle.sh"; . "$3/release.sh"; '
        script += f"is_python_3_13() {{ {str(python == 13).lower()}; }}; gpio_library"
        done = subprocess.run(
            ["bash", "-c", script, "image", tmp_path, no_start, SYSTEMD],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == (library if no_start else "")

    @pytest.mark.parametrize(
        ("no_start", "asked"),
        [
            ("", ["--quiet is-enabled parfocal.service", "daemon-reload"]),
            ("1", ["--root=/ --quiet is-enabled parfocal.service"]),
        ],
    )
    def test_no_systemd_is_asked_for_anything(self, no_start: str, asked: list[str]) -> None:
        script = 'set -eu; no_start=$1 PREFIX=/ UNIT=parfocal.service; . "$2/switch.sh"; '
        script += 'systemctl() { echo "$*"; }; unit_file is-enabled; reload_units'
        done = subprocess.run(
            ["bash", "-c", script, "image", no_start, SYSTEMD], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines() == asked


@needs_ssh_keygen
class TestCommand:
    def test_the_same_files_make_the_same_bundle(
        self, parfocal: Parfocal, no_pip: None, keys: Path, tmp_path: Path
    ) -> None:
        for name in ("one.tar", "two.tar"):
            code, out, _ = parfocal(
                "bundle", "--board", "pi-bookworm", "-o", tmp_path / name, "--sign-key", keys / "mine"
            )
            assert code == 0
            assert out.startswith(f"{tmp_path / name}: ")
        assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar", "two.tar"]

    def test_a_device_takes_it(
        self, parfocal: Parfocal, no_pip: None, keys: Path, tmp_path: Path, device: Device
    ) -> None:
        out = tmp_path / "bundle.tar"
        assert parfocal("bundle", "--board", "jetson-jp6", "-o", out, "--sign-key", keys / "mine")[0] == 0
        subprocess.run(["tar", "xf", out, "-C", tmp_path], check=True)
        top = tmp_path / "parfocal-7.1-jetson-jp6"
        assert device.check(top, keys / "mine.pub") == (0, "")
        info = dict(line.split("=", 1) for line in (top / "bundle.info").read_text().splitlines())
        assert (info["board"], info["python"], info["machine"]) == ("jetson-jp6", "3.10", "aarch64")
        assert "openflexure-sangaboard" in info["builds"].split()
        assert os.access(top / "systemd" / "install.sh", os.X_OK)

    def test_makes_itself_a_key_once(
        self,
        parfocal: Parfocal,
        no_pip: None,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        key = tmp_path / "config" / "parfocal" / "bundle_key"
        made = []
        for _ in range(2):
            assert parfocal("bundle", "--board", "pi-trixie", "-o", tmp_path / "a.tar")[0] == 0
            made.append(key.read_bytes())
        assert made[0] == made[1]
        assert key.stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--board", "pi-zero", "-o", "{}/a.tar"), "invalid choice: 'pi-zero' (choose from "),
            (("--board", "pi-trixie"), "the following arguments are required: -o/--out"),
            (("-o", "{}/a.tar"), "the following arguments are required: --board"),
            (
                ("--board", "pi-trixie", "-o", "{}/no/a.tar"),
                "-o {}/no/a.tar: cannot be written: no such file",
            ),
            (("--board", "pi-trixie", "-o", "{}/a.zip"), "-o {}/a.zip: a name that ends in .tar is allowed"),
            (("--board", "pi-trixie", "-o", "{}/dir.tar"), "-o {}/dir.tar: is not a regular file, it is not"),
            (
                ("--board", "pi-trixie", "-o", "{}/a.tar", "--sign-key", "{}/key"),
                "--sign-key {}/key: no such file; a private key",
            ),
            (
                ("--board", "pi-trixie", "-o", "{}/a.tar", "--sign-key", "{}/word"),
                "ssh-keygen: ",
            ),
        ],
    )
    def test_refuses(
        self, parfocal: Parfocal, no_pip: None, tmp_path: Path, words: tuple[str, ...], says: str
    ) -> None:
        (tmp_path / "dir.tar").mkdir()
        (tmp_path / "word").write_text("no key\n")
        code, out, err = parfocal("bundle", *(word.replace("{}", str(tmp_path)) for word in words))
        assert (code, out) == (2, "")
        assert says.replace("{}", str(tmp_path)) in err.splitlines()[-1]
        assert not (tmp_path / "a.tar").exists()

    def test_needs_a_source_tree(
        self, parfocal: Parfocal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bundle, "TREE", tmp_path)
        code, _, err = parfocal("bundle", "--board", "pi-trixie", "-o", tmp_path / "a.tar")
        assert code == 2
        assert err.startswith(f"parfocal: {tmp_path}: no source tree of Parfocal")

    def test_pip_fails(
        self, parfocal: Parfocal, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bundle_wheels.sys, "executable", "/bin/false")
        code, _, err = parfocal(
            "bundle", "--board", "pi-trixie", "-o", tmp_path / "a.tar", "--sign-key", keys / "mine"
        )
        assert code == 1
        assert err.splitlines()[-1] == "parfocal: reading or writing failed: pip wheel: exit code 1"
        assert list(tmp_path.iterdir()) == []


class TestLacking:
    """pip judges conditions by its own Python; `lacking` by the board's."""

    NEEDS = (
        "tomli>=2; python_version < '3.11'",
        "desktop; platform_machine == 'x86_64'",
        "serial>=3; extra == 'device'",
        "plot; extra == 'plot'",
    )

    @pytest.mark.parametrize(
        ("board", "present", "lacks"),
        [
            ("jetson-jp6", [], ["serial>=3", "tomli>=2"]),
            ("pi-bookworm", [], ["serial>=3"]),
            ("pi-bookworm", [("serial", "3.5", ())], []),
            ("pi-bookworm", [("serial", "2.0", ())], ["serial>=3"]),
            ("pi-trixie", [("serial", "3.5", ("more[deep]",))], ["more"]),
            (
                "pi-trixie",
                [("serial", "3.5", ("more[deep]",)), ("more", "1", ("deeper; extra == 'deep'",))],
                ["deeper"],
            ),
        ],
    )
    def test_of_a_board(
        self, tmp_path: Path, board: str, present: list[tuple[str, str, tuple[str, ...]]], lacks: list[str]
    ) -> None:
        _wheel(tmp_path, "parfocal", "1.0", self.NEEDS)
        for name, version, needs in present:
            _wheel(tmp_path, name, version, needs)
        assert lacking(tmp_path, ["parfocal[device,serve]"], BOARDS[board].environment) == lacks


@pytest.mark.parametrize("name", BOARDS)
def test_the_wheels_of_a_board_fit_its_c_library(name: str) -> None:
    board = BOARDS[name]
    assert board.platforms[0] == f"manylinux_{board.glibc.replace('.', '_')}_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(board.platforms)
