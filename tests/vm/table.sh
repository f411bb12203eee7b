# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the worlds' variables are scenarios.sh's
# Which worlds are tried? Each function changes what its scenario is about, boots, and says what must have become of the machine.
# (sourced by scenarios.sh)

# --- all is well ------------------------------------------------------------------------------------------

complete() {
    append=vm.kvp
    boot complete
    person_is_complete
    root_grown 450000000
    expect_reports Ready 1
    expect_reports NotReady 0
    requests_are_clean
    kernel_network_untouched
    no_canary
    expect sudoers '[1-9]'
}
scenario complete fast complete

# What each stage asks of the kernel: no program is started but preroot itself, memory stays small.
syscalls() {
    local stage counts
    more_initrd=strace.cpio append=vm.strace
    boot syscalls
    person_is_complete
    for stage in modules fetch grow persist; do
        counts=$(value "syscalls-$stage")
        case $counts in
            *' execve 1 '*) ;; # preroot itself
            *) problem "$stage starts programs: ${counts:-not run}" ;;
        esac
        [ "${counts##* }" -le 1024 ] 2>/dev/null || problem "$stage took ${counts##* } KiB of memory, more than 1024"
        printf '        %-8s %s\n' "$stage" "$counts"
    done
}
scenario syscalls fast syscalls

one_call() {
    append=vm.one
    boot one-call
    person_is_complete
    root_grown 450000000
    expect_reports Ready 1
}
scenario one-call fast one_call

disc_bridge() { medium=bridge; boot disc-bridge; person_is_complete; expect_reports Ready 1; }
scenario disc-bridge fast disc_bridge

disc_iso() { medium=iso; boot disc-iso; person_is_complete; expect_reports Ready 1; }
scenario disc-iso fast disc_iso

drive_scsi() { drive=scsi; boot drive-scsi; person_is_complete; expect_reports Ready 1; }
scenario drive-scsi fast drive_scsi

# --- the root has all there is already ---------------------------------------------------------------------

full_size() {
    image=$(image_dir)
    disk=$LAB/full.img keep_disk=yes
    cp --sparse=always "$image/disk.img" "$disk"
    sgdisk -e "$disk" >/dev/null
    local first before
    first=$(sgdisk -i 1 "$disk" | sed -n 's/First sector: \([0-9]*\).*/\1/p')
    sgdisk -d 1 -n "1:$first:0" -t 1:8304 -c 1:root -u 1:7b2d1c5e-0c1f-4a53-9a4e-52f1d3a9c0aa "$disk" >/dev/null
    before=$(dd if="$disk" bs=1M count=1 status=none | sha256sum)
    boot full-size
    [ "$before" = "$(dd if="$disk" bs=1M count=1 status=none | sha256sum)" ] || problem 'a table that is right already was written'
    person_is_complete
    expect_reports Ready 1
}
scenario full-size fast full_size

# --- the same disk again ----------------------------------------------------------------------------------

