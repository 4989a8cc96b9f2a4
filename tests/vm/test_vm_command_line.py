"""The command line on lines of the kernel's own: what a user sees, and what the coils did meanwhile."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.vm("command_line", limit_s=600)
def test_moves_and_what_ends_them(records: list[dict[str, Any]], figures: list[str]) -> None:
    ends = {record["way"]: record for record in records}
    assert all(end["levels"] == [0, 0, 0, 0] for end in records if "levels" in end), (
        "coils off after every end"
    )

    assert ends["move"]["code"] == 0, ends["move"]["err"]
    assert ends["move"]["out"] == "moved +40.000 µm: the stage stands at 40.000 µm\n"
    assert ends["move"]["half_steps"] == 40

    assert (ends["SIGTERM"]["code"], ends["SIGTERM"]["err"]) == (130, "parfocal: interrupted\n")
    gone = ends["SIGTERM"]["half_steps"]
    assert 0 < gone < 9000
    # The next move of nothing takes the slack up, and ends where it began.
    assert f"stands at {40 + gone}.000 µm" in ends["where"]["out"], "the count is that of the wire"

    assert ends["SIGKILL"]["code"] == -9
    assert ends["SIGKILL"]["half_steps"] < 0

    assert ends["too far"]["code"] == 2
    assert "uncertain" in ends["too far"]["err"]
    assert ends["too far"]["half_steps"] == 0
    assert ends["next start"]["code"] == 0, ends["next start"]["err"]
    assert "uncertain" in ends["next start"]["err"], "said before it moves"
    figures.append(
        f"parfocal move: 40 half steps; ended by SIGTERM after {gone}, all counted; after SIGKILL:"
        f" {ends['next start']['err'].strip()}"
    )
