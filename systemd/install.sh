#!/usr/bin/env bash
# Installs Parfocal's focusing service, brings it up to date, or removes it. docs/install.md is its manual.
#
#   sudo ./systemd/install.sh [--build NAME] [--bundle FILE] [--bundle-key FILE] [--no-start] [--yes]
#   sudo ./systemd/install.sh --uninstall [--purge] [--yes]
#
# A new release is built beside the old one and tried from a unit in /run, which a power cut forgets: until it has
# said that it is ready, everything that lasts still names the old one. What fails on the way is taken back.
# With --no-start, in an image that is made on another computer, nothing is tried: it starts at the first boot.
#
# Exit codes: 0 done; 1 failed, and taken back; 2 refused, nothing was touched.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
PREFIX=/opt/parfocal
ETC=/etc/parfocal
STATE=/var/lib/parfocal
CACHE=/var/cache/parfocal
UNIT=parfocal.service
UNITS=/usr/local/lib/systemd/system
TRIAL=/run/systemd/system
RULES=/etc/udev/rules.d/70-parfocal.rules
SYSUSERS=/etc/sysusers.d/parfocal.conf
COMMAND=/usr/local/bin/parfocal
PYTHON=/usr/bin/python3
NEEDED_MB=900
READY_S=70

# shellcheck source=systemd/bundle.sh
. "$here/bundle.sh"
# shellcheck source=systemd/release.sh
. "$here/release.sh"
# shellcheck source=systemd/switch.sh
. "$here/switch.sh"

build='' bundle='' bundle_key='' no_start='' yes='' uninstall='' purge=''
work='' # a folder of this run's own

say() { echo "parfocal: $*"; }
fail() { echo "parfocal: $*" >&2; exit 1; }
refuse() { echo "parfocal: $*" >&2; exit 2; }

usage() { sed -n '2,6s/^# \{0,1\}//p' "$here/install.sh"; }

options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --build | --bundle | --bundle-key)
                [ -n "${2-}" ] || refuse "$1: a value must follow (see --help)"
                case $1 in
                    --build) build=$2 ;;
                    --bundle) bundle=$(realpath --canonicalize-missing -- "$2") ;;
                    --bundle-key) bundle_key=$(realpath --canonicalize-missing -- "$2") ;;
                esac
                shift
                ;;
            --no-start) no_start=1 ;;
            --yes) yes=1 ;;
            --uninstall) uninstall=1 ;;
            --purge) purge=1 ;;
            -h | --help) usage; exit 0 ;;
            *) refuse "$1: unknown; --build, --bundle, --bundle-key, --no-start, --yes, --uninstall and --purge are allowed" ;;
        esac
        shift
    done
    [ -z "$purge" ] || [ -n "$uninstall" ] || refuse "--purge: only with --uninstall"
    [ -z "$uninstall" ] || [ -z "$build$bundle$bundle_key$no_start" ] || refuse "--uninstall: no other option but --purge and --yes"
}

# --- before anything is touched -----------------------------------------------------------------------------

preflight() {
    [ "$EUID" -eq 0 ] || refuse "only root can install a service: sudo $0"
    if [ -n "$no_start" ]; then
        [ ! -d /run/systemd/system ] || refuse "--no-start: this system runs; an image that is mounted here is entered with chroot first"
    else
        [ -d /run/systemd/system ] || refuse "this computer was not started by systemd, which would have to run the service (an image of another: --no-start)"
    fi
    exec 9>/run/parfocal-install.lock
    flock -n 9 || refuse "another install.sh is running"
}

python_preflight() {
    local version
    [ -x "$PYTHON" ] || refuse "no $PYTHON: apt-get install python3 python3-venv"
    version=$("$PYTHON" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    case $version in
        3.1[0-3]) ;;
        *) refuse "$PYTHON is $version; Python 3.10 to 3.13 is allowed" ;;
    esac
    can_make_venv || add_venv || refuse "$PYTHON cannot make virtual environments: apt-get install python3-venv"
}

can_make_venv() { "$PYTHON" -I -c 'import ensurepip, venv' 2>/dev/null; }

# A bundle is for a computer without a network, and says what is missing at once.
add_venv() {
    [ "$kind" = tree ] && apt_install python3-venv && can_make_venv
}

apt_install() {
    command -v apt-get >/dev/null || return 1
    say "installing $1"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"; } \
        >/dev/null 2>&1
}

disk_preflight() {
    local folder=$PREFIX free_mb
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    free_mb=$(($(df --output=avail -k "$folder" | tail -n 1) / 1024))
    [ "$free_mb" -ge "$NEEDED_MB" ] || refuse "$folder: $free_mb MB free; at least $NEEDED_MB MB are needed"
}

# The name may belong to a person.
user_preflight() {
    local id
    id=$(id -u parfocal 2>/dev/null) || return 0
    [ "$id" -lt 1000 ] || refuse "the user parfocal (uid $id) is not a system user; the service needs this name"
}

