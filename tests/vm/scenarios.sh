#!/bin/bash
# What becomes of a machine in each of these worlds? Boots one after the other and compares.
#
# usage: scenarios.sh fast|full [NAME...]       `full`: the real images too (root trees are built when missing)
# One line per scenario, the reasons and the console log below a failed one, `N passed, N failed` at the end.
set -uo pipefail
. "$(dirname "$0")/lab.sh"
. "$REPO/tests/vm/azure.sh"

set_name=${1:-fast}
shift || true
only=" $* "
case $set_name in fast | full) ;; *) die "usage: scenarios.sh fast|full [NAME...]" ;; esac
[ "$(id -u)" -eq 0 ] || die "root is needed for network namespaces"
require ip=iproute2 dnsmasq=dnsmasq-base python3=python3 ssh-keygen=openssh-client genisoimage=genisoimage
trap azure_down EXIT

passed=0 failed=0 reasons=()
NEVER_READY='{"health-json": ["never"], "goalstate": ["never"], "health-xml": ["never"], "versions": ["never"]}'
ROOT='root=PARTUUID=7b2d1c5e-0c1f-4a53-9a4e-52f1d3a9c0aa ro'

# --- the world of one scenario ----------------------------------------------------------------------------

# world: everything as on Azure; a scenario then changes what it is about. `meanwhile` names what runs beside the machine;
# it adds what is to be ended with it to companions.
world() {
    image='' disk='' keep_disk=no medium=azure drive=ide network=azure script='' platform=() append='' deadline=${DEADLINE:-120} guest=appliance more_initrd='' more_words=() temporary='' as=virtio data='' make=azure serial='' meanwhile='' companions=() cache=unsafe slow='' monitor='' lost=none
    uuid=527c2691-029f-fe4c-b1f4-a4da7ebac2cf VM_ID=91267c52-9f02-4cfe-b1f4-a4da7ebac2cf
    suite=bookworm tool=dracut init=systemd with=''
}

image_dir() {
    case $guest in
        appliance) SUITE=$suite "$REPO/tests/vm/appliance.sh" ;;
        *) SUITE=$suite INITRD=$tool INIT=$init WITH=$with WITHOUT_PLAIN=yes "$REPO/tests/vm/build-image.sh" ;;
    esac
}

# own_disk: this scenario's boots have one root, that of a new machine.
own_disk() {
    image=$(image_dir) || return 1
    disk=$LAB/disk.img keep_disk=yes
    cp --sparse=always "$image/disk.img" "$disk"
}

