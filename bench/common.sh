# shellcheck shell=bash
# What do the measuring scripts share? The laboratory of tests/vm, medians, and one boot. (sourced by all of them)
#
#   SUITE INITRD ACCEL VM_DIR    as in tests/vm/lab.sh
#   QUICK=1                      the smallest counts: does it work at all?

. "$(dirname "${BASH_SOURCE[0]}")/../tests/vm/lab.sh"
BENCH=$REPO/bench
BINARY=$REPO/target/release/preroot
QUICK=${QUICK:-}
export HOST_KEYS=image # making them is luck in time, and the same for everybody: left out
ROOT_ARGUMENT='root=PARTUUID=7b2d1c5e-0c1f-4a53-9a4e-52f1d3a9c0aa ro'
[ -x "$BINARY" ] || die "build first: cargo build --release"

# count FULL: how often something is repeated.
count() { if [ -n "$QUICK" ]; then echo 1; else echo "$1"; fi; }

# median: of the numbers on standard input, one per line; `-` when there is none.
median() { sort -g | awk '{ v[NR] = $1 } END { if (!NR) print "-"; else print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# column FILE N: the Nth word of each line.
column() { awk -v n="$2" '$n != "" && $n != "-" { print $n }' "$1"; }

# scaled FACTOR DIGITS: a number from standard input times FACTOR, for people.
scaled() { awk -v f="$1" -v d="$2" '{ if ($1 == "-") print "-"; else printf "%.*f\n", d, $1 * f }'; }

need_root() {
    [ "$(id -u)" -eq 0 ] || die "root is needed for network namespaces and root trees"
    require ip=iproute2 dnsmasq=dnsmasq-base python3=python3 "$@"
}

# build_measure: bench/measure.c as a static program, so that it runs in any initrd; its path is in $MEASURE.
build_measure() {
    MEASURE=$VM_DIR/measure
    require cc=gcc
    if [ ! -x "$MEASURE" ] || [ "$BENCH/measure.c" -nt "$MEASURE" ]; then
        cc -O2 -static -s -o "$MEASURE" "$BENCH/measure.c" || die "bench/measure.c needs a C library to link (package libc6-dev)"
    fi
}

# build_plugin COUNTER: bench/instructions.c for the QEMU here; $PLUGIN says how to use it, and is empty where there is no TCG.
build_plugin() {
    local major api=1
    PLUGIN=''
    major=$(qemu-system-x86_64 --version | sed -n 's/.*version \([0-9]*\).*/\1/p' | head -n 1)
    [ "$major" -lt 9 ] || api=2
    [ "$ACCEL" = tcg ] || return 0
    require cc=gcc
    cc -O2 -DAPI=$api -shared -fPIC -o "$VM_DIR/instructions.so" "$BENCH/instructions.c" || return 0
    PLUGIN=$VM_DIR/instructions.so,counter=$1
}

# boot_once NAME KERNEL INITRD DISK DEADLINE MARKER APPEND: one boot of a new person's machine on the fake Azure. The disk
# stays as it is. Its console is in $console; the network stays up until azure_down. (after azure.sh)
boot_once() {
    console=$VM_DIR/console-bench-$1.log
    rm -f "$console" "$VM_DIR/qemu-bench-$1.pid"
    "$REPO/tests/vm/boot.sh" "bench-$1" kernel="$2" initrd="$3" disk="$4" snapshot=yes medium="$LAB/medium.img" \
        network="$NAMESPACE" deadline="$5" marker="$6" console="$console" append="$ROOT_ARGUMENT $7" plugin="${PLUGIN:-}"
}
