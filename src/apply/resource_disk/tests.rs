//! The resource disk through boots, moves to other hosts and power cuts; programs that do what the image's do.

use super::{Outcome, settle};
use crate::apply::{Buffers, Root, SeedPlace};
use crate::error::{Errno, Kind, Result};
use crate::facts::InstanceId;
use crate::format::ReadAt;
use crate::format::config::Config;
use crate::format::media::image;
use crate::sys::fake::{FakeClock, FakeDir, FakeDisk, FakeDisks, FakeSystem, Unmounted};
use crate::sys::{Block, DeviceNumber, Dir, Disks, DriveStatus, Ejected, KernelPartition, Owner};
use std::cell::RefCell;
use std::rc::Rc;
use std::string::ToString;
use std::vec::Vec;

mod array;
mod swap;

const GEN2: &str = "f8b3781a-1e82-4818-a1c3-63d806ec15bb";
const DATA: &str = "f8b3781b-1e82-4818-a1c3-63d806ec15bb";
const POINT: &str = "mnt/resource";
const SDB1: DeviceNumber = DeviceNumber { major: 8, minor: 17 };
const SWAP_BYTES: u64 = 1 << 20;

/// What the programs change beside files.
#[derive(Default)]
struct Machine {
    disks: FakeDisks,
    files: Unmounted,
    is_mounted: bool,
    is_swapping: bool,
    /// The power goes while this program runs.
    cut_in: &'static str,
    /// What fallocate makes has holes for swapon.
    has_holes: bool,
    /// The status mkfs ends with.
    mkfs: i32,
    /// What is on the array that the local disks are joined to.
    array: Vec<u8>,
}

#[derive(Clone)]
struct Shared(Rc<RefCell<Machine>>);

impl Disks for Shared {
    fn open_read(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn ReadAt) -> Result<()>) -> Result<()> {
        self.0.borrow_mut().disks.open_read(name, work)
    }
    fn open_write(&mut self, _: &str, _: &mut dyn FnMut(&mut dyn Block) -> Result<()>) -> Result<()> {
        panic!("only mkfs writes")
    }
    fn resize_partition(&mut self, _: &str, _: KernelPartition) -> Result<()> {
        panic!()
    }
    fn add_partition(&mut self, _: &str, _: KernelPartition) -> Result<()> {
        panic!()
    }
    fn is_free(&mut self, name: &str) -> Result<bool> {
        self.0.borrow_mut().disks.is_free(name)
    }
    fn namespace_text(&mut self, name: &str, buf: &mut [u8]) -> Result<usize> {
        self.0.borrow_mut().disks.namespace_text(name, buf)
    }
    fn drive_status(&mut self, _: &str) -> Result<DriveStatus> {
        panic!()
    }
    fn eject(&mut self, _: &str) -> Result<Ejected> {
        panic!()
    }
}

/// The start of what mkfs makes.
fn file_system(program: &str, label: &str) -> Vec<u8> {
    let mut bytes = std::vec![0; 128 * 1024];
    if program.ends_with("xfs") {
        bytes[..8].copy_from_slice(b"XFSB\0\0\x10\0");
        bytes[108..108 + label.len()].copy_from_slice(label.as_bytes());
    } else {
        bytes[1024 + 0x38..1024 + 0x3A].copy_from_slice(&[0x53, 0xEF]);
        bytes[1024 + 0x18] = 2;
        bytes[1024 + 0x78..][..label.len()].copy_from_slice(label.as_bytes());
    }
    bytes
}

/// The array of these disks is there.
fn assemble(machine: &mut Machine, host: &mut FakeDir, names: &[&str]) {
    host.put("sys/class/block/md127/dev", "9:127\n");
    for name in names {
        host.put_dir(&std::format!("sys/class/block/md127/slaves/nvme{name}"));
        machine.disks.disks.get_mut(&std::format!("nvme{name}")).unwrap().in_use = true;
    }
    machine.disks.disks.insert("md127".into(), FakeDisk::new(machine.array.clone()));
}