# The root file system of $disk, for debugfs: neither mount nor loop device.
root_of_disk() { echo "$disk?offset=$(($(sgdisk -i 1 "$disk" | sed -n 's/First sector: \([0-9]*\).*/\1/p') * 512))"; }
unplant() { debugfs -w -R "rm $1" "$(root_of_disk)" >/dev/null 2>&1; }
# plant PATH MODE <CONTENT: a file there, whose directories are made.
plant() {
    local at=$1 mode=$2 directory='' part words
    cat >"$LAB/planted"
    words=$(IFS=/
        for part in ${at%/*}; do
            [ -z "$part" ] || { directory+=/$part; echo "mkdir $directory"; }
        done)
    printf '%s\nrm %s\nwrite %s %s\nset_inode_field %s mode 0100%s\n' "$words" "$at" "$LAB/planted" "$at" "$at" "$mode" >"$LAB/planting"
    debugfs -w -f "$LAB/planting" "$(root_of_disk)" >/dev/null 2>&1
    debugfs -R "cat $at" "$(root_of_disk)" 2>/dev/null | cmp -s - "$LAB/planted" || problem "$at could not be planted"
}

# reversed WORD...: as kernel arguments, where the words themselves would be found on the console.
reversed() { printf '%s\n' "$@" | rev | paste -sd ,; }

# boot NAME [WORDS...]: one boot of this world, with these kernel arguments more. The console is in $console afterwards.
boot() {
    local name=$1 nic=$NAMESPACE disc=$medium snapshot=yes
    image=$(image_dir) || { problem 'the image was not built'; return 1; }
    console=$VM_DIR/console-$name.log
    case $medium in none | empty) ;; *)
        disc=$LAB/medium.img
        case $medium in
            config-drive* | nocloud*) "$REPO/tests/vm/drive.sh" "$medium" "$disc" ;;
            *) "$REPO/tests/vm/medium.sh" "$medium" "$disc" ;;
        esac ;;
    esac
    if [ -n "$script" ]; then
        printf '%s\n' "$script" >"$LAB/script.json"
        platform+=(--script "$LAB/script.json")
    fi
    # Nobody will answer it, and only imds-late is about the waiting.
    case $append in *rd.preroot.imds=*) ;; *) [ "$network" != none ] || append="$append rd.preroot.imds=1" ;; esac
    if [ "$network" = none ]; then nic=none; : >"$LAB/platform.jsonl"; : >"$LAB/ready"
    else azure_up "$network" ${platform[@]+"${platform[@]}"}; fi
    [ -z "$meanwhile" ] || "$meanwhile"
    [ "$keep_disk" = no ] || snapshot=no
    cat "$image/initrd.img" ${more_initrd:+"$image/$more_initrd"} >"$LAB/initrd.img"
    "$REPO/tests/vm/boot.sh" "$name" kernel="$image/vmlinuz" initrd="$LAB/initrd.img" disk="${disk:-$image/disk.img}" \
        uuid="$uuid" make="$make" serial="$serial" snapshot="$snapshot" medium="$disc" drive="$drive" temporary="$temporary" as="$as" data="$data" cache="$cache" slow="$slow" monitor="$monitor" network="$nic" deadline="$deadline" console="$console" \
        append="$ROOT vm.check vm.poweroff vm.canaries=$(reversed "$CANARY_PASSWORD" "$CANARY_KEY" "$CANARY_DATA" ${more_words[@]+"${more_words[@]}"}) $append ${*:2}" \
        2>"$LAB/boot.err" || problem "$(cat "$LAB/boot.err")"
    [ ${#companions[@]} -eq 0 ] || { kill "${companions[@]}"; wait "${companions[@]}"; companions=(); } 2>/dev/null
    if [ "$network" = none ]; then frames=0
    else
        # what the machine sent, of whatever kind
        frames=$(sh "$REPO/tests/cloud/namespace.sh" cloud "$NAMESPACE" cat /sys/class/net/tap0/statistics/rx_packets)
        azure_down
    fi
}

# boot_until TEXT SECONDS NAME: as boot, but the power goes so long after the console has this text.
boot_until() {
    local text=$1 seconds=$2 name=$3 before=${#reasons[@]} killer
    : >"$VM_DIR/console-$name.log"
    rm -f "$VM_DIR/qemu-$name.pid"
    {
        for _ in $(seq 4800); do
            ! grep -aqF "$text" "$VM_DIR/console-$name.log" || break
            sleep 0.05
        done
        sleep "$seconds"
        kill -KILL "$(cat "$VM_DIR/qemu-$name.pid")" 2>/dev/null
    } &
    killer=$!
    boot "$name"
    kill "$killer" 2>/dev/null
    wait "$killer" 2>/dev/null
    # that there is no marker is no problem
    reasons=("${reasons[@]:0:$before}")
}

# --- what is expected of it -------------------------------------------------------------------------------

problem() { reasons+=("$*"); }
value() { sed -n "s/^.*VM $1=\(.*\)$/\1/p" "$console" | tail -n 1; }

expect() { # KEY PATTERN (extended, whole value)
    local is
    is=$(value "$1")
    printf '%s\n' "$is" | grep -qxE -- "$2" || problem "$1 is '$is', expected $2"
}
console_says() { grep -aqE -- "$1" "$console" || problem "the console does not say: $1"; }
console_lacks() { ! grep -aqE -- "$1" "$console" || problem "the console says: $(grep -aE -- "$1" "$console" | head -n 1)"; }
expect_reports() { # STATE COUNT
    local is
    is=$(reported "$1")
    [ "$is" = "$2" ] || problem "$1 was reported $is times, expected $2"
}
# Nobody who is asked correctly finds a fault in our requests.
requests_are_clean() {
    local faults
    faults=$(grep '"event": "request"' "$LAB/platform.jsonl" | grep -v '"verdict": "ok"' | grep -o '"verdict": "[^"]*"' | sort -u)
    [ -z "$faults" ] || problem "the platform finds: $faults"
}
no_panic() {
    local ended
    console_lacks 'panicked|Kernel panic'
    # `lost` is the stage that a scenario itself ends
    ended=$(grep -aE 'exit-[a-z-]*=(101|137) ' "$console" | grep -v "exit-$lost=")
    [ -z "$ended" ] || problem "lost: $ended"
}
root_grown() { # BYTES at least
    local is
    is=$(value partition-bytes)
    [ "${is:-0}" -ge "$1" ] || problem "the root partition has ${is:-no} bytes, expected at least $1"
    is=$(value root-bytes)
    [ "${is:-0}" -ge "$(($1 * 9 / 10))" ] || problem "the root file system has ${is:-no} bytes, expected about $1"
}
person_is_complete() { person_from_imds; expect hash-kind '[$]6[$]'; }
person_from_imds() {
    expect hostname "$VM_HOST"
    expect hostname-file "$VM_HOST"
    expect user "$VM_USER"
    expect keys 1
}
nobody_was_made() { expect user ''; expect hostname-file localhost; }
kernel_network_untouched() {
    expect monitor-address 0
    expect monitor-route 0
    expect monitor-neighbour 0
}
# The same on a real image: events of the NIC before the real root's systemd starts.
initrd_network_untouched() {
    local events
    console_says 'VM-monitor .*\[LINK\]'
    events=$(awk '/systemd\[1\]: systemd [0-9]/ { last = NR } { line[NR] = $0 }
        END { for (n = 1; n < last; n++) if (line[n] ~ /VM-monitor .*\[(ADDR|ROUTE|NEIGH)\].*eth0/) print line[n] }' "$console")
    [ -z "$events" ] || problem "the kernel's network was touched: $events"
}
# The final places: the key in authorized_keys, customData where programs of the image read it.
no_canary() {
    local places
    places=$(grep -a ' VM canary-at=' "$console" | grep -vE '/(home/[a-z]*|root)/\.ssh/authorized_keys$|/var/lib/preroot/custom-data$|/var/lib/waagent/CustomData$' | sed 's/^ *[0-9.]* VM canary-at=//' | sort -u)
    [ -z "$places" ] || problem "canaries remain: $(printf '%s' "$places" | tr '\n' ';')"
    for canary in "$CANARY_PASSWORD" "$CANARY_KEY" "$CANARY_DATA"; do
        ! grep -aq -- "$canary" "$console" || problem "a canary is on the console"
        ! grep -aq -- "$canary" "$LAB/platform.jsonl" || problem "a canary reached the platform"
    done
}

# scenario NAME SET FUNCTION: runs it if it is wanted.
scenario() {
    local name=$1
    [ "$only" != '  ' ] || [ "$2" = fast ] || [ "$set_name" = full ] || return 0
    [ "$only" = '  ' ] || case $only in *" $name "*) ;; *) return 0 ;; esac
    local start=$SECONDS
    reasons=()
    console=''
    world
    new_person
    "$3"
    [ -z "$console" ] || no_panic
    if [ ${#reasons[@]} -eq 0 ]; then
        passed=$((passed + 1))
        printf 'ok      %-28s %4d s\n' "$name" $((SECONDS - start))
    else
        failed=$((failed + 1))
        printf 'FAILED  %-28s %4d s   console: %s\n' "$name" $((SECONDS - start)) "$console"
        printf '        %s\n' "${reasons[@]}"
        cp "$LAB/platform.jsonl" "${console%.log}.platform" 2>/dev/null
    fi
    rm -rf "$LAB"
}

. "$REPO/tests/vm/table.sh"
. "$REPO/tests/vm/table-faults.sh"
. "$REPO/tests/vm/table-growth.sh"
. "$REPO/tests/vm/table-real.sh"
. "$REPO/tests/vm/table-media.sh"
. "$REPO/tests/vm/table-cloud-config.sh"

printf 'vm: %s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
