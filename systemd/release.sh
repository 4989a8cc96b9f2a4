# shellcheck shell=bash disable=SC2034,SC2154
# What install.sh does to make a release: a folder with a virtual environment, the unit and the rules that belong
# to it, and the stamp .complete, which comes last. Sourced.

# VERSION-HASH: the same for the same software on the same Python, board and NumPy.
release_id() {
    if [ "$kind" = release ]; then
        basename "$top"
        return 0
    fi
    local version
    version=$(source_version)
    echo "$version-$({ source_sums; "$PYTHON" -V; gpio_library; constraints; } | sha256sum | cut -c 1-12)"
}

source_version() {
    if [ "$kind" = bundle ]; then info version; else sed -n 's/^__version__ = "\([0-9a-z.+]*\)"$/\1/p' "$top/edge/__init__.py"; fi
}

source_sums() (
    cd "$top" || exit
    if [ "$kind" = bundle ]; then
        cat SHA256SUMS
    else
        source_files | sort -z | xargs -0 sha256sum
    fi
)

source_files() {
    find setup.py pyproject.toml edge firmware_iface train convert systemd \
        -type f ! -path '*/__pycache__/*' ! -path '*.egg-info/*' -print0
}

# The names of the configurations that it brings.
builds() {
    case $kind in
        bundle) info builds | tr ' ' '\n' ;;
        tree) find "$top/edge/examples" -name '*.toml' -printf '%f\n' | sed 's/\.toml$//' | sort ;;
        release) find "$top"/lib/python3*/site-packages/edge/examples -name '*.toml' -printf '%f\n' | sed 's/\.toml$//' | sort ;;
    esac
    echo simulated
}

# In an image this computer is not the board: the bundle says what it is for.
board_model() {
    if [ -z "$no_start" ]; then
        tr -d '\0' 2>/dev/null </proc/device-tree/model || true
    else
        case $(info board) in
            pi-*) echo "Raspberry Pi" ;;
            jetson-*) echo Jetson ;;
        esac
    fi
}

is_jetson() { [[ $(board_model) == *Jetson* || $(board_model) == NVIDIA* ]]; }

# What pip installs for the GPIO pins; nothing where the system's own library has to do.
gpio_library() {
    if is_jetson; then
        echo Jetson.GPIO
    elif is_pi && ! is_python_3_13; then
        echo rpi-lgpio
    fi
}

is_pi() { [[ $(board_model) == "Raspberry Pi"* ]]; }

is_python_3_13() { "$PYTHON" -I -c 'import sys; sys.exit(sys.version_info < (3, 13))'; }

# lgpio has no wheel for Python 3.13; Raspberry Pi OS of that age brings python3-rpi-lgpio.
system_gpio_library() {
    is_pi && is_python_3_13 || return 0
    ! "$PYTHON" -I -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("lgpio"))' || return 0
    if [ "$kind" != tree ] || ! apt_install python3-rpi-lgpio; then
        say "a motor on GPIO pins will need: apt-get install python3-rpi-lgpio"
    fi
}

# The NumPy of the system stays in use: what apt installed beside it (picamera2, OpenCV) was built for it, and an
# extension built for NumPy 1 dies under NumPy 2. One too old for Parfocal is replaced, but not by NumPy 2.
constraints() {
    local numpy
    numpy=$("$PYTHON" -I -c 'import numpy; print(numpy.__version__)' 2>/dev/null || true)
    case $numpy in
        '') ;;
        1.2[4-9].*) printf '%s\n' "numpy==$numpy" 'opencv-python-headless<4.12' ;;
        1.*) printf '%s\n' 'numpy<2' 'opencv-python-headless<4.12' ;;
        *) printf '%s\n' "numpy==$numpy" ;;
    esac
}

build_release() {
    [ ! -e "$release/.complete" ] || return 0
    say "building $release"
    made "$PREFIX"
    rm -rf "$release"
    built=$release
    mkdir -p "$release"
    system_gpio_library
    "$PYTHON" -I -m venv --system-site-packages "$release" >"$work/log" 2>&1 || fail "venv: $(tail -n 1 "$work/log")"
    constraints >"$release/constraints.txt"
    install_packages >"$work/log" 2>&1 || fail "pip: $(pip_error)"
    without_second_opencv
    "$release/bin/parfocal" --version >"$work/log" 2>&1 || fail "the new release does not start: $(tail -n 1 "$work/log")"
    mkdir "$release/systemd"
    find "$top/systemd" -maxdepth 1 -type f -exec cp {} "$release/systemd/" \;
    sync
    touch "$release/.complete"
    sync
}

install_packages() {
    local pip=("$release/bin/python" -I -m pip install --disable-pip-version-check --no-input
        --constraint "$release/constraints.txt")
    local library
    library=$(gpio_library)
    if [ "$kind" = bundle ]; then
        # No settings of this computer's: they may name other places to look for packages.
        PIP_CONFIG_FILE=/dev/null "${pip[@]}" --no-index --find-links "$top/wheels" --only-binary=:all: \
            "parfocal[device,serve]==$(info version)" ${library:+"$library"}
    else
        # pip writes into the tree that it builds.
        mkdir "$work/source"
        (cd "$top" && source_files | copied_to "$work/source")
        "${pip[@]}" "$work/source[device,serve]" ${library:+"$library"}
    fi
}

copied_to() { tar --create --null --files-from=- --file=- | tar --extract --directory "$1" --no-same-owner; }

pip_error() { grep -m 1 '^ERROR: ' "$work/log" | cut -c 8- || tail -n 1 "$work/log"; }

# A Jetson's own OpenCV reads its camera; the wheel, which lacks GStreamer, would hide it.
without_second_opencv() {
    is_jetson || return 0
    "$PYTHON" -I -c 'import cv2, re, sys
sys.exit(not re.search(r"GStreamer: *YES", cv2.getBuildInformation()))' 2>/dev/null || return 0
    "$release/bin/python" -I -m pip uninstall --quiet --yes opencv-python-headless
}