/// As the programs of an image do it.
fn act(machine: &mut Machine, root: &mut FakeDir, host: &mut FakeDir, argv: &[&str]) -> Result<i32> {
    root.stat("")?;
    let program = argv[0].rsplit('/').next().unwrap();
    let last = *argv.last().unwrap();
    let is_cut = program.starts_with(machine.cut_in) && !machine.cut_in.is_empty();
    match program {
        _ if program.starts_with("mkfs.") => {
            let target = last.strip_prefix("/dev/").unwrap();
            let label = argv.iter().skip_while(|word| **word != "-L").nth(1).unwrap();
            machine.files = Unmounted::new();
            let disk = machine.disks.disks.get_mut(target).unwrap();
            assert!(!disk.in_use, "mkfs refuses what is in use");
            // What was there goes first, the superblock comes last.
            disk.bytes[..4096].fill(0);
            if !is_cut && machine.mkfs == 0 {
                let made = file_system(program, label);
                disk.bytes[..made.len()].copy_from_slice(&made);
            }
        }
        "mount" => {
            let target = argv[argv.len() - 2].strip_prefix("/dev/").unwrap();
            assert!(
                machine.disks.disks[target].bytes[..8192].iter().any(|byte| *byte != 0),
                "no file system"
            );
            root.mount(last.trim_start_matches('/'), SDB1, core::mem::take(&mut machine.files));
            machine.is_mounted = true;
            for disk in [&target[..3], target] {
                if let Some(disk) = machine.disks.disks.get_mut(disk) {
                    disk.in_use = true;
                }
            }
        }
        "mdadm" => {
            let names: Vec<&str> = argv.iter().filter_map(|word| word.strip_prefix("/dev/nvme")).collect();
            if argv[1] == "--create" {
                machine.array = std::vec![0; 3 << 20];
                // One superblock after the other.
                for name in &names[..if is_cut { 1 } else { names.len() }] {
                    let bytes = &mut machine.disks.disks.get_mut(&std::format!("nvme{name}")).unwrap().bytes;
                    bytes[4096..4100].copy_from_slice(&0xA92B_4EFC_u32.to_le_bytes());
                    bytes[4128..4144].copy_from_slice(b"any:preroot-temp");
                }
            }
            if !is_cut {
                assemble(machine, host, &names);
            }
        }
        "fallocate" => {
            let bytes: usize = argv[2].parse().unwrap();
            let bytes = if is_cut { bytes / 2 } else { bytes };
            root.append(last.trim_start_matches('/'), &std::vec![0; bytes])?;
        }
        "mkswap" if !last.starts_with("/dev/mapper/") => {
            let file = root.stat(last.trim_start_matches('/'))?;
            assert_eq!((file.mode, file.uid), (0o600, 0), "mkswap would warn of it");
        }
        "swapon" if core::mem::take(&mut machine.has_holes) => return Ok(255),
        "swapon" => {
            machine.is_swapping = true;
            host.put("proc/swaps", std::format!("Filename Type Size\n{last} file 1020 0 -2\n"));
        }
        _ => {}
    }
    if is_cut {
        root.cut_power_at(0);
        return Err(os!("power is off", Errno::IO));
    }
    Ok(if program.starts_with("mkfs.") { machine.mkfs } else { 0 })
}

struct Vm {
    root: FakeDir,
    host: FakeDir,
    run: FakeDir,
    shared: Shared,
    system: FakeSystem,
    config: Config,
    path: &'static str,
}

const PROGRAMS: [&str; 9] = [
    "usr/sbin/mkfs.ext4",
    "usr/sbin/mkfs.xfs",
    "usr/bin/mount",
    "usr/bin/fallocate",
    "usr/sbin/mkswap",
    "usr/sbin/swapon",
    "usr/sbin/cryptsetup",
    "usr/sbin/mkfs.btrfs",
    "usr/bin/chattr",
];

