#!/bin/bash
# What does the laboratory boot? A disk image, a kernel and an initrd with preroot installed as a package would.
#
# usage: build-image.sh       with SUITE, INITRD, PROVISIONER and WITH in the environment; prints a directory that holds
#   disk.img  8 GiB sparse; its GPT still ends at 2 GiB: p14 BIOS boot, p15 ESP, p1 root (last by place), as on Azure
#   vmlinuz  initrd.img      what is booted
#   monitor.cpio             to be appended to initrd.img, with rdinit=/lab/init: the initrd's network events on the console
#   plain.img                the same initrd without preroot (a link): the difference is what preroot costs
# Rebuilt when the root tree, the binary, a hook, a unit or the laboratory's own files change.
# HOST_KEYS=image: the image has SSH host keys already, and nobody makes new ones (bench: their time is luck).
# INIT=shell: the initrd of dracut has no systemd, its own scripts start the stages.
set -euo pipefail
. "$(dirname "$0")/lab.sh"

require mke2fs=e2fsprogs sgdisk=gdisk cpio=cpio zstd=zstd
[ "$(id -u)" -eq 0 ] || die "root is needed to build an image"
[ -x "$REPO/target/release/preroot" ] || die "build first: cargo build --release"

tree=$("$REPO/tests/vm/build-root.sh")
inputs=(tests/vm/root tests/vm/build-image.sh) variant=''
case $PROVISIONER in
    preroot) inputs+=(dracut-module initramfs-tools-hook packaging/systemd target/release/preroot) variant=${WITH:+-beside-$WITH} ;;
    none | cloud-init) variant=-$PROVISIONER ;;
    *) die "PROVISIONER is preroot, none or cloud-init, not '$PROVISIONER'" ;;
esac
[ "$WITH" != openrc ] || inputs+=(packaging/openrc tests/vm/root-openrc)
if [ "$WITH" = user-data ]; then
    make --no-print-directory -s -C "$REPO" cloud-config >&2
    while read -r program; do inputs+=("${program#"$REPO/"}"); done < <(find "$REPO"/tools/cloud-config/target/*/release -maxdepth 1 -name preroot-cloud-config)
fi
[ "${HOST_KEYS:-new}" = new ] || variant+=-keys
[ "${INIT:-systemd}" = systemd ] || variant+=-shell
installed=$(cd "$REPO" && find "${inputs[@]}" -type f -print0 | sort -z | xargs -0 sha256sum)
image=$VM_DIR/image-$SUITE-$INITRD$variant-$(digest "$(basename "$tree")" "$installed")
plain=$VM_DIR/plain-$(basename "$tree").img
release=$(basename "$(find "$tree/usr/lib/modules" -mindepth 1 -maxdepth 1 | sort -V | tail -n 1)")

# UUIDs are fixed, so that root= can be written down; every machine of the laboratory has the same.
root_uuid=7b2d1c5e-0c1f-4a53-9a4e-52f1d3a9c001
root_partuuid=7b2d1c5e-0c1f-4a53-9a4e-52f1d3a9c0aa

# in_tree TREE COMMAND: as on a running system. Bind mounts stay in a private namespace.
in_tree() {
    # shellcheck disable=SC2016 # the inner shell's
    nice unshare --mount --propagation private bash -euc '
        for m in proc sys dev; do mount --rbind "/$m" "$0/$m"; done
        exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C '"$2" "$1"
}

# make_initrd TREE OUT: runs the distribution's own tool inside the tree.
make_initrd() {
    local command
    case $INITRD in
        dracut)
            # no driver for any medium of ours
            command="dracut --quiet --force --no-hostonly --omit-drivers 'udf isofs vfat msdos fat' /tmp/initrd.img $release"
            [ "${INIT:-systemd}" = systemd ] || command+=" --omit 'systemd systemd-initrd dracut-systemd'" ;;
        initramfs-tools) command="mkinitramfs -o /tmp/initrd.img $release" ;;
    esac
    in_tree "$1" "$command" >"$2.log" 2>&1 || { tail -n 20 "$2.log" >&2; die "the initrd was not built"; }
    mv "$1/tmp/initrd.img" "$2"
    chmod 644 "$2"
}

# write_disk TREE OUT: neither loop device nor mount; mke2fs fills the file system from a directory.
# (Attribute 1, no block I/O: the ESP is empty, systemd shall not try to mount it.)
write_disk() {
    local root_mib=2048 start
    rm -f "$2" "$2.root"
    truncate -s "${root_mib}M" "$2.root"
    nice mke2fs -q -F -t ext4 -L cloudimg-rootfs -U "$root_uuid" -d "$1" "$2.root"
    truncate -s "$((root_mib + 130))M" "$2"
    sgdisk -a 2048 -n 14:2048:+4M -t 14:ef02 -n 15:0:+106M -t 15:ef00 -A 15:set:1 -n "1:0:+${root_mib}M" -t 1:8304 -c 1:root \
        -u "1:$root_partuuid" "$2" >/dev/null
    start=$(sgdisk -i 1 "$2" | sed -n 's/First sector: \([0-9]*\).*/\1/p')
    dd if="$2.root" of="$2" bs=1M seek="$((start / 2048))" conv=notrunc,sparse status=none
    rm -f "$2.root"
    truncate -s 8G "$2"
}

