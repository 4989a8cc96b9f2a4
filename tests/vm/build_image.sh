#!/usr/bin/env bash
# Makes the virtual machine's kernel, initrd.img and disk.img in the empty folder OUT. Root; minutes; 2 GB.
# usage: build_image.sh OUT PYTHON REQUIREMENTS
#   PYTHON        an interpreter with pip, to fetch wheels for the machine's own Python
#   REQUIREMENTS  a pip requirements file: what the machine's Python shall have
# Debian stable's user land with the kernel of KERNEL_SUITE: the stable kernels have no gpio-sim. Everything
# comes from where this machine's apt and pip get theirs.
set -euo pipefail

SUITE=bookworm SUITE_PYTHON=3.11
KERNEL_SUITE=forky
out=$1 python=$2 requirements=$3
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
work=$(mktemp -d -p "$out")
tree=$work/tree

fail() { echo "$*" >&2; exit 1; }

make_tree() {
    mmdebstrap --quiet --variant=minbase \
        --include=systemd,systemd-sysv,udev,dbus,kmod,initramfs-tools,python3 "$SUITE" "$tree"
    "$python" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary=:all: \
        --implementation cp --python-version "$SUITE_PYTHON" \
        --platform manylinux_2_34_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 \
        --target "$tree/usr/local/lib/python$SUITE_PYTHON/dist-packages" --requirement "$requirements"
    # An emulated processor takes a minute to compile what it imports.
    chroot "$tree" python3 -m compileall -q -j 0 /usr/local/lib >/dev/null || fail "compileall failed"
}

# An apt of its own, so that the machine's sources stay as they are.
private_apt() {
    local mirror
    mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' |
        awk '$2 !~ /-/ { print $1; exit }')
    [ -n "$mirror" ] || fail "no Debian archive among this machine's apt sources (or no apt-get update yet)"
    mkdir -p "$work"/apt/{lists,archives}/partial
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $KERNEL_SUITE main" \
        >"$work/apt/sources.list"
    : >"$work/apt/status"
    cat >"$work/apt/config" <<CONFIG
Dir::Etc { SourceList "$work/apt/sources.list"; SourceParts "/dev/null"; PreferencesParts "/dev/null"; };
Dir::State { Lists "$work/apt/lists"; Status "$work/apt/status"; };
Dir::Cache "$work/apt";
Acquire::Languages "none";
APT::Sandbox::User "root";
CONFIG
    export APT_CONFIG=$work/apt/config
    apt-get update --quiet --quiet
}

add_kernel() {
    private_apt
    mapfile -t packages < <(apt-cache depends --recurse --important linux-image-amd64 |
        grep -E '^linux-(image|binary|modules|base)-[0-9]')
    [ "${#packages[@]}" -gt 0 ] || fail "$KERNEL_SUITE has no kernel that can be recognised"
    (cd "$work/apt/archives" && apt-get download --quiet --quiet "${packages[@]}")
    for package in "$work"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$work/kernel"; done
    local modules=("$work"/kernel/usr/lib/modules/*)
    release=$(basename "${modules[0]}")
    [ -e "${modules[0]}/kernel/drivers/gpio/gpio-sim.ko.xz" ] || fail "kernel $release has no gpio-sim"
    mkdir -p "$tree/usr/lib/modules"
    cp -a "${modules[0]}" "$tree/usr/lib/modules/"
    cp "${modules[0]}/vmlinuz" "$out/kernel"
    cp "${modules[0]}/config" "$tree/boot/config-$release"
    chroot "$tree" depmod "$release"
    # Only what finds the disk: the shorter, the sooner an emulated processor has it unpacked.
    printf 'MODULES=list\nCOMPRESS=gzip\n' >"$tree/etc/initramfs-tools/conf.d/vm"
    printf 'virtio_pci\nvirtio_blk\next4\n' >>"$tree/etc/initramfs-tools/modules"
    chroot "$tree" mkinitramfs -o /boot/initrd.img "$release"
    mv "$tree/boot/initrd.img" "$out/initrd.img"
}

# Boots, runs what the host has put into its shared folder, and switches itself off.
add_service() {
    echo microscope >"$tree/etc/hostname"
    mkdir -p "$tree/mnt/host" "$tree/etc/systemd/system/multi-user.target.wants"
    printf '/dev/vda / ext4 defaults 0 1\n%s\n' \
        'host /mnt/host 9p trans=virtio,version=9p2000.L,msize=524288,nofail 0 0' >"$tree/etc/fstab"
    cat >"$tree/etc/systemd/system/guest.service" <<'UNIT'
[Unit]
Description=Run the host's jobs and switch off
RequiresMountsFor=/mnt/host
[Service]
Type=oneshot
ExecStart=/bin/bash /mnt/host/guest.sh
ExecStopPost=/usr/bin/systemctl poweroff --force
UNIT
    ln -s ../guest.service "$tree/etc/systemd/system/multi-user.target.wants/guest.service"
    ln -sf /dev/null "$tree/etc/systemd/system/apt-daily.timer"
    ln -sf /dev/null "$tree/etc/systemd/system/getty.target"
}

make_tree
add_kernel
add_service
mke2fs -q -t ext4 -d "$tree" "$out/disk.img" 4G
echo "$release" >"$out/release"
rm -rf --one-file-system "$work"
