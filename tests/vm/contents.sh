#!/bin/bash
# What is in the initrds that both tools make, also for a kernel that does not unpack its modules itself?
#
# usage: contents.sh          with SUITE and INITRD in the environment; builds two initrds in a copy of the root tree
set -uo pipefail
. "$(dirname "$0")/lab.sh"

[ "$(id -u)" -eq 0 ] || die "root is needed to build an initrd"
tree=$("$REPO/tests/vm/build-root.sh")
release=$(basename "$(find "$tree/usr/lib/modules" -mindepth 1 -maxdepth 1 | sort -V | tail -n 1)")
work=$VM_DIR/work-contents-$SUITE-$INITRD
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

holds() { # TEXT COMMAND...
    local text=$1
    shift
    if "$@" >/dev/null 2>&1; then passed=$((passed + 1)); printf 'ok      %s\n' "$text"
    else failed=$((failed + 1)); printf 'FAILED  %s\n' "$text"; fi
}

# unpack: makes the initrd inside the tree and unpacks it there, below /x.
unpack() {
    local make unpack
    case $INITRD in
        dracut)
            make="dracut --quiet --force --no-hostonly $* /tmp/i $release"
            unpack='mkdir /x && cd /x && lsinitrd --unpack /tmp/i' ;;
        initramfs-tools)
            make="mkinitramfs -o /tmp/i $release"
            unpack='unmkinitramfs /tmp/i /x && if [ -d /x/main ]; then cp -a /x/early*/. /x/main/; mv /x/main /y && rm -rf /x && mv /y /x; fi' ;;
    esac
    # shellcheck disable=SC2016 # the inner shell's
    nice unshare --mount --propagation private bash -euc '
        rm -rf "$0/x" "$0/y"
        for m in proc sys dev; do mount --rbind "/$m" "$0/$m"; done
        exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C sh -ec '"'$make; $unpack'" "$work" \
        >"$VM_DIR/contents.log" 2>&1 || { tail "$VM_DIR/contents.log"; exit 1; }
}

module() { find "$work/x/" -name "$1.ko*" | grep -q .; }
plain() { find "$work/x/" -name "$1.ko" -size +0 | grep -q .; }
executable() { [ -x "$work/x/$1" ]; }
ordered() { grep -q "^/scripts/$1/preroot" "$work/x/scripts/$1/ORDER"; }
wanted() { [ -L "$work/x/usr/lib/systemd/system/initrd.target.wants/$1.service" ] && [ -f "$work/x/usr/lib/systemd/system/$1.service" ]; }
hooked() { find "$work/x/" -path "*/hooks/$1" | grep -q .; }
drivers() {
    local name
    for name in hv_vmbus hv_storvsc hv_netvsc hv_utils sr_mod cdrom virtio_net; do
        grep -qE "/$name\.ko" "$tree/usr/lib/modules/$release/modules.builtin" || holds "$1: $name" "$2" "$name"
    done
}

rm -rf "$work"
cp -a "$tree" "$work"
make --no-print-directory -s -C "$REPO" -o build install DESTDIR="$work" PREFIX=/usr

unpack || exit 1
holds 'the program' executable usr/bin/preroot
drivers 'driver' module
if [ "$INITRD" = dracut ]; then
    for unit in preroot-modules preroot-fetch preroot-kvp preroot-grow preroot-persist; do holds "unit $unit" wanted "$unit"; done
    unpack --omit '"systemd systemd-initrd dracut-systemd"'
    holds 'without systemd: the program' executable usr/bin/preroot
    for hook in pre-trigger/50-preroot-fetch.sh initqueue/settled/zz-preroot-grow.sh pre-mount/50-preroot-grow.sh pre-pivot/50-preroot-persist.sh; do
        holds "without systemd: $hook" hooked "$hook"
    done
else
    for stage in init-premount local-premount local-bottom; do holds "script in $stage" ordered "$stage"; done
fi

# The same kernel, as if it could not decompress.
sed -i 's/^CONFIG_MODULE_DECOMPRESS=y/# CONFIG_MODULE_DECOMPRESS is not set/' "$work/boot/config-$release"
unpack
drivers 'kernel without decompressor: plain' plain

printf 'contents %s %s: %s passed, %s failed\n' "$SUITE" "$INITRD" "$passed" "$failed"
[ "$failed" -eq 0 ]
