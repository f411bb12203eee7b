# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the worlds' variables are scenarios.sh's
# Does the root grow on each table, each file system, with room or none, in LVM and LUKS, and where the power is cut? As table.sh.
# (sourced by scenarios.sh)

# growth_disk TABLE FILE-SYSTEM last|swap|full|lvm|luks: a disk whose root, 400 MiB from 10 MiB on, holds a file of 8 MiB. The
# image is as large as it must be; the disk of the VM has 900 MiB.
growth_disk() {
    local swap='' root=$LAB/root.img
    disk=$LAB/disk.img keep_disk=yes network=none medium=none deadline=400
    rm -f "$disk"
    truncate -s 411M "$disk"
    [ "$3" != swap ] || truncate -s 720M "$disk"
    [ "$3" != swap ] || swap='2 : start=1228800, size=204800, type=S'
    printf 'label: %s\nlabel-id: %s\nunit: sectors\n1 : start=20480, size=819200, type=L\n%s\n' \
        "$([ "$1" = gpt ] && echo gpt || echo dos)" "$([ "$1" = gpt ] && echo 7B2D1C5E-0C1F-4A53-9A4E-52F1D3A9C0BB || echo 0xdeadbeef)" \
        "$swap" | sfdisk -q "$disk"
    case $3 in
        lvm | luks) growth_stack "$1" "$2" "$3" || return ;;
        *)
            mkdir -p "$LAB/root"
            head -c 8M /dev/urandom >"$LAB/root/contents"
            contents=$(sha256sum <"$LAB/root/contents" | cut -c1-64)
            truncate -s 400M "$root"
            case $2 in
                ext4) mkfs.ext4 -q -L growth -d "$LAB/root" "$root" ;;
                xfs) # a prototype, mkfs.xfs(8)
                    printf '/\n0 0\nd--755 0 0\ncontents ---644 0 0 %s\n$\n' "$LAB/root/contents" >"$LAB/prototype"
                    mkfs.xfs -q -L growth -p "$LAB/prototype" "$root" ;;
                btrfs) mkfs.btrfs -q -L growth --rootdir "$LAB/root" "$root" >/dev/null 2>&1 ;;
            esac
            dd if="$root" of="$disk" bs=1M seek=10 conv=notrunc,sparse status=none
            rm -r "$root" "$LAB/root" ;;
    esac
    [ "$3" = full ] || truncate -s 900M "$disk"
}

# growth_is_sound TABLE FILE-SYSTEM: what sgdisk, sfdisk and fsck say of the disk, and what the guest read of the file.
growth_is_sound() {
    local root=$LAB/root.img said bytes
    if [ "$1" = gpt ]; then
        said=$(sgdisk -v "$disk")
        case $said in *'No problems found'*) ;; *) problem "sgdisk: $said" ;; esac
    fi
    said=$(sfdisk --verify "$disk" 2>&1) || problem "sfdisk: $said"
    expect contents "$contents"
    case $append in *vm.stack=*) expect fsck 0; return ;; esac
    bytes=$(value partition-bytes)
    dd if="$disk" of="$root" bs=1M skip=10 count="$((${bytes:-0} / 1048576))" conv=sparse status=none
    case $2 in
        ext4) said=$(e2fsck -fn "$root" 2>&1) ;;
        xfs) said=$(xfs_repair -n "$root" 2>&1) ;;
        btrfs) said=$(btrfs check --readonly "$root" 2>&1) ;;
    esac || problem "$2: $said"
    rm "$root"
}

# mebibytes PARTITION ROOT: what both have; the file system's own tables are not counted by statfs.
mebibytes() {
    local is
    expect partition-bytes $(($1 << 20))
    is=$(value root-bytes)
    if [ "${is:-0}" -lt $(($2 * 1048576 * 8 / 10)) ] || [ "$is" -gt $(($2 << 20)) ]; then
        problem "the file system has ${is:-no} bytes, expected about $2 MiB"
    fi
}
nothing_was_written() { expect written-grow 0; expect written-persist 0; expect written-apply 0; }

