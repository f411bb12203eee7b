#!/bin/bash
# The fast loop: a kernel, a few modules, preroot and a busybox script; about 5 s a boot.
#
# usage: appliance.sh         with SUITE in the environment; prints a directory with vmlinuz, initrd.img and disk.img
# (strace.cpio, captured.cpio, storage.cpio, stack.cpio: to be appended to initrd.img: strace for it; what an image has that is captured later; mkfs and its kin; LVM and cryptsetup; disk.img: the same layout as the real image, root 64 MiB on a disk of 512 MiB)
set -euo pipefail
. "$(dirname "$0")/lab.sh"

require cpio=cpio zstd=zstd modprobe=kmod depmod=kmod mke2fs=e2fsprogs sgdisk=gdisk strace=strace mkfs.xfs=xfsprogs mdadm=mdadm mkswap=util-linux
require mkfs.btrfs=btrfs-progs e2fsck=e2fsprogs cryptsetup=cryptsetup-bin lvextend=lvm2
binary=$REPO/target/release/preroot
[ -x "$binary" ] || die "build first: cargo build --release"
tree=$(INITRD=initramfs-tools "$REPO/tests/vm/build-root.sh")
release=$(basename "$(find "$tree/usr/lib/modules" -mindepth 1 -maxdepth 1 | sort -V | tail -n 1)")
out=$VM_DIR/appliance-$SUITE-$(digest "$(basename "$tree")" "$(cat "$binary" "$0" "$REPO/tests/vm/appliance/init" | sha256sum)")

modules="virtio_pci virtio_blk virtio_scsi virtio_net virtio_rng ata_piix ata_generic ahci sr_mod sd_mod cdrom
    hv_vmbus hv_storvsc hv_netvsc hv_utils af_packet nvme ext4 xfs btrfs raid0 dm-mod dm-crypt algif_skcipher xts ecb"

# with_libraries PROGRAM: a dynamic program of the tree and what it loads, as paths inside the tree.
with_libraries() { echo "$1"; chroot "$tree" ldd "$1" | grep -oE '/[^ ]+'; }

copy_modules() { # DIR: the closure of $modules with their own tables
    local module file
    for module in $modules; do
        # a name this kernel lacks is left out
        { modprobe -S "$release" -d "$tree" --show-depends "$module" 2>/dev/null || true; } |
            sed -n 's,^insmod [^ ]*/lib/modules/,,p'
    done | cut -d' ' -f1 | sort -u | while read -r file; do
        install -D -m 644 "$tree/usr/lib/modules/$file" "$1/usr/lib/modules/$file"
    done
    for file in modules.order modules.builtin modules.builtin.modinfo; do
        cp "$tree/usr/lib/modules/$release/$file" "$1/usr/lib/modules/$release/"
    done
    depmod -b "$1/usr" "$release" 2>/dev/null || depmod -b "$1" "$release"
}

