//! Machines with any disks, as sysfs and the disks themselves show them: the whole way from bytes to decision.

use super::{Choice, LABEL, choose, identity, observe};
use crate::error::{Errno, Result};
use crate::format::ReadAt;
use crate::format::media::image;
use crate::sys::fake::{FakeDir, FakeDisk, FakeDisks};
use crate::sys::{Block, Disks, DriveStatus, Ejected, KernelPartition};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::sync::LazyLock;
use std::vec::Vec;

/// Where a disk is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Gen1Root,
    Gen1Resource,
    Gen2Lun(u8),
    DataLun(u8),
    Virtio,
    Loop,
    NvmeLocal,
    NvmeSilentLocal,
    NvmeSaysRemote,
    NvmeRemote,
    NvmeUnreadable,
    NvmeNamed,
    VirtioNamed,
}

/// The place that this image's maker named.
const NAMED: &str = "0000:00:1e.0";

/// What is on the part of it that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum On {
    Fresh,
    File,
    OtherLabel,
    Torn,
    Ext4,
    OurExt4,
    Luks,
    Blank,
    NoiseAtStart,
    NoiseAtEnd,
    HalfMadeXfs,
    OurMember,
    TheirMember,
}

const ALL_ON: [On; 13] = [
    On::Fresh,
    On::File,
    On::OtherLabel,
    On::Torn,
    On::Ext4,
    On::OurExt4,
    On::Luks,
    On::Blank,
    On::NoiseAtStart,
    On::NoiseAtEnd,
    On::HalfMadeXfs,
    On::OurMember,
    On::TheirMember,
];

/// Numbers of the partitions, and whether the first is small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Spec {
    at: At,
    on: On,
    partitions: u8,
    first_is_small: bool,
    in_use: bool,
    begun: bool,
}

static IMAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| ALL_ON.iter().map(|on| content(*on)).collect());

fn content(on: On) -> Vec<u8> {
    let mut bytes = std::vec![0; 3 << 20];
    let ext4 = |bytes: &mut Vec<u8>| {
        bytes[1024 + 0x38..1024 + 0x3A].copy_from_slice(&[0x53, 0xEF]);
        bytes[1024 + 0x18] = 2;
    };
    match on {
        On::Fresh => return image("ntfs-fresh"),
        On::File => return image("ntfs-one-file"),
        On::OtherLabel => return image("ntfs-other-label"),
        On::Torn => {
            bytes = image("ntfs-fresh");
            // $MFT lies at cluster 4; the end of the first sector of the root's record.
            bytes[4 * 4096 + 5 * 1024 + 510] ^= 1;
        }
        On::Ext4 => ext4(&mut bytes),
        On::OurExt4 => {
            ext4(&mut bytes);
            bytes[1024 + 0x78..][..LABEL.len()].copy_from_slice(LABEL.as_bytes());
        }
        On::Luks => bytes[..6].copy_from_slice(b"LUKS\xba\xbe"),
        On::Blank => {}
        On::NoiseAtStart => bytes[(1 << 20) - 1] = 1,
        On::NoiseAtEnd => bytes[2 << 20] = 1,
        On::OurMember | On::TheirMember => {
            bytes[4096..4100].copy_from_slice(&0xA92B_4EFC_u32.to_le_bytes());
            let name: &[u8] = if on == On::OurMember { b"any:preroot-temp" } else { b"any:preroot-temp2" };
            bytes[4128..4128 + name.len()].copy_from_slice(name);
        }
        On::HalfMadeXfs => {
            bytes[..8].copy_from_slice(b"XFSB\0\0\x10\0");
            bytes[126] = 1;
        }
    }
    bytes
}

impl Spec {
    fn is_nvme(self) -> bool {
        use At::{NvmeLocal, NvmeNamed, NvmeRemote, NvmeSaysRemote, NvmeSilentLocal, NvmeUnreadable};
        let all = [NvmeLocal, NvmeNamed, NvmeRemote, NvmeSaysRemote, NvmeSilentLocal, NvmeUnreadable];
        all.contains(&self.at)
    }

    fn is_resource(self) -> bool {
        matches!(self.at, At::Gen1Resource | At::Gen2Lun(1) | At::VirtioNamed)
    }

