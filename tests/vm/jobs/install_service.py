"""Puts the service into the machine as the installer would, on the machine's own Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from sim_lines import LINES, tell

HOST = Path("/mnt/host")
UNITS = Path("/etc/systemd/system")

CONFIG = """
[stage]
driver = "uln2003"
um_per_step = 0.5
backlash_steps = 20
max_rate_steps_s = 40
start_rate_steps_s = 40
hold_s = 0.2
uncertain_travel_um = 60
[gpio]
in1_pin = 17
in2_pin = 18
in3_pin = 27
in4_pin = 22
focus_pin = 23
led_pin = 24
[camera]
driver = "simulated"
frame_period_s = 0.1
[simulator]
specimen = "debris"
start_defocus_um = 15
"""
START = """#!/bin/sh
PYTHONPATH=/opt/parfocal/tree exec /usr/bin/python3 -m edge.cli "$@"
"""
LINES_UNIT = """[Unit]
Description=Simulated GPIO lines
DefaultDependencies=no
After=sys-kernel-config.mount local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /opt/lines.sh
"""
MAKE_LINES = f"""set -e
modprobe gpio-sim
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/gpio-sim
mkdir -p microscope/bank0
echo {LINES} >microscope/bank0/num_lines
echo pinctrl-bcm2711 >microscope/bank0/label
echo 1 >microscope/live
udevadm settle
device=/sys/devices/platform/$(cat microscope/dev_name)
echo pull-up >$(echo $device/gpiochip*/sim_gpio23)/pull
"""
DROP_IN = """[Unit]
Requires=sim-lines.service
After=sim-lines.service
[Service]
Environment=RPI_LGPIO_CHIP=0 RPI_LGPIO_REVISION=c03114
# An emulated processor takes half a minute to start what takes a second elsewhere.
TimeoutStartSec=300
WatchdogSec=60
RestartSec=1
"""

program = Path("/opt/parfocal/current/bin/parfocal")
program.parent.mkdir(parents=True)
program.write_text(START)
program.chmod(0o755)
for package in ("edge", "firmware_iface"):
    shutil.copytree(HOST / "tree" / package, Path("/opt/parfocal/tree", package))
subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "2", "/opt/parfocal/tree"], check=True)

Path("/etc/parfocal").mkdir()
Path("/etc/parfocal/parfocal.toml").write_text(CONFIG)
shutil.copy(HOST / "systemd/parfocal.service", UNITS)
shutil.copy(HOST / "systemd/70-parfocal.rules", "/etc/udev/rules.d")
Path("/etc/sysusers.d").mkdir(exist_ok=True)
shutil.copy(HOST / "systemd/parfocal.sysusers.conf", "/etc/sysusers.d/parfocal.conf")
subprocess.run(["systemd-sysusers"], check=True)
shutil.copytree(HOST / "cache", "/var/cache/parfocal")
subprocess.run(["chown", "-R", "parfocal:parfocal", "/var/cache/parfocal"], check=True)
Path("/opt/lines.sh").write_text(MAKE_LINES)
(UNITS / "sim-lines.service").write_text(LINES_UNIT)
(UNITS / "parfocal.service.d").mkdir()
(UNITS / "parfocal.service.d/90-machine.conf").write_text(DROP_IN)
subprocess.run(["systemctl", "enable", "parfocal.service"], check=True)
tell(installed=True)
