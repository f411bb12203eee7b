//! Several local disks: one array, where mdadm is there.

use super::super::Outcome;
use super::{Vm, assemble, file_system, is_left_alone};
use crate::sys::Dir;

fn is_joined(vm: &Vm) -> bool {
    let create = "/usr/sbin/mdadm --create /dev/md127 --run --level=0 --chunk=512 --metadata=1.2 --name preroot-temp \
                  --homehost=any --raid-devices=3 /dev/nvme0n1 /dev/nvme1n1 /dev/nvme2n1";
    vm.system.runs.iter().any(|line| line == create)
}

#[test]
fn several_local_disks_are_joined() {
    let mut vm = Vm::with_local(3, true);
    assert_eq!(vm.settle(), Ok(Outcome::Formatted("md127".try_into().unwrap())));
    assert!(is_joined(&vm) && vm.ran("mkfs.ext4 -q -E nodiscard -F -L preroot-temp /dev/md127") == 1);
    vm.root.put("mnt/resource/data", "kept");
    // Assembled by the image, and by us where it does not.
    for is_by_image in [true, false] {
        vm.reboot();
        if is_by_image {
            let (machine, mut host) = (vm.shared.0.clone(), vm.host.clone());
            assemble(&mut machine.borrow_mut(), &mut host, &["0n1", "1n1", "2n1"]);
        }
        assert_eq!(vm.settle(), Ok(Outcome::Mounted("md127".try_into().unwrap())));
        assert_eq!((vm.ran("mkfs"), vm.ran("--assemble")), (0, usize::from(!is_by_image)));
        assert_eq!(vm.root.text("mnt/resource/data").unwrap(), "kept");
    }
}

#[test]
fn without_mdadm_one_of_several_is_used_and_that_is_told() {
    let mut vm = Vm::with_local(3, false);
    assert_eq!(vm.settle(), Ok(Outcome::OneFormatted("nvme0n1".try_into().unwrap())));
    vm.reboot();
    assert_eq!(vm.settle(), Ok(Outcome::Mounted("nvme0n1".try_into().unwrap())));
    let mut vm = Vm::with_local(1, true);
    assert_eq!(vm.settle(), Ok(Outcome::Formatted("nvme0n1".try_into().unwrap())));
    assert_eq!(vm.ran("mdadm"), 0);
}

#[test]
fn an_array_that_a_power_cut_left_half_made_is_made_again() {
    for program in ["mdadm", "mkfs", "mount"] {
        for is_by_image in [true, false] {
            let mut vm = Vm::with_local(3, true);
            vm.shared.0.borrow_mut().cut_in = program;
            vm.settle().unwrap_err();
            vm.power_on(true);
            if is_by_image && program != "mdadm" {
                let (machine, mut host) = (vm.shared.0.clone(), vm.host.clone());
                assemble(&mut machine.borrow_mut(), &mut host, &["0n1", "1n1", "2n1"]);
            }
            let outcome = vm.settle();
            let is_it =
                matches!(&outcome, Ok(Outcome::Formatted(md) | Outcome::Mounted(md)) if md == "md127");
            assert!(is_it, "{program}, by the image {is_by_image}: {outcome:?}");
            assert!(
                vm.shared.0.borrow().is_swapping && vm.root.stat(crate::apply::resource_disk::BEGUN).is_err()
            );
        }
    }
}

#[test]
fn an_array_of_others_stays() {
    // Blank, and assembled by somebody a moment ago.
    let mut vm = Vm::with_local(3, true);
    vm.shared.0.borrow_mut().array = std::vec![0; 3 << 20];
    let (machine, mut host) = (vm.shared.0.clone(), vm.host.clone());
    assemble(&mut machine.borrow_mut(), &mut host, &["0n1", "1n1", "2n1"]);
    assert!(is_left_alone(&vm.settle()));
    assert!(vm.system.runs.is_empty());
    // Of a local disk and one that is not.
    let mut vm = Vm::with_local(3, true);
    vm.host.put("sys/devices/pci0/nvme/nvme1/model", "MSFT NVMe Accelerator v1.0\n");
    let (machine, mut host) = (vm.shared.0.clone(), vm.host.clone());
    machine.borrow_mut().array = file_system("mkfs.ext4", "preroot-temp");
    assemble(&mut machine.borrow_mut(), &mut host, &["0n1", "1n1"]);
    assert_eq!(vm.settle(), Ok(Outcome::Formatted("nvme2n1".try_into().unwrap())));
    assert_eq!(vm.ran("mdadm"), 0);
}
