#!/bin/bash
# What does it cost to grow a partition: preroot, and growpart of cloud-guest-utils, and resize2fs for the file system?
#
# usage: grow.sh           GROWPART=PATH names growpart where it is not installed; RUNS=11
# On copies of one image (2 GiB, GPT, ext4) on a disk of 8 GiB. Medians; execs and bytes are strace's, of a run of their own.
# The mounted file system grows in the guest of tests/vm: preroot's one ioctl in `apply` (with all that apply reads before)
# beside the tool of each file system. BOOTS=5
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

# --- mounted, in a guest ----------------------------------------------------------------------------------

appliance=$("$REPO/tests/vm/appliance.sh")
BOOTS=$(count "${BOOTS:-5}")
require zstd=zstd cpio=cpio
mkdir -p "$work/more/bin" "$work/more/stack/bin"
cp "$MEASURE" "$work/more/bin/measure"
cp "$MEASURE" "$work/more/stack/bin/measure"
(cd "$work/more" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -1 >"$work/more.cpio"
cat "$appliance/initrd.img" "$appliance/stack.cpio" "$work/more.cpio" >"$work/initrd.img"

# guest FILE-SYSTEM NAME FACT WORD: a fresh disk whose partition is larger than its file system, and who grows that.
guest() {
    local fact=$3 console=$work/console
    rm -f "$work/times" "$work/written"
    for _ in $(seq "$BOOTS"); do
        rm -f "$work/root" "$work/disk"
        truncate -s 2G "$work/root" # what there was before
        "mkfs.$1" -q -L growth "$work/root" >/dev/null 2>&1
        truncate -s 8G "$work/disk"
        printf 'label: gpt\n1 : start=20480, type=L\n' | sfdisk -q "$work/disk"
        dd if="$work/root" of="$work/disk" bs=1M seek=10 conv=notrunc,sparse status=none
        "$REPO/tests/vm/boot.sh" bench-grow kernel="$appliance/vmlinuz" initrd="$work/initrd.img" disk="$work/disk" console="$console" \
            append="root=LABEL=growth vm.grow=$1 vm.part=vda1 $4" || die "$2: the guest did not get through"
        sed -n "s/^.*VM $fact=\(.*\)$/\1/p" "$console" >>"$work/times"
        sed -n "s/^.*VM written-apply=\(.*\)$/\1/p" "$console" >>"$work/written"
        [ "$(sed -n 's/^.*VM root-bytes=\(.*\)$/\1/p' "$console")" -gt 7000000000 ] || die "$2: it did not grow"
    done
    printf '%-34s %9s %9s %7s %9s\n' "$1: $2" "$(column "$work/times" 2 | median | scaled 0.001 1)" \
        "$(awk '{ print $3 + $4 }' "$work/times" | median | scaled 0.001 1)" 1 "$(median <"$work/written" | scaled 512 0)"
}
printf '%-34s %9s %9s %7s %9s\n' "the file system, mounted ($ACCEL)" '' '' '' ''
for file_system in ext4 xfs btrfs; do
    guest $file_system 'preroot apply' measure-apply vm.measure
    case $file_system in
        ext4) guest ext4 resize2fs measure-by vm.by=resize2fs,/dev/vda1 ;;
        xfs) guest xfs xfs_growfs measure-by vm.by=xfs_growfs,/mnt ;;
        btrfs) guest btrfs 'btrfs filesystem resize' measure-by vm.by=btrfs,filesystem,resize,max,/mnt ;;
    esac
done
