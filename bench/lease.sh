#!/bin/bash
# How long until a lease: preroot beside udhcpc, dhclient and dhcpcd, on the same link, from the same server?
#
# usage: lease.sh      RUNS=21 runs of each client, interleaved; medians
# A network namespace without uplink; udhcpc and dhclient run no script, so they do not configure the kernel; dhcpcd does, and is
# given no time for probing by ARP.
# preroot's whole run also asks IMDS and writes the seed: its lease is what compares.
set -euo pipefail
. "$(dirname "$0")/common.sh"

need_root udhcpc=udhcpc dhclient=isc-dhcp-client dhcpcd=dhcpcd-base strace=strace
build_measure
RUNS=${RUNS:-$(count 21)}
NAME=bench-lease
WORK=$VM_DIR/lease
VM_ID=91267c52-9f02-4cfe-b1f4-a4da7ebac2cf
namespace() { sh "$REPO/tests/cloud/namespace.sh" "$@"; }

down() {
    [ -z "${PLATFORM_PID:-}" ] || kill "$PLATFORM_PID" 2>/dev/null || true
    namespace down "$NAME" 2>/dev/null || true
    rm -rf "$WORK"
}
trap down EXIT
down # of a run that was interrupted
mkdir -p "$WORK"
namespace up "$NAME" veth azure
namespace cloud "$NAME" python3 "$REPO/tests/cloud/fake_azure.py" --log "$WORK/platform.jsonl" --ready-file "$WORK/ready" \
    --vm-id "$VM_ID" --user azureuser --hostname edge-vm-01 --disable-password true \
    --key "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOTIMrewkNL6WVEfB84ELHPJta4yoV85EVlNOF6f9NBr bench" >"$WORK/platform.out" 2>&1 &
PLATFORM_PID=$!
until grep -qs listening "$WORK/platform.out"; do
    kill -0 "$PLATFORM_PID" 2>/dev/null || { cat "$WORK/platform.out" >&2; die "the fake platform does not start"; }
    sleep 0.1
done

# Azure's SMBIOS, seen by these processes alone: a /sys of the same parts with another class/dmi.
# shellcheck disable=SC2016 # the inner shell's
namespace vm "$NAME" unshare --mount --propagation private bash -euc '
    work=$0/sys
    mkdir -p "$work"
    mount -t tmpfs none "$work"
    mkdir -p "$work/real" "$work/new/class/dmi/id"
    mount --rbind /sys "$work/real"
    for part in "$work"/real/*/ "$work"/real/class/*/; do
        part=${part%/}
        part=${part#"$work/real/"}
        case $part in class | class/dmi) continue ;; esac
        mkdir -p "$work/new/$part"
        mount --rbind "$work/real/$part" "$work/new/$part"
    done
    echo 7783-7084-3265-9085-8269-3286-77 >"$work/new/class/dmi/id/chassis_asset_tag"
    echo "$1" >"$work/new/class/dmi/id/product_uuid"
    mount --rbind "$work/new" /sys
    mkdir "$work/run"
    mount -t tmpfs none /var/lib/dhcpcd
    shift
    exec "$@"' "$WORK" "$VM_ID" python3 "$BENCH/lease.py" "$BINARY" "$WORK/sys/run" "$RUNS" "$MEASURE"
