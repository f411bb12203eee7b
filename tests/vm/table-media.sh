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
