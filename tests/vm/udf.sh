#!/bin/bash
# Is UDF read as Debian's kernel writes it? mkudffs makes volumes of every kind, udf.ko fills them in one VM with random trees,
# our reader compares. What the kernel does not write (write-once kinds) is compared empty.
#
# usage: udf.sh [TREES]      (default 300)      KEEP=DIR keeps the images there
set -euo pipefail
. "$(dirname "$0")/lab.sh"
require mkudffs=udftools mke2fs=e2fsprogs debugfs=e2fsprogs blkid=util-linux

trees=${1:-300}
lab=$VM_DIR/udf
rm -rf "$lab"
mkdir -p "$lab/disk/"{images,trees,read-only}
export MEDIA_TREES=$trees MEDIA_DIR=$lab/disk
test_media() { (cd "$REPO" && "${CARGO:-cargo}" test --quiet --locked --test media -- --ignored --exact --nocapture "$1"); }

test_media udf_trees_are_written
"$REPO/tests/vm/udf-guest.sh" "$lab"
truncate -s $((2048 + trees * 12))M "$lab/disk.img"
mke2fs -q -F -t ext4 -O ^has_journal -N $((trees * 400 + 5000)) -d "$lab/disk" "$lab/disk.img"
rm -rf "$lab/disk/images"
"$REPO/tests/vm/boot.sh" udf kernel="$lab/vmlinuz" initrd="$lab/initrd.img" disk="$lab/disk.img" deadline=$((300 + trees * 12)) ||
    die "the kernel did not get through"
! grep -a 'VM failed=' "$VM_DIR/console-udf.log" || die 'a tree was not copied'
rm -rf "$lab/disk/read-only"
debugfs -R "rdump images $lab/disk" "$lab/disk.img" 2>/dev/null
debugfs -R "rdump read-only $lab/disk" "$lab/disk.img" 2>/dev/null
test_media udf_is_read_as_a_kernel_wrote_it
[ -z "${KEEP:-}" ] || cp -a "$lab/disk/images" "$lab/disk/list" "$KEEP/"
rm -rf "$lab"
