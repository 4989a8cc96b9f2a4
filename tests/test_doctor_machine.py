"""`parfocal doctor` on machines that are not here: system, power, disks, packages, names, model."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import model_shelf
import pytest
from fake_machine import CSI, PICAMERA2, PLENTY, USB, Computer

from edge import doctor, model
from edge.config import Config, override
from edge.doctor import packages, system
from edge.doctor.finding import ok
from edge.doctor.machine import Disk
from edge.model_store import Pointer, Store

CV2 = "4.11.0 /lib/cv2.so\nVideo I/O:\n    GStreamer:                   NO\n"

pytestmark = pytest.mark.usefixtures("state")


class TestSystem:
    @pytest.mark.parametrize(
        ("name", "is_pi"),
        [
            ("Raspberry Pi 4 Model B Rev 1.5", True),
            ("Raspberry Pi 5 Model B Rev 1.0", True),
            ("Raspberry Pi Zero 2 W Rev 1.0", True),
            ("NVIDIA Jetson Nano Developer Kit", False),
        ],
    )
    def test_boards(self, tmp_path: Path, name: str, is_pi: bool) -> None:
        machine = Computer(tmp_path, name).machine()
        assert system.board(machine) == ok(f"{name} (aarch64)")
        assert machine.is_pi == is_pi

    def test_a_pc(self, tmp_path: Path) -> None:
        computer = Computer(tmp_path)
        assert system.board(computer.machine(architecture="x86_64")) == ok("PC (x86_64)")
        computer.put("/sys/class/dmi/id/product_name", "OptiPlex 7010\n")
        assert system.board(computer.machine()).found == "PC, OptiPlex 7010 (aarch64)"

    def test_system(self, computer: Computer) -> None:
        finding = system.operating_system(computer.machine())
        assert finding == ok("Debian GNU/Linux 12 (bookworm), kernel 6.12.25+rpt-rpi-v8, 64-bit programs")

    def test_32_bit_programs(self, computer: Computer) -> None:
        finding = system.operating_system(computer.machine(bits=32))
        assert finding.status == "warning"
        assert "64-bit system" in finding.do

    @pytest.mark.parametrize(
        ("python", "venv", "config", "status", "do"),
        [
            ((3, 11, 2), None, PICAMERA2, "ok", ""),
            ((3, 13, 5), "true", PICAMERA2, "ok", ""),
            ((3, 11, 2), "false", PICAMERA2, "warning", "venv --system-site-packages"),
            ((3, 11, 2), "false", CSI, "warning", "OpenCV with GStreamer"),
            ((3, 11, 2), "false", USB, "ok", ""),
            ((3, 9, 2), None, USB, "error", "3.10 to 3.13"),
            ((3, 14, 0), None, USB, "error", "3.10 to 3.13"),
        ],
    )
    def test_python(
        self,
        computer: Computer,
        python: tuple[int, int, int],
        venv: str | None,
        config: Config,
        status: str,
        do: str,
    ) -> None:
        facts: dict[str, Any] = {"python": python}
        if venv is not None:
            computer.put("/opt/venv/pyvenv.cfg", f"home = /usr/bin\ninclude-system-site-packages = {venv}\n")
            facts["prefix"] = Path("/opt/venv")
        finding = system.python(computer.machine(**facts), config)
        assert finding.status == status
        assert do in finding.do

    @pytest.mark.parametrize(
        ("flags", "found", "do"),
        [
            ("0x0", "no under-voltage", ""),
            ("0x50005", "now: under-voltage, throttled; since the start: under-voltage, throttled", "power"),
            ("0x80000", "since the start: soft temperature limit", "cool the board"),
            ("0x2", "now: processor clock capped", "cool the board"),
        ],
    )
    def test_throttling(self, computer: Computer, flags: str, found: str, do: str) -> None:
        computer.answer("vcgencmd get_throttled", f"throttled={flags}\n")
        finding = system.power(computer.machine())
        assert finding.status == ("warning" if do else "ok")
        assert found in finding.found
        assert do in finding.do

    def test_throttling_without_the_command(self, computer: Computer) -> None:
        assert "usermod -aG video ada" in system.power(computer.machine()).do
        computer.put("/sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n")
        assert "since the start: under-voltage, throttled" in system.power(computer.machine()).found

    @pytest.mark.parametrize(("milli", "status"), [("45500", "ok"), ("86000", "warning")])
    def test_heat(self, tmp_path: Path, milli: str, status: str) -> None:
        computer = Computer(tmp_path, "NVIDIA Jetson Nano Developer Kit")
        for number, (kind, temperature) in enumerate(
            [("CPU-therm", milli), ("PMIC-Die", "100000"), ("odd", "?")]
        ):
            computer.put(f"/sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
            computer.put(f"/sys/class/thermal/thermal_zone{number}/temp", f"{temperature}\n")
        finding = system.power(computer.machine())
        assert finding.status == status
        assert finding.found.startswith("CPU-therm")
        assert computer.asked == [], "vcgencmd is a Raspberry Pi's"

    @pytest.mark.parametrize(
        ("free", "read_only", "status"),
        [(10**9, False, "ok"), (10**8, False, "warning"), (10**7, False, "error"), (10**9, True, "error")],
    )
    def test_disk(self, computer: Computer, free: int, read_only: bool, status: str, tmp_path: Path) -> None:
        finding = system.disk(computer.machine(disk=lambda folder: Disk(free, read_only, 1)), Config())
        assert finding.status == status
        assert f"the journal's folder {tmp_path}" in finding.found
        assert "current folder" not in finding.found, "one file system, one line"

    def test_two_disks(self, computer: Computer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        disks = {here: Disk(0, True, 2)}
        finding = system.disk(computer.machine(disk=lambda folder: disks.get(folder, PLENTY)), Config())
        assert finding.status == "warning", "nothing has to be written here"
        assert "10000 MB free; the current folder" in finding.found


class TestPackages:
    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """The distributions that are installed, with their versions."""
        found = {"numpy": "1.26.4", "opencv-python-headless": "4.11.0"}

        def version(name: str) -> str:
            if name not in found:
                raise metadata.PackageNotFoundError(name)
            return found[name]

        monkeypatch.setattr(metadata, "version", version)
        return found

    @pytest.fixture
    def good(self, computer: Computer) -> Computer:
        computer.answer("import cv2", CV2)
        computer.answer("import numpy", "1.26.4\n")
        return computer

    def test_good(self, good: Computer) -> None:
        assert packages.packages(good.machine(), USB) == ok("NumPy 1.26.4; OpenCV 4.11.0")

    def test_opencv_for_another_numpy(self, good: Computer) -> None:
        good.answer(
            "import cv2", code=1, err="A module ... compiled using NumPy 1.x cannot\nImportError: no\n"
        )
        finding = packages.packages(good.machine(), USB)
        assert finding.status == "error"
        assert "OpenCV cannot be imported: ImportError: no" in finding.found
        assert "'numpy<2'" in finding.do

    def test_a_crash(self, good: Computer) -> None:
        good.answer("import numpy", code=-6)
        assert (
            "NumPy cannot be imported: no message (exit code -6)"
            in packages.packages(good.machine(), USB).found
        )

    def test_gstreamer(self, good: Computer, installed: dict[str, str]) -> None:
        finding = packages.packages(good.machine(), CSI)
        assert "has no GStreamer (/lib/cv2.so)" in finding.found
        assert "pip uninstall opencv-python-headless" in finding.do
        good.answer("import cv2", CV2.replace("NO", "YES (1.20.3)"))
        assert packages.packages(good.machine(), CSI).status == "ok"

    def test_two_opencvs(self, good: Computer, installed: dict[str, str]) -> None:
        installed["opencv-python"] = "4.10.0"
        finding = packages.packages(good.machine(), USB)
        assert finding.status == "warning"
        assert "opencv-python and opencv-python-headless overwrite" in finding.found

    def test_tflite_runtime_and_numpy_2(self, good: Computer, installed: dict[str, str]) -> None:
        installed["tflite-runtime"] = "2.14.0"
        assert packages.packages(good.machine(), USB).status == "ok"
        installed["numpy"] = "2.1.0"
        finding = packages.packages(good.machine(), USB)
        assert finding.status == "error"
        assert "tflite-runtime 2.14.0 does not work with NumPy 2.1.0" in finding.found
        installed["ai-edge-litert"] = "2.3.0"
        assert packages.packages(good.machine(), USB).status == "warning"

    def test_picamera2(self, computer: Computer) -> None:
        assert packages.picamera2(computer.machine(), USB).status == "ok"
        computer.answer("import picamera2", "/usr/lib/python3/dist-packages/picamera2/__init__.py\n")
        assert packages.picamera2(computer.machine(), PICAMERA2).status == "ok"

    @pytest.mark.parametrize(
        ("err", "do"),
        [
            ("ValueError: numpy.dtype size changed, may indicate binary incompatibility.", "'numpy<2'"),
            (
                "ModuleNotFoundError: No module named 'picamera2'",
                "apt install python3-picamera2, then python3",
            ),
        ],
    )
    def test_picamera2_that_does_not_import(self, computer: Computer, err: str, do: str) -> None:
        computer.answer("import picamera2", code=1, err=f"Traceback:\n  somewhere\n{err}\n")
        finding = packages.picamera2(computer.machine(prefix=Path("/opt/venv")), PICAMERA2)
        assert finding.status == "error"
        assert finding.found.endswith(err)
        assert do in finding.do


class TestNames:
    def test_ours(self, computer: Computer) -> None:
        assert packages.import_names(computer.machine()).status == "ok"

    def test_another_distribution(self, computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
        owners = {"edge": ["parfocal"], "train": ["Parfocal", "trainlib"]}
        monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)
        finding = packages.import_names(computer.machine())
        assert finding.status == "error"
        assert finding.found == "`train` is also a part of trainlib"

    @pytest.mark.parametrize("name", ["train/__init__.py", "convert.py"])
    def test_a_folder_of_that_name_here(
        self, computer: Computer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
    ) -> None:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        monkeypatch.chdir(tmp_path)
        finding = packages.import_names(computer.machine())
        assert finding.status == "warning"
        assert str(file) in finding.found

    def test_one_that_is_taken_instead(self, tmp_path: Path) -> None:
        (tmp_path / "convert").mkdir()
        (tmp_path / "convert" / "__init__.py").touch()
        code = (
            "from edge.doctor.packages import import_names; from edge.doctor.machine import Machine; "
            "print(import_names(Machine()))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(doctor.__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "status='error'" in done.stdout
        assert f"`import convert` gives {tmp_path / 'convert'}" in done.stdout


class TestModel:
    def test_the_shipped_one(self, computer: Computer) -> None:
        pytest.importorskip("ai_edge_litert", reason="no ai-edge-litert")
        finding = packages.runtime_and_model(computer.machine(), Config())
        assert finding.status == "ok"
        assert "ai_edge_litert" in finding.found
        assert "ms a tile" in finding.found

    def test_no_such_file(self, computer: Computer) -> None:
        config = override(Config(), "test", model={"path": "no/such.tflite"})
        finding = packages.runtime_and_model(computer.machine(), config)
        assert finding.status == "error"
        assert "no/such.tflite" in finding.found
        assert "parfocal convert" in finding.do

    def test_no_runtime(self, computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model, "RUNTIMES", ())
        finding = packages.runtime_and_model(computer.machine(), Config())
        assert finding.status == "error"
        assert finding.do == "pip install ai-edge-litert"

    def test_a_chosen_one_that_fails(
        self, computer: Computer, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_shelf.install(monkeypatch, tmp_path / "shelf")
        good, bad = (
            Store().add(model_shelf.write(tmp_path / f"{kind}.tflite", kind)) for kind in ("sees", "nan")
        )
        Store().point(Pointer(current=good))
        finding = packages.runtime_and_model(computer.machine(), Config())
        assert (finding.status, finding.do) == ("ok", "")
        assert finding.found.startswith(f"{Store().path(good)}, fake_runtime, ")
        Store().point(Pointer(current=bad, previous=good))
        finding = packages.runtime_and_model(computer.machine(), Config())
        assert finding.status == "warning"
        assert finding.found.startswith(
            f"{Store().path(bad)}: fails its self-check: its output is not finite; {good} is used instead;"
            f" {Store().path(good)}, fake_runtime, "
        )
        assert "parfocal model rollback" in finding.do

    def test_a_runtime_for_another_numpy(self, computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(*given: object, **named: object) -> NoReturn:
            raise SystemError("returned a result with an exception set")

        monkeypatch.setattr(model, "load", load)
        assert "'numpy<2'" in packages.runtime_and_model(computer.machine(), Config()).do