impl Vm {
    /// A Gen2 machine with this on the disk at LUN 1, whose image wants a swap file.
    fn with(name: &str) -> Self {
        let mut root = FakeDir::default();
        root.put_dir("var/lib").put_dir("mnt").put("etc/fstab", "UUID=1 / ext4 defaults 0 1\n");
        for program in PROGRAMS {
            root.put(program, "");
        }
        let mut vm = Self {
            root,
            host: FakeDir::default(),
            run: FakeDir::default(),
            shared: Shared(Rc::default()),
            system: FakeSystem::default(),
            config: Config::new(false),
            path: "/",
        };
        vm.say("ResourceDisk.EnableSwap=y\nResourceDisk.SwapSizeMB=1\n");
        vm.attach(GEN2, "naa.1");
        vm.insert(name, 1);
        let (machine, mut root, mut host) = (vm.shared.0.clone(), vm.root.clone(), vm.host.clone());
        vm.system.acts = Some(std::boxed::Box::new(move |argv: &[&str]| {
            act(&mut machine.borrow_mut(), &mut root, &mut host, argv)
        }));
        vm
    }

    fn say(&mut self, text: &str) {
        self.config.read(1, text.as_bytes(), &mut |_, fault| panic!("{fault}"));
    }

    /// The disk's sysfs, at LUN 1 of this vmbus device.
    fn attach(&mut self, device: &str, wwid: &str) {
        let above = std::format!("devices/VMBUS:00/{device}");
        let scsi = std::format!("{above}/host0/target0:0:0/0:0:0:1");
        let block = std::format!("{scsi}/block/sdb");
        self.host
            .put(&std::format!("sys/{above}/device_id"), std::format!("{{{device}}}\n"))
            .put(&std::format!("sys/{block}/dev"), "8:16\n")
            .put(&std::format!("sys/{block}/sdb1/partition"), "1\n")
            .put(&std::format!("sys/{block}/sdb1/size"), "16777216\n")
            .put_symlink(&std::format!("sys/{block}/device"), &std::format!("/sys/{scsi}"))
            .put_symlink("sys/class/block/sdb", &std::format!("../../{block}"))
            .put_symlink("sys/class/block/sdb1", &std::format!("../../{block}/sdb1"))
            .put_symlink("sys/dev/block/8:17", &std::format!("../../{block}/sdb1"));
        if !wwid.is_empty() {
            self.host.put(&std::format!("sys/{scsi}/wwid"), wwid);
        }
    }

    /// A machine with so many raw local disks instead, and an image with mdadm or without.
    fn with_local(count: usize, has_mdadm: bool) -> Self {
        let mut vm = Self::with("ntfs-fresh");
        vm.host.unmount("sys");
        for n in 0..count {
            let (name, device) = (std::format!("nvme{n}n1"), std::format!("devices/pci0/nvme/nvme{n}"));
            vm.host
                .put(&std::format!("sys/{device}/{name}/dev"), "259:0\n")
                .put(&std::format!("sys/{device}/{name}/wwid"), std::format!("eui.{n}\n"))
                .put(&std::format!("sys/{device}/model"), "Microsoft NVMe Direct Disk v2\n")
                .put_symlink(&std::format!("sys/{device}/{name}/device"), &std::format!("/sys/{device}"))
                .put_symlink(&std::format!("sys/class/block/{name}"), &std::format!("../../{device}/{name}"));
            let mut disk = FakeDisk::new(std::vec![0; 3 << 20]);
            disk.namespace_text = Some("type=local,index=1".to_string());
            vm.shared.0.borrow_mut().disks.disks.insert(name, disk);
        }
        vm.host.put_symlink("sys/dev/block/8:17", if has_mdadm { "../../md127" } else { "../../nvme0n1" });
        if has_mdadm {
            vm.root.put("usr/sbin/mdadm", "");
        }
        vm
    }

    /// Another disk comes to the place, whose table has this number.
    fn insert(&mut self, name: &str, number: u8) {
        let mut table = std::vec![0; 4096];
        table[440] = number;
        let machine = &mut *self.shared.0.borrow_mut();
        machine.files = Unmounted::new();
        machine.disks.disks.insert("sdb".into(), FakeDisk::new(table));
        machine.disks.disks.insert("sdb1".into(), FakeDisk::new(image(name)));
    }

    fn settle(&mut self) -> Result<Outcome> {
        self.look(false)
    }