    fn name(self, n: usize) -> String {
        let letter = char::from(b'a' + n as u8);
        match self.at {
            At::Virtio | At::VirtioNamed => std::format!("vd{letter}"),
            At::Loop => std::format!("loop{n}"),
            _ if self.is_nvme() => std::format!("nvme{n}n1"),
            _ => std::format!("sd{letter}"),
        }
    }

    fn device(self, n: usize) -> String {
        let vmbus = "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00";
        let scsi = |id: &str, lun| std::format!("{vmbus}/{id}/host{n}/target{n}:0:0/{n}:0:0:{lun}");
        match self.at {
            At::Gen1Root => scsi("00000000-0000-8899-0000-000000000000", 0),
            At::Gen1Resource => scsi("00000000-0001-8899-0000-000000000000", 0),
            At::Gen2Lun(lun) => scsi("f8b3781a-1e82-4818-a1c3-63d806ec15bb", lun),
            At::DataLun(lun) => scsi("f8b3781b-1e82-4818-a1c3-63d806ec15bb", lun),
            At::Virtio => std::format!("devices/pci0000:00/0000:00:0{n}.0/virtio{n}"),
            At::VirtioNamed => std::format!("devices/pci0000:00/{NAMED}/0000:01:0{n}.0/virtio{n}"),
            At::NvmeNamed => std::format!("devices/pci0000:00/{NAMED}/0000:01:0{n}.0/nvme/nvme{n}"),
            At::Loop => "devices/virtual".to_string(),
            _ => std::format!("devices/pci0000:00/0000:00:0{n}.0/nvme/nvme{n}"),
        }
    }

    /// By what the specification says, not by what the code sees.
    fn may_be_formatted(self, others_in_place: usize, is_array_begun: bool) -> bool {
        let resource = self.is_resource() && others_in_place == 0;
        let local = matches!(self.at, At::NvmeLocal | At::NvmeSilentLocal | At::NvmeNamed);
        let one_volume = match self.partitions {
            0 | 1 => true,
            2 => self.first_is_small,
            _ => false,
        };
        let fresh = match self.on {
            On::Fresh => resource,
            On::Blank => local && self.partitions == 0,
            On::OurMember => local && self.partitions == 0 && is_array_begun,
            _ => false,
        };
        let unknown = [On::Torn, On::Blank, On::NoiseAtStart, On::NoiseAtEnd, On::HalfMadeXfs, On::Fresh];
        let half_made = self.begun && unknown.contains(&self.on);
        (resource || local) && one_volume && !self.in_use && (fresh || half_made)
    }
}

struct Machine {
    specs: BTreeMap<String, Spec>,
    host: FakeDir,
    begun: String,
}

impl Machine {
    fn new(specs: &[Spec]) -> Self {
        let mut machine =
            Self { specs: BTreeMap::new(), host: FakeDir::default(), begun: "another disk's".to_string() };
        machine.host.put_dir("sys/class/block");
        for (n, spec) in specs.iter().enumerate() {
            machine.attach(n, *spec);
        }
        machine
    }

