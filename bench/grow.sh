#!/bin/bash
# What does it cost to grow a partition: preroot, and growpart of cloud-guest-utils, and resize2fs for the file system?
#
# usage: grow.sh           GROWPART=PATH names growpart where it is not installed; RUNS=11
# On copies of one image (2 GiB, GPT, ext4) on a disk of 8 GiB. Medians; execs and bytes are strace's, of a run of their own.
# The file system's own growth is the kernel's work with preroot, at most one ioctl: tests/vm measures that in a guest.
set -euo pipefail
. "$(dirname "$0")/common.sh"
require sfdisk=fdisk mkfs.ext4=e2fsprogs strace=strace
build_measure
GROWPART=${GROWPART:-$(command -v growpart || true)}
RUNS=$(count "${RUNS:-11}")
work=$(mktemp -d "${TMPDIR:-/tmp}/preroot-bench-grow.XXXXXX")
trap 'rm -rf "$work"' EXIT

truncate -s 2G "$work/image"
printf 'label: gpt\n14 : start=2048, size=8192, type=21686148-6449-6E6F-744E-656564454649\n1 : start=10240, type=L\n' |
    sfdisk -q "$work/image"
mkfs.ext4 -q -E offset=$((10240 * 512)) "$work/image" 2040M
truncate -s 8G "$work/image"
ln -s "$BINARY" "$work/preroot"

# row NAME COMMAND...: DISK in the command is a fresh copy of the image.
row() {
    local name=$1 disk=$work/disk words=()
    shift
    rm -f "$work/times"
    for _ in $(seq "$RUNS"); do
        cp --sparse=always "$work/${FROM:-image}" "$disk"
        words=("${@//DISK/$disk}")
        "$MEASURE" "$work/times" "${words[@]}" >/dev/null 2>&1 || die "$name failed"
    done
    cp --sparse=always "$work/${FROM:-image}" "$disk"
    strace -f -y -o "$work/trace" -e trace=execve,write,writev,pwrite64,pwritev "${words[@]}" >/dev/null 2>&1
    printf '%-34s %9s %9s %7s %9s\n' "$name" "$(column "$work/times" 2 | median | scaled 0.001 1)" \
        "$(awk '{ print $3 + $4 }' "$work/times" | median | scaled 0.001 1)" "$(grep -c 'execve(.*= 0$' "$work/trace")" \
        "$(grep -E "write[v64]*\([0-9]+<$disk>" "$work/trace" | awk '{ sum += $NF } END { print sum + 0 }')"
}

printf '%-34s %9s %9s %7s %9s\n' 'the partition' 'wall ms' 'CPU ms' 'execs' 'bytes'
row 'preroot growpart' "$work/preroot" growpart DISK 1
if [ -n "$GROWPART" ]; then row 'growpart (cloud-guest-utils)' "$GROWPART" DISK 1; else echo 'growpart is not installed'; fi
printf '%-34s %9s %9s %7s %9s\n' 'nothing to do' '' '' '' ''
cp --sparse=always "$work/image" "$work/grown"
"$work/preroot" growpart "$work/grown" 1 >/dev/null
# exit code 1 says so
nothing() { FROM=grown row "$1" sh -c "'$2' DISK 1; [ \$? -eq 1 ]"; }
ln -s "$BINARY" "$work/growpart"
nothing 'preroot growpart, by sh' "$work/growpart"
[ -z "$GROWPART" ] || nothing 'growpart, by sh' "$GROWPART"
printf '%-34s %9s %9s %7s %9s\n' 'the file system' '' '' '' ''
FROM=grown row 'resize2fs, not mounted' resize2fs -f "DISK?offset=$((10240 * 512))" 2090000