# Where the software comes from: sets `top` and `kind` (bundle, tree, or release: the one that is installed).
find_source() {
    top=$(dirname "$here")
    if [ -n "$bundle" ]; then
        top=$(bundle_folder "$bundle")
        kind=bundle
    elif [ -d "$top/wheels" ]; then
        kind=bundle
    elif [ -f "$top/setup.py" ] && [ -d "$top/edge" ]; then
        kind=tree
    elif [ "$(dirname "$top")" = "$PREFIX/releases" ] && [ -e "$top/.complete" ]; then
        kind=release
    else
        refuse "$top: neither an unpacked bundle (wheels/) nor a source tree (setup.py)"
    fi
    [ "$kind" = bundle ] || [ -z "$bundle_key" ] || refuse "--bundle-key: only with a bundle"
    [ "$kind" = bundle ] || [ -z "$no_start" ] || refuse "--no-start: only with a bundle, which says for what board it is"
}

# --- the configuration --------------------------------------------------------------------------------------

# Sets `build` where there is no configuration yet; asks where it may.
choose_build() {
    local builds
    if [ -e "$ETC/parfocal.toml" ]; then
        [ -z "$build" ] || say "$ETC/parfocal.toml stays as it is; --build $build is not used"
        return 0
    fi
    builds=$(builds)
    if [ -z "$build" ]; then
        [ -t 0 ] || refuse "--build NAME: say which; $(joined "$builds") are allowed"
        ask_build "$builds"
    fi
    grep -qxF -e "$build" <<<"$builds" || refuse "--build $build: $(joined "$builds") are allowed"
}

joined() { paste -sd, <<<"$1" | sed 's/,/, /g'; }

ask_build() {
    local names
    mapfile -t names <<<"$1"
    echo "Which microscope is this? (simulated: none; a simulated one)"
    PS3="number: "
    select build in "${names[@]}"; do
        [ -z "$build" ] || return 0
    done
    refuse "no build was chosen"
}

write_config() {
    [ ! -e "$ETC/parfocal.toml" ] || return 0
    if [ "$build" = simulated ]; then
        cp "$release/systemd/simulated.toml" "$work/parfocal.toml"
    else
        "$release/bin/parfocal" config --example "$build" >"$work/parfocal.toml"
    fi
    put "$work/parfocal.toml" "$ETC/parfocal.toml"
    say "wrote $ETC/parfocal.toml for $build: put your numbers into it"
}

# 256 random bits. Only root and the service can read them.
write_token() {
    [ ! -s "$ETC/token" ] || return 0
    made "$ETC/token"
    (umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$ETC/.token.new" && echo >>"$ETC/.token.new")
    chown root:parfocal "$ETC/.token.new"
    chmod 640 "$ETC/.token.new"
    sync "$ETC/.token.new"
    mv "$ETC/.token.new" "$ETC/token"
}

# What a version does not know in the configuration is said before the service is stopped.
check_config() {
    local said
    said=$("$release/bin/python" -I "$release/systemd/network.py" "$ETC/parfocal.toml" 2>&1 >"$work/network.conf") ||
        refuse "$said"
}

# --- all of it ----------------------------------------------------------------------------------------------

install_all() {
    find_source
    python_preflight
    user_preflight
    [ "$kind" != bundle ] || bundle_check "$top"
    choose_build
    id=$(release_id)
    release=$PREFIX/releases/$id
    [ -e "$release/.complete" ] || disk_preflight
    old=$(readlink -f "$PREFIX/current" || true)
    [ -e "$old/.complete" ] || old=''
    trap 'undo $?' EXIT
    build_release
    add_user
    made "$ETC"
    mkdir -p "$ETC"
    write_config
    check_config
    write_token
    [ "$kind" != bundle ] || trust_signer
    if unchanged; then
        trap clean EXIT
        prune
        if [ -n "$no_start" ]; then say "$id is installed already"; else say "$id is installed and runs already"; fi
        return 0
    fi
    [ -n "$no_start" ] || try_release
    keep_release
    trap clean EXIT
    prune
    if [ -n "$no_start" ]; then
        say "$id is installed, and starts when this image boots"
    else
        say "$id runs; journalctl -u parfocal shows what it does"
    fi
}

clean() { [ -z "$work" ] || rm -rf "$work"; }

main() {
    options "$@"
    preflight
    umask 022
    export LC_ALL=C.UTF-8
    cd /
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap clean EXIT
    rm -rf /var/tmp/parfocal-install.* # of a run that was killed
    work=$(mktemp -d /var/tmp/parfocal-install.XXXXXX)
    export TMPDIR=$work # /tmp may be small, and in memory
    if [ -n "$uninstall" ]; then uninstall_all; else install_all; fi
}

main "$@"
