"""Bundles for the container to install: a good one, a newer, and newer ones that do not work."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import container

from convert import bundle, bundle_seal, bundle_wheels
from convert.bundle_wheels import BOARDS, Board

NEWER = "99.1.0"
COMMAND = "edge/service/command.py"
#: By version: what stands in the place of `parfocal serve`.
BROKEN = {
    "99.2.0": 'raise OSError("this version is broken")',
    "99.3.0": "import time; time.sleep(3600)",
}


def board() -> Board:
    """This computer's processor with the container's Python and NumPy."""
    bookworm = BOARDS["pi-bookworm"]
    return Board(container.PYTHON, container.GLIBC, platform.machine(), constraints=bookworm.constraints)


def new_key(path: Path) -> Path:
    """A private key to sign with; its public one lies beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def make(folder: Path, key: Path) -> None:
    """Into ``folder``: an unpacked bundle for each version, by its name, and two that must be refused.

    Also a bundle as its tar file, a source tree, and what builds that one.
    """
    work = folder / "work"
    work.mkdir()
    first = bundle.prepare(bundle.TREE, "test", board(), work).rename(folder / "first")
    work.rmdir()
    bundle_seal.seal(first, key)
    for version in (NEWER, *BROKEN):
        _newer(first, folder / version, version, key)
    bundle_seal.seal(_copy(first, folder / "other-key"), new_key(folder / "stranger"))
    _inform(_copy(first, folder / "other-board"), "python=3.11", "python=3.13")
    bundle_seal.seal(folder / "other-board", key)
    bundle_seal.pack(folder / NEWER, folder / f"{NEWER}.tar")
    tree = folder / "tree"
    bundle_wheels.copy_sources(bundle.TREE, tree)
    shutil.copytree(bundle.TREE / "systemd", tree / "systemd")
    wanted = ("setuptools>=68", "--dest", folder / "tools")
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *wanted], check=True)


def _copy(first: Path, folder: Path) -> Path:
    """The bundle ``first`` once more, its large files shared, those of its seal its own."""
    shutil.copytree(first, folder, copy_function=os.link)
    for name in ("bundle.info", "signer.pub", "SHA256SUMS", "SHA256SUMS.sig"):
        (folder / name).unlink()
        shutil.copy(first / name, folder / name)
    return folder


def _newer(first: Path, folder: Path, version: str, key: Path) -> None:
    """The bundle ``first`` with another version of Parfocal in it; all other wheels are the same files."""
    _copy(first, folder)
    (old,) = (folder / "wheels").glob("parfocal-*.whl")
    old.unlink()
    source = folder.parent / "source"
    bundle_wheels.copy_sources(bundle.TREE, source)
    was = old.name.split("-")[1]
    stated = source / "edge" / "__init__.py"
    text = stated.read_text("utf-8")
    assert f'__version__ = "{was}"' in text
    stated.write_text(text.replace(f'__version__ = "{was}"', f'__version__ = "{version}"'), "utf-8")
    if version in BROKEN:
        text = "def add_arguments(name, parser):\n    parser.add_argument('--config')\n\n\n"
        (source / COMMAND).write_text(f"{text}def run(name, args):\n    {BROKEN[version]}\n", "utf-8")
    bundle_wheels.own_wheel(source, folder / "wheels")
    shutil.rmtree(source)
    _inform(folder, f"version={was}", f"version={version}")
    bundle_seal.seal(folder, key)


def _inform(folder: Path, was: str, now: str) -> None:
    info = (folder / "bundle.info").read_text("ascii")
    assert was in info
    (folder / "bundle.info").write_text(info.replace(was, now), "ascii")
