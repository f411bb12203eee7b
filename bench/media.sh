#!/bin/bash
# Is our media reader as fast as the kernel's? A file on UDF, from a cold cache, in one VM: mounted and read, and read by us.
#
# usage: media.sh       MIB=64 the file's size      RUNS=5
set -euo pipefail
. "$(dirname "$0")/common.sh"
need_root mkudffs=udftools mke2fs=e2fsprogs

mib=${MIB:-$(if [ -n "$QUICK" ]; then echo 8; else echo 64; fi)}
lab=$VM_DIR/bench-media
rm -rf "$lab"
mkdir -p "$lab/disk"
host=$(rustc -vV | sed -n 's/^host: //p')
# A static program, so that the guest needs no library; the profile is the shipped binary's.
(cd "$REPO" && RUSTFLAGS='-C target-feature=+crt-static' "${CARGO:-cargo}" build --quiet --release --locked \
    --example media-read --target "$host" --target-dir target/bench-media)
"$REPO/tests/vm/udf-guest.sh" "$lab" "$REPO/target/bench-media/$host/release/examples/media-read"
head -c "${mib}M" /dev/urandom >"$lab/disk/file"
truncate -s $((mib + 48))M "$lab/vda"
mke2fs -q -F -t ext4 -O ^has_journal -d "$lab/disk" "$lab/vda"
mkudffs --utf8 -m hd -b 2048 --new-file "$lab/vdb" $(((mib + 16) * 512)) >/dev/null
"$REPO/tests/vm/boot.sh" bench-media kernel="$lab/vmlinuz" initrd="$lab/initrd.img" disk="$lab/vda" data="$lab/vdb" \
    append=vm.bench deadline=900 || die 'the guest did not get through'
! grep -a 'VM failed=' "$VM_DIR/console-bench-media.log" || die 'a reader failed'
seconds() { sed -n "s/^.*VM $1=\([0-9.]*\)$/\1/p" "$VM_DIR/console-bench-media.log" | tr -d '\r' | median; }
kernel=$(seconds kernel) ours=$(seconds ours)
printf '%-52s %s\n' "udf.ko: mount, read $mib MiB, unmount; seconds" "$kernel" "preroot's reader; seconds" "$ours" \
    "ratio, ours to the kernel's" "$(awk -v a="$ours" -v b="$kernel" 'BEGIN { printf "%.2f", a / b }')"
rm -rf "$lab"
