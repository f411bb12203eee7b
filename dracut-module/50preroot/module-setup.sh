#!/bin/bash
# What does dracut put into an image so that preroot can provision the machine? (dracut 055 and later)
# shellcheck disable=SC2154 # moddir, initdir, kernel, systemdsystemunitdir are dracut's

# The drivers that reach a provisioning medium, a root disk and a NIC on Hyper-V and on common emulators.
# Names a kernel lacks or has built in are skipped. Loading them is `preroot modules`' business.
preroot_drivers() {
    echo hv_vmbus hv_storvsc hv_netvsc hv_utils pci_hyperv \
        virtio_pci virtio_blk virtio_scsi virtio_net \
        ata_piix ata_generic ahci sr_mod sd_mod cdrom nvme \
        af_packet e1000 e1000e
}

# A package that was installed on purpose wants to be in the image.
check() {
    require_binaries preroot || return 1
    return 0
}

depends() {
    echo udev-rules
    return 0
}

# hostonly='': an image is often built in a chroot or on another hypervisor than the one it boots on.
installkernel() {
    # shellcheck disable=SC2046 # a list of words
    hostonly='' instmods $(preroot_drivers)
    preroot_kernel_decompresses || preroot_plain_modules
}

# Does this kernel unpack a compressed module itself? Then nothing needs to be done about it.
preroot_kernel_decompresses() {
    local config
    for config in "${dracutsysrootdir-}/boot/config-$kernel" "${dracutsysrootdir-}/lib/modules/$kernel/config"; do
        [[ -r $config ]] || continue
        grep -q '^CONFIG_MODULE_DECOMPRESS=y' "$config"
        return
    done
    return 1
}

# Puts plain copies beside the compressed modules that are in the image by now: preroot carries no decoder and falls
# back to them. (Other dracut modules may still add compressed ones, so taking those away would not last.)
preroot_plain_modules() {
    local file
    while read -r file; do
        case $file in
            *.ko.xz) xz -dc "$file" ;;
            *.ko.zst) zstd -qdc "$file" ;;
            *.ko.gz) gzip -dc "$file" ;;
            *) false ;;
        esac >"${file%.*}.part" && mv "${file%.*}.part" "${file%.*}"
        rm -f "${file%.*}.part"
    done < <(find "$initdir/" -path "*/lib/modules/$kernel/*" -name '*.ko.*' -type f)
    return 0
}

install() {
    inst_simple "$(find_binary preroot)" /usr/bin/preroot
    if dracut_module_included "systemd"; then
        preroot_units
    else
        # shell initrds only: bounds each stage from outside
        inst_multiple -o timeout
        inst_hook pre-trigger 50 "$moddir/preroot-fetch.sh"
        inst_hook initqueue/settled zz "$moddir/preroot-grow.sh" # behind whoever else makes the root's device
        inst_hook pre-mount 50 "$moddir/preroot-grow.sh"
        inst_hook pre-pivot 50 "$moddir/preroot-persist.sh"
    fi
}

preroot_units() {
    local unit
    mkdir -p "$initdir$systemdsystemunitdir/initrd.target.wants"
    for unit in preroot-modules preroot-fetch preroot-kvp preroot-grow preroot-persist; do
        inst_simple "$moddir/$unit.service" "$systemdsystemunitdir/$unit.service"
        ln -sfn "../$unit.service" "$initdir$systemdsystemunitdir/initrd.target.wants/$unit.service"
    done
}
