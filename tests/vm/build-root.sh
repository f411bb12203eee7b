#!/bin/bash
# What does a cloud image's root tree hold before preroot is installed? Builds it once per recipe.
#
# usage: build-root.sh        with SUITE, INITRD and WITH in the environment; prints the tree's directory.
# Debian only, by mmdebstrap, from the mirrors that this machine's own apt uses. Neither mounts nor loop devices.
set -euo pipefail
. "$(dirname "$0")/lab.sh"

case $INITRD in
    dracut) tool=dracut,dracut-core,binutils ;; # without strip dracut falls back to larger images
    initramfs-tools) tool=initramfs-tools,busybox ;;
    *) die "INITRD is dracut or initramfs-tools, not '$INITRD'" ;;
esac
packages=systemd,systemd-sysv,udev,dbus,openssh-server,sudo,iproute2,e2fsprogs,procps,kmod,zstd,xz-utils,login,linux-image-cloud-amd64
case $WITH in
    '') ;;
    cloud-init) tool=$tool,cloud-init,cloud-guest-utils ;; # growpart: the same work as ours
    user-data) tool=$tool,cloud-init,cloud-guest-utils,systemd-timesyncd,curl ;; # curl: #include
    waagent) tool=$tool,waagent,fdisk,parted ;;
    openrc) packages=openrc,sysvinit-core,ifupdown,isc-dhcp-client,${packages#systemd,systemd-sysv,} ;;
    selinux) tool=$tool,selinux-policy-default,policycoreutils,selinux-utils,attr ;;
    # who is told of a network and of time servers: networkd and timesyncd, or ifupdown (a DHCP client of its own) and chrony
    timesyncd) tool=$tool,systemd-timesyncd ;;
    ifupdown) tool=$tool,ifupdown,isc-dhcp-client,chrony ;;
    # for chroots, tests/oracle/cloud_config_differential.py: neither kernel nor initrd, and what the modules of cloud-init write for
    chroot)
        packages=cloud-init,openssh-server,sudo,locales,tzdata,ca-certificates,systemd,chrony,e2fsprogs,fdisk,procps,iproute2,login
        tool=openssl
        ;;
    *) die "WITH is cloud-init, user-data, waagent, openrc, selinux, timesyncd, ifupdown or chroot, not '$WITH'" ;;
esac
variant=${WITH:+-$WITH}
recipe="$SUITE $packages,$tool 1"
tree=$VM_DIR/root-$SUITE-$INITRD$variant-$(digest "$recipe")

# The first Debian mirror apt knows here: the public one, a local one or a cache, whatever the machine is set up for.
# shellcheck disable=SC2016 # the fields are apt's
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1 || true
}

build() {
    local archive cache=$VM_DIR/cache/$SUITE options=()
    archive=$(mirror)
    [ -n "$archive" ] || die "apt knows no Debian mirror here: see apt-get indextargets"
    # Proxies and the like count inside the new tree too.
    while read -r option; do options+=("--aptopt=$option"); done < <(apt-config dump | grep -E '^Acquire::(http|https)::' || true)
    mkdir -p "$cache"
    rm -rf "$tree.part"
    # INITRD=No: the kernel package's hook must not make an image yet, ours is made with preroot in it.
    INITRD=No nice mmdebstrap --quiet --variant=minbase --include="$packages,$tool" \
        --aptopt='Acquire::Languages "none"' ${options[@]+"${options[@]}"} \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --skip=essential/unlink \
        --setup-hook="mkdir -p \"\$1/var/cache/apt/archives\"" \
        --setup-hook="cp -n $cache/*.deb \"\$1/var/cache/apt/archives/\" 2>/dev/null || true" \
        --essential-hook="mkdir -p \"\$1/etc\"; echo 'do_symlinks = no' >\"\$1/etc/kernel-img.conf\"" \
        --customize-hook="cp -n \"\$1\"/var/cache/apt/archives/*.deb $cache/ 2>/dev/null || true" \
        "$SUITE" "$tree.part" "deb $archive $SUITE main"
    # Nothing that makes two machines alike.
    rm -f "$tree.part"/etc/ssh/ssh_host_* "$tree.part"/boot/initrd* "$tree.part/var/lib/dbus/machine-id"
    : >"$tree.part/etc/machine-id"
    mv "$tree.part" "$tree"
}

if [ ! -d "$tree" ]; then
    [ "$(id -u)" -eq 0 ] || die "root is needed to build a root tree"
    require mmdebstrap=mmdebstrap
    say "building a $SUITE root tree with $INITRD (once, a few minutes)"
    build >&2
fi
echo "$tree"
