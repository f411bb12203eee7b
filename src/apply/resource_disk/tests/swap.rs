//! The swap file on it: right, whole, encrypted, and what a full disk says.

use super::{SWAP_BYTES, Vm, formatted, mounted};
use crate::error::Kind;
use crate::sys::{Dir, Owner};
use std::string::String;
use std::vec::Vec;

#[test]
fn a_swap_file_is_made_again_unless_it_is_right() {
    let wrong: [(Owner, usize); 3] = [
        (Owner::root(0o600), 4096),
        (Owner::root(0o644), SWAP_BYTES as usize),
        (Owner { mode: 0o600, uid: 1000, gid: 0 }, SWAP_BYTES as usize),
    ];
    for (owner, bytes) in wrong {
        let mut vm = Vm::with("ntfs-fresh");
        vm.settle().unwrap();
        vm.root.put_owned("mnt/resource/swapfile", owner, std::vec![1; bytes]);
        vm.reboot();
        assert_eq!(vm.settle(), mounted());
        assert_eq!(vm.ran("fallocate"), 1);
        vm.is_complete();
    }
    // Never through a link, nor over a directory.
    let mut vm = Vm::with("ntfs-fresh");
    vm.settle().unwrap();
    vm.root.remove("mnt/resource/swapfile").unwrap();
    vm.root.put("etc/shadow", "root:*").put_symlink("mnt/resource/swapfile", "/etc/shadow");
    vm.reboot();
    assert!(vm.settle().unwrap_err().is(Kind::Unsupported));
    assert!(vm.root.text("etc/shadow").unwrap() == "root:*" && vm.ran("mkswap") == 0);
}

#[test]
fn swap_with_holes_is_written_out_and_a_full_disk_stays_usable() {
    let mut vm = Vm::with("ntfs-fresh");
    vm.shared.0.borrow_mut().has_holes = true;
    assert_eq!(vm.settle(), formatted());
    assert_eq!((vm.ran("fallocate"), vm.ran("mkswap"), vm.ran("swapon")), (1, 2, 2));
    vm.is_complete();
    // No fallocate at all.
    let mut vm = Vm::with("ntfs-fresh");
    vm.root.remove("usr/bin/fallocate").unwrap();
    vm.shared.0.borrow_mut().has_holes = true;
    assert_eq!(vm.settle(), formatted());
    vm.is_complete();
}

#[test]
fn swap_is_encrypted_with_a_key_that_nobody_keeps() {
    let mut vm = Vm::with("ntfs-fresh");
    vm.say("ResourceDisk.EnableSwapEncryption=y\n");
    assert_eq!(vm.settle(), formatted());
    let open = vm.system.runs.iter().find(|line| line.contains("cryptsetup")).unwrap();
    assert_eq!(
        open,
        "/usr/sbin/cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file /dev/urandom \
         /mnt/resource/swapfile preroot-swap"
    );
    assert_eq!(vm.system.runs.last().unwrap(), "/usr/sbin/swapon /dev/mapper/preroot-swap");
    assert_eq!(vm.ran("/usr/sbin/swapon /mnt"), 0);
}

#[test]
fn btrfs_swap_is_not_copied_on_write() {
    let mut vm = Vm::with("ntfs-fresh");
    vm.say("ResourceDisk.Filesystem=btrfs\n");
    vm.settle().unwrap();
    let order: Vec<&String> =
        vm.system.runs.iter().filter(|line| line.contains("chattr") || line.contains("fallocate")).collect();
    assert!(order[0].contains("chattr +C /mnt/resource/swapfile") && order[1].contains("fallocate"));
}
