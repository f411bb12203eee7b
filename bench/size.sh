#!/bin/bash
# How many bytes is preroot, and how many more does an initrd have with it?
#
# usage: size.sh      for both initrd tools, or for $INITRD if ONLY_INITRD is set
set -euo pipefail
. "$(dirname "$0")/common.sh"

require readelf=binutils zstd=zstd

printf 'binary      %9d bytes   %9d compressed (zstd -19)\n' "$(stat -c %s "$BINARY")" "$(zstd -q -19 -c "$BINARY" | wc -c)"
readelf -SW "$BINARY" |
    sed -n 's/^ *\[ *[0-9]*\] \(\.[a-z_.]*\) *\([A-Z_]*\) *[0-9a-f]* [0-9a-f]* \([0-9a-f]*\) .*/\1 \2 \3/p' |
    while read -r section kind size; do
        printf '  %-10s%9d%s\n' "$section" "0x$size" "$([ "$kind" != NOBITS ] || echo '   in memory only')"
    done

# listed TREE IMAGE: bytes and path of each file of an initrd, by the tool that made it.
listed() {
    local lister=lsinitramfs\ -l
    [ "$INITRD" = initramfs-tools ] || lister=lsinitrd
    cp "$2" "$1/tmp/bench.img"
    # shellcheck disable=SC2086 # a program and its option
    chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C $lister /tmp/bench.img | awk '/^-/ { print $5, $NF }' | sort -k 2
    rm -f "$1/tmp/bench.img"
}

# The files that are there only with us, or larger with us: modules, preroot, everything else.
added_files() { # TREE WITH WITHOUT
    { listed "$1" "$3" | sed 's/^/- /'; listed "$1" "$2" | sed 's/^/+ /'; } |
        awk '$1 == "-" { had[$3] = $2; next }
             $3 in had && had[$3] >= $2 { next }
             { what = $3 ~ /\.ko/ ? "modules" : $3 ~ /bin\/preroot$/ ? "preroot" : "others"; n[what]++; bytes[what] += $2 - had[$3] }
             END { for (what in n) printf "              unpacked: %-8s %3d files %9d bytes\n", what, n[what], bytes[what] }' | sort -r
}

for tool in ${ONLY_INITRD:-dracut initramfs-tools}; do
    export INITRD=$tool
    image=$("$REPO/tests/vm/build-image.sh")
    with=$(stat -Lc %s "$image/initrd.img") without=$(stat -Lc %s "$image/plain.img")
    printf 'initrd      %-16s without %9d   with %9d   added %8d bytes (%s %%), drivers included\n' "$tool" "$without" "$with" \
        $((with - without)) "$(awk -v a="$((with - without))" -v b="$without" 'BEGIN { printf "%.2f", 100 * a / b }')"
    added_files "$("$REPO/tests/vm/build-root.sh")" "$image/initrd.img" "$image/plain.img"
done
