"""`python -m train.throughput`: a rate for each number of threads."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

throughput = pytest.importorskip("train.throughput", reason="the extra `train`")


@pytest.mark.train
def test_one_process_measures() -> None:
    pytest.importorskip("tensorflow")
    import sys

    code = "from train import throughput as t; t.WARM_UP = 0; print(t.images_per_s(1, steps=1))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert 0.5 < float(done.stdout.split()[-1]) < 100_000


def test_the_best_of_its_rounds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rates = iter([50.0, 80.0, 60.0, 70.0])

    def run(command: list[str], **how: Any) -> SimpleNamespace:
        return SimpleNamespace(stdout=f"warning\n{next(rates)}\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert throughput.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images_per_s"] == {"1": 60.0, "2": 80.0}
