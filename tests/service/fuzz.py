"""The HTTP interface against its own OpenAPI document: generated requests, right and wrong.

    PYTHONPATH=tests python tests/service/fuzz.py [CASES]

schemathesis asks a service on the simulated rig. No answer may be a server error or one that the document
does not describe, and no motion may be begun that ends beyond the limits. The two endless streams are left
out: tests/service/test_api.py reads them. In virtual time, or most requests would be refused as "busy".
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service_bench import running

from edge.service.api import Server, Streams, create_app
from edge.service.door import own_names
from firmware_iface.simulated import SimulatedAxis

#: Of nine operations, those that have any number of different requests: the others soon run out of them.
_OPERATIONS = 4
_LIMIT_S = 1200


@dataclass(frozen=True)
class Found:
    """``code`` and ``report`` of schemathesis; ``cases`` it made; ``moves`` begun, as first and last step."""

    code: int
    report: str
    cases: int
    moves: list[tuple[int, int]]
    limits_steps: tuple[int, int]


def fuzz(cases: int, folder: Path) -> Found:
    """Ask some ``cases`` requests and more. BLOCKS for minutes."""
    moves: list[tuple[int, int]] = []
    begin = SimulatedAxis.start_move

    def start_move(axis: SimulatedAxis, steps: int) -> float:
        moves.append((axis.position_steps, axis.position_steps + steps))
        return begin(axis, steps)

    SimulatedAxis.start_move = start_move  # type: ignore[method-assign]
    try:
        with running(folder, service={"boot_focus": False}) as bench:
            bench.until("ready")
            with socket.create_server(("127.0.0.1", 0)) as listening:
                streams = Streams()
                app = create_app(bench.service, streams, token=None, names=own_names())
                server = Server(app, listening, streams)
                try:
                    code, report = _schemathesis(listening.getsockname()[1], cases, folder)
                finally:
                    server.close()
    finally:
        SimulatedAxis.start_move = begin  # type: ignore[method-assign]
    made = re.search(r"([\d,]+) generated", report) or re.search(r"([\d,]+) test cases", report)
    count = int(made[1].replace(",", "")) if made else 0
    return Found(code, report, count, moves, bench.service._config.stage.limits_steps)


def _schemathesis(port: int, cases: int, folder: Path) -> tuple[int, str]:
    words = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/api/openapi.json"]
    words += ["--max-examples", str(-(-cases // _OPERATIONS)), "--seed", "1", "--generation-database", "none"]
    # What a jog may be depends on where the stage stands: a number that fits the document may be refused.
    words += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    words += ["--exclude-path-regex", "^/api/(preview|events)", "--continue-on-failure", "--no-color"]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_LIMIT_S,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def main(argv: Sequence[str]) -> int:
    """Print the report and the farthest motion."""
    with tempfile.TemporaryDirectory() as name:
        found = fuzz(int(argv[0]) if argv else 2000, Path(name))
    print(found.report)
    low, high = found.limits_steps
    ends = [end for _, end in found.moves]
    farthest = f"{min(ends)} to {max(ends)}" if ends else "none"
    print(f"{found.cases} cases; {len(ends)} motions, ends {farthest} steps; limits {low} to {high}")
    outside = any(not low <= end <= high for end in ends)
    return 1 if found.code or outside else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
