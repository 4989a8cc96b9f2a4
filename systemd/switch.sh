# shellcheck shell=bash disable=SC2154
# What install.sh does to a running system: tries a release, keeps it or takes it back, removes everything.
# Sourced.

made=()          # what this run created, to be taken back should it fail
made_user=''     # whether it created the user
was_active=''    # whether the service ran before
trying=''        # whether the unit in /run is in force
built='' old=''  # the folder that this run built; the release that ran before
GROUPS_MADE=$PREFIX/groups

# Note a path that does not exist yet.
made() { [ -e "$1" ] || [ -L "$1" ] || made+=("$1"); }

# Put a file in its place, whole or not at all, where it is not the same already. Readable to all.
put() {
    ! cmp -s "$1" "$2" || return 0
    made "$(dirname "$2")"
    made "$2"
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod 644 "$2.new"
    sync "$2.new"
    mv "$2.new" "$2"
}

link() {
    ln -sfn "$1" "$2.new"
    mv -T "$2.new" "$2"
}

add_user() {
    local group
    if ! id -u parfocal >/dev/null 2>&1; then
        made_user=1
        for group in gpio video dialout; do
            getent group "$group" >/dev/null || echo "$group" >>"$GROUPS_MADE"
        done
    fi
    put "$release/systemd/parfocal.sysusers.conf" "$SYSUSERS"
    systemd-sysusers "$SYSUSERS" >"$work/log" 2>&1 || fail "systemd-sysusers: $(tail -n 1 "$work/log")"
    put "$release/systemd/70-parfocal.rules" "$RULES"
    if [ -S /run/udev/control ]; then
        udevadm control --reload
        udevadm trigger --action=change --subsystem-match=gpio --subsystem-match=video4linux \
            --subsystem-match=media --subsystem-match=dma_heap --subsystem-match=tty || true
    fi
}

# --- the unit -----------------------------------------------------------------------------------------------

# The three drop-ins into the folder $1. One that has nothing to say is written too, since it must hide one of the
# same name that another release has left.
drop_ins() {
    local version
    version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    mkdir -p "$1"
    if [ "$version" -ge 254 ]; then
        cp "$release/systemd/restart-254.conf" "$1/10-restart.conf"
    else
        echo "# systemd $version does not know RestartSteps=." >"$1/10-restart.conf"
    fi
    cp "$work/network.conf" "$1/20-network.conf"
    if is_jetson; then
        cp "$release/systemd/jetson.conf" "$1/30-board.conf"
    else
        echo "# Only a Jetson needs more." >"$1/30-board.conf"
    fi
}

# Where nothing is to start, systemctl edits links in /etc and asks no systemd for anything.
unit_file() { systemctl ${no_start:+--root=/} --quiet "$1" "$UNIT"; }

reload_units() { [ -n "$no_start" ] || systemctl daemon-reload; }

# Whether this very release runs (in an image: will run) with this very unit.
unchanged() {
    drop_ins "$work/$UNIT.d"
    [ "$old" = "$release" ] && cmp -s "$release/systemd/$UNIT" "$UNITS/$UNIT" &&
        diff -qr "$work/$UNIT.d" "$UNITS/$UNIT.d" >/dev/null 2>&1 && [ ! -e "$TRIAL/$UNIT" ] &&
        { [ -n "$no_start" ] || systemctl --quiet is-active "$UNIT"; } && unit_file is-enabled
}

# Start the release from a unit in /run, which comes before the one that lasts; fail where it does not get ready.
try_release() {
    local since
    systemctl --quiet is-active "$UNIT" && was_active=1
    made "$STATE"
    made "$CACHE"
    trying=1
    mkdir -p "$TRIAL"
    drop_ins "$TRIAL/$UNIT.d"
    sed "s|$PREFIX/current/|$release/|g" "$release/systemd/$UNIT" >"$TRIAL/$UNIT"
    systemctl daemon-reload
    systemctl reset-failed "$UNIT" 2>/dev/null || true
    say "starting $id"
    since=$(date +%s)
    if ! restarted || ! stays_up; then
        journalctl --unit "$UNIT" --since "@$since" --no-pager --output cat --lines 15 >&2 || true
        fail "$id did not start, or was not ready within $READY_S s; its last lines are above"
    fi
}

# In the background, since the shell hears of a Ctrl-C only while it waits.
restarted() {
    timeout "$READY_S" systemctl restart "$UNIT" >/dev/null 2>&1 9>&- & # 9: the lock, not for longer than this run
    wait $!
}

# Ready is not enough: three seconds later it must be the same process.
stays_up() {
    local process
    process=$(systemctl show --property MainPID --value "$UNIT")
    sleep 3
    systemctl --quiet is-active "$UNIT" && [ "$process" = "$(systemctl show --property MainPID --value "$UNIT")" ]
}

