#!/bin/bash
# Is busybox, dropbear and preroot enough? `make demo APPLIANCE=1`: builds the image of examples/appliance, boots it on a fake
# Azure, shows each step, a login by key and by password, the grown root, and the size of all of it.
#
# ACCEL QEMU's accelerator. Needs root. Nothing can leave the machine.
# shellcheck disable=SC2016 # the guest expands it
set -euo pipefail
. "$(dirname "$0")/lab.sh"
. "$REPO/tests/vm/azure.sh"
. "$REPO/tests/vm/show.sh"

[ "$(id -u)" -eq 0 ] || die "run as root: network namespaces and the image need it"
require ip=iproute2 dnsmasq=dnsmasq-base python3=python3 ssh=openssh-client sshpass=sshpass genisoimage=genisoimage \
    qemu-system-x86_64=qemu-system-x86 zstd=zstd perl=perl-base cpio=cpio sgdisk=gdisk mke2fs=e2fsprogs modprobe=kmod \
    readelf=binutils mmdebstrap=mmdebstrap

heading '1. An image of busybox, dropbear and preroot'
tree=$(INITRD=initramfs-tools "$REPO/tests/vm/build-root.sh") # for its kernel
release=$(basename "$(find "$tree/usr/lib/modules" -mindepth 1 -maxdepth 1 | sort -V | tail -n 1)")
image=$VM_DIR/image-appliance
"$REPO/examples/appliance/build.sh" "$tree/boot/vmlinuz-$release" "$tree/usr/lib/modules/$release" "$image" \
    "$REPO/tests/vm/appliance-check" | sed 's/^/   /'
cp --sparse=always "$image/disk.img" "$VM_DIR/demo.img"

heading '2. A fake Azure in a network namespace without uplink'
azure_down # of a demo that was interrupted
new_person
"$REPO/tests/vm/medium.sh" azure "$LAB/medium.img"
azure_up azure
point 'the person' "$VM_USER on $VM_HOST, an SSH key and a password"

heading "3. The boot (QEMU $ACCEL; seconds since power-on)"
rm -f "$console" "$VM_DIR/qemu-demo.pid"
: >"$console"
"$REPO/tests/vm/boot.sh" demo kernel="$image/vmlinuz" initrd="$image/initrd.img" disk="$VM_DIR/demo.img" \
    medium="$LAB/medium.img" network="$NAMESPACE" deadline=240 console="$console" \
    append="root=PARTLABEL=root ro" 2>"$LAB/boot.err" &
BOOT_PID=$!
follow "$BOOT_PID"
if ! grep -qaF PREROOT-VM-OK "$console"; then
    cat "$LAB/boot.err" >&2
    tail -n 30 "$console" >&2
    die "the machine ended without its marker; the console is in $console"
fi
address=$(guest_value addresses | cut -d/ -f1)

heading "4. Logging in as $VM_USER@${address:-?}"
for way in key password; do
    if answer=$("by_$way" 'echo "$(hostname), $(id -un), groups $(id -Gn | tr " " ",")"' 2>&1); then point "ssh with the $way" "$answer"
    else bad "ssh with the $way: $answer"; fi
done
[ "$(guest_value hostname)" = "$VM_HOST" ] || bad "the host name is $(guest_value hostname)"
[ "$(guest_value hash-kind)" = '$6$' ] || bad "the password hash is of kind $(guest_value hash-kind)"

heading '5. What is in it'
point 'bash, Python, shadow, sudo, systemd' "$(guest_value programs | grep . || echo none of them)"
[ -z "$(guest_value programs)" ] || bad "there is more than busybox, dropbear and preroot"
if answer=$(by_key 'df -h /' 2>&1); then printf '%s\n' "$answer" | sed 's/^/   /'; else bad "df: $answer"; fi
bytes=$(guest_value root-bytes)
[ "${bytes:-0}" -gt 400000000 ] || bad "the root file system has ${bytes:-no} bytes, not about 512 MiB"
sed 's/^/   /' "$image/sizes"

heading '6. What the platform saw'
show_requests

heading "$([ "$failures" -eq 0 ] && echo 'Done' || echo "$failures of the above FAILED") in $((SECONDS - started)) s. The console: $console"
[ "$failures" -eq 0 ]