# growth TABLE FILE-SYSTEM last|swap|full MIB: the root has that many MiB then, and a second boot writes nothing.
growth() {
    local name=growth-$1-$2-$3 form
    growth_disk "$1" "$2" "$3"
    form=LABEL=growth
    [ "$1" = gpt ] || form=PARTUUID=deadbeef-01
    append="root=$form vm.grow=$2 vm.part=vda1"
    boot "$name"
    mebibytes "$4" "$4"
    growth_is_sound "$1" "$2"
    boot "$name-second"
    mebibytes "$4" "$4"
    nothing_was_written
    growth_is_sound "$1" "$2"
}

# --- LVM and LUKS -----------------------------------------------------------------------------------------

# growth_stack TABLE FILE-SYSTEM lvm|luks: a boot of its own makes what the root is in: this machine may have no device mapper.
growth_stack() {
    append="vm.grow=$2 vm.part=vda1 vm.stack=$3"
    more_initrd=stack.cpio
    boot "growth-$1-$2-$3-prepare" vm.prepare
    contents=$(value contents)
    [ ${#contents} -eq 64 ] || { problem 'nothing was prepared'; return 1; }
}

# By its path with an MBR, and then only the mounted root tells its device; by what is inside with a GPT.
growth_form() { if [ "$1" = gpt ]; then echo LABEL=growth; else echo "/dev/mapper/growth$2"; fi; }

# LVM is left alone, and said; then all of it grows, in one boot.
growth_lvm() {
    local name=growth-$1-$2-lvm
    growth_disk "$1" "$2" lvm || return
    append="root=$(growth_form "$1" -root) $append"
    boot "$name-alone"
    console_says 'preroot grow: left alone: .*a logical volume \(LVM\)'
    mebibytes 400 396
    nothing_was_written
    boot "$name-all" rd.preroot.grow=all
    console_says 'preroot grow: pvresize ended with 0'
    console_says 'preroot grow: lvextend ended with 0'
    mebibytes 889 888
    expect device-bytes $((888 << 20))
    growth_is_sound "$1" "$2"
    boot "$name-second" rd.preroot.grow=all
    console_lacks 'preroot grow: (pvresize|lvextend)'
    mebibytes 889 888
    nothing_was_written
    growth_is_sound "$1" "$2"
}

# LUKS: the partition grows; the mapping has it the next time it is opened, the file system then; a third boot writes nothing.
# On request the mapping grows in the first boot too, where its key is not in the kernel's keyring, else cryptsetup says no.
growth_luks() {
    local name=growth-$1-$2-luks inside=873
    growth_disk "$1" "$2" luks || return
    cp --sparse=always "$disk" "$LAB/luks.img"
    append="root=$(growth_form "$1" '') $append"
    boot "$name-partition"
    mebibytes 889 384
    expect device-bytes $((384 << 20))
    growth_is_sound "$1" "$2"
    boot "$name-file-system"
    expect written-grow 0
    expect written-persist 0
    mebibytes 889 $inside
    growth_is_sound "$1" "$2"
    boot "$name-third"
    mebibytes 889 $inside
    nothing_was_written
    growth_is_sound "$1" "$2"

    cp --sparse=always "$LAB/luks.img" "$disk"
    append="$append rd.preroot.grow=all"
    boot "$name-all" vm.open=--disable-keyring
    console_says 'preroot grow: cryptsetup ended with 0'
    expect device-bytes $((inside << 20))
    mebibytes 889 $inside
    growth_is_sound "$1" "$2"
    boot "$name-all-second" vm.open=--disable-keyring
    console_lacks 'preroot grow: cryptsetup'
    nothing_was_written
    growth_is_sound "$1" "$2"
    [ "$2" = ext4 ] || return 0
    cp --sparse=always "$LAB/luks.img" "$disk"
    boot "$name-keyring"
    console_says 'preroot grow: cryptsetup ended with [1-9]'
    mebibytes 889 384
    growth_is_sound "$1" "$2"
}

for table in gpt mbr; do
    for file_system in ext4 xfs btrfs; do
        # 889 MiB are left behind 10 and before 1; the swap begins at 600 MiB.
        eval "growth_${table}_${file_system}_last() { growth $table $file_system last 889; }
            growth_${table}_${file_system}_swap() { growth $table $file_system swap 590; }
            growth_${table}_${file_system}_full() { growth $table $file_system full 400; }
            growth_${table}_${file_system}_lvm() { growth_lvm $table $file_system; }
            growth_${table}_${file_system}_luks() { growth_luks $table $file_system; }"
        for place in last swap full lvm luks; do
            [ "$place" = last ] && [ "$file_system" != btrfs ] && set=fast || set=full
            scenario "growth-$table-$file_system-$place" "$set" "growth_${table}_${file_system}_$place"
        done
    done
done

# --- the power goes ---------------------------------------------------------------------------------------

# While the root grows, on a disk so slow that each write takes its time; the next boot ends as an uncut one, and fsck is content.
# How long growth takes on this machine, a boot that is not cut tells, for each file system: of the table, and of all. Every
# other cut is meant for the table.
milliseconds_until() { awk -v end="VM $1=" '/VM growing/ { from = $1 } index($0, end) { print int(($1 - from) * 1100) + 100 }' "$console"; }
grow_kills() {
    local round rounds=${KILLS:-} table file_system after states='' windows=0 mended=0
    local -A table_ms=() all_ms=()
    [ -n "$rounds" ] || { [ "$set_name" = full ] && rounds=50 || rounds=4; }
    for round in $(seq "$rounds"); do
        table=$([ $((round % 2)) -eq 0 ] && echo gpt || echo mbr)
        case $((round % 6)) in 0 | 1) file_system=ext4 ;; 2 | 3) file_system=xfs ;; *) file_system=btrfs ;; esac
        growth_disk "$table" "$file_system" last
        append="root=LABEL=growth vm.grow=$file_system vm.part=vda1"
        cache=none slow=15
        if [ -z "${all_ms[$file_system]:-}" ]; then
            boot grow-kill-uncut
            table_ms[$file_system]=$(milliseconds_until written-grow)
            all_ms[$file_system]=$(milliseconds_until written-apply)
            growth_disk "$table" "$file_system" last
        fi
        after=$((RANDOM * 32768 + RANDOM))
        [ $((RANDOM % 2)) -eq 0 ] && after=$((after % ${table_ms[$file_system]:-1000})) || after=$((after % ${all_ms[$file_system]:-3000}))
        boot_until 'VM growing' "$((after / 1000)).$(printf %03d $((after % 1000)))" grow-kill
        slow=''
        states+="$("$REPO/tests/vm/growth-state.py" "$disk" "$table" "$file_system" 2>&1)"$'\n'
        boot grow-kill-next
        if is_in_kernels_window "$file_system"; then
            windows=$((windows + 1))
            if mend_as_an_initrd; then mended=$((mended + 1)); fi
            boot grow-kill-next
        fi
        mebibytes 889 889
        growth_is_sound "$table" "$file_system"
        [ ${#reasons[@]} -eq 0 ] || { problem "in round $round: $table, $file_system, killed after $after ms"; break; }
    done
    printf '%s' "$states" | sort | uniq -c | sed 's/^/        killed with/'
    printf "        kernel's window: %s of %s, mended by e2fsck -p: %s\n" "$windows" "$round" "$mended"
}

# is_in_kernels_window FILE-SYSTEM: ext4's new superblock is there, not all of its new group descriptors, and the kernel looks at
# both before it replays the journal (docs/rationale.md).
is_in_kernels_window() {
    [ "$1" = ext4 ] && [ -z "$(value root-bytes)" ] && grep -aq 'group descriptors corrupted' "$console"
}
# What the initrds of dracut and initramfs-tools do before they mount; a disk that it does not mend is kept.
mend_as_an_initrd() {
    local root=$LAB/root.img said code=0 mebibytes
    mebibytes=$((($(value partition-bytes) + 0) / 1048576))
    cp --sparse=always "$disk" "$VM_DIR/grow-kill.img"
    dd if="$disk" of="$root" bs=1M skip=10 count=$mebibytes conv=sparse status=none
    said=$(e2fsck -p "$root" 2>&1) || code=$?
    if [ "$code" -gt 1 ]; then
        printf '        e2fsck -p ended with %s: %s\n' "$code" "$said"
        e2fsck -fy "$root" >/dev/null 2>&1 || [ $? -eq 1 ] || problem "e2fsck -fy did not mend it either: $VM_DIR/grow-kill.img"
    fi
    dd if="$root" of="$disk" bs=1M seek=10 conv=notrunc status=none
    rm "$root"
    [ "$code" -le 1 ] && rm "$VM_DIR/grow-kill.img"
}
scenario grow-kills fast grow_kills