    fn look(&mut self, dry_run: bool) -> Result<Outcome> {
        let mut bytes = std::vec![0; 128 * 1024];
        let mut root = Root {
            dir: &mut self.root,
            run: &mut self.run,
            host: &mut self.host,
            disks: &mut self.shared,
            system: &mut self.system,
            clock: &mut FakeClock::default(),
            until_us: u64::MAX,
            is_switched_off: false,
            is_last_try: false,
            partly: None,
            path: self.path,
            seed: SeedPlace::Run("seed"),
            config: &self.config,
            id: &InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap(),
            wall_s: 0,
            buffers: Buffers::halves_of(&mut bytes),
        };
        settle(&mut root, dry_run)
    }

    /// A boot after an orderly end.
    fn reboot(&mut self) {
        let _ = self.root.sync_all();
        self.power_on(true);
    }

    /// A boot after whatever end.
    fn power_on(&mut self, keep_names: bool) {
        self.root.power_on(keep_names);
        let point = self.config.resource_disk_mount_point().trim_matches('/').to_string();
        let machine = &mut *self.shared.0.borrow_mut();
        if core::mem::take(&mut machine.is_mounted) {
            machine.files = self.root.unmount(&point);
        }
        (machine.is_swapping, machine.cut_in) = (false, "");
        if let Some(array) = machine.disks.disks.remove("md127") {
            machine.array = array.bytes;
            self.host.unmount("sys/class/block/md127");
            self.host.remove_dir("sys/class/block/md127").unwrap();
        }
        machine.disks.disks.values_mut().for_each(|disk| disk.in_use = false);
        let _ = self.host.remove("proc/swaps");
        self.system.runs.clear();
    }

    fn ran(&self, program: &str) -> usize {
        self.system.runs.iter().filter(|line| line.contains(program)).count()
    }

    /// All that is promised of a mounted disk.
    fn is_complete(&mut self) {
        let machine = self.shared.0.borrow();
        assert!(machine.is_mounted && machine.is_swapping, "{:?}", self.system.runs);
        drop(machine);
        let readme = self.root.text("mnt/resource/DATALOSS_WARNING_README.txt").unwrap();
        assert!(readme.contains("lost"), "{readme}");
        let swap = self.root.stat("mnt/resource/swapfile").unwrap();
        assert_eq!((swap.mode, swap.uid, swap.size), (0o600, 0, SWAP_BYTES));
        assert!(self.root.stat(super::BEGUN).is_err(), "the note is gone");
        let runs = self.system.runs.len();
        assert_eq!(self.settle(), Ok(Outcome::AsItShouldBe("sdb1".try_into().unwrap())));
        assert_eq!(self.system.runs.len(), runs, "nothing more to do");
    }
}

fn formatted() -> Result<Outcome> {
    Ok(Outcome::Formatted("sdb1".try_into().unwrap()))
}

fn mounted() -> Result<Outcome> {
    Ok(Outcome::Mounted("sdb1".try_into().unwrap()))
}

fn is_left_alone(outcome: &Result<Outcome>) -> bool {
    matches!(outcome, Ok(Outcome::LeftAlone(_)))
}

#[test]
fn a_fresh_disk_is_formatted_mounted_and_gets_its_swap() {
    for (file_system, words) in [
        ("ext4", "/usr/sbin/mkfs.ext4 -q -E nodiscard -F -L preroot-temp /dev/sdb1"),
        ("xfs", "/usr/sbin/mkfs.xfs -q -K -f -L preroot-temp /dev/sdb1"),
    ] {
        for fresh in ["ntfs-fresh", "ntfs-fresh-64k", "ntfs-empty-512"] {
            let mut vm = Vm::with(fresh);
            vm.say(&std::format!("ResourceDisk.Filesystem={file_system}\n"));
            assert_eq!(vm.settle(), formatted());
            assert_eq!(
                vm.system.runs,
                [
                    words,
                    "/usr/bin/mount /dev/sdb1 /mnt/resource",
                    "/usr/bin/fallocate -l 1048576 /mnt/resource/swapfile",
                    "/usr/sbin/mkswap /mnt/resource/swapfile",
                    "/usr/sbin/swapon /mnt/resource/swapfile",
                ]
            );
            vm.is_complete();
        }
    }
}