# write_monitor OUT: `ip monitor` with what it loads, started before the initrd's own init.
write_monitor() {
    local dir=$1.dir file
    rm -rf "$dir"
    mkdir -p "$dir/lab"
    for file in $(chroot "$tree" ldd /bin/ip | grep -oE '/[^ ]+'); do install -m 755 "$tree$(chroot "$tree" readlink -f "$file")" "$dir/lab/${file##*/}"; done
    install -m 755 "$tree$(chroot "$tree" readlink -f /bin/ip)" "$dir/lab/ip"
    # initramfs-tools' images have nothing in /dev but the kernel's console; a shell needs /dev/null for a job
    cat >"$dir/lab/init" <<'SH'
#!/bin/sh
export PATH=/usr/bin:/bin:/usr/sbin:/sbin
[ -c /dev/null ] || mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
(/lab/ld-linux-x86-64.so.2 --library-path /lab /lab/ip monitor all | while read -r line; do echo "VM-monitor $line"; done) &
exec /init "$@"
SH
    chmod 755 "$dir/lab/init"
    (cd "$dir" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -1 >"$1"
    rm -rf "$dir"
}

# install_PROVISIONER TREE: as the package would.
install_none() { :; }
install_preroot() {
    make --no-print-directory -s -C "$REPO" -o build install DESTDIR="$1" PREFIX=/usr
    [ "$WITH" != openrc ] || { install_openrc "$1"; return; }
    chroot "$1" systemctl preset preroot-apply.service preroot-pool.service preroot-report-early.service preroot-report.service preroot-resource-disk.service \
        preroot-include.service preroot-scripts.service preroot-host-name.path 2>/dev/null
}
install_openrc() { # as packaging/install.mk says for Debian
    local unit
    make --no-print-directory -s -C "$REPO" install-openrc DESTDIR="$1"
    for unit in apply=sysinit report-early=sysinit report=default scripts=default resource-disk=default; do
        chroot "$1" rc-update -q add "preroot-${unit%=*}" "${unit#*=}"
    done
}
install_cloud-init() {
    echo 'datasource_list: [ Azure ]' >"$1/etc/cloud/cloud.cfg.d/90-laboratory.cfg"
    [ "${HOST_KEYS:-new}" = new ] ||
        printf 'ssh_deletekeys: false\nssh_genkeytypes: []\n' >>"$1/etc/cloud/cloud.cfg.d/90-laboratory.cfg"
}

# settle_SOFTWARE TREE: the network, the laboratory's check, and a console of its own.
settle_systemd() {
    chroot "$1" systemctl enable --quiet systemd-networkd.service 2>/dev/null
    # networkd only: nothing else waits for, or configures, the network
    chroot "$1" systemctl disable --quiet systemd-networkd-wait-online.service 2>/dev/null || true
    mkdir -p "$1/etc/systemd/system/multi-user.target.wants"
    ln -sf ../vm-check.service "$1/etc/systemd/system/multi-user.target.wants/vm-check.service"
    ln -sf /usr/lib/systemd/system/multi-user.target "$1/etc/systemd/system/default.target"
    # the console is the laboratory's: no login prompt between its lines
    chroot "$1" systemctl mask --quiet serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer systemd-timesyncd.service 2>/dev/null || true
}
settle_timesyncd() {
    settle_systemd "$1"
    chroot "$1" systemctl unmask --quiet systemd-timesyncd.service
    chroot "$1" systemctl enable --quiet systemd-timesyncd.service
}
settle_ifupdown() { # as Debian's cloud images have it
    settle_systemd "$1"
    chroot "$1" systemctl disable --quiet systemd-networkd.service systemd-networkd.socket
    rm -f "$1"/etc/systemd/network/*
    printf 'auto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet dhcp\n\nsource /etc/network/interfaces.d/*\n' >"$1/etc/network/interfaces"
}
settle_user-data() {
    settle_timesyncd "$1"
    make --no-print-directory -s -C "$REPO" -o cloud-config install-cloud-config DESTDIR="$1" PREFIX=/usr
    # what the laboratory has no network, and no locales, for
    printf 'datasource_list: [ Azure ]\napt: {preserve_sources_list: true}\nlocale: false\n' >"$1/etc/cloud/cloud.cfg.d/91-laboratory.cfg"
    make_repository "$1/srv/repository"
    rm -f "$1"/etc/apt/sources.list.d/*
    echo 'deb [trusted=yes] file:/srv/repository ./' >"$1/etc/apt/sources.list"
}
# make_repository DIRECTORY: packages for apt, by file: alone. lab-hello makes a user, as daemons' packages do.
make_repository() {
    local package=$1/package deb=lab-hello_1.0_all.deb
    mkdir -p "$package/DEBIAN" "$package/usr/bin"
    cat >"$package/DEBIAN/control" <<'CONTROL'
Package: lab-hello
Version: 1.0
Architecture: all
Maintainer: Laboratory <laboratory@example.invalid>
Description: says that it is there
CONTROL
    printf '#!/bin/sh\nuseradd --system --no-create-home labhello\necho package >>/var/lib/vm-ran\n' >"$package/DEBIAN/postinst"
    printf '#!/bin/sh\necho hello >>/var/lib/vm-ran\n' >"$package/usr/bin/lab-hello"
    chmod 755 "$package/DEBIAN/postinst" "$package/usr/bin/lab-hello"
    dpkg-deb --root-owner-group --build "$package" "$1/$deb" >/dev/null
    { cat "$package/DEBIAN/control"
      printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n' "$deb" "$(stat -c %s "$1/$deb")" "$(sha256sum <"$1/$deb" | cut -d' ' -f1)"
    } >"$1/Packages"
    rm -r "$package"
}
settle_openrc() {
    printf 'auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n' >"$1/etc/network/interfaces"
    cp -a --no-preserve=ownership "$REPO/tests/vm/root-openrc/." "$1/"
    chroot "$1" rc-update -q add vm-check default
}

build() {
    local work=$VM_DIR/work-$SUITE-$INITRD$variant
    rm -rf "$work" "$image.part"
    mkdir -p "$image.part"
    say "a copy of the root tree with $PROVISIONER as provisioner"
    cp -a "$tree" "$work"
    "install_$PROVISIONER" "$work"
    cp -a --no-preserve=ownership "$REPO/tests/vm/root/." "$work/"
    echo localhost >"$work/etc/hostname" # an image's placeholder
    printf '127.0.0.1\tlocalhost\n' >"$work/etc/hosts"
    rm -f "$work/etc/resolv.conf"
    : >"$work/etc/resolv.conf"
    if [ "${HOST_KEYS:-new}" != new ]; then
        ssh-keygen -A -f "$work" >/dev/null
        echo Provisioning.RegenerateSshHostKeyPair=n >"$work/etc/preroot.conf"
    else
        echo OS.RootDeviceScsiTimeout=240 >"$work/etc/preroot.conf"
    fi
    case $WITH in
        openrc | timesyncd | ifupdown | user-data) "settle_$WITH" "$work" ;;
        *) settle_systemd "$work" ;;
    esac

    say "building the initrd with $INITRD for $release"
    make_initrd "$work" "$image.part/initrd.img"
    cp "$work/boot/vmlinuz-$release" "$image.part/vmlinuz"
    # the labels go into the file system as mke2fs finds them: SELinux need not run here
    [ "$WITH" != selinux ] ||
        in_tree "$work" 'setfiles -F -e /proc -e /sys -e /dev /etc/selinux/default/contexts/files/file_contexts /' >"$image.part/labels.log"
    say "writing the disk: 2 GiB root on an 8 GiB disk"
    write_disk "$work" "$image.part/disk.img"
    write_monitor "$image.part/monitor.cpio"
    ln -s "$plain" "$image.part/plain.img"
    rm -rf "$work"
    # one image per suite and tool is enough: older ones only fill the disk
    rm -rf "$VM_DIR/image-$SUITE-$INITRD$variant"-????????????
    mv "$image.part" "$image"
}

build_plain() {
    local work=$VM_DIR/work-plain-$SUITE-$INITRD
    say "building the same initrd without preroot, to compare (once)"
    rm -rf "$work"
    cp -a "$tree" "$work"
    make_initrd "$work" "$plain.part"
    rm -rf "$work"
    mv "$plain.part" "$plain"
}

[ -d "$image" ] || build
[ -f "$plain" ] || [ -n "${WITHOUT_PLAIN:-}" ] || [ "$PROVISIONER" != preroot ] || build_plain
echo "$image"