second_boot() {
    image=$(image_dir)
    disk=$LAB/disk.img keep_disk=yes
    cp --sparse=always "$image/disk.img" "$disk"
    boot second-boot-1
    person_is_complete
    expect_reports Ready 1
    digest_before=$(value etc-digest)
    medium=empty
    boot second-boot
    person_is_complete
    expect etc-digest "$digest_before"
    expect_reports Ready 0
    if [ -s "$LAB/platform.jsonl" ] && grep -q '"event": "request"' "$LAB/platform.jsonl"; then problem 'the platform was asked again'; fi
}
scenario second-boot fast second_boot
# The power goes at a random moment of apply or the report; the next boot, without the medium, ends as an uncut one.
random_kills() {
    local round told kill_moments=
    image=$(image_dir)
    disk=$LAB/disk.img keep_disk=yes
    for round in $(seq "${KILLS:-30}"); do
        cp --sparse=always "$image/disk.img" "$disk"
        medium=azure
        boot_until 'preroot persist: seed is on the root' "$((RANDOM % 2)).$((100 + RANDOM % 900))" random-kill-1
        told=$(reported Ready)
        kill_moments+="$(grep -a 'preroot ' "$console" | tail -n 1 | sed 's/.*preroot //; s/: .*//')"$'\n'
        medium=empty
        boot random-kill
        person_is_complete
        root_grown 450000000
        expect state '.*provisioned.*'
        expect seed ''
        # a lease of the boot before is nobody's any more: the late report tells, over the system's network
        [ $((told + $(reported Ready))) -ge 1 ] || console_says 'preroot report: not told yet: network needed'
        expect_reports NotReady 0
        [ ${#reasons[@]} -eq 0 ] || { problem "in round $round"; break; }
    done
    printf '        killed after: %s\n' "$(printf '%s' "$kill_moments" | sort | uniq -c | tr -s ' \n' ' ')"
}
scenario random-kills full random_kills
# Provisioned, but nothing says so before the mount, which takes its time (a passphrase, a long fsck), and nobody answers.
late_mount() {
    image=$(image_dir)
    disk=$LAB/disk.img keep_disk=yes
    cp --sparse=always "$image/disk.img" "$disk"
    boot late-mount-1
    person_is_complete
    medium=empty script='{"imds": ["never"]}' append="$append vm.mount-after=12"
    boot late-mount
    person_is_complete
    expect_reports Ready 0
    expect_reports NotReady 0
}
scenario late-mount fast late_mount

# A machine becomes an image, and a copy of that another machine: nothing of the first is left.
captured() {
    local first key
    image=$(image_dir)
    disk=$VM_DIR/captured-$NAMESPACE.img keep_disk=yes more_initrd=captured.cpio # new_person clears $LAB
    cp --sparse=always "$image/disk.img" "$disk"
    VM_USER=firstperson VM_HOST=first-vm
    boot captured-1
    expect user firstperson
    expect host-keys 1
    expect waagent "$VM_ID"
    expect_reports Ready 1
    key=$(value host-key)
    first=("$CANARY_PASSWORD" "$CANARY_KEY" "$CANARY_DATA" firstperson first-vm "$VM_ID")

    more_initrd='' medium=none network=none append=vm.deprovision
    boot captured-2
    console_says 'VM-deprovision done; power off and capture'
    expect exit-deprovision-.* '0 .*'
    expect host-keys 0
    expect user ''

    new_person
    cp --sparse=always "$disk" "$LAB/copy.img"
    rm "$disk"
    disk=$LAB/copy.img medium=azure network=azure append='' more_initrd=captured.cpio more_words=("${first[@]}")
    uuid=11223344-5566-7788-99aa-bbccddeeff00 VM_ID=44332211-6655-8877-99aa-bbccddeeff00
    VM_USER=secondperson VM_HOST=second-vm
    boot captured-3
    person_is_complete
    expect_reports Ready 1
    expect host-keys 1
    expect waagent "$VM_ID"
    [ "$(value host-key)" != "$key" ] || problem 'the copy has the host key of the first machine'
    for word in "${first[@]}"; do
        ! grep -aq "VM canary-at=$(reversed "$word") " "$console" ||
            problem "the first machine is still in $(grep -a "VM canary-at=$(reversed "$word") " "$console" | sed 's/.* //' | tr '\n' ' ')"
    done
    no_canary
}
scenario captured fast captured

# --- the temporary disk -----------------------------------------------------------------------------------

# ntfs FILE LABEL [NAME]: an MBR with one NTFS partition as the platform makes it; NAME is a file in its root directory.
ntfs() {
    local part=$LAB/part.ntfs name
    rm -f "$1" "$part"
    truncate -s 383M "$part"
    mkntfs -F -Q -q -p 2048 -H 16 -S 63 -L "$2" "$part" >/dev/null 2>&1 || problem 'mkntfs failed'
    for name in DATALOSS_WARNING_README.txt ${3:-}; do
        echo 'everything on it is lost' >"$LAB/$name"
        ntfscp -q "$part" "$LAB/$name" "$name" 2>/dev/null || problem "ntfscp $name failed"
    done
    truncate -s 384M "$1"
    echo '2048,,7' | sfdisk -q "$1"
    dd if="$part" of="$1" bs=1M seek=1 conv=notrunc,sparse status=none
    rm -f "$part"
}
temporary_disk() { # CONFIGURATION: every boot of it has the same root
    require mkntfs=ntfs-3g sfdisk=fdisk
    medium=none network=none more_initrd=storage.cpio append="vm.temporary=ResourceDisk.Place=0000:00:1e.0,$1"
    image=$(image_dir)
    disk=$LAB/disk.img keep_disk=yes temporary=$LAB/temporary.img
    cp --sparse=always "$image/disk.img" "$disk"
}
SWAP=ResourceDisk.EnableSwap=y,ResourceDisk.SwapSizeMB=16
temporary_is_complete() { # DEVICE FILE-SYSTEM
    expect exit-resource-disk '0 .*'
    expect temporary "$1 $2"
    expect files '.*DATALOSS_WARNING_README.txt .*swapfile .*'
    # 16 MiB, and as many blocks: no hole
    expect swap-file '600 0:0 16777216 3276[89]|600 0:0 16777216 327[7-9][0-9]'
    expect swaps '.*/mnt/resource/swapfile file 163[78][0-9] .*'
    expect note ''
}
left_alone() { # REASON
    expect exit-resource-disk '0 .*'
    console_says "preroot resource-disk: the resource disk is left alone: $1"
    expect temporary ''
}

# Fresh; a second boot; the platform makes it anew; somebody's; the power goes in mkfs.
resource_disk() {
    local before words
    temporary_disk "$SWAP,ResourceDisk.MountOptions=noatime,nodev"
    # a comma parts lines here
    append=${append%,nodev}
    ntfs "$temporary" 'Temporary Storage'
    boot resource-disk-fresh
    console_says 'preroot resource-disk: vdb1: fresh; formatted and mounted at /mnt/resource'
    temporary_is_complete /dev/vdb1 ext4
    expect options '.*noatime.*'
    expect kept ''
    boot resource-disk-second
    console_says 'preroot resource-disk: vdb1: mounted at /mnt/resource'
    console_lacks 'fresh; formatted'
    temporary_is_complete /dev/vdb1 ext4
    expect kept 'this disk'
    ntfs "$temporary" 'Temporary Storage'
    boot resource-disk-again
    temporary_is_complete /dev/vdb1 ext4
    expect kept ''
    ntfs "$temporary" 'Temporary Storage' somebodys.txt
    before=$(sha256sum <"$temporary")
    boot resource-disk-files
    left_alone 'there are files on the temporary disk'
    [ "$before" = "$(sha256sum <"$temporary")" ] || problem 'a disk with files was written'
    ntfs "$temporary" 'Temporary Storage'
    words=$append append="$append vm.cut"
    boot resource-disk-cut
    expect cut /dev/vdb1
    append=$words
    boot resource-disk-after-cut
    console_says 'fresh; formatted'
    temporary_is_complete /dev/vdb1 ext4
}
scenario resource-disk fast resource_disk

# A local NVMe disk is raw; xfs on it.
resource_disk_nvme() {
    temporary_disk "$SWAP,ResourceDisk.Filesystem=xfs"
    as=nvme
    truncate -s 384M "$temporary"
    boot resource-disk-nvme
    temporary_is_complete /dev/nvme0n1 xfs
    boot resource-disk-nvme-second
    console_lacks 'fresh; formatted'
    temporary_is_complete /dev/nvme0n1 xfs
    expect kept 'this disk'
}
scenario resource-disk-nvme fast resource_disk_nvme

# Two local NVMe disks become one, which nobody but preroot assembles on the second boot.
resource_disk_array() {
    temporary_disk "$SWAP"
    as=array
    truncate -s 384M "$temporary" "$temporary.2"
    boot resource-disk-array
    temporary_is_complete /dev/md127 ext4
    boot resource-disk-array-second
    console_lacks 'fresh; formatted'
    temporary_is_complete /dev/md127 ext4
    expect kept 'this disk'
}
scenario resource-disk-array fast resource_disk_array

# Data disks labelled alike, with files and without: not in the place, or not fresh.
resource_disk_data() {
    local before file
    temporary_disk "$SWAP"
    temporary='' data=$LAB/data.img
    for file in '' somebodys.txt; do
        ntfs "$data" 'Temporary Storage' $file
        before=$(sha256sum <"$data")
        boot "resource-disk-data${file:+-files}"
        expect exit-resource-disk '76 .*'
        expect temporary ''
        [ "$before" = "$(sha256sum <"$data")" ] || problem 'a data disk was written'
    done
}
scenario resource-disk-data fast resource_disk_data