#[test]
fn a_second_boot_keeps_what_is_on_it_and_a_move_of_the_vm_makes_it_anew() {
    for file_system in ["ext4", "xfs"] {
        let mut vm = Vm::with("ntfs-fresh");
        vm.say(&std::format!("ResourceDisk.Filesystem={file_system}\n"));
        assert_eq!(vm.settle(), formatted());
        vm.root
            .put("mnt/resource/data", "somebody's")
            .put("mnt/resource/DATALOSS_WARNING_README.txt", "lost, mine");
        for _ in 0..3 {
            vm.reboot();
            assert_eq!(vm.settle(), mounted());
            assert_eq!((vm.ran("mkfs"), vm.ran("fallocate"), vm.ran("swapon")), (0, 0, 1));
            assert_eq!(vm.root.text("mnt/resource/data").unwrap(), "somebody's");
            assert_eq!(vm.root.text("mnt/resource/DATALOSS_WARNING_README.txt").unwrap(), "lost, mine");
            vm.is_complete();
        }
        vm.reboot();
        vm.insert("ntfs-fresh", 2);
        assert_eq!(vm.settle(), formatted());
        assert_eq!(vm.root.text("mnt/resource/data"), None);
        vm.is_complete();
    }
}

#[test]
fn a_disk_that_is_somebody_s_is_not_touched() {
    for (device, name) in [
        (DATA, "ntfs-fresh"),
        (DATA, "ntfs-one-file"),
        (GEN2, "ntfs-one-file"),
        (GEN2, "ntfs-one-directory"),
        (GEN2, "ntfs-other-label"),
        (GEN2, "iso-plain"),
    ] {
        let mut vm = Vm::with(name);
        if device == DATA {
            vm.host = FakeDir::default();
            vm.attach(DATA, "naa.1");
        }
        let before = vm.shared.0.borrow().disks.disks["sdb1"].bytes.clone();
        let outcome = vm.settle();
        assert_eq!(is_left_alone(&outcome), device == GEN2, "{name}: {outcome:?}");
        assert_eq!(outcome == Ok(Outcome::Absent), device == DATA, "{name}: {outcome:?}");
        assert!(vm.system.runs.is_empty() && vm.shared.0.borrow().disks.disks["sdb1"].bytes == before);
    }
}

#[test]
fn an_ntfs_that_somebody_has_mounted_and_not_unmounted_is_not_fresh() {
    let mut vm = Vm::with("ntfs-fresh");
    {
        let mut machine = vm.shared.0.borrow_mut();
        let bytes = &mut machine.disks.disks.get_mut("sdb1").unwrap().bytes;
        let information =
            |at: &usize| bytes[*at..*at + 4] == [0x70, 0, 0, 0] && bytes[at + 0x20..at + 0x22] == [3, 1];
        let at = (0..bytes.len() - 0x30).find(information).unwrap();
        bytes[at + 0x22] |= 1;
    }
    assert_eq!(vm.settle(), Ok(Outcome::LeftAlone("an NTFS volume that somebody did not unmount")));
    assert!(vm.system.runs.is_empty());
}

/// Boots until nothing is left to do; the disk is complete then, and was formatted `formats` times at most.
fn converges(vm: &mut Vm, keep_names: bool, cut: &str) {
    vm.power_on(keep_names);
    let outcome = vm.settle();
    assert!(outcome == formatted() || outcome == mounted(), "{cut}, kept {keep_names}: {outcome:?}");
    vm.is_complete();
}

#[test]
fn a_power_cut_anywhere_converges_with_a_world_wide_id_or_without() {
    for wwid in ["naa.1", ""] {
        for keep_names in [false, true] {
            let fresh = || {
                let mut vm = Vm::with("ntfs-fresh");
                vm.host = FakeDir::default();
                vm.attach(GEN2, wwid);
                let (machine, mut root, mut host) = (vm.shared.0.clone(), vm.root.clone(), vm.host.clone());
                vm.system.acts = Some(std::boxed::Box::new(move |argv: &[&str]| {
                    act(&mut machine.borrow_mut(), &mut root, &mut host, argv)
                }));
                vm
            };
            for program in ["mkfs", "mount", "fallocate", "mkswap", "swapon"] {
                let mut vm = fresh();
                vm.shared.0.borrow_mut().cut_in = program;
                vm.settle().unwrap_err();
                converges(&mut vm, keep_names, program);
            }
            let mut cuts = 0;
            for n in 1.. {
                let mut vm = fresh();
                vm.root.cut_power_at(n);
                if vm.settle().is_ok() {
                    break;
                }
                cuts = n;
                converges(&mut vm, keep_names, &std::format!("cut {n}"));
            }
            assert!(cuts > 8, "{cuts} cuts");
        }
    }
}

