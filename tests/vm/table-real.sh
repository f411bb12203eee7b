# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the worlds' variables are scenarios.sh's
# What becomes of real Debian roots in these worlds? As table.sh.
# (sourced by scenarios.sh)

# --- real images ------------------------------------------------------------------------------------------

real() { guest=image deadline=420; append="$append vm.wait=30"; }
real_complete() {
    boot "$1"
    person_is_complete
    root_grown 8000000000
    expect_reports Ready 1
    expect_reports NotReady 0
    expect sshd-password yes
    expect sudo "[1-9]"
    expect host-keys '[1-9]'
    expect failed-units ' *'
    no_canary
    requests_are_clean
}
monitored() { more_initrd=monitor.cpio append="$append rdinit=/lab/init"; }
real_dracut() { real; tool=dracut; monitored; real_complete real-dracut; initrd_network_untouched; }
real_itools() { real; tool=initramfs-tools; monitored; real_complete real-initramfs-tools; initrd_network_untouched; }
real_shell() { real; init=shell; monitored; real_complete real-shell; initrd_network_untouched; }
real_trixie_dracut() { real; suite=trixie tool=dracut; real_complete real-trixie-dracut; }
real_trixie_itools() { real; suite=trixie tool=initramfs-tools; real_complete real-trixie-initramfs-tools; }
# A machine so busy that systemd's own work before the early report takes longer than the report may.
real_slow_start() {
    local took
    real
    suite=trixie tool=initramfs-tools
    append="$append systemd.set_credential_binary=systemd.unit-dropin.preroot-report-early.service:$(printf '[Service]\nCPUQuota=4%%\n' | base64 -w 0)"
    real_complete real-slow-start
    took=$(value unit-preroot-report-early | awk '{ print int(($3 - $2) / 1000) }')
    [ "${took:-0}" -gt 3000 ] || problem "the early report was over after ${took:-no} ms: nothing was slow"
}
real_blacklisted() { real; append="$append module_blacklist=udf,isofs"; real_complete real-blacklisted; }
real_no_nic() { real; network=none; boot real-no-nic; person_is_complete; root_grown 8000000000; }
real_wireserver_silent() { real; script=$NEVER_READY; boot real-wireserver-silent; person_is_complete; expect_reports Ready 0; }
real_second_boot() {
    real
    image=$(image_dir)
    disk=$LAB/disk.img keep_disk=yes
    cp --sparse=always "$image/disk.img" "$disk"
    boot "real-second-boot-$tool-1"
    person_is_complete
    expect_reports Ready 1
    digest_before=$(value etc-digest)
    medium=empty
    boot "real-second-boot-$tool"
    person_is_complete
    expect etc-digest "$digest_before"
    expect_reports Ready 0
    critical_path
}
# The power went while the primary table was written: to the kernel the disk has no partitions, and nothing that waits for
# the root's device may be in the way of whoever restores it.
real_torn_table() {
    real
    image=$(image_dir)
    disk=$LAB/disk.img keep_disk=yes
    cp --sparse=always "$image/disk.img" "$disk"
    printf '\377' | dd of="$disk" bs=1 seek=528 conv=notrunc status=none # the header's checksum
    boot "real-torn-table-$tool-$init"
    console_says 'primary partition table restored'
    person_is_complete
    root_grown 8000000000
    expect_reports Ready 1
}
real_torn_table_itools() { tool=initramfs-tools; real_torn_table; }
real_torn_table_shell() { init=shell; real_torn_table; }
real_second_boot_itools() { tool=initramfs-tools; real_second_boot; }
# What of ours the mount, the network and the login wait for on a boot that has nothing to do. The promise is 100 ms;
# even an emulated processor keeps it (40 to 60 ms measured).
critical_path() {
    local ms total=0 stage
    for stage in grow persist apply report; do
        ms=$(sed -n "s/^.*VM-status *$stage .* in \([0-9]*\) ms$/\1/p" "$console" | tail -n 1)
        # persist saw that there is nothing to do, so that the units of the real root are not even started
        case $stage in apply | report) [ -z "$ms" ] || problem "$stage was started though it had nothing to do"; ms=${ms:-0} ;; esac
        printf '        %-8s %4s ms\n' "$stage" "${ms:-?}"
        total=$((total + ${ms:-100000}))
    done
    printf '        together %4s ms (%s)\n' "$total" "$ACCEL"
    [ "$total" -le 100 ] || problem "the boot waited $total ms for us"
}
# The kernel's is 30 s; build-image.sh put another number into preroot.conf.
real_scsi_timeout() {
    real
    tool=initramfs-tools
    image=$(image_dir)
    disk=$LAB/disk.img keep_disk=yes temporary=$LAB/scsi.img as=scsi
    cp --sparse=always "$image/disk.img" "$disk"
    truncate -s 64M "$temporary"
    boot real-scsi-timeout-1
    expect scsi-timeout '240 '
    medium=empty
    boot real-scsi-timeout
    expect scsi-timeout '240 '
    expect failed-units ' *'
}
# As `captured`, by preroot on the running system itself, whose services go on until the power is off: journald makes a
# directory again that has the old machine-id for its name, and nothing else of the first machine.
real_captured() {
    local first key machine word
    real
    tool=initramfs-tools append="$append vm.deprovision"
    image=$(image_dir)
    disk=$VM_DIR/captured-$NAMESPACE.img keep_disk=yes # new_person clears $LAB
    cp --sparse=always "$image/disk.img" "$disk"
    VM_USER=firstperson VM_HOST=first-vm
    boot real-captured-1
    expect user firstperson
    console_says 'VM-deprovision done; power off and capture'
    console_lacks 'VM-deprovision +FAILED'
    key=$(value host-key) machine=$(value machine-id)
    first=("$CANARY_PASSWORD" "$CANARY_KEY" "$CANARY_DATA" firstperson first-vm "$VM_ID")
    new_person
    cp --sparse=always "$disk" "$LAB/copy.img"
    rm "$disk"
    disk=$LAB/copy.img append="${append% vm.deprovision}" more_words=("${first[@]}")
    uuid=11223344-5566-7788-99aa-bbccddeeff00 VM_ID=44332211-6655-8877-99aa-bbccddeeff00
    VM_USER=secondperson VM_HOST=second-vm
    boot real-captured
    person_is_complete
    expect_reports Ready 1
    expect sshd-password yes
    expect host-keys '[1-9]'
    expect failed-units ' *'
    [ "$(value host-key)" != "$key" ] || problem 'the copy has the host keys of the first machine'
    [ "$(value machine-id)" != "$machine" ] || problem 'the copy has the machine-id of the first machine'
    for word in "${first[@]}"; do
        ! grep -aq "VM canary-at=$(reversed "$word") " "$console" ||
            problem "the first machine is still in $(grep -a "VM canary-at=$(reversed "$word") " "$console" | sed 's/.* //' | tr '\n' ' ')"
    done
}
# --- before anybody asked for it --------------------------------------------------------------------------