# From now on the release is what starts at boot. The process that runs goes on.
keep_release() {
    local name
    for name in 10-restart 20-network 30-board; do
        put "$work/$UNIT.d/$name.conf" "$UNITS/$UNIT.d/$name.conf"
    done
    put "$release/systemd/$UNIT" "$UNITS/$UNIT"
    [ -z "$old" ] || [ "$old" = "$release" ] || link "$old" "$PREFIX/previous"
    link "$release" "$PREFIX/current"
    if [ ! -e "$COMMAND" ] && [ ! -L "$COMMAND" ]; then
        made "$COMMAND"
        ln -s "$PREFIX/current/bin/parfocal" "$COMMAND"
    fi
    unit_file enable
    sync
    rm -rf "${TRIAL:?}/$UNIT" "${TRIAL:?}/$UNIT.d"
    reload_units
}

# Only the release that runs and the one before it are kept.
prune() {
    local folder
    for folder in "$PREFIX"/releases/*; do
        case $folder in
            "$(readlink -f "$PREFIX/current")" | "$(readlink -f "$PREFIX/previous")") ;;
            *) rm -rf "$folder" ;;
        esac
    done
}

# --- back ---------------------------------------------------------------------------------------------------

# Whatever ended this run early: the release that ran before runs again, and what this run made is gone.
undo() {
    local code=$1 path
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    if [ -n "$trying" ]; then
        [ -n "$old" ] || systemctl stop "$UNIT" 2>/dev/null
        rm -rf "${TRIAL:?}/$UNIT" "${TRIAL:?}/$UNIT.d"
    fi
    if [ -n "$old" ]; then
        back_to_old
    else
        unit_file disable 2>/dev/null
        [ -z "$made_user" ] || remove_user
        [ ! -d "$STATE" ] || chown -R root:root "$STATE" # kept from an earlier installation
        for path in "${made[@]}"; do
            [ "$path" = "$ETC/parfocal.toml" ] || [ "$path" = "$ETC" ] || rm -rf "$path"
        done
        empty_folders
        [ ! -e "$ETC/parfocal.toml" ] || say "nothing is left of it but $ETC/parfocal.toml, which is yours" >&2
    fi
    [ -z "$built" ] || rm -rf "$built"
    reload_units
    clean
    exit "$code"
}

back_to_old() {
    link "$old" "$PREFIX/current"
    [ -n "$trying" ] || return 0
    systemctl daemon-reload
    systemctl reset-failed "$UNIT" 2>/dev/null
    [ -n "$was_active" ] || { systemctl stop "$UNIT"; return; }
    if restarted; then
        say "$(basename "$old") runs again" >&2
    else
        say "$(basename "$old") does not start either: journalctl -u parfocal" >&2
    fi
}

# Those that held the files, where nothing else is in them.
empty_folders() {
    rmdir "$UNITS/$UNIT.d" "$ETC" "${SYSUSERS%/*}" 2>/dev/null || true
    (cd /usr/local/lib && rmdir --parents --ignore-fail-on-non-empty systemd/system 2>/dev/null) || true
}

remove_user() {
    local group groups=()
    while read -r group; do
        groupmems --group "$group" --list 2>/dev/null | tr ' ' '\n' | grep -vqxF -e parfocal -e '' || groups+=("$group")
    done < <(cat "$GROUPS_MADE" 2>/dev/null)
    userdel parfocal 2>/dev/null
    groupdel parfocal 2>/dev/null
    for group in "${groups[@]}"; do groupdel "$group"; done
}

uninstall_all() {
    local folder
    confirm_purge
    user_preflight
    systemctl --quiet disable --now "$UNIT" 2>/dev/null || true
    rm -rf "${UNITS:?}/$UNIT" "${UNITS:?}/$UNIT.d" "${TRIAL:?}/$UNIT" "${TRIAL:?}/$UNIT.d"
    systemctl daemon-reload
    systemctl reset-failed "$UNIT" 2>/dev/null || true
    rm -f "$RULES" "$SYSUSERS" "$ETC/token" "$ETC/signers"
    [ ! -S /run/udev/control ] || udevadm control --reload
    [ "$(readlink "$COMMAND")" != "$PREFIX/current/bin/parfocal" ] || rm -f "$COMMAND"
    [ ! -d "$STATE" ] || chown -R root:root "$STATE"
    remove_user || true
    rm -rf "$PREFIX" "$CACHE"
    [ -z "$purge" ] || rm -rf "$ETC" "$STATE" "/etc/systemd/system/$UNIT.d"
    empty_folders
    for folder in "$ETC" "$STATE"; do
        [ ! -e "$folder" ] || say "$folder stays"
    done
    say "removed"
}

confirm_purge() {
    local answer
    [ -n "$purge" ] && [ -z "$yes" ] || return 0
    [ -t 0 ] || refuse "--purge: removes $ETC and $STATE for good; say so with --yes"
    read -r -p "Remove $ETC and $STATE (configuration, positions, traces) for good? [yes/no] " answer || true
    [ "$answer" = yes ] || refuse "nothing was removed"
}
