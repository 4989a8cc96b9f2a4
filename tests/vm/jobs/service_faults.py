"""The service after a boot, and what may happen to it; last, somebody pulls the plug in mid-move."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from service_in_machine import ask, jog, levels, logged, press, shown, since_boot, traces, until
from sim_lines import tell

STATE = Path("/var/lib/parfocal")


def systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words, "parfocal.service"], check=True)


def off_s(began_s: float) -> float:
    """Seconds until all coils are off."""
    while any(levels()):
        time.sleep(0.002)
    return time.monotonic() - began_s


status = until("in_focus", "failed", after=0)
tell(what="boot", **since_boot(), result=status["last"]["result"], by=status["last"]["by"])

tell(
    what="api",
    foreign=ask("/api/status", host="evil.example")[0],
    far=ask("/api/jog", {"um": 1000})[0],
    status=ask("/api/status")[0],
    user=subprocess.run(
        ["ps", "-o", "user=", shown("MainPID")], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    if Path("/bin/ps").exists()
    else str(Path(f"/proc/{shown('MainPID')}").stat().st_uid),
)

press()
status = until("in_focus", after=status["last"]["run"])
tell(what="button", by=status["last"]["by"], result=status["last"]["result"]["result"])

jog(60)
began_s = time.monotonic()
systemctl("stop")
stopped_s = time.monotonic() - began_s
tell(
    what="stop",
    stopped_s=stopped_s,
    levels=levels(),
    result=shown("Result"),
    uncertain=len(logged("uncertain")),
)
systemctl("start")
status = until("in_focus", "failed")
tell(what="after stop", result=status["last"]["result"]["result"], uncertain=len(logged("uncertain")))

pid, restarts = shown("MainPID"), int(shown("NRestarts"))
jog(60)
began_s = time.monotonic()
os.kill(int(pid), signal.SIGKILL)
seconds = off_s(began_s)
while int(shown("NRestarts")) == restarts:
    time.sleep(0.1)
low, seen = True, levels()
while shown("SubState") != "running":  # what was seen before it was still so, was seen in time
    low &= not any(seen)
    seen = levels()
status = until("in_focus", "failed")
tell(
    what="SIGKILL",
    coils_off_s=seconds,
    low_until_running=low,
    said=[entry["MESSAGE"] for entry in logged("uncertain")],
    result=status["last"]["result"]["result"],
    uncertain=status["stage"]["uncertain"],
)

restarts = int(shown("NRestarts"))
began_s = time.monotonic()
os.kill(int(shown("MainPID")), signal.SIGSTOP)
while int(shown("NRestarts")) == restarts:
    time.sleep(0.1)
noticed_s = time.monotonic() - began_s
status = until("in_focus", "failed")
tell(
    what="hung",
    noticed_s=noticed_s,
    watchdog=shown("WatchdogUSec"),
    result=status["last"]["result"]["result"],
)

kept = traces()
filler = STATE / "filler"
subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], check=False, stderr=subprocess.DEVNULL)
subprocess.run(
    ["dd", "if=/dev/zero", f"of={STATE / 'filler2'}", "bs=4k"], check=False, stderr=subprocess.DEVNULL
)
free = os.statvfs(STATE).f_bavail
ask("/api/focus", post=True)
status = until("in_focus", "failed", after=status["last"]["run"])
lost = status["lost_traces"]
systemctl("restart")
again = until("in_focus", "failed")
tell(
    what="full disk",
    free_blocks=free,
    result=status["last"]["result"]["result"],
    lost=lost,
    after_restart=again["last"]["result"]["result"],
    kept_before=len(kept),
    kept=len(traces()),
)
filler.unlink()
(STATE / "filler2").unlink()
ask("/api/focus", post=True)
status = until("in_focus", "failed", after=again["last"]["run"])
tell(what="room again", lost=ask("/api/status")[1]["lost_traces"], traces=traces())
subprocess.run(["sync"], check=True)

here_um = jog(60)
tell(what="cut", here_um=here_um, traces=traces(), config=Path("/etc/parfocal/parfocal.toml").read_text())
Path("/mnt/host/cut").write_text("now")
time.sleep(60)