# monitor_says COMMAND: to QEMU, while it runs.
monitor_says() {
    python3 -c 'import socket, sys, time
monitor = socket.socket(socket.AF_UNIX)
monitor.connect(sys.argv[1])
monitor.recv(4096)
monitor.sendall(sys.argv[2].encode() + b"\n")
time.sleep(0.5)' "$monitor" "$1"
}
# Once the VM of the pool has told, its virtual switch is exchanged.
pool_moves() {
    {
        until [ -s "$LAB/ready" ]; do sleep 0.2; done
        sleep 2
        monitor_says 'set_link net off'
        sleep 2
        monitor_says 'set_link net on'
    } &
    companions+=($!)
}
imds_document() { # OPTIONS...
    python3 "$REPO/tests/cloud/fake_azure.py" --print-document --vm-id "$VM_ID" --user "$VM_USER" --hostname "$VM_HOST" --key "$VM_KEY" --disable-password false "$@"
}
# The pool's seed is nobody's: Ready, a carrier that goes and comes, the owner's document after a while, and Ready again.
real_pool() {
    local owner=("$VM_USER" "$VM_HOST") word
    real
    tool=initramfs-tools monitor=$LAB/monitor meanwhile=pool_moves
    "$REPO/tests/vm/medium.sh" document "$LAB/owner.xml"
    imds_document --has-custom-data >"$LAB/owner.json"
    ssh-keygen -q -t ed25519 -N '' -C placeholder@example.invalid -f "$LAB/placeholder"
    VM_USER=poolplace7 VM_HOST=pool-vm VM_PASSWORD=Pl4ceholder VM_CUSTOM_DATA='' VM_KEY=$(cat "$LAB/placeholder.pub")
    export VM_POOL=Running
    imds_document --pps-type Running >"$LAB/pool.json"
    script="{\"imds\": [{\"body_file\": \"$LAB/pool.json\"}, {\"body_file\": \"$LAB/owner.json\"}],
        \"reprovision\": [{\"status\": 404, \"times\": 3}, {\"body_file\": \"$LAB/owner.xml\"}]}"
    more_words=(poolplace7 Pl4ceholder)
    boot real-pool
    unset VM_POOL
    VM_USER=${owner[0]} VM_HOST=${owner[1]}
    console_says 'preroot persist: a VM of a pool: the seed stays in memory'
    console_says 'preroot pool: the platform knows: Ready, in its pool'
    console_says 'preroot pool: moved to another network'
    person_is_complete
    root_grown 8000000000
    expect_reports Ready 2
    expect_reports NotReady 0
    requests_are_clean
    expect people 1
    expect sshd-password yes
    expect failed-units ' *'
    ! grep -q pool-vm "$LAB/dhcp.log" || problem 'the name of the pool is in a DHCP message'
    for word in "${more_words[@]}"; do
        ! grep -aq "VM canary-at=$(reversed "$word") " "$console" ||
            problem "$word is still in $(grep -a "VM canary-at=$(reversed "$word") " "$console" | sed 's/.* //' | tr '\n' ' ')"
    done
    no_canary
}

