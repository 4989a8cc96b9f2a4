"""Without dot products of bytes: what a program then sees, and what is said where it cannot be done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import without_vnni

HERE = Path(__file__).parent
PROGRAM = """
#include <cpuid.h>
#include <stdio.h>
int main(void) {
  unsigned a, b, c, d;
  __cpuid_count(0, 0, a, b, c, d);
  printf("%08x%08x%08x ", b, c, d);
  __cpuid_count(7, 0, a, b, c, d);
  printf("%08x %u %u ", b, c >> 11 & 1, d >> 24 & 3);
  __cpuid_count(7, 1, a, b, c, d);
  printf("%u\\n", a >> 4 & 1);
  return 7;
}
"""
_WHY = without_vnni.lacking()


@pytest.mark.skipif(_WHY is not None, reason=str(_WHY))
def test_a_program_sees_the_same_processor_without_them(tmp_path: Path) -> None:
    (tmp_path / "asks.c").write_text(PROGRAM, "utf-8")
    asks = str(tmp_path / "asks")
    subprocess.run(["cc", "-o", asks, f"{asks}.c"], check=True)
    itself = subprocess.run([asks], check=False, capture_output=True, text=True).stdout.split()
    command = [sys.executable, str(HERE / "without_vnni.py"), asks]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 7, "the command's own"
    assert done.stdout.split()[:2] == itself[:2], "maker, and features that have nothing to do with it"
    assert done.stdout.split()[2:] == ["0", "0", "0"]


@pytest.mark.skipif(_WHY is not None, reason=str(_WHY))
def test_another_fault_ends_the_program_as_ever(tmp_path: Path) -> None:
    (tmp_path / "falls.c").write_text("int main(void) { *(volatile int *)8 = 1; return 0; }", "utf-8")
    falls = str(tmp_path / "falls")
    subprocess.run(["cc", "-o", falls, f"{falls}.c"], check=True)
    assert without_vnni.main([falls]) == -11


def test_without_a_command_or_such_a_processor_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert without_vnni.main([]) == 2
    assert capsys.readouterr().err == "without_vnni: a command is needed\n"
    assert "CPUID" in str(without_vnni.lacking(tmp_path / "none"))
    (tmp_path / "cpuinfo").write_text("flags\t: fpu avx2\n", "utf-8")
    assert "CPUID" in str(without_vnni.lacking(tmp_path / "cpuinfo"))
