"""`parfocal bundle`: one signed file that installs Parfocal on a board without a network.

parfocal-0.1.0-pi-bookworm/
    bundle.info      which board it is for, and the builds that the installer offers
    wheels/          Parfocal and all that it needs there, the shipped model within
    systemd/         the installer, the unit, the rules
    signer.pub SHA256SUMS SHA256SUMS.sig
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from convert import bundle_seal
from convert.bundle_wheels import BOARDS, Board, gather, own_wheel
from edge import console
from edge.errors import InputError
from edge.outputs import checked

__all__ = ["TREE", "add_arguments", "prepare", "run"]

TREE = Path(__file__).resolve().parents[1]
"""The source tree that this module lies in, if it lies in one."""


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``parfocal bundle``."""
    text = "the board that it is for: %(choices)s"
    parser.add_argument("--board", required=True, metavar="BOARD", choices=list(BOARDS), help=text)
    parser.add_argument("-o", "--out", required=True, metavar="FILE.tar", help="the file to write")
    text = "private key of ssh-keygen to sign with; without it one is made, once, in ~/.config/parfocal"
    parser.add_argument("--sign-key", metavar="FILE", type=Path, help=text)


def run(name: str, args: argparse.Namespace) -> int:
    """Make the bundle. InputError: nothing is written; OSError: pip or the disk failed."""
    out = checked("-o", args.out, ".tar")
    if not (TREE / "setup.py").is_file() or not (TREE / "systemd").is_dir():
        raise InputError(
            f"{TREE}: no source tree of Parfocal, which a bundle is built from: pip install -e TREE"
        )
    key = bundle_seal.own_key() if args.sign_key is None else args.sign_key
    if not key.is_file():
        raise InputError(f"--sign-key {key}: no such file; a private key of ssh-keygen is allowed")
    with tempfile.TemporaryDirectory() as work:
        console.note(f"fetching wheels for {args.board}")
        folder = prepare(TREE, args.board, BOARDS[args.board], Path(work))
        fingerprint = bundle_seal.seal(folder, key)
        bundle_seal.pack(folder, out)
    console.note(f"signed with {key}, {fingerprint}; the board is given its public key once: --bundle-key")
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB for {args.board}")
    return 0


def prepare(tree: Path, name: str, board: Board, work: Path) -> Path:
    """The folder of a bundle in ``work``, complete but for its seal. BLOCKS for the network."""
    wheels = work / "wheels"
    wheels.mkdir()
    own = own_wheel(tree, wheels)
    gather(own, board)
    version = own.name.split("-")[1]
    folder = work / f"parfocal-{version}-{name}"
    (folder / "systemd").mkdir(parents=True)
    for source in (tree / "systemd").iterdir():
        if source.is_file():
            shutil.copy(source, folder / "systemd")
    wheels.rename(folder / "wheels")
    builds = sorted(path.stem for path in (tree / "edge" / "examples").glob("*.toml"))
    about = {
        "board": name,
        "version": version,
        "python": board.python,
        "machine": board.machine,
        "glibc": board.glibc,
        "builds": " ".join(builds),
    }
    text = "".join(f"{key}={value}\n" for key, value in about.items())
    (folder / "bundle.info").write_text(text, encoding="ascii")
    return folder
