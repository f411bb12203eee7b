#!/bin/bash
# What does provisioning cost a boot? The same Debian image without a provisioner, with preroot, and with Debian's cloud-init.
#
# usage: boot.sh       BOOTS=5 boots of each, interleaved; medians. For both initrd tools, or for $ONLY_INITRD
# Each boot is a first boot of a new machine on the fake Azure. Seconds since power-on, and the CPU seconds that QEMU had
# used by then: under emulation that is the guest's work, and it depends less on what else this machine does.
#   root      the kernel mounted the root file system
#   login     sshd answers on the network
#   Ready     the platform accepted the report
# SSH host keys are in the image for all three (HOST_KEYS=new: everybody makes them, which takes a random time).
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$REPO/tests/vm/azure.sh"

need_root genisoimage=genisoimage ssh-keygen=openssh-client qemu-system-x86_64=qemu-system-x86
BOOTS=${BOOTS:-$(count 5)}
DEADLINE=${DEADLINE:-600}
NAMESPACE=bench-boot
LAB=$VM_DIR/lab-$NAMESPACE
RESULTS=$VM_DIR/bench-boot
PROVISIONERS=${PROVISIONERS:-none preroot cloud-init}
PREROOT_LAB=${PREROOT_LAB:-/run/preroot-lab}

finish() {
    if [ -s "$VM_DIR/qemu-bench-boot.pid" ] && grep -qsa qemu "/proc/$(cat "$VM_DIR/qemu-bench-boot.pid")/comm"; then
        kill "$(cat "$VM_DIR/qemu-bench-boot.pid")" 2>/dev/null || true
    fi
    azure_down
    rm -rf "$LAB"
}
trap finish EXIT

# boot PROVISIONER IMAGE: one boot; a line of results is added to $RESULTS.
boot() {
    local ready=$LAB/ready line
    [ "$1" != none ] || ready=none
    new_person
    "$REPO/tests/vm/medium.sh" azure "$LAB/medium.img"
    azure_up azure
    boot_once boot "$2/vmlinuz" "$2/initrd.img" "$2/disk.img" "$((DEADLINE + 30))" 'Linux version' systemd.show_status=yes 2>"$LAB/boot.err" &
    local boot_pid=$!
    line=$(sh "$REPO/tests/cloud/namespace.sh" cloud "$NAMESPACE" python3 "$BENCH/watch.py" "$VM_DIR/qemu-bench-boot.pid" \
        "$VM_DIR/console-bench-boot.log" "$ready" "$PREROOT_LAB/$NAMESPACE/leases" "$DEADLINE") || {
        cp "$VM_DIR/console-bench-boot.log" "$VM_DIR/console-bench-$1-failed.log" || true
        say "boot: $1 did not get through: $VM_DIR/console-bench-$1-failed.log"
    }
    wait "$boot_pid" || cat "$LAB/boot.err" >&2
    cp "$VM_DIR/console-bench-boot.log" "$VM_DIR/console-bench-$INITRD-$1.log"
    azure_down
    printf '%s\n' "$line" >>"$RESULTS/$INITRD-$1"
    say "boot: $INITRD, $1: $line"
}

# cell PROVISIONER COLUMN: median.
cell() { column "$RESULTS/$INITRD-$1" "$2" | median | scaled 1 2; }
# beside PROVISIONER COLUMN: in per cent of the boot without a provisioner, above it.
beside() {
    local base=${base_of[$2]}
    awk -v a="$(cell "$1" "$2")" -v b="$base" 'BEGIN { if (a == "-" || b == "-" || b == 0) print "-"; else printf "%+.1f %%", 100 * (a - b) / b }'
}

report() {
    local who base_of
    declare -A base_of=()
    for n in 1 2 3 4; do base_of[$n]=$(cell none "$n" 2>/dev/null || echo -); done
    printf '\n%s, %s: medians of %s boots\n' "$SUITE" "$INITRD" "$BOOTS"
    printf '%-12s | %9s %9s %9s | %9s %9s %9s | %14s %14s\n' '' 'root s' 'login s' 'Ready s' 'root CPU' 'login CPU' 'Ready CPU' 'login above' 'CPU above'
    for who in $PROVISIONERS; do
        printf '%-12s | %9s %9s %9s | %9s %9s %9s | %14s %14s\n' "$who" "$(cell "$who" 1)" "$(cell "$who" 3)" "$(cell "$who" 5)" \
            "$(cell "$who" 2)" "$(cell "$who" 4)" "$(cell "$who" 6)" "$(beside "$who" 3)" "$(beside "$who" 4)"
    done
}

azure_down # of a run that was interrupted
rm -rf "$RESULTS"
mkdir -p "$RESULTS"
for tool in ${ONLY_INITRD:-dracut initramfs-tools}; do
    export INITRD=$tool
    declare -A images=()
    for who in $PROVISIONERS; do images[$who]=$(PROVISIONER=$who WITHOUT_PLAIN=yes "$REPO/tests/vm/build-image.sh"); done
    for ((run = 1; run <= BOOTS; run++)); do
        for who in $PROVISIONERS; do boot "$who" "${images[$who]}"; done
    done
    report
done
