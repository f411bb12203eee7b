#!/bin/bash
# An image with nothing but busybox, dropbear and preroot: no bash, no coreutils, no shadow, no systemd, no Python.
#
# usage: build.sh KERNEL MODULES OUT [OVERLAY]
#   KERNEL   vmlinuz                     MODULES  its lib/modules/RELEASE
#   OVERLAY  a directory that is copied over the root
# Writes OUT/disk.img (GPT, root of 32 MiB on a disk of 512 MiB: preroot grows it), OUT/initrd.img and OUT/vmlinuz, prints their sizes.
# Debian's busybox-static and dropbear-bin are taken from the mirror apt knows here. Needs root, mmdebstrap, e2fsprogs, gdisk, cpio, zstd, kmod.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$here/../..
[ $# -ge 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
kernel=$1 modules=$2 out=$3 overlay=${4:-}
release=$(basename "$modules")
binary=$repo/target/release/preroot
[ -x "$binary" ] || { echo "build first: cargo build --release" >&2; exit 1; }
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What any machine of the platforms may boot from, read its medium with, and speak over.
drivers="hv_vmbus hv_storvsc hv_netvsc hv_utils virtio_pci virtio_blk virtio_scsi virtio_net ata_piix ata_generic ahci
    sd_mod sr_mod nvme ext4 af_packet"

programs() { # two packages and the libraries they need, unpacked and never configured
    local archive option options=()
    archive=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1)
    while read -r option; do options+=("--aptopt=$option"); done < <(apt-config dump | grep -E '^Acquire::(http|https)::' || true)
    mmdebstrap --quiet --variant=extract --include=busybox-static,dropbear-bin ${options[@]+"${options[@]}"} \
        "${SUITE:-bookworm}" "$work/debian" "deb $archive ${SUITE:-bookworm} main"
}

library() { # NAME: where Debian has it
    find "$work/debian/lib" "$work/debian/usr/lib" "$work/debian/lib64" -name "$1" 2>/dev/null | head -n 1
}

# with_libraries PROGRAM ROOT: the program and what it loads, by the names in its own header.
with_libraries() {
    local program=$1 root=$2 name file
    for name in $(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p') ld-linux-x86-64.so.2; do
        [ ! -e "$root/lib/$name" ] || continue
        file=$(library "$name")
        install -D -m 755 "$(readlink -f "$file")" "$root/lib/$name"
        with_libraries "$file" "$root"
    done
}

write_root() {
    local root=$work/root applet
    mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,root,home,mnt,lib,usr/bin,usr/sbin,var/lib,etc/dropbear,etc/skel}
    ln -s lib "$root/lib64"
    chmod 1777 "$root/tmp"
    chmod 700 "$root/root"
    install -m 755 "$work/debian/bin/busybox" "$root/bin/busybox"
    "$work/debian/bin/busybox" --list-full | while read -r applet; do
        mkdir -p "$root/$(dirname "$applet")"
        [ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
    done
    install -m 755 "$work/debian/usr/sbin/dropbear" "$root/usr/sbin/dropbear"
    with_libraries "$work/debian/usr/sbin/dropbear" "$root"
    install -m 755 "$binary" "$root/usr/bin/preroot"
    make --no-print-directory -s -C "$repo" install-busybox DESTDIR="$root"
    cp -r "$here/rootfs/." "$root/"
    [ -z "$overlay" ] || cp -r "$overlay/." "$root/"
    chmod 755 "$root"/etc/init.d/* "$root"/usr/share/udhcpc/default.script
    chmod 640 "$root/etc/shadow" "$root/etc/gshadow"
    chown -R 0:0 "$root"
}

write_disk() {
    local start
    truncate -s 32M "$work/root.img"
    # Nothing runs e2fsck before the mount: blocks of 4 KiB, for a power cut while it grows (docs/rationale.md, ext4).
    mke2fs -q -F -t ext4 -b 4096 -L root -d "$work/root" "$work/root.img"
    rm -f "$out/disk.img"
    truncate -s 34M "$out/disk.img"
    sgdisk -a 2048 -n 1:2048:+32M -t 1:8304 -c 1:root "$out/disk.img" >/dev/null
    start=$(sgdisk -i 1 "$out/disk.img" | sed -n 's/First sector: \([0-9]*\).*/\1/p')
    dd if="$work/root.img" of="$out/disk.img" bs=1M seek="$((start / 2048))" conv=notrunc,sparse status=none
    image_bytes=$(stat -c %s "$out/disk.img")
    truncate -s 512M "$out/disk.img"
}

write_initrd() {
    local dir=$work/initrd module file
    mkdir -p "$dir"/{bin,usr/bin,dev,proc,sys,run,sysroot,lib/modules/"$release"}
    ln -s ../lib "$dir/usr/lib"
    install -m 755 "$work/debian/bin/busybox" "$dir/bin/busybox"
    install -m 755 "$binary" "$dir/usr/bin/preroot"
    install -m 755 "$here/init" "$dir/init"
    mkdir -p "$work/modules/lib/modules"
    ln -s "$(cd "$modules" && pwd)" "$work/modules/lib/modules/$release"
    for module in $drivers; do
        # one that this kernel has built in, or lacks, is left out
        { modprobe -S "$release" -d "$work/modules" --show-depends "$module" 2>/dev/null || true; } |
            sed -n "s,^insmod .*/lib/modules/$release/,,p"
    done | cut -d' ' -f1 | sort -u | while read -r file; do
        install -D -m 644 "$modules/$file" "$dir/lib/modules/$release/$file"
    done
    cp "$modules"/modules.{order,builtin,builtin.modinfo} "$dir/lib/modules/$release/"
    depmod -b "$dir" "$release"
    (cd "$dir" && find . | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -19 >"$out/initrd.img"
}

programs
write_root
write_disk
write_initrd
cp "$kernel" "$out/vmlinuz"
used=$(du -sb --apparent-size "$work/root" | cut -f1)
{
    printf '%-28s %9s bytes\n' 'busybox' "$(stat -c %s "$work/root/bin/busybox")"
    printf '%-28s %9s bytes\n' 'dropbear' "$(stat -c %s "$work/root/usr/sbin/dropbear")"
    printf '%-28s %9s bytes\n' 'preroot' "$(stat -c %s "$binary")"
    printf '%-28s %9s bytes\n' 'libraries of dropbear' "$(du -bc "$work"/root/lib/*.so* | tail -n 1 | cut -f1)"
    printf '%-28s %9s bytes\n' 'all files of the root' "$used"
    printf '%-28s %9s bytes\n' 'kernel' "$(stat -c %s "$kernel")"
    printf '%-28s %9s bytes\n' 'initrd, drivers included' "$(stat -c %s "$out/initrd.img")"
    printf '%-28s %9s bytes\n' 'disk image as it ships' "$image_bytes"
} | tee "$out/sizes"
