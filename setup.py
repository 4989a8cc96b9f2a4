"""Packaging of Parfocal: four literal top-level packages, no TensorFlow on a device."""

import re
from pathlib import Path

from setuptools import find_packages, setup

INIT = Path(__file__).parent / "edge" / "__init__.py"
[VERSION] = re.findall(r'^__version__ = "(.+)"$', INIT.read_text("utf-8"), re.MULTILINE)
SERVE = ["fastapi>=0.115", "pydantic>=2.7", "uvicorn>=0.30"]
PLOT = ["matplotlib>=3.6"]
TRAIN = [
    "tensorflow-cpu>=2.16; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "tensorflow>=2.16; platform_system != 'Linux' or platform_machine != 'x86_64'",
    "tifffile>=2023.2",
    "imagecodecs>=2023.1",
    "dask[distributed]>=2024.1",
    "packaging>=23",
    "pydantic>=2.7",
    *PLOT,
]
TEST = [
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "import-linter>=2.1",
    "pyserial>=3.5",
    "types-pyserial>=3.5",
    "schemathesis>=4.4",
    *SERVE,
    "mypy>=1.15",
    # What `ruff format` likes changes from one minor release to the next.
    "ruff>=0.17,<0.18",
    *PLOT,
]

setup(
    name="parfocal",
    version=VERSION,
    description="Microscope autofocus: looks once, knows how far and which way, moves once, proves it.",
    license="Apache-2.0",
    # Never a bare find_packages(): it would ship the tests.
    packages=find_packages(
        include=[
            "edge",
            "edge.*",
            "train",
            "train.*",
            "convert",
            "convert.*",
            "firmware_iface",
            "firmware_iface.*",
        ]
    ),
    package_dir={"": "."},
    package_data={
        "edge": ["models/*.tflite", "*.toml", "examples/*.toml", "service/web/*"],
        "train": ["recipes/*.toml"],
    },
    python_requires=">=3.10,<3.14",
    install_requires=[
        "numpy>=1.24",
        "scipy>=1.10",
        "opencv-python-headless>=4.6",
        "msgspec>=0.18.6",
        "rich>=13",
        "tomli>=2; python_version < '3.11'",
    ],
    extras_require={
        "device": ["ai-edge-litert>=1.0", "pyserial>=3.5"],
        "serve": SERVE,
        "plot": PLOT,
        "train": TRAIN,
        "test": TEST,
    },
    entry_points={"console_scripts": ["parfocal = edge.cli:main"]},
)
