"""An offline bundle on the board that it was made for, as far as one can be had here: arm64 under emulation.

The bundle's own installer, without a network, in an image that has not booted; then a focus with what it has
installed, beside the same on this computer. With PARFOCAL_VM=require a computer without the tools fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import chroot
import numpy as np
import pytest
from machines import need

BOARD = "pi-bookworm"
COMMAND = "/usr/local/bin/parfocal"
FOCUS = ("focus", "--rig", "simulated", "--specimen", "debris", "--seed", "3", "--json", "--trace")
NEAR_DOF = 0.1
BUNDLE_S, INSTALL_S, FOCUS_S, ASK_S = 900.0, 1500.0, 900.0, 180.0
#: Each line is a fact of the image; `id` knows the user, `stat` what he may read.
_FACTS = """
import glob, importlib.util, json, numpy, os, pathlib, platform, pwd, socket, sys
try:
    socket.create_connection(("192.0.2.1", 80), 2)
    network = "there"
except OSError as error:
    network = error.strerror
token = os.stat("/etc/parfocal/token")
print(json.dumps({
    "machine": platform.machine(),
    "proc": os.listdir("/proc"),
    "network": network,
    "python": sys.version_info[:2],
    "prefix": sys.prefix,
    "numpy": [numpy.__version__, numpy.__file__],
    "gpio": importlib.util.find_spec("RPi.GPIO").origin,
    "release": os.path.realpath("/opt/parfocal/current"),
    "command": os.readlink("/usr/local/bin/parfocal"),
    "wanted": os.readlink("/etc/systemd/system/multi-user.target.wants/parfocal.service"),
    "drop_ins": sorted(os.listdir("/usr/local/lib/systemd/system/parfocal.service.d")),
    "config": pathlib.Path("/etc/parfocal/parfocal.toml").read_text(),
    "signers": pathlib.Path("/etc/parfocal/signers").read_text(),
    "user": pwd.getpwnam("parfocal").pw_uid,
    "token": [oct(token.st_mode & 0o777), pwd.getpwuid(token.st_uid).pw_name],
    "left": glob.glob("/var/tmp/parfocal-install.*"),
}))
"""


@pytest.mark.vm
@pytest.mark.timeout(chroot.BUILD_S + BUNDLE_S + 2 * INSTALL_S + FOCUS_S)
def test_a_bundle_installs_and_focuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("arm64", chroot.missing())
    seconds: dict[str, float] = {}
    began_s = time.monotonic()
    box = chroot.Chroot(tmp_path / "board")
    seconds["tree"] = time.monotonic() - began_s
    try:
        key = _bundle(box.host, seconds)
        _install(box, key, seconds)
        facts = json.loads(
            box.run("/opt/parfocal/current/bin/python", "-c", _FACTS, proc=False, limit_s=ASK_S)[0]
        )
        here = _focus_here(box.host, seconds)
        there = _focus_there(box, seconds)
        _check_facts(facts, key)
    finally:
        box.discard()
    apart = _apart(here, there)
    with capsys.disabled():
        print("", *_lines(seconds, here, there, apart), sep="\n")
    assert box.left_over() == []
    assert here["result"]["result"] == there["result"]["result"] == "focused"
    assert set(here["printed"]) == set(there["printed"])
    assert len(here["entries"]) == len(there["entries"])
    assert max(apart.values()) <= NEAR_DOF


def _bundle(host: Path, seconds: dict[str, float]) -> Path:
    """Make the bundle as its user does, with a key of the test's; the public key."""
    key = host / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    words = ("bundle", "--board", BOARD, "-o", host / "bundle.tar", "--sign-key", key)
    seconds["bundle"] = _parfocal(words, host, BUNDLE_S)[1]
    return key.with_suffix(".pub")


def _parfocal(words: tuple[object, ...], host: Path, limit_s: float) -> tuple[str, float]:
    """What the command of this computer prints, and its seconds."""
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", *map(str, words)],
        env={**os.environ, "PARFOCAL_CACHE": str(host / "cache")},
        stdout=subprocess.PIPE,
        text=True,
        timeout=limit_s,
        check=True,
    )
    return done.stdout, time.monotonic() - began_s