    fn attach(&mut self, n: usize, spec: Spec) {
        let (name, device) = (spec.name(n), spec.device(n));
        let block = if spec.is_nvme() {
            std::format!("{device}/{name}")
        } else {
            std::format!("{device}/block/{name}")
        };
        let host = &mut self.host;
        host.put(&std::format!("sys/{block}/dev"), std::format!("8:{n}\n"))
            .put_symlink(&std::format!("sys/class/block/{name}"), &std::format!("../../{block}"))
            .put_symlink(&std::format!("sys/{block}/device"), &std::format!("/sys/{device}"))
            .put(&std::format!("sys/{device}/wwid"), std::format!("naa.{n}\n"))
            .put(&std::format!("sys/{block}/wwid"), std::format!("eui.{n}\n"));
        if let Some(id) = device.split('/').find(|part| part.len() == 36) {
            let above = &device[..device.find("/host").unwrap()];
            host.put(&std::format!("sys/{above}/device_id"), std::format!("{{{id}}}\n"));
        }
        if spec.is_nvme() {
            let is_remote = matches!(spec.at, At::NvmeRemote | At::NvmeNamed);
            let model =
                if is_remote { "MSFT NVMe Accelerator v1.0" } else { "Microsoft NVMe Direct Disk v2" };
            host.put(&std::format!("sys/{device}/model"), std::format!("{model}      \n"));
        }
        for number in 1..=spec.partitions {
            let middle = if name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
            let part = std::format!("{name}{middle}{number}");
            let sectors = if spec.first_is_small { 65_536_u64 } else { 1 << 24 };
            host.put(&std::format!("sys/{block}/{part}/partition"), std::format!("{number}\n"))
                .put(&std::format!("sys/{block}/{part}/size"), std::format!("{sectors}\n"))
                .put_symlink(&std::format!("sys/class/block/{part}"), &std::format!("../../{block}/{part}"));
            self.specs.insert(part, spec);
        }
        if spec.begun {
            self.begun = identity(&mut self.host, &mut FakeDisks::default(), &name).unwrap().to_string();
        }
        self.specs.insert(name, spec);
    }
}

struct Image(&'static [u8]);

impl ReadAt for Image {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let from = self.0.get(offset as usize..).and_then(|bytes| bytes.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(os!("read disk", Errno::IO))?);
        Ok(())
    }
}

