"""What makes a folder a bundle: checksums of every file, a signature over them, and one tar file of it all.

    SHA256SUMS       as sha256sum writes it, of everything but itself and
    SHA256SUMS.sig   made by `ssh-keygen -Y sign`, namespace `parfocal-bundle`
    signer.pub       the public key, for whoever has to decide whether to trust it

The same files give the same tar file, byte for byte; an Ed25519 signature is the same each time, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tarfile
from pathlib import Path

from convert.bundle_wheels import EPOCH
from edge.errors import InputError, one_line

__all__ = ["NAMESPACE", "own_key", "pack", "seal"]

NAMESPACE = "parfocal-bundle"
_UNSUMMED = ("SHA256SUMS", "SHA256SUMS.sig")
_NAME = re.compile(r"[A-Za-z0-9._+!-]+(/[A-Za-z0-9._+!-]+)*")
"""What the installer takes for a file name."""


def own_key() -> Path:
    """The private key that bundles are signed with where none is named, made the first time."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "parfocal")
    key = folder / "bundle_key"
    if not key.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", NAMESPACE, "-f", str(key))
    return key


def seal(folder: Path, key: Path) -> str:
    """Write checksums, public key and signature into ``folder``; the key's fingerprint.

    Asks at the terminal where the key has a passphrase. InputError where the key cannot be used.
    """
    if not key.is_file():
        raise InputError(f"--sign-key {key}: no such file; a private key of ssh-keygen is allowed")
    public = _ssh_keygen("-y", "-f", str(key))
    (folder / "signer.pub").write_text(public, encoding="ascii")
    sums = folder / "SHA256SUMS"
    sums.write_text(
        "".join(f"{_sha256(folder / name)}  {name}\n" for name in _names(folder)), encoding="ascii"
    )
    (folder / "SHA256SUMS.sig").unlink(missing_ok=True)
    _ssh_keygen("-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(sums))
    return _ssh_keygen("-l", "-f", str(folder / "signer.pub")).split()[1]


def pack(folder: Path, out: Path) -> None:
    """Write ``folder``, under its own name, as a tar file: sorted, of root, of one fixed time.

    The file takes its name when it is whole. OSError where it cannot be written.
    """
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as tar:
            for path in [folder, *sorted(folder.rglob("*"))]:
                name = Path(folder.name, path.relative_to(folder)).as_posix()
                tar.add(path, name, recursive=False, filter=_plain)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what differs from one computer to the next."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = EPOCH
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def _names(folder: Path) -> list[str]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot be in a bundle; letters, digits and . _ + ! - are allowed")
    return [name for name in names if name not in _UNSUMMED]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _ssh_keygen(*words: str) -> str:
    """What ssh-keygen printed. InputError with its reason where it fails."""
    try:
        done = subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError("ssh-keygen is missing, which signs bundles: apt install openssh-client") from error
    if done.returncode != 0:
        raise InputError(f"ssh-keygen: {one_line(done.stderr)}")
    return done.stdout
