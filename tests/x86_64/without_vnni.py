"""A command on this processor as if it had no dot products of bytes (VNNI, AMX), as older ones have none.

    python tests/x86_64/without_vnni.py parfocal bench latency

The libraries that choose their kernels ask the processor with CPUID; they are answered without those. Needs a
C compiler, and a processor that lets CPUID fault (Intel since Ivy Bridge; `cpuid_fault` in /proc/cpuinfo).
Clock, caches and everything else stay this processor's: it stands for a kind, not for an older processor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
_CPUINFO = Path("/proc/cpuinfo")


def lacking(cpuinfo: Path = _CPUINFO) -> str | None:
    """Why it cannot be done here; None where it can."""
    if not cpuinfo.is_file() or " cpuid_fault" not in cpuinfo.read_text("utf-8"):
        return "this processor does not let CPUID fault (no cpuid_fault in /proc/cpuinfo)"
    if shutil.which("cc") is None:
        return "no C compiler (cc) is installed"
    return None


def main(argv: Sequence[str]) -> int:
    """Run the command ``argv`` and return its exit code; 2 with one line where it cannot be done."""
    why = lacking() if argv else "a command is needed"
    if why is not None:
        print(f"without_vnni: {why}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="parfocal-") as folder:
        library = str(Path(folder) / "without_vnni.so")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, str(SOURCE)], check=True)
        return subprocess.run(argv, check=False, env={**os.environ, "LD_PRELOAD": library}).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