#[test]
fn what_a_cut_left_of_another_disk_s_format_is_nobody_s() {
    let mut vm = Vm::with("ntfs-fresh");
    vm.shared.0.borrow_mut().cut_in = "mkfs";
    vm.settle().unwrap_err();
    vm.reboot();
    vm.host.put(&std::format!("sys/devices/VMBUS:00/{GEN2}/host0/target0:0:0/0:0:0:1/wwid"), "naa.2");
    assert!(is_left_alone(&vm.settle()));
    // A failure of mkfs is no cut: it is not tried for ever.
    let mut vm = Vm::with("ntfs-fresh");
    vm.shared.0.borrow_mut().mkfs = 1;
    assert!(vm.settle().unwrap_err().is(Kind::Malformed));
    vm.reboot();
    assert!(is_left_alone(&vm.settle()) && vm.ran("mkfs") == 0);
}

#[test]
fn an_operation_that_fails_is_told_and_the_next_boot_converges() {
    for n in 1..40 {
        let mut vm = Vm::with("ntfs-fresh");
        vm.root.fail_at(n, Errno::NOSPC);
        if vm.settle().is_ok() {
            continue;
        }
        converges(&mut vm, true, "after a failure");
    }
}

#[test]
fn options_and_mount_point_are_the_image_s_maker_s() {
    let mut vm = Vm::with("ntfs-fresh");
    vm.say("ResourceDisk.MountPoint=/srv/fast/disk\nResourceDisk.MountOptions=noatime,nodev\nResourceDisk.EnableSwap=n\n");
    vm.root.put_dir("srv");
    assert_eq!(vm.settle(), formatted());
    assert_eq!(vm.system.runs[1], "/usr/bin/mount -o noatime,nodev /dev/sdb1 /srv/fast/disk");
    assert_eq!(vm.system.runs.len(), 2);
    assert_eq!(vm.root.owner("srv/fast/disk"), Some(Owner::root(0o755)));
    assert_eq!(vm.root.owner("srv/fast/disk/DATALOSS_WARNING_README.txt"), Some(Owner::root(0o644)));
}

#[test]
fn what_the_image_does_its_own_way_stays() {
    let mut vm = Vm::with("ntfs-fresh");
    vm.root.put("etc/fstab", "/dev/disk/cloud/azure_resource-part1 /mnt/resource auto nofail 0 2\n");
    assert!(is_left_alone(&vm.settle()));
    let mut vm = Vm::with("ntfs-fresh");
    vm.root.put_dir(POINT).mount(POINT, DeviceNumber { major: 0, minor: 44 }, Unmounted::new());
    assert!(is_left_alone(&vm.settle()));
    let mut vm = Vm::with("ntfs-fresh");
    vm.say("ResourceDisk.Format=n\n");
    assert_eq!(vm.settle(), Ok(Outcome::Unwanted));
    let mut vm = Vm::with("ntfs-fresh");
    vm.path = "/sysroot";
    assert_eq!(vm.settle(), Ok(Outcome::Unwanted));
    let mut vm = Vm::with("ntfs-fresh");
    vm.shared.0.borrow_mut().disks.disks.get_mut("sdb").unwrap().in_use = true;
    assert!(is_left_alone(&vm.settle()));
    let mut vm = Vm::with("ntfs-fresh");
    let before = vm.root.dump();
    assert_eq!(vm.look(true), formatted());
    assert!(vm.root.dump() == before && vm.system.runs.is_empty(), "a dry run");
}

#[test]
fn without_its_mkfs_nothing_is_begun() {
    let mut vm = Vm::with("ntfs-fresh");
    vm.root.remove("usr/sbin/mkfs.ext4").unwrap();
    let before = vm.root.dump();
    assert!(vm.settle().unwrap_err().is(Kind::Unsupported));
    assert!(vm.root.dump() == before && vm.system.runs.is_empty());
}