impl Disks for Machine {
    fn open_read(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn ReadAt) -> Result<()>) -> Result<()> {
        let spec = self.specs.get(name).ok_or(os!("open disk", Errno::NOENT))?;
        let at = ALL_ON.iter().position(|on| *on == spec.on).unwrap();
        work(&mut Image(&IMAGES[at]))
    }
    fn open_write(&mut self, _: &str, _: &mut dyn FnMut(&mut dyn Block) -> Result<()>) -> Result<()> {
        panic!("nothing is written while looking")
    }
    fn resize_partition(&mut self, _: &str, _: KernelPartition) -> Result<()> {
        panic!()
    }
    fn add_partition(&mut self, _: &str, _: KernelPartition) -> Result<()> {
        panic!()
    }
    fn is_free(&mut self, name: &str) -> Result<bool> {
        Ok(!self.specs[name].in_use)
    }
    fn namespace_text(&mut self, name: &str, buf: &mut [u8]) -> Result<usize> {
        let text = match self.specs[name].at {
            At::NvmeLocal => "type=local,index=1,name=nvme-440G-1",
            At::NvmeSaysRemote => "type=data,lun=1,comment=type=local",
            At::NvmeUnreadable => return Err(os!("identify", Errno::IO)),
            _ => "",
        };
        buf[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }
    fn drive_status(&mut self, _: &str) -> Result<DriveStatus> {
        panic!()
    }
    fn eject(&mut self, _: &str) -> Result<Ejected> {
        panic!()
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let at = prop_oneof![
        Just(At::Gen1Root),
        Just(At::Gen1Resource),
        (0_u8..4).prop_map(At::Gen2Lun),
        (0_u8..4).prop_map(At::DataLun),
        Just(At::Virtio),
        Just(At::Loop),
        Just(At::NvmeLocal),
        Just(At::NvmeSilentLocal),
        Just(At::NvmeSaysRemote),
        Just(At::NvmeRemote),
        Just(At::NvmeUnreadable),
        Just(At::NvmeNamed),
        Just(At::VirtioNamed),
    ];
    let on = (0..ALL_ON.len()).prop_map(|n| ALL_ON[n]);
    let often_one = prop_oneof![Just(1_u8), 0_u8..4];
    let seldom = || (0_u8..6).prop_map(|n| n == 0);
    (at, on, often_one, any::<bool>(), seldom(), seldom()).prop_map(
        |(at, on, partitions, first_is_small, in_use, begun)| Spec {
            at,
            on,
            partitions,
            first_is_small,
            in_use,
            begun,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_machine_loses_a_disk_that_is_not_provably_temporary(specs in proptest::collection::vec(spec(), 0..7)) {
        // One note, of one disk.
        let last = specs.iter().rposition(|spec| spec.begun);
        let of = |n, spec: &Spec| Spec { begun: Some(n) == last, ..*spec };
        let specs: Vec<Spec> = specs.iter().enumerate().map(|(n, spec)| of(n, spec)).collect();
        let mut machine = Machine::new(&specs);
        let (mut host, begun) = (core::mem::take(&mut machine.host), machine.begun.clone());
        let found = observe(&mut host, &mut machine, NAMED, &begun, &mut std::vec![0; 16 * 1024]).unwrap();
        let is_array_begun = found.iter().any(|disk| disk.was_begun && disk.place == super::Place::LocalNvme);
        let in_place = specs.iter().filter(|spec| spec.is_resource()).count();
        match choose(&found) {
            Choice::Format(disk) => {
                let spec = machine.specs[disk.name.as_str()];
                let others = in_place - usize::from(spec.is_resource());
                prop_assert!(spec.may_be_formatted(others, is_array_begun), "{spec:?}");
                prop_assert!(machine.specs.contains_key(disk.target.as_str()));
            }
            Choice::Assemble => {
                let mut members = specs.iter().filter(|spec| spec.on == On::OurMember && spec.is_nvme());
                prop_assert!(members.any(|spec| !spec.in_use));
            }
            Choice::Mount(disk) => {
                let spec = machine.specs[disk.name.as_str()];
                let is_file_system = matches!(spec.on, On::Ext4 | On::OurExt4);
                prop_assert!(is_file_system && !spec.in_use);
            }
            Choice::Nothing { .. } => {
                if let [spec] = specs[..] {
                    prop_assert!(!spec.may_be_formatted(0, is_array_begun), "{spec:?} was missed");
                }
            }
        }
    }
}

#[test]
fn without_a_world_wide_id_the_partition_table_s_number_tells_a_disk_from_the_next() {
    let mut host = FakeDir::default();
    host.put("sys/class/block/sdb/sdb1/partition", "1\n");
    let number = |table: &[(usize, &[u8])], host: &mut FakeDir| {
        let mut bytes = std::vec![0; 4096];
        for (at, part) in table {
            bytes[*at..*at + part.len()].copy_from_slice(part);
        }
        let mut disks = FakeDisks::default();
        disks.disks.insert("sdb".to_string(), FakeDisk::new(bytes));
        identity(host, &mut disks, "sdb").map(|text| text.to_string())
    };
    let mbr: (usize, &[u8]) = (440, &[1, 2, 3, 0xA4]);
    assert_eq!(number(&[], &mut host), None);
    assert_eq!(number(&[mbr], &mut host).unwrap(), "010203a4");
    let guid = number(&[(512, b"EFI PART"), (568, b"0123456789abcdef")], &mut host).unwrap();
    assert_eq!(guid, "0000000030313233343536373839616263646566");
    host.put("sys/class/block/sdb/device/wwid", "naa.60022480\n");
    assert_eq!(number(&[mbr], &mut host).unwrap(), "naa.60022480");
    // A disk without partitions: its first sector is the file system's.
    let mut bare = FakeDir::default();
    bare.put("sys/class/block/sdb/size", "8\n");
    assert_eq!(number(&[mbr], &mut bare), None);
}

#[test]
fn each_generation_s_fresh_disk_is_taken() {
    let spec =
        |at, on, partitions| Spec { at, on, partitions, first_is_small: true, in_use: false, begun: false };
    for (fresh, target) in [
        (spec(At::Gen1Resource, On::Fresh, 1), "sdb1"),
        (spec(At::Gen2Lun(1), On::Fresh, 1), "sdb1"),
        (spec(At::Gen2Lun(1), On::Fresh, 2), "sdb2"),
        (spec(At::NvmeLocal, On::Blank, 0), "nvme1n1"),
        (spec(At::NvmeSilentLocal, On::Blank, 0), "nvme1n1"),
    ] {
        let mut machine = Machine::new(&[spec(At::Gen2Lun(0), On::Ext4, 3), fresh]);
        let mut host = core::mem::take(&mut machine.host);
        let found = observe(&mut host, &mut machine, NAMED, "", &mut std::vec![0; 16 * 1024]).unwrap();
        assert!(matches!(choose(&found), Choice::Format(disk) if disk.target == target), "{fresh:?}");
    }
}
