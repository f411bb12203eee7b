#!/bin/bash
# What does each stage cost in the initrd? Boots the appliance of tests/vm: real kernel, emulated machine, fake Azure.
#
# usage: stages.sh      BOOTS=5 measured boots (time and CPU, medians), then one under strace (calls, memory)
# Guest's own numbers. Wall time of fetch includes the waits for drive, link, DHCP and IMDS; grow runs beside it.
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$REPO/tests/vm/azure.sh"

need_root genisoimage=genisoimage ssh-keygen=openssh-client cpio=cpio zstd=zstd
BOOTS=${BOOTS:-$(count 5)}
STAGES='modules fetch grow persist apply report'
NAMESPACE=bench-stages
LAB=$VM_DIR/lab-$NAMESPACE
trap 'azure_down; rm -rf "$LAB"' EXIT

appliance=$("$REPO/tests/vm/appliance.sh")
build_measure
azure_down # of a run that was interrupted
new_person

# boot WORD [ARCHIVE]: the appliance with one more archive; its console is in $console.
boot() {
    "$REPO/tests/vm/medium.sh" azure "$LAB/medium.img"
    cat "$appliance/initrd.img" "$2" >"$LAB/initrd.img"
    azure_up azure
    boot_once stages "$appliance/vmlinuz" "$LAB/initrd.img" "$appliance/disk.img" 240 PREROOT-VM-OK "$1 vm.poweroff" ||
        die "the appliance did not get through: $console"
    azure_down
}
value() { sed -n "s/^.*VM $1=\(.*\)$/\1/p" "$console" | tail -n 1; }

mkdir -p "$LAB/measure/bin"
cp "$MEASURE" "$LAB/measure/bin/measure"
(cd "$LAB/measure" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) | zstd -q -1 >"$LAB/measure.cpio"

for ((run = 1; run <= BOOTS; run++)); do
    say "stages: boot $run of $BOOTS"
    boot vm.measure "$LAB/measure.cpio"
    for stage in $STAGES; do value "measure-$stage" >>"$LAB/$stage.measured"; done
done
say 'stages: one boot under strace'
boot vm.strace "$appliance/strace.cpio"

printf '%-10s %9s %9s %9s %10s %9s %9s   %s\n' stage 'wall ms' 'user ms' 'system ms' 'CPU ms' calls 'RSS KiB' 'exit code'
for stage in $STAGES; do
    [ -s "$LAB/$stage.measured" ] || continue
    # "57 execve 1 rss-kib 212"
    read -r calls _ _ _ resident < <(value "syscalls-$stage"; echo)
    printf '%-10s %9s %9s %9s %10s %9s %9s   %s\n' "$stage" \
        "$(column "$LAB/$stage.measured" 2 | median | scaled 0.001 1)" \
        "$(column "$LAB/$stage.measured" 3 | median | scaled 0.001 1)" \
        "$(column "$LAB/$stage.measured" 4 | median | scaled 0.001 1)" \
        "$(awk '{ print $3 + $4 }' "$LAB/$stage.measured" | median | scaled 0.001 1)" \
        "${calls:--}" "${resident:--}" "$(column "$LAB/$stage.measured" 1 | sort -u | tr '\n' ' ')"
done
