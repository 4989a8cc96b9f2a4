"""The shipped model says the same on an emulated Raspberry Pi's processor, and with either kind of kernels.

With PARFOCAL_VM=require a computer without the tools is a failure.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import emulated
import pytest
from machines import need

from edge.model import DEFAULT_PATH


@pytest.mark.vm
@pytest.mark.timeout(1200)
def test_the_same_defocus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("arm64", emulated.missing())
    apart = emulated.compare(DEFAULT_PATH, tmp_path)
    shutil.rmtree(tmp_path / "tree")
    with capsys.disabled():
        print("", *emulated.lines(apart), sep="\n")
    assert apart.machine == "aarch64"
    assert apart.tiles > 60
    for name, difference in apart.pairs.items():
        assert difference.median_dof <= 0.1, name