def _install(box: chroot.Chroot, key: Path, seconds: dict[str, float]) -> None:
    """With the bundle's own installer; then once more, which must change nothing."""
    box.run("tar", "xf", "/mnt/bundle.tar", "-C", "/root", proc=True, limit_s=ASK_S)
    installer = "exec /root/parfocal-*/systemd/install.sh --no-start"
    words = f"{installer} --build simulated --bundle-key /mnt/{key.name}"
    said, seconds["install"] = box.run("bash", "-c", words, proc=True, limit_s=INSTALL_S)
    assert said.splitlines()[-1].endswith(" is installed, and starts when this image boots")
    said, seconds["install again"] = box.run("bash", "-c", installer, proc=True, limit_s=INSTALL_S)
    assert said.splitlines()[-1].endswith(" is installed already")
    with pytest.raises(chroot.ChrootError, match="exit code 2\nparfocal: --no-start: this system runs"):
        box.run("bash", "-c", f"mkdir -p /run/systemd/system; {installer}", proc=True, limit_s=ASK_S)


def _focus_here(host: Path, seconds: dict[str, float]) -> dict[str, Any]:
    """The trace of a run on this computer, and what it ``printed``. Leaves the field in the cache."""
    printed, seconds["focus here"] = _parfocal((*FOCUS, host / "here.json"), host, FOCUS_S)
    return {**json.loads((host / "here.json").read_text("utf-8")), "printed": json.loads(printed)}


def _focus_there(box: chroot.Chroot, seconds: dict[str, float]) -> dict[str, Any]:
    fields = sorted((box.host / "cache").iterdir())
    words = ("env", "PARFOCAL_CACHE=/mnt/cache", COMMAND, *FOCUS, "/mnt/there.json")
    printed, seconds["focus on arm64"] = box.run(*words, proc=False, limit_s=FOCUS_S)
    assert sorted((box.host / "cache").iterdir()) == fields, "computed a field of its own"
    return {**json.loads((box.host / "there.json").read_text("utf-8")), "printed": json.loads(printed)}


def _apart(here: dict[str, Any], there: dict[str, Any]) -> dict[str, float]:
    """Distances in dof of the estimates after each look that gave one, and of the result's."""
    both = [
        (_mean_dof(one["belief"]), _mean_dof(other["belief"]))
        for one, other in zip(here["entries"], there["entries"], strict=True)
        if one["belief"] is not None or other["belief"] is not None
    ]
    looks = {f"look {n}": abs(one - other) for n, (one, other) in enumerate(both, 1)}
    name = "defocus_estimate_dof"
    return {**looks, "result": abs(here["result"][name] - there["result"][name])}


def _mean_dof(belief: dict[str, Any]) -> float:
    probability = np.asarray(belief["probability"])
    defocus_dof = belief["first_dof"] + belief["step_dof"] * np.arange(len(probability))
    return float(probability @ defocus_dof / probability.sum())


def _check_facts(facts: dict[str, Any], key: Path) -> None:
    """What the installer has left in the image."""
    release = facts["release"]
    assert release.startswith("/opt/parfocal/releases/")
    assert (facts["machine"], facts["python"], facts["prefix"]) == (
        "aarch64",
        [3, 11],
        "/opt/parfocal/current",
    )
    assert facts["proc"] == []
    assert facts["network"] == "Network is unreachable"
    assert facts["numpy"][0].startswith("1.24.")
    assert facts["numpy"][1] == "/usr/lib/python3/dist-packages/numpy/__init__.py"
    assert facts["gpio"].startswith(f"{release}/lib/") or facts["gpio"].startswith(
        "/opt/parfocal/current/lib/"
    )
    assert facts["command"] == "/opt/parfocal/current/bin/parfocal"
    assert facts["wanted"] == "/usr/local/lib/systemd/system/parfocal.service"
    assert facts["drop_ins"] == ["10-restart.conf", "20-network.conf", "30-board.conf"]
    assert 'specimen = "tissue"' in facts["config"]
    assert key.read_text().split()[1] in facts["signers"]
    assert 0 < facts["user"] < 1000
    assert facts["token"] == ["0o640", "root"]
    assert facts["left"] == []


def _lines(
    seconds: dict[str, float], here: dict[str, Any], there: dict[str, Any], apart: dict[str, float]
) -> list[str]:
    """The figures, for people."""
    return [
        ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()),
        f"focus: {here['result']['result']} here, {there['result']['result']} on arm64",
        f"x86_64 from arm64: {', '.join(f'{name} {value:.3f}' for name, value in apart.items())} dof",
    ]
