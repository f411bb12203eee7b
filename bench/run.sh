#!/bin/bash
# What does preroot cost, in one table? `make bench`: sizes, stages, leases, boots; numbers, no verdicts.
#
# usage: run.sh [size|stages|grow|lease|media|boot...]     all of them without words
#   QUICK=1            smallest counts      BOOTS=5  RUNS=21      counts of boots and of DHCP runs
#   ONLY_INITRD=dracut one initrd tool only
# Writes bench/results/<date>-<processor>.txt; single parts are only printed. Needs root; nothing can leave the machine.
set -euo pipefail
. "$(dirname "$0")/common.sh"

need_root zstd=zstd readelf=binutils cpio=cpio
WORDS=$*
PARTS=$VM_DIR/bench-parts
rm -rf "$PARTS"
mkdir -p "$PARTS"

processor=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
cores=$(nproc)
machine=$(printf '%s-%s-cores' "${processor:-unknown}" "$cores" | tr '[:upper:]' '[:lower:]' | sed 's/(r)\|(tm)//g; s/[^a-z0-9.]\{1,\}/-/g; s/-$//')
result=$BENCH/results/$(date +%F)-$machine.txt

wanted() { [ -z "$WORDS" ] || case " $WORDS " in *" $1 "*) ;; *) return 1 ;; esac; }
heading() { printf '\n== %s\n\n' "$*"; }

# part NAME HEADING: runs a script and keeps what it prints for the table. One that fails does not end the others.
part() {
    wanted "$1" || return 0
    heading "$2"
    "$BENCH/$1.sh" | tee "$PARTS/$1" || printf '%s.sh did not finish; its reasons are on standard error\n' "$1"
}

about() {
    printf 'preroot %s, %s\n' "$("$BINARY" version | sed 's/^preroot //')" "$(git -C "$REPO" rev-parse --short HEAD 2>/dev/null || echo 'no commit')"
    printf '%s, %s cores, Linux %s; load %s at the start\n' "${processor:-unknown}" "$cores" "$(uname -r)" "$(cut -d' ' -f1-3 /proc/loadavg)"
    printf '%s; guests: Debian %s under QEMU %s (%s)\n' "$(date +%F)" "$SUITE" \
        "$(qemu-system-x86_64 --version 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p')" "$ACCEL"
}

# field PART ROW WORD: a word of the row that begins so.
field() { awk -v row="$2" -v n="$3" 'index($0, row) == 1 { print $n; exit }' "$PARTS/$1" 2>/dev/null; }
line() { [ -z "$2" ] || printf '%-52s %s\n' "$1" "$2"; }

# The answers to the questions people ask first.
table() {
    local tool rows
    line 'binary, bytes' "$(field size binary 2)"
    line 'binary, bytes compressed' "$(field size binary 4)"
    [ ! -s "$PARTS/size" ] || awk '$1 == "initrd" { printf "%-52s %s\n", "added to the initrd of " $2 ", bytes", $8 }' "$PARTS/size"
    line 'CPU of the four initrd stages, emulated ms' \
        "$(awk '/^(modules|fetch|grow|persist) / { sum += $5; n++ } END { if (n) printf "%.0f", sum }' "$PARTS/stages" 2>/dev/null)"
    line 'most memory of a stage, KiB resident' "$(awk '$7 + 0 > most { most = $7 } END { print most }' "$PARTS/stages" 2>/dev/null)"
    line 'lease, ms from start to ACK: preroot' "$(field lease 'preroot' 4)"
    line '                             udhcpc' "$(field lease udhcpc 2)"
    line '                             dhclient' "$(field lease dhclient 2)"
    line '                             dhcpcd' "$(field lease dhcpcd 2)"
    line 'media reader, ratio to udf.ko mount and read' "$(awk '/^ratio/ { print $NF }' "$PARTS/media" 2>/dev/null)"
    [ -s "$PARTS/boot" ] || return 0
    for tool in ${ONLY_INITRD:-dracut initramfs-tools}; do
        rows=$(awk -v tool="$tool:" -F' *[|] *' '/medians of/ { at = index($0, ", " substr(tool, 1, length(tool) - 1) ":") }
            at && NF == 5 && $1 != "" { print }' "$PARTS/boot")
        printf '%s\n' "$rows" | awk -v tool="$tool" -F' *[|] *' 'NF == 5 && $1 != "" {
            split($2, wall, " "); split($4, work, " ")
            printf "%-52s %s s, %s x 10^9 instructions%s\n", "login, " tool ", " $1, wall[2], work[2],
                wall[3] == "-" ? "" : "; Ready " wall[3] " s, " work[3] }'
    done
}

everything() {
    about
    part size "Size"
    part stages "The initrd's stages and the two that follow, in the appliance (guest's time under $ACCEL)"
    part grow "A partition grows: preroot beside growpart and resize2fs (this machine's own time)"
    part lease "A lease, on a veth in a namespace (this machine's own time)"
    part media "The media reader beside the kernel's (guest's time under $ACCEL)"
    part boot "A first boot: no provisioner, preroot, cloud-init"
    heading 'In short'
    table
}

if [ -n "$WORDS" ]; then
    everything
else
    mkdir -p "$BENCH/results"
    everything | tee "$PARTS/result"
    mv "$PARTS/result" "$result"
    say "written: ${result#"$REPO/"}"
fi
