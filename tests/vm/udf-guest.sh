#!/bin/bash
# The initrd in which Debian's kernel writes UDF: busybox, udf.ko and udf-guest/init.
#
# usage: udf-guest.sh OUT [PROGRAM]     writes OUT/vmlinuz and OUT/initrd.img; PROGRAM is a static one that comes with it
set -euo pipefail
. "$(dirname "$0")/lab.sh"
require cpio=cpio zstd=zstd modprobe=kmod depmod=kmod

out=$1
tree=$(INITRD=initramfs-tools "$REPO/tests/vm/build-root.sh")
release=$(basename "$(find "$tree/usr/lib/modules" -mindepth 1 -maxdepth 1 | sort -V | tail -n 1)")
dir=$out/root
rm -rf "$dir"
mkdir -p "$dir"/{bin,dev,proc,sys,usr/lib}
ln -s usr/lib "$dir/lib"
ln -s usr/lib64 "$dir/lib64"
{ echo /usr/bin/busybox; chroot "$tree" ldd /usr/bin/busybox | grep -oE '/[^ ]+'; } | while read -r file; do
    case $file in /usr/*) ;; *) file=/usr$file ;; esac
    install -D -m 755 "$(readlink -f "$tree$file")" "$dir$file"
done
mv "$dir/usr/bin/busybox" "$dir/bin/busybox"
[ $# -lt 2 ] || install -m 755 "$2" "$dir/bin/"
install -m 755 "$REPO/tests/vm/udf-guest/init" "$dir/init"
for module in virtio_pci virtio_blk ext4 crc32c_generic crc32c loop udf; do
    { modprobe -S "$release" -d "$tree" --show-depends "$module" 2>/dev/null || true; } | sed -n 's,^insmod [^ ]*/lib/modules/,,p'
done | cut -d' ' -f1 | sort -u | while read -r file; do
    install -D -m 644 "$tree/usr/lib/modules/$file" "$dir/usr/lib/modules/$file"
done
cp "$tree/usr/lib/modules/$release/"modules.{order,builtin,builtin.modinfo} "$dir/usr/lib/modules/$release/"
depmod -b "$dir/usr" "$release" 2>/dev/null || depmod -b "$dir" "$release"
(cd "$dir" && find . | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -1 >"$out/initrd.img"
cp "$tree/boot/vmlinuz-$release" "$out/vmlinuz"
rm -rf "$dir"
