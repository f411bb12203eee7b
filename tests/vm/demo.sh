#!/bin/bash
# What does preroot do, seen by a person? `make demo`: boots a real Debian VM on a fake Azure and shows each step, the
# VM's own timeline, a login over SSH by key and by password, the grown root, and what it cost in the initrd.
#
# SUITE and INITRD choose the image (kept for the next time); ACCEL QEMU's accelerator. Needs root. Nothing can leave the machine.
# shellcheck disable=SC2016 # the guest expands it
set -euo pipefail
. "$(dirname "$0")/lab.sh"
. "$REPO/tests/vm/azure.sh"
. "$REPO/tests/vm/show.sh"

[ "$(id -u)" -eq 0 ] || die "run as root: network namespaces and the image's root tree need it"
require ip=iproute2 dnsmasq=dnsmasq-base python3=python3 ssh=openssh-client sshpass=sshpass genisoimage=genisoimage \
    qemu-system-x86_64=qemu-system-x86 zstd=zstd perl=perl-base

deadline=300

# --- what is needed ---------------------------------------------------------------------------------------
heading "1. A Debian $SUITE image whose initrd is made by $INITRD"
image=$("$REPO/tests/vm/build-image.sh")
cp --sparse=always "$image/disk.img" "$VM_DIR/demo.img"
point 'disk' "8 GiB, its root partition 2 GiB"

heading "2. A fake Azure in a network namespace without uplink"
azure_down # of a demo that was interrupted
new_person
"$REPO/tests/vm/medium.sh" azure "$LAB/medium.img"
azure_up azure
point 'DHCP (options 121 and 245), IMDS, wireserver' 'ready'
point 'DVD (UDF)' 'ovf-env.xml, CustomData.bin'
point 'the person' "$VM_USER on $VM_HOST, an SSH key and a password"

# --- the boot ---------------------------------------------------------------------------------------------
heading "3. The boot (QEMU $ACCEL; seconds since power-on)"
rm -f "$console" "$VM_DIR/qemu-demo.pid"
: >"$console"
"$REPO/tests/vm/boot.sh" demo kernel="$image/vmlinuz" initrd="$image/initrd.img" disk="$VM_DIR/demo.img" \
    medium="$LAB/medium.img" network="$NAMESPACE" deadline="$((deadline + 120))" console="$console" \
    append="root=PARTUUID=7b2d1c5e-0c1f-4a53-9a4e-52f1d3a9c0aa ro vm.check vm.wait=30" 2>"$LAB/boot.err" &
BOOT_PID=$!
follow "$BOOT_PID"
if ! grep -qaF PREROOT-VM-OK "$console"; then
    cat "$LAB/boot.err" >&2
    tail -n 30 "$console" >&2
    die "the machine ended without its marker; the console is in $console"
fi

# --- what became of it ------------------------------------------------------------------------------------
address=$(guest_value addresses | cut -d/ -f1)

heading '4. The timeline, from the machine itself'
if answer=$(as_root 'preroot timeline' 2>&1); then printf '%s\n' "$answer" | sed 's/^/   /'; else bad "timeline: $answer"; fi
while read -r step pattern; do
    printf '%s\n' "$answer" | grep -qE " s  $pattern" || bad "the timeline lacks: $step"
done <<'STEPS'
kernel kernel +starts
modules modules +.*loaded
medium fetch +sr0: ovf-env
root grow +.*grown from 2.0 GiB to 7[.][0-9] GiB
lease fetch +lease of
IMDS fetch +IMDS answered
seed persist +seed is on the root
apply apply +this VM is provisioned
Ready report +the platform knows: Ready
STEPS

heading "5. Logging in as $VM_USER@${address:-?}"
if answer=$(by_key 'echo "$(hostname), $(id -un), groups $(id -Gn | tr " " ",")"' 2>&1); then point 'ssh with the key' "$answer"
else bad "ssh with the key: $answer"; fi
if answer=$(by_password 'echo "$(hostname), $(id -un)"' 2>&1); then point 'ssh with the password' "$answer"
else bad "ssh with the password: $answer"; fi
if answer=$(as_root 'id -un' 2>&1); then point 'sudo' "$answer"; else bad "sudo: $answer"; fi
if answer=$(as_root 'grep -o "^[a-z]*:[$]6[$]" /etc/shadow' 2>&1); then point '/etc/shadow' "$answer..."; else bad "/etc/shadow: $answer"; fi

heading '6. The root file system'
if answer=$(by_key 'df -h --output=source,size,avail,target /' 2>&1); then printf '%s\n' "$answer" | sed 's/^/   /'; else bad "df: $answer"; fi
bytes=$(guest_value root-bytes)
[ "${bytes:-0}" -gt 7500000000 ] || bad "the root file system has ${bytes:-no} bytes, not about 8 GiB"

heading '7. What the platform saw'
show_requests

heading '8. What was added to the initrd'
with=$(stat -Lc %s "$image/initrd.img") without=$(stat -Lc %s "$image/plain.img")
binary=$REPO/target/release/preroot
point 'the binary' "$(stat -c %s "$binary") bytes, $(zstd -q -19 -c "$binary" | wc -c) compressed"
point 'initrd without and with preroot' "$without -> $with bytes (+$((with - without)), drivers for Hyper-V included)"

heading "$([ "$failures" -eq 0 ] && echo 'Done' || echo "$failures of the above FAILED") in $((SECONDS - started)) s. The console: $console"
as_root 'systemctl poweroff --force' >/dev/null 2>&1 || true
[ "$failures" -eq 0 ]