write_initrd() {
    local dir=$out.dir program file
    rm -rf "$dir"
    mkdir -p "$dir"/{bin,usr/bin,usr/lib/modules,dev,proc,sys,run,tmp,sysroot,etc,var}
    ln -s usr/lib "$dir/lib"
    ln -s usr/lib64 "$dir/lib64"
    mkdir -p "$dir/usr/lib64"
    for program in /usr/bin/busybox /usr/bin/ip; do
        [ -e "$tree$program" ] || program=/bin/${program##*/}
        with_libraries "$program" | while read -r file; do
            [ "$file" = "$program" ] && { install -m 755 "$tree$file" "$dir/bin/${file##*/}"; continue; }
            case $file in /usr/*) ;; *) file=/usr$file ;; esac
            install -D -m 755 "$(readlink -f "$tree$file")" "$dir$file"
        done
    done
    install -m 755 "$binary" "$dir/usr/bin/preroot"
    install -m 755 "$REPO/tests/vm/appliance/init" "$dir/init"
    copy_modules "$dir"
    (cd "$dir" && find . | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -1 >"$out.part/initrd.img"
    rm -rf "$dir"
}

# A second archive for the runs that count system calls: this machine's strace and what it loads.
write_strace() {
    local dir=$out.strace file
    rm -rf "$dir"
    install -D -m 755 "$(command -v strace)" "$dir/bin/strace"
    ldd "$(command -v strace)" | grep -oE '/[^ ]+' | while read -r file; do
        [ -e "$tree$file" ] || [ -e "$tree/usr$file" ] || [ -e "$file" ] || continue
        install -D -m 755 "$(readlink -f "$file")" "$dir/strace-libs/${file##*/}"
    done
    printf '#!/bin/busybox sh\nexec /strace-libs/ld-linux-x86-64.so.2 --library-path /strace-libs /bin/strace.real "$@"\n' >"$dir/strace.sh"
    mv "$dir/bin/strace" "$dir/bin/strace.real"
    install -m 755 "$dir/strace.sh" "$dir/bin/strace"
    rm "$dir/strace.sh"
    (cd "$dir" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -1 >"$out.part/strace.cpio"
    rm -rf "$dir"
}

# A third: an image with ssh-keygen and its libraries, waagent, and a configuration.
write_captured() {
    local dir=$out.captured file
    rm -rf "$dir"
    mkdir -p "$dir/extra/usr/sbin" "$dir/extra/etc"
    with_libraries /usr/bin/ssh-keygen | while read -r file; do
        install -D -m 755 "$(readlink -f "$tree$file")" "$dir/extra$file"
    done
    printf '#!/bin/false\n' >"$dir/extra/usr/sbin/waagent"
    chmod 755 "$dir/extra/usr/sbin/waagent"
    echo Provisioning.SshHostKeyPairType=ed25519 >"$dir/extra/etc/preroot.conf"
    (cd "$dir" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -1 >"$out.part/captured.cpio"
    rm -rf "$dir"
}

# write_programs NAME DIRECTORY PROGRAM...: an archive with programs of this machine and what they load below that directory.
write_programs() {
    local dir=$out.$1 below=$2 name=$1 program file
    rm -rf "$dir"
    shift 2
    for program; do
        file=$(command -v "$program")
        install -D -m 755 "$(readlink -f "$file")" "$dir/$below$file"
        ldd "$file" | grep -oE '/[^ ]+' | while read -r file; do
            install -D -m 755 "$(readlink -f "$file")" "$dir/$below$file"
        done
    done
    if [ "$name" = stack ]; then
        mkdir -p "$dir/$below/mnt" "$dir/$below/etc/lvm"
        echo 'the key of this laboratory' >"$dir/$below/key"
        # there is no udev
        echo 'activation { udev_sync=0 udev_rules=0 }' >"$dir/$below/etc/lvm/lvm.conf"
    fi
    (cd "$dir" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -1 >"$out.part/$name.cpio"
    rm -rf "$dir"
}
# For the temporary disk, the programs that the root would have; for a root in LVM or LUKS, those of its initrd and its own.
write_storage() { write_programs storage storage mdadm mkfs.ext4 mkfs.xfs mkswap swapon fallocate mount sh dd sleep; }
write_stack() {
    write_programs stack stack cryptsetup lvm pvresize lvextend \
        mkfs.ext4 mkfs.xfs mkfs.btrfs e2fsck xfs_repair btrfs resize2fs xfs_growfs
}

write_disk() {
    local dir=$out.root start
    rm -rf "$dir"
    mkdir -p "$dir"/{etc/{skel,ssh/sshd_config.d,sudoers.d},home,var/lib,root,run,tmp,proc,sys,dev,usr/bin,bin}
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' >"$dir/etc/passwd"
    printf 'root:x:0:\nadm:x:4:\nsudo:x:27:\nnogroup:x:65534:\n' >"$dir/etc/group"
    printf 'root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n' >"$dir/etc/shadow"
    printf 'root:*::\nadm:*::\nsudo:*::\nnogroup:*::\n' >"$dir/etc/gshadow"
    chmod 640 "$dir/etc/shadow" "$dir/etc/gshadow"
    echo localhost >"$dir/etc/hostname"
    printf '127.0.0.1\tlocalhost\n' >"$dir/etc/hosts"
    echo 'Include /etc/ssh/sshd_config.d/*.conf' >"$dir/etc/ssh/sshd_config"
    printf 'root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n' >"$dir/etc/sudoers"
    chmod 440 "$dir/etc/sudoers"
    : >"$dir/usr/bin/sudo"
    chmod 4755 "$dir/usr/bin/sudo"
    echo 'test -r ~/.bashrc' >"$dir/etc/skel/.profile"
    truncate -s 64M "$out.part/root"
    mke2fs -q -F -t ext4 -L cloudimg-rootfs -U 7b2d1c5e-0c1f-4a53-9a4e-52f1d3a9c001 -d "$dir" "$out.part/root"
    truncate -s 80M "$out.part/disk.img"
    sgdisk -a 2048 -n 14:2048:+4M -t 14:ef02 -n 15:0:+8M -t 15:ef00 -n 1:0:+64M -t 1:8304 -c 1:root \
        -u 1:7b2d1c5e-0c1f-4a53-9a4e-52f1d3a9c0aa "$out.part/disk.img" >/dev/null
    start=$(sgdisk -i 1 "$out.part/disk.img" | sed -n 's/First sector: \([0-9]*\).*/\1/p')
    dd if="$out.part/root" of="$out.part/disk.img" bs=1M seek="$((start / 2048))" conv=notrunc,sparse status=none
    rm -rf "$out.part/root" "$dir"
    truncate -s 512M "$out.part/disk.img"
}

if [ ! -d "$out" ]; then
    rm -rf "$VM_DIR/appliance-$SUITE"-????????????.*
    mkdir -p "$out.part"
    write_initrd
    write_strace
    write_captured
    write_storage
    write_stack
    write_disk
    cp "$tree/boot/vmlinuz-$release" "$out.part/vmlinuz"
    rm -rf "$VM_DIR/appliance-$SUITE"-????????????
    mv "$out.part" "$out"
fi
echo "$out"
