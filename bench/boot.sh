#!/bin/bash
# What does provisioning cost a boot? The same Debian image without a provisioner, with preroot, and with Debian's cloud-init.
#
# usage: boot.sh       BOOTS=5 boots of each, interleaved; medians. For both initrd tools, or for $ONLY_INITRD
# Each boot is a first boot of a new machine on the fake Azure. Three measures of what it took from power-on: seconds, CPU
# seconds of QEMU, and instructions of the guest, which depend least on what else this machine does (10^9; under TCG only).
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
COUNTER=$VM_DIR/bench-instructions
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
    local ready=$LAB/ready line boot_pid
    [ "$1" != none ] || ready=none
    new_person
    "$REPO/tests/vm/medium.sh" azure "$LAB/medium.img"
    rm -f "$COUNTER"
    azure_up azure
    boot_once boot "$2/vmlinuz" "$2/initrd.img" "$2/disk.img" "$((DEADLINE + 30))" 'Linux version' systemd.show_status=yes 2>"$LAB/boot.err" &
    boot_pid=$!
    line=$(sh "$REPO/tests/cloud/namespace.sh" cloud "$NAMESPACE" python3 "$BENCH/watch.py" "$VM_DIR/qemu-bench-boot.pid" \
        "$VM_DIR/console-bench-boot.log" "$ready" "$PREROOT_LAB/$NAMESPACE/leases" \
        "$COUNTER" "$DEADLINE") || {
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
# above PROVISIONER COLUMN: in per cent of the boot without a provisioner.
above() {
    awk -v a="$(cell "$1" "$2")" -v b="$([ ! -s "$RESULTS/$INITRD-none" ] || cell none "$2")" \
        'BEGIN { if (a == "-" || b + 0 == 0) print "-"; else printf "%+.1f %%", 100 * (a - b) / b }'
}

report() {
    local who row column
    row='%-11s | %7s %7s %7s | %7s %7s %7s | %7s %7s %7s | %9s %9s\n'
    printf '\n%s, %s: medians of %s boots\n' "$SUITE" "$INITRD" "$BOOTS"
    # shellcheck disable=SC2046,SC2059 # a format of ours, numbers without spaces
    {
        printf "$row" '' seconds '' '' 'CPU s' '' '' '10^9' instr. '' 'login is' above
        printf "$row" '' root login Ready root login Ready root login Ready CPU instr.
        for who in $PROVISIONERS; do
            printf "$row" "$who" $(for column in 1 4 7 2 5 8 3 6 9; do cell "$who" "$column"; done) \
                "$(above "$who" 5)" "$(above "$who" 6)"
        done
    }
}

azure_down # of a run that was interrupted
rm -rf "$RESULTS"
mkdir -p "$RESULTS"
build_plugin "$COUNTER"
for tool in ${ONLY_INITRD:-dracut initramfs-tools}; do
    export INITRD=$tool
    declare -A images=()
    for who in $PROVISIONERS; do images[$who]=$(PROVISIONER=$who WITHOUT_PLAIN=yes "$REPO/tests/vm/build-image.sh"); done
    for ((run = 1; run <= BOOTS; run++)); do
        for who in $PROVISIONERS; do boot "$who" "${images[$who]}"; done
    done
    report
done
