#!/usr/bin/env bash
# Makes an arm64 user land with Python and a TFLite runtime in the folder TREE, which must not exist. Root; half
# a minute. Nothing of arm64 runs meanwhile: packages are unpacked, not configured, and wheels are just files.
# usage: build_tree.sh TREE PYTHON     (an interpreter with pip, to fetch wheels for arm64)
set -euo pipefail

SUITE=bookworm SUITE_PYTHON=3.11
tree=$1 python=$2
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

mmdebstrap --quiet --variant=extract --architectures=arm64 \
    --include=python$SUITE_PYTHON-minimal,libpython$SUITE_PYTHON-stdlib,libstdc++6,libgcc-s1,libc6,zlib1g \
    "$SUITE" "$tree"
version=$("$python" -c 'import importlib.metadata as m; print(m.version("ai-edge-litert"))')
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary=:all: \
    --implementation cp --python-version $SUITE_PYTHON \
    --platform manylinux_2_34_aarch64 --platform manylinux_2_31_aarch64 --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    --target "$tree/site" numpy msgspec "ai-edge-litert==$version"
cp "$(command -v qemu-aarch64-static)" "$tree/usr/bin/"
