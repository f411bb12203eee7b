# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # the worlds' variables are scenarios.sh's
# Which worlds with labelled media are tried: config drives and NoCloud media, on machines that are not Azure's?
# (sourced by scenarios.sh)

OS_UUID=3f1d2c8a-5b7e-4a90-9a55-1c0d7e2f9b11
# elsewhere MAKE MEDIUM [DISK]: another make of machine, with a drive and a disk; nobody answers in its network.
elsewhere() {
    make=$1 medium=$2 network=silent uuid=$OS_UUID
    export VM_UUID=$OS_UUID
    # what is to be shown of the root
    append="vm.show=/etc/yum.repos.d/CentOS-Base.repo,/etc/injected,/root/.ssh/authorized_keys,/etc/shadow,/etc/hosts"
    if [ -n "${3:-}" ]; then
        data=$LAB/data.img
        "$REPO/tests/vm/drive.sh" "$3" "$data"
    fi
}
tencent_is_complete() {
    expect hostname-file "$VM_HOST"
    expect show-authorized_keys '0600 1 lines'
    expect show-shadow '.*[|]?root:[$]6[$].*'
    console_says 'preroot fetch: .*config drive'
    expect seed ''
    expect state '.*provisioned.*'
    kernel_network_untouched
    no_packet
    no_canary
}
# Neither an address was asked for nor a report sent, nor anything else.
no_packet() {
    ! grep -q '"event": "request"' "$LAB/platform.jsonl" || problem 'somebody was asked'
    [ "${frames:-}" = 0 ] || problem "the machine sent ${frames:-an unknown number of} frames"
    console_lacks 'preroot [a-z]*: .*(DHCP|lease)'
}
# The mount waits for persist: milliseconds as on an emulated machine beside three others, and far from a wait for a medium.
PERSIST_MS=2500
waited_for_nothing() {
    local ms
    ms=$(sed -n 's/^.*VM-timeline persist .* \([0-9]*\) ms .*$/\1/p' "$console" | head -n 1)
    [ "${ms:-99999}" -le "$PERSIST_MS" ] || problem "persist took ${ms:-an unknown number of} ms, expected at most $PERSIST_MS"
    console_lacks 'waiting for fetch|fetch has not ended'
}
# A machine nobody speaks of gets no drivers from us; elsewhere udev loads them.
drivers_are_there() { append="$append vm.hook=modprobe,-a,virtio_pci,virtio_blk,ata_piix,sr_mod,ext4"; }
nothing_was_done() { expect hostname-file localhost; expect seed ''; expect state ''; no_packet; }

config_drive_iso() { elsewhere tencent config-drive; boot config-drive-iso; tencent_is_complete; }
scenario config-drive-iso fast config_drive_iso

# The files that vendor data and metadata bring along: `full` until apply writes them.
config_drive_files() {
    elsewhere tencent config-drive
    boot config-drive-files
    tencent_is_complete
    expect show-CentOS-Base.repo '0644 \[os\][|]name=os[|]baseurl=http://mirrors.example.com/[|]'
    expect show-injected '0660 injected[|]'
}
scenario config-drive-files full config_drive_files

config_drive_fat() { elsewhere tencent none config-drive-fat; boot config-drive-fat; tencent_is_complete; }
scenario config-drive-fat fast config_drive_fat

# A second boot, with the drive and without it, changes nothing and waits for nothing.
config_drive_again() {
    elsewhere tencent config-drive
    image=$(image_dir)
    disk=$LAB/disk.img keep_disk=yes
    cp --sparse=always "$image/disk.img" "$disk"
    boot config-drive-1
    tencent_is_complete
    digest_before=$(value etc-digest)
    for medium in config-drive none; do
        boot "config-drive-2-$medium"
        expect etc-digest "$digest_before"
        expect seed ''
        console_says 'this VM is provisioned already'
        waited_for_nothing
        no_packet
    done
}
scenario config-drive-again fast config_drive_again

nocloud_allowed() {
    elsewhere pc none nocloud-fat
    append="$append rd.preroot.source=nocloud"
    boot nocloud-allowed
    expect hostname-file "$VM_HOST"
    expect show-authorized_keys '0600 1 lines'
    no_packet
}
scenario nocloud-allowed fast nocloud_allowed

nocloud_optical() { elsewhere pc nocloud; drivers_are_there; boot nocloud-optical; expect hostname-file "$VM_HOST"; no_packet; }
scenario nocloud-optical fast nocloud_optical

