#!/bin/bash
# Boots one virtual machine that looks like Azure's and waits for its marker.
#
# usage: boot.sh NAME key=value...
#   kernel= initrd=        files
#   disk=FILE              the root disk, written to; snapshot=yes keeps the file as it is
#   cache=MODE             of the root disk: QEMU's word, `none` where the power is to be cut                       (default unsafe)
#   slow=N                 the root disk takes so many writes a second                                (default all)
#   medium=FILE|empty|none the optical drive's disc, a drive without a disc, or no drive at all   (default none)
#   drive=ide|scsi         where the drive is: Gen1's IDE or Gen2's SCSI                           (default ide)
#   network=NAME|none      a namespace of tests/cloud/namespace.sh that is up (tap), or no NIC     (default none)
#   uuid=UUID              SMBIOS's                                                 (default that of azure.sh's VM_ID)
#   temporary=FILE         a disk in slot 1e of the PCI bus, as=nvme|scsi|virtio; as=array: FILE and FILE.2 behind a
#                          bridge there, both NVMe                                         (default virtio)
#   data=FILE              another disk
#   make=azure|tencent|openstack|pc  what SMBIOS says of the machine, serial=TEXT its serial number        (default azure)
#   monitor=FILE           a socket for QEMU's monitor
#   append="words"         more kernel arguments
#   plugin=FILE,OPTIONS    a plugin of QEMU's TCG
#   marker=TEXT            what the guest prints when it got through                 (default PREROOT-VM-OK)
#   deadline=SECONDS       for all of it                                             (default 240)
#   console=FILE           every console line with the seconds since power-on        (default $VM_DIR/console-NAME.log)
# Exit code 0 when the marker came; else 1 and the console log's name. No network but the namespace's.
# shellcheck disable=SC2054 # commas belong to QEMU's own words
set -euo pipefail
. "$(dirname "$0")/lab.sh"

[ $# -ge 1 ] || die "usage: boot.sh NAME key=value..."
name=$1
shift
kernel='' initrd='' disk='' snapshot=no medium=none drive=ide network=none append='' marker=PREROOT-VM-OK deadline=240 memory=768 plugin='' temporary='' as=virtio data='' make=azure serial='' cache=unsafe slow='' monitor=''
uuid=527c2691-029f-fe4c-b1f4-a4da7ebac2cf
console=$VM_DIR/console-$name.log
for pair in "$@"; do
    case $pair in
        kernel=* | initrd=* | disk=* | snapshot=* | medium=* | drive=* | network=* | append=* | marker=* | deadline=* | \
            console=* | memory=* | plugin=* | uuid=* | temporary=* | as=* | data=* | make=* | serial=* | cache=* | slow=* | monitor=*) declare "$pair" ;;
        *) die "unknown setting '$pair'" ;;
    esac
done
if [ ! -f "$kernel" ] || [ ! -f "$initrd" ]; then die "kernel= and initrd= must name files"; fi
require qemu-system-x86_64=qemu-system-x86 perl=perl-base timeout=coreutils

# cx16=off: emulated cmpxchg16b makes kernel 6.12 fault at random. One processor: no stalls between emulated ones.
machine=(-accel "$ACCEL" -cpu 'max,cx16=off' -smp 1 -m "$memory" -M pc
    -nodefaults -no-user-config -display none -serial stdio -no-reboot
    -device virtio-rng-pci)

case $make in
    azure) smbios='manufacturer=Microsoft Corporation,product=Virtual Machine'
        machine+=(-smbios 'type=3,asset=7783-7084-3265-9085-8269-3286-77') ;;
    tencent) smbios='manufacturer=Tencent Cloud,product=Tencent Cloud CVM' ;;
    openstack) smbios='manufacturer=OpenStack Foundation,product=OpenStack Nova' ;;
    pc) smbios='manufacturer=QEMU,product=Standard PC' ;;
    *) die "make is azure, tencent, openstack or pc" ;;
esac
machine+=(-smbios "type=1,uuid=$uuid,$smbios${serial:+,serial=$serial}")

[ -z "$disk" ] || machine+=(-drive "if=none,id=root,file=$disk,format=raw,cache=$cache,snapshot=$([ "$snapshot" = yes ] && echo on || echo off)${slow:+,throttling.iops-write=$slow}"
    -device virtio-blk-pci,drive=root)
more_disk() { machine+=(-drive "if=none,id=$1,file=$2,format=raw,cache=unsafe" -device "$3,drive=$1"); }
case $as in
    virtio) device=virtio-blk-pci,addr=0x1e ;;
    nvme) device=nvme,serial=preroot-test,addr=0x1e ;;
    scsi) device=scsi-hd,bus=disks.0 machine+=(-device virtio-scsi-pci,addr=0x1e,id=disks) ;;
    array)
        device=nvme,serial=preroot-one,bus=bridge
        machine+=(-device pci-bridge,id=bridge,chassis_nr=1,addr=0x1e)
        more_disk second "$temporary.2" nvme,serial=preroot-two,bus=bridge ;;
    *) die "as is virtio, nvme, scsi or array" ;;
esac
[ -z "$temporary" ] || more_disk temporary "$temporary" "$device"
[ -z "$data" ] || more_disk data "$data" virtio-blk-pci
case $drive in
    ide) cd=(-device ide-cd,bus=ide.1,unit=0) ;;
    scsi) cd=(-device virtio-scsi-pci,id=scsi -device scsi-cd,bus=scsi.0) ;;
    *) die "drive is ide or scsi" ;;
esac
case $medium in
    none) ;;
    empty) machine+=("${cd[@]}") ;;
    *) cd[-1]+=,drive=disc
        machine+=(-drive "if=none,id=disc,file=$medium,format=raw,readonly=on,media=cdrom" "${cd[@]}") ;;
esac
# no_timer_check: on a busy machine the timer of an emulated one seems broken to its kernel.
machine+=(-kernel "$kernel" -initrd "$initrd"
    -append "console=ttyS0 net.ifnames=0 panic=-1 no_timer_check mitigations=off lsm=yama systemd.show_status=error $append")

[ -z "$monitor" ] || machine+=(-monitor "unix:$monitor,server,nowait")
[ -z "$plugin" ] || machine+=(-plugin "$plugin")

# The NIC's address is the one the fake platform knows.
run=(timeout --foreground -k 5 "$deadline")
if [ "$network" = none ]; then
    run=(unshare --net "${run[@]}")
else
    run=(sh "$REPO/tests/cloud/namespace.sh" cloud "$network" "${run[@]}")
    machine+=(-netdev tap,id=net,ifname=tap0,script=no,downscript=no
        -device virtio-net-pci,netdev=net,mac=00:0d:3a:12:34:56)
fi

code=0
"${run[@]}" qemu-system-x86_64 "${machine[@]}" -pidfile "$VM_DIR/qemu-$name.pid" </dev/null 2>&1 |
    perl -MTime::HiRes=time -ne 'BEGIN { $| = 1; $start = time } s/\r//g; printf "%8.3f %s", time - $start, $_' >"$console" || code=$?

if grep -qF "$marker" "$console"; then exit 0; fi
[ "$code" -ne 124 ] || say "$name: no marker within $deadline s"
say "$name: '$marker' is missing; the console is in $console"
exit 1
