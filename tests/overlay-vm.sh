# shellcheck shell=sh
# shellcheck disable=SC2034 # root and said are the caller's
# A VM of Azure on the kernel of this machine, for tests of the real root: an overlay of this machine's root, and a seed that the initrd would have left.
# (sourced, in a mount namespace of its own)

# overlay_vm TRANSLATOR CUSTOM-DATA: makes it. Its root is $root, its /run/preroot /mnt/run, whose seed the caller may add to; what programs say may go
# to $said.
overlay_vm() {
    mount -t tmpfs t /mnt && mkdir /mnt/up /mnt/work /mnt/root /mnt/run && chmod 755 /mnt/up
    mount -t overlay o -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work /mnt/root
    root=/mnt/root said=/mnt/said
    rm -rf $root/var/lib/preroot $root/var/lib/waagent $root/var/log/preroot-scripts.log
    cp "$1" $root/usr/bin/preroot-cloud-config && chmod 755 $root/usr/bin/preroot-cloud-config
    mount -t tmpfs t /sys && mkdir -p /sys/class/dmi/id /sys/firmware/efi
    echo 7783-7084-3265-9085-8269-3286-77 >/sys/class/dmi/id/chassis_asset_tag
    echo 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf >/sys/class/dmi/id/product_uuid
    mount -t proc p $root/proc && mount -t tmpfs t $root/dev
    mknod $root/dev/null c 1 3 && chmod 666 $root/dev/null && : >$root/dev/console
    mknod $root/dev/urandom c 1 9 && chmod 666 $root/dev/urandom
    umask 077
    cd /mnt/run && mkdir -p seed/user && cd seed || return
    put format 1; put platform azure; put source ""; put verdict provision; put hostname vm1
    put instance-id 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf
    put user/name prerootops; put user/authorized-keys "ssh-ed25519 AAAAC3Nz ops"
    printf "%s" "$2" >custom-data
}
# put NAME VALUE: a value of the seed.
put() { printf "%s\n" "$2" >"$1"; }