nocloud_forbidden() { elsewhere pc none nocloud-fat; drivers_are_there; boot nocloud-forbidden; nothing_was_done; console_lacks 'preroot fetch'; }
scenario nocloud-forbidden fast nocloud_forbidden

# A tenant's own volume, which has the label and another uuid, beside the machine's drive; then alone, which is a machine
# without a config drive, and waits for none.
tenant_disk() {
    elsewhere openstack config-drive
    data=$LAB/data.img
    VM_UUID=9e0c7a52-77aa-4f0b-8c35-6d1f0a2b4c11 VM_HOST=hostile-vm "$REPO/tests/vm/drive.sh" config-drive-fat "$data"
    boot tenant-disk
    tencent_is_complete
    medium=none
    boot tenant-disk-alone
    console_says "not this machine's, left alone"
    waited_for_nothing
    nothing_was_done
}
scenario tenant-disk fast tenant_disk

# Somebody attaches a disk that claims to say who this machine is.
hostile_disk() {
    local kind
    for kind in nocloud-fat config-drive-fat; do
        data=$LAB/data.img
        VM_UUID=$OS_UUID VM_HOST=hostile-vm "$REPO/tests/vm/drive.sh" "$kind" "$data"
        append='ds=nocloud'
        boot "hostile-$kind"
        person_is_complete
        expect_reports Ready 1
    done
}
scenario hostile-disk fast hostile_disk

# --- config drives and real images ------------------------------------------------------------------------

