"""One pin, two users: in one process, and in two."""

from __future__ import annotations

import subprocess
import sys

from sim_lines import made, tell

from firmware_iface.errors import MotorError
from firmware_iface.gpio import Lines

SECOND = """
import sys
from firmware_iface.errors import MotorError
from firmware_iface.gpio import Lines
try:
    Lines("second", outputs={23: 0, 17: 0})
except MotorError as error:
    print(error)
    Lines("second", outputs={23: 1}).close()
    print("23 given back")
"""


def main() -> None:
    with made() as lines, Lines("first", outputs={17: 0}) as first:
        first.write({17: 1})
        lines.clear_trace()
        try:
            Lines("second", outputs={23: 0, 17: 0})
        except MotorError as error:
            tell(where="same process", error=str(error))
        tell(where="same process", touched=len(lines.events()))
        done = subprocess.run([sys.executable, "-c", SECOND], capture_output=True, text=True, check=False)
        tell(where="second process", said=done.stdout.splitlines(), code=done.returncode, crash=done.stderr)
        tell(where="second process", touched=sorted({event.pin for event in lines.events()}))
        first.write({17: 0})
        low = lines.level(17)
        first.write({17: 1})
        tell(where="first goes on", levels=[low, lines.level(17)])


main()