# --- beside other agents ----------------------------------------------------------------------------------

# How often this end of the platform accepted Ready: preroot's is health-json, the others speak XML.
ready_by() { grep "\"endpoint\": \"$1\"" "$LAB/platform.jsonl" | grep '"state": "Ready"' | grep -c '"answer": 20[0-2]' || true; }
expect_ready_by() {
    local is
    is=$(ready_by "$1")
    [ "$is" = "$2" ] || problem "Ready came $is times by $1, expected $2"
}
# Only persist may make the mount of the root wait, and it did not.
nobody_waited() {
    local ms
    ms=$(sed -n 's/^.*VM-status *persist .* in \([0-9]*\) ms$/\1/p' "$console" | tail -n 1)
    [ "${ms:-9999}" -le 500 ] || problem "persist took ${ms:-no} ms"
}
beside() { real; tool=initramfs-tools with=$1 deadline=900; own_disk; }

# cloud-init provisions, on both boots, and preroot says so; then preroot.conf names preroot, and cloud-init stays out.
real_beside_cloud_init() {
    beside cloud-init
    plant /etc/cloud/cloud.cfg.d/91-laboratory.cfg 644 <<<'locale: false' # the laboratory's root has no locales
    boot real-beside-cloud-init-1
    nobody_waited
    # its growpart and resizefs found nothing to do
    root_grown 8000000000
    expect growpart NOCHANGE
    expect file-system-resized 1
    expect cloud-init 'exit 0 status: done .*enabled-by-generator.*'
    expect cloud-init-made "$VM_USER"
    expect sudoers 90-cloud-init-users' '
    expect hostname "$VM_HOST"
    expect people 1
    expect keys 1
    expect state ' *'
    expect seed ''
    expect_ready_by health-json 0
    expect_ready_by health-xml 1
    medium=empty
    boot real-beside-cloud-init-2
    nobody_waited
    expect growpart NOCHANGE
    expect file-system-resized 0
    expect cloud-init 'exit 0 status: done .*'
    expect_reports Ready 0

    new_person
    medium=azure
    own_disk
    plant /etc/preroot.conf 644 <<<Provisioning.Agent=preroot
    boot real-beside-cloud-init
    person_is_complete
    console_says 'preroot persist: cloud-init is disabled'
    console_lacks 'cloud-init is enabled too'
    expect cloud-init 'exit 0 status: disabled .*disabled-by-marker-file.*'
    expect cloud-init-waited '[1-4]?[0-9]' # Python's start: it did not wait for anybody
    expect cloud-init-made ''
    expect sudoers "90-preroot-$VM_USER "
    expect people 1
    expect_ready_by health-json 1
    expect_ready_by health-xml 0
    expect failed-units ' *'
}

# Debian's waagent.conf says that cloud-init provisions; then one that says `auto` and is the only configuration there is.
real_beside_waagent() {
    local agent
    for agent in cloud-init auto; do
        new_person
        beside waagent
        # QEMU is not Hyper-V
        printf '[Unit]\nConditionVirtualization=\n' | plant /etc/systemd/system/walinuxagent.service.d/laboratory.conf 644
        if [ "$agent" = auto ]; then
            printf 'Provisioning.Agent=auto\nResourceDisk.Format=y\nAutoUpdate.Enabled=n\n' | plant /etc/waagent.conf 644
            unplant /etc/preroot.conf
        fi
        medium=azure
        boot "real-beside-waagent-$agent-1"
        person_is_complete
        waagent_stood_back "$VM_ID"
        expect_ready_by health-json 1
        medium=empty
        boot "real-beside-waagent-$agent"
        person_is_complete
        waagent_stood_back "$VM_ID"
        expect_ready_by health-json 0
    done
}
waagent_stood_back() { # VM-ID
    console_says 'VM-waagent .*Provisioning already completed, skipping'
    console_lacks 'VM-waagent .*(Running (default|CloudInit) provisioning|[Pp]rovisioning .*failed|Report(ed|ing) ready)'
    expect waagent-provisioned "$1"
    expect waagent-password '[*]'
    expect sudoers "90-preroot-$VM_USER "
    expect people 1
    expect failed-units ' *'
    expect_ready_by health-xml 0
    expect_reports NotReady 0
}

# --- units that only a real system has --------------------------------------------------------------------