# on_link PROGRAM...: on the other side of the machine's only link.
on_link() { ip netns exec "$NAMESPACE-cloud" "$@"; }
# Whoever comes by the static address, first with the key, then with the password; and what passes on the link.
visitors() {
    rm -f "$LAB"/by-* "$LAB/link.pcap" "$LAB/known_hosts"
    on_link ip address add 10.0.0.1/20 dev cloud0
    # not by the function: killing a shell would not end what it waits for
    ip netns exec "$NAMESPACE-cloud" tcpdump -Z root -i tap0 -U -w "$LAB/link.pcap" 2>/dev/null &
    companions+=($!)
    visit >/dev/null 2>&1 &
    companions+=($!)
}
come() { on_link "$@" -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="$LAB/known_hosts" -o ConnectTimeout=20 "$VM_LOGIN@10.0.1.17" 'id -un; hostname'; }
visit() {
    local key=(ssh -F /dev/null -i "$LAB/key" -o IdentitiesOnly=yes -o PreferredAuthentications=publickey)
    for _ in $(seq 200); do
        ! come "${key[@]}" >"$LAB/by-key" 2>"$LAB/by-key.err" || break
        sleep 1
    done
    SSHPASS=$VM_PASSWORD come sshpass -e ssh -F /dev/null -o PubkeyAuthentication=no -o PreferredAuthentications=password >"$LAB/by-password" 2>"$LAB/by-password.err"
    on_link "${key[@]}" -o UserKnownHostsFile="$LAB/known_hosts" "$VM_LOGIN@10.0.1.17" 'touch /tmp/vm-visited'
}
seen() { tcpdump -n -r "$LAB/link.pcap" "$@" 2>/dev/null | wc -l; }
visitors_were_let_in() {
    local by
    for by in key password; do
        [ "$(paste -sd ' ' "$LAB/by-$by")" = "$VM_LOGIN $VM_HOST" ] || problem "no login by $by: $(tail -n 1 "$LAB/by-$by.err")"
    done
    [ "$(seen 'src host 10.0.1.17 and tcp src port 22')" -gt 10 ] || problem 'the link was not listened to'
    [ "$(seen 'udp port 67 or 68 or 546 or 547')" -eq 0 ] || problem "DHCP: $(tcpdump -n -r "$LAB/link.pcap" 'udp port 67 or 68 or 546 or 547' 2>/dev/null | head -n 1)"
    [ "$(seen 'host 169.254.169.254 or 168.63.129.16')" -eq 0 ] || problem 'Azure was looked for'
    [ "$(seen 'dst host 183.60.83.19 and udp dst port 53')" -gt 0 ] || problem 'the name server was not asked'
}
# no_driver MODULE...: the initrd has none of them.
no_driver() {
    local module
    { zstd -dcf "$image/initrd.img" 2>/dev/null || gzip -dcf "$image/initrd.img"; } | cpio -t --quiet >"$LAB/initrd.list" 2>/dev/null
    grep -q '/virtio_blk[.]ko' "$LAB/initrd.list" || problem 'the initrd could not be listed'
    for module; do ! grep -q "/${module}[.]ko" "$LAB/initrd.list" || problem "the initrd has $module"; done
}
# Fractions of a second where the machine is idle, even emulated. (Where there is no drive fetch looks out for one
# while the root is waited for; persist ends that.)
preroot_waited_for_nothing() {
    local stage ms
    for stage in $([ -z "$medium$data" ] || [ "$medium$data" = none ] || echo fetch) persist; do
        ms=$(sed -n "s/^.*VM-status *$stage  *[a-z-]* in \([0-9]*\) ms$/\1/p" "$console" | tail -n 1)
        printf '        %-8s %4s ms\n' "$stage" "${ms:-0}"
        [ "${ms:-99999}" -le "$PERSIST_MS" ] || problem "$stage took ${ms:-no} ms"
    done
    console_lacks 'preroot [a-z-]*: .*wait'
}
# real_drive MEDIUM DISK SOFTWARE LOGIN CONF: two boots of a real image, the second without the drive.
real_drive() {
    local name=real-config-drive-$3 digest
    require tcpdump=tcpdump sshpass=sshpass openssl=openssl
    elsewhere tencent "$1"
    real
    tool=dracut with=$3 meanwhile=visitors deadline=600 VM_LOGIN=$4
    append="$append vm.visited vm.show=/etc/yum.repos.d/CentOS-Base.repo,/etc/apt/sources.list.d/mirrors.list,/etc/injected,/etc/hosts,$5"
    export VM_LOGIN VM_HASH
    [ -z "$2" ] || { data=$LAB/data.img; "$REPO/tests/vm/drive.sh" "$2" "$data"; }
    own_disk
    no_driver udf isofs vfat msdos fat
    plant /etc/preroot.conf 644 <<<"Provisioning.DefaultUser=$4"
    [ "$4" != root ] || plant /etc/ssh/sshd_config.d/10-laboratory.conf 644 <<<'PermitRootLogin yes'
    boot "$name-1"
    console_says 'preroot fetch: .*config drive'
    console_says 'VM-status reported: provisioned; this platform wants no report'
    real_drive_is_complete "$5"
    root_grown 8000000000
    digest=$(value etc-digest)
    medium=none data=''
    boot "$name"
    real_drive_is_complete "$5"
    expect etc-digest "$digest"
    console_says 'this VM is provisioned already'
    unset VM_LOGIN VM_HASH
}
real_drive_is_complete() { # NTP's file
    expect hostname "$VM_HOST"
    expect hostname-file "$VM_HOST"
    expect resolves 127.0.1.1
    expect show-hosts "0644 root:root .*[|]127.0.1.1 $VM_HOST ${VM_HOST}[|].*"
    expect addresses '10.0.1.17/20 '
    expect route 'default via 10.0.0.1 dev eth0 .*'
    expect mtu 1442
    expect resolver '183.60.83.19 .*'
    expect time-servers 'time1.example.com( .*)?' # chrony has the image's own beside it
    expect "show-${1##*/}" '0644 root:root .*time1.example.com.*'
    expect show-CentOS-Base.repo '0644 root:root \[os\][|]name=os[|]baseurl=http://mirrors.example.com/[|]'
    expect show-mirrors.list '0640 root:adm deb http://mirrors.example.com/debian bookworm main[|]'
    expect show-injected '0660 root:root injected[|]'
    expect sshd-password yes
    expect host-keys '[1-9]'
    expect failed-units ' *'
    expect seed ''
    expect state '.*provisioned.*'
    expect canaries searched
    expect hash-at ''
    no_canary
    console_lacks 'preroot [a-z-]*: .*(DHCP|lease)'
    visitors_were_let_in
    preroot_waited_for_nothing
}
# The password as a hash, for an account that the image only names; and in clear text, for root.
real_config_drive_iso() {
    VM_HASH=$(openssl passwd -6 "$VM_PASSWORD")
    real_drive config-drive '' timesyncd debian /etc/systemd/timesyncd.conf.d/preroot.conf
}
real_config_drive_fat() { real_drive none config-drive-fat ifupdown root /etc/chrony/conf.d/preroot.conf; }
scenario real-config-drive-iso full real_config_drive_iso
scenario real-config-drive-fat full real_config_drive_fat