# Scripts of the image and customData, the resource disk, and a new name for the machine, on two boots.
real_scripts() {
    local place
    require mkntfs=ntfs-3g sfdisk=fdisk
    real
    tool=initramfs-tools temporary=$LAB/temporary.img
    own_disk
    VM_CUSTOM_DATA="echo custom-data $CANARY_DATA >>/var/lib/vm-ran"
    plant /etc/preroot.conf 644 <<CONF
Provisioning.ExecuteCustomData=y
Provisioning.MonitorHostName=y
ResourceDisk.Place=0000:00:1e.0
$(printf '%s\n' "$SWAP" | tr , '\n')
CONF
    for place in per-once per-instance per-boot; do
        printf '#!/bin/sh\necho %s >>/var/lib/vm-ran\necho "%s speaks"\n' "$place" "$place" |
            plant "/var/lib/cloud/scripts/$place/10-$place" 755
    done
    printf '#!/bin/sh\nexit 7\n' | plant /var/lib/cloud/scripts/per-boot/20-fails 755
    ntfs "$temporary" 'Temporary Storage'
    boot real-scripts-1
    person_is_complete
    expect ran "per-once per-boot per-instance custom-data $CANARY_DATA"
    expect records '.*per-boot.20-fails=7 .*custom-data=0 .*'
    console_says '10-per-boot: per-boot speaks'
    console_says 'preroot resource-disk: vdb1: fresh; formatted and mounted at /mnt/resource'
    expect temporary '/dev/vdb1 ext4'
    expect swaps '.*/mnt/resource/swapfile file 163[78][0-9] .*'
    medium=empty append="$append vm.rename=renamed-vm"
    boot real-scripts
    expect ran "per-once per-boot per-instance custom-data $CANARY_DATA per-boot"
    expect temporary '/dev/vdb1 ext4'
    console_lacks 'fresh; formatted'
    expect hostname renamed-vm
    expect published renamed-vm
    grep -q 'client provides name: renamed-vm' "$LAB/dhcp.log" || problem 'no DHCP request had the new name'
    # one script fails on purpose
    expect failed-units 'preroot-scripts.service '
}

# --- OpenRC -----------------------------------------------------------------------------------------------

real_openrc() {
    real
    tool=initramfs-tools with=openrc
    own_disk
    VM_CUSTOM_DATA="echo custom-data >>/var/lib/vm-ran"
    plant /etc/preroot.conf 644 <<<Provisioning.ExecuteCustomData=y
    boot real-openrc-1
    person_is_complete
    root_grown 8000000000
    expect_reports Ready 1
    expect_reports NotReady 0
    expect host-keys '[1-9]'
    expect sshd-password yes
    expect sudo '[1-9]'
    expect ran 'custom-data'
    openrc_is_content
    requests_are_clean
    medium=empty
    boot real-openrc
    person_is_complete
    expect ran 'custom-data'
    openrc_is_content
    expect_reports Ready 0
}
# Every service of ours was started, and before the network what has to be.
openrc_is_content() {
    console_lacks 'needs non existent service|breaking preroot|dependency loop.*preroot'
    expect services '.* mountall.sh .* preroot-apply \[ started \] preroot-report-early \[ started \] .* networking .*'
    [ "$(value services | grep -oE 'preroot-[a-z-]+ \[ started \]' | wc -l)" -eq 5 ] || problem "a service has failed: $(value services)"
}

# --- SELinux ----------------------------------------------------------------------------------------------

# Debian's policy, permissive, on a labelled root: what preroot wrote has the labels that the policy has for it.
real_selinux() {
    real
    tool=initramfs-tools with=selinux append="$append lsm=selinux" # the last one counts
    real_complete real-selinux
    expect selinux 'Permissive .*'
    expect mislabelled 0
    expect label '/etc/ssh/ssh_host_ed25519_key .*:sshd_key_t:.*'
}

scenario real-captured full real_captured
scenario real-scsi-timeout full real_scsi_timeout
scenario real-dracut full real_dracut
scenario real-initramfs-tools full real_itools
scenario real-shell full real_shell
scenario real-trixie-dracut full real_trixie_dracut
scenario real-trixie-initramfs-tools full real_trixie_itools
scenario real-slow-start full real_slow_start
scenario real-blacklisted full real_blacklisted
scenario real-no-nic full real_no_nic
scenario real-wireserver-silent full real_wireserver_silent
scenario real-second-boot full real_second_boot
scenario real-second-boot-it full real_second_boot_itools
scenario real-pool full real_pool
scenario real-torn-table full real_torn_table
scenario real-torn-table-it full real_torn_table_itools
scenario real-torn-table-shell full real_torn_table_shell
scenario real-beside-cloud-init full real_beside_cloud_init
scenario real-beside-waagent full real_beside_waagent
scenario real-scripts full real_scripts
scenario real-openrc full real_openrc
scenario real-selinux full real_selinux
