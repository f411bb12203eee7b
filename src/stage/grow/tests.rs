//! What `grow` says and does on disks of all kinds.

use super::machine::{Format, Layout, Machine, SparseDisk, scratch};
use super::{Outcome, after_mount};
use crate::error::Kind;
use crate::format::gpt::PRIMARY_LBA;

const GIB: u64 = 1 << 30;
pub(super) const AZURE: Layout = Layout {
    kind: Format::Gpt,
    name: "Azure",
    block: 512,
    entries: (128, 128),
    image_mib: 2048,
    parts: &[(14, 1, 4), (15, 4, 128), (1, 128, 2047)],
    root: 1,
};

pub(in crate::stage) fn enlarged() -> SparseDisk {
    AZURE.image().enlarged(8 * GIB)
}

#[test]
fn the_plan_is_said_before_and_the_result_after() {
    let mut machine = Machine::boot(enlarged(), "UUID=e4e4e4e4-e4e4-e4e4-e4e4-e4e4e4e4e4e4");
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown));
    assert_eq!(
        machine.world.log.lines,
        [
            "grow: root partition sda1: number 1 of sda (8.0 GiB)",
            "grow:   today     sectors 262144 to 4192255, 1.8 GiB",
            "grow:   tomorrow  sectors 262144 to 16775167, 7.8 GiB",
            "grow: sda partition 1: grown from 1.8 GiB to 7.8 GiB in 0 ms",
        ]
    );
    assert_eq!(machine.drive.said, ["resize 1"]);
    // Backup entries and header, primary in one write, protective MBR; each part flushed.
    let shape: std::vec::Vec<_> = machine
        .drive
        .disk
        .journal
        .iter()
        .map(|op| op.as_ref().map(|(at, bytes)| (*at, bytes.len())))
        .collect();
    let end = 8 * GIB;
    let expected = [
        Some((end - 33 * 512, 32 * 512)),
        Some((end - 512, 512)),
        None,
        Some((0, 4096)),
        None,
        Some((0, 512)),
        None,
    ];
    assert_eq!(shape, expected);
}

#[test]
fn every_form_of_root_finds_it() {
    for form in [
        "UUID=e4e4e4e4-e4e4-e4e4-e4e4-e4e4e4e4e4e4",
        "LABEL=cloudimg-rootfs",
        "PARTUUID=01010101-0101-0101-0101-010101010101",
        "PARTUUID=0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0f/PARTNROFF=-14",
        "PARTLABEL=\"part 1\"",
        "/dev/disk/by-partlabel/part\\x201",
        "/dev/sda1",
    ] {
        let mut machine = Machine::boot(enlarged(), form);
        assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{form}: {}", machine.log());
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let mut machine = Machine::boot(enlarged(), "/dev/sda1");
    assert_eq!(machine.before_mount(true), Ok(Outcome::Planned));
    assert!(machine.drive.disk.journal.is_empty() && machine.drive.said.is_empty());
    assert!(machine.log().contains("tomorrow  sectors 262144 to 16775167"));
}

#[test]
fn only_the_end_of_the_root_changes() {
    let before = enlarged();
    let mut machine = Machine::boot(before.clone(), "/dev/sda1");
    machine.before_mount(false).unwrap();
    let after = &machine.drive.disk;
    let (old, new) = (before.get(1024, 16384), after.get(1024, 16384));
    let differing: std::vec::Vec<_> = (0..old.len()).filter(|i| old[*i] != new[*i]).collect();
    assert!(differing.iter().all(|i| (40..48).contains(i)), "{differing:?}");
    // Boot code and everything else of block 0 stays, but the size.
    assert_eq!(before.get(0, 458), after.get(0, 458));
    assert_eq!(after.get(458, 4), 16_777_215_u32.to_le_bytes());
}

#[test]
fn a_full_root_and_one_with_a_neighbour_stay() {
    let full = AZURE.image();
    let neighbour = Layout { parts: &[(1, 1, 100), (2, 100, 2047)], ..AZURE }.image().enlarged(8 * GIB);
    for (disk, text) in [(full, "fills its disk already"), (neighbour, "up to partition 2 behind it")] {
        let mut machine = Machine::boot(disk, "/dev/sda1");
        assert_eq!(machine.before_mount(false), Ok(Outcome::Nothing), "{}", machine.log());
        assert!(machine.log().contains(text), "{}", machine.log());
        assert!(machine.drive.disk.journal.is_empty() && machine.drive.said.is_empty());
    }
}

#[test]
fn a_kernel_that_missed_the_last_run_is_told() {
    let mut machine = Machine::boot(enlarged(), "/dev/sda1");
    machine.before_mount(false).unwrap();
    let old = AZURE.image();
    let mut again = Machine::boot(old, "/dev/sda1");
    // The table was written, then the process was killed before BLKPG.
    again.drive.disk = machine.drive.disk.clone();
    again.drive.disk.journal.clear();
    assert_eq!(again.before_mount(false), Ok(Outcome::Repaired), "{}", again.log());
    assert!(again.drive.disk.journal.is_empty());
    assert_eq!(
        (again.drive.said.as_slice(), &again.drive.known[&1]),
        (&["resize 1".into()][..], &machine.drive.known[&1])
    );
}

#[test]
fn what_is_not_ours_is_left_alone_with_the_reason() {
    type Change = fn(&mut Machine);
    let cases: [(&str, Change); 13] = [
        ("protective MBR begins elsewhere", |m| m.drive.disk.put(446 + 8, &[2])),
        ("none, or a file system", |m| m.drive.disk.put(446, &[0; 16])),
        ("LUKS", |m| m.drive.disk.put(128 << 20, b"LUKS\xba\xbe")),
        ("LVM", |m| {
            m.drive.disk.put((128 << 20) + 512, b"LABELONE");
            m.drive.disk.put((128 << 20) + 536, b"LVM2 001");
        }),
        ("several devices", |m| {
            m.drive.disk.put((128 << 20) + 1024, &[0; 512]);
            m.drive.disk.put((128 << 20) + 65536 + 0x40, b"_BHRfS_M");
            m.drive.disk.put((128 << 20) + 65536 + 0x88, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]);
        }),
        ("dm-verity", |m| {
            m.world.host.put("proc/cmdline", "root=/dev/sda1 roothash=ab");
        }),
        ("rd.preroot.grow=0", |m| {
            m.world.host.put("proc/cmdline", "root=/dev/sda1 rd.preroot.grow=off");
        }),
        ("systemd-repart", |m| {
            m.world.host.put("usr/lib/repart.d/50-root.conf", "[Partition]\nType=root\n");
        }),
        ("neither ext4, xfs nor btrfs", |m| m.drive.disk.put((128 << 20) + 1024, &[0; 512])),
        ("held by device mapper", |m| {
            m.world.host.put_dir("sys/devices/vmbus/block/sda/sda1/holders/dm-0");
        }),
        ("another place", |m| {
            m.world.host.put("sys/devices/vmbus/block/sda/sda1/start", "4096\n");
        }),
        ("larger than the table", |m| {
            m.world.host.put("sys/devices/vmbus/block/sda/sda1/size", "99999999\n");
        }),
        ("smaller than the table", |m| {
            m.world.host.put("sys/devices/vmbus/block/sda/sda1/size", "8\n");
        }),
    ];
    for (text, change) in cases {
        let mut machine = Machine::boot(enlarged(), "/dev/sda1");
        change(&mut machine);
        assert_eq!(machine.before_mount(false), Ok(Outcome::LeftAlone), "{text}: {}", machine.log());
        assert!(machine.log().contains(text), "{text}: {}", machine.log());
        assert!(machine.drive.disk.journal.is_empty() && machine.drive.said.is_empty());
    }
}

#[test]
fn a_damaged_table_without_a_backup_is_an_error_and_stays() {
    let mut machine = Machine::boot(enlarged(), "/dev/sda1");
    machine.drive.disk.put(512 + 60, &[1]);
    machine.drive.disk.put(2 * GIB - 512 + 60, &[1]);
    let error = machine.before_mount(false).unwrap_err();
    assert!(error.is(Kind::Malformed), "{error:?}");
    assert!(machine.drive.disk.journal.is_empty());
}

#[test]
fn a_damaged_header_is_restored_from_the_backup_it_points_to() {
    let mut machine = Machine::boot(enlarged(), "/dev/sda1");
    machine.before_mount(false).unwrap();
    let mut damaged = enlarged();
    damaged.put(512 + 16, &[1]);
    let mut again = Machine::boot(damaged, "/dev/sda1");
    assert!(again.drive.known.is_empty());
    assert_eq!(again.before_mount(true), Ok(Outcome::Planned));
    assert!(again.drive.disk.journal.is_empty() && again.drive.said.is_empty());
    assert_eq!(again.before_mount(false), Ok(Outcome::Grown), "{}", again.log());
    assert_eq!(again.drive.said, ["add 1", "add 14", "add 15"]);
    assert_eq!(again.drive.known, machine.drive.known);
    assert!(again.drive.disk.has_bytes_of(&machine.drive.disk));
}

/// More than we understand is not damage: the backup must not be written over it.
#[test]
fn a_whole_header_that_we_refuse_is_not_restored() {
    let mut disk = AZURE.image();
    let sector = disk.get(512, 512);
    let mut header = crate::format::gpt::GptHeader::parse(&sector, PRIMARY_LBA, disk.size).unwrap();
    header.entries_lba = 3;
    let mut sector = sector;
    header.emit(&mut sector).unwrap();
    disk.put(512, &sector);
    let mut machine = Machine::boot(disk, "/dev/sda1");
    assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound), "{}", machine.log());
    assert!(machine.drive.disk.journal.is_empty());
}

#[test]
fn an_absent_root_is_waited_for_but_not_for_ever() {
    let mut machine = Machine::boot(enlarged(), "UUID=00000000-0000-4000-8000-000000000000");
    assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound));
    assert_eq!(machine.world.clock.sleeps.iter().sum::<u64>(), crate::limits::ROOT_DEVICE_MS);
    assert!(machine.log().contains("after 5000 ms"), "{}", machine.log());
}

#[test]
fn a_root_that_may_be_inside_of_something_is_not_waited_for() {
    let mut machine = Machine::boot(enlarged(), "UUID=00000000-0000-4000-8000-000000000000");
    machine.drive.disk.put(128 << 20, b"LUKS\xba\xbe");
    assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound));
    assert!(machine.world.clock.sleeps.is_empty());
    for form in ["/dev/mapper/vg-root", "/dev/vg/root", "ZFS=rpool", ""] {
        let mut machine = Machine::boot(enlarged(), form);
        assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound), "{form}");
        assert!(machine.log().contains(": the hook after the mount looks again"), "{}", machine.log());
        assert!(machine.world.clock.sleeps.is_empty());
    }
}

#[test]
fn a_copy_of_the_disk_makes_the_choice_not_ours() {
    let twice = Layout { parts: &[(1, 1, 100), (2, 100, 2047)], root: 2, ..AZURE };
    let mut disk = twice.image();
    let root = disk.get(100 << 20, 4096);
    disk.put(1 << 20, &root);
    let mut machine = Machine::boot(disk, "LABEL=cloudimg-rootfs");
    assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound));
    assert!(machine.log().contains("on more than one device: the hook after"), "{}", machine.log());
}

#[test]
fn after_the_mount_its_device_number_is_enough() {
    let mut machine = Machine::boot(enlarged(), "ZFS=whatever");
    machine.world.host.put_symlink("sys/dev/block/0:0", "../../devices/vmbus/block/sda/sda1");
    assert_eq!(after_mount(&mut machine.kernel(), &mut scratch(), "/sysroot", false), Ok(Outcome::Grown));
    assert_eq!(machine.drive.said, ["resize 1"]);
}

/// dm-0 over sda1, as an open LUKS mapping.
fn with_mapping(uuid: &str) -> Machine {
    let mut disk = enlarged();
    disk.put(128 << 20, b"LUKS\xba\xbe");
    let mut machine = Machine::boot(disk, "/dev/mapper/root");
    let base = "sys/devices/virtual/block/dm-0";
    machine
        .world
        .host
        .put(&std::format!("{base}/dm/uuid"), std::format!("{uuid}\n"))
        .put(&std::format!("{base}/dev"), "253:0\n")
        .put_symlink("sys/class/block/dm-0", "../../devices/virtual/block/dm-0")
        .put_symlink("sys/dev/block/0:0", "../../devices/virtual/block/dm-0")
        .put_symlink(&std::format!("{base}/slaves/sda1"), "../../../../vmbus/block/sda/sda1")
        .put_symlink("sys/devices/vmbus/block/sda/sda1/holders/dm-0", "../../../../../virtual/block/dm-0");
    machine
}

#[test]
fn the_partition_of_an_open_luks_grows_and_that_of_anything_else_does_not() {
    let mut machine = with_mapping("CRYPT-LUKS2-0a1b-root");
    assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound));
    assert_eq!(after_mount(&mut machine.kernel(), &mut scratch(), "/sysroot", false), Ok(Outcome::Grown));
    assert_eq!(machine.drive.said, ["resize 1"]);
    for (uuid, text) in [
        ("CRYPT-PLAIN-root", "encrypted"),
        ("CRYPT-VERITY-0a1b-root", "dm-verity"),
        ("LVM-abc", "logical volume"),
        ("mpath-1", "device mapper"),
    ] {
        let mut machine = with_mapping(uuid);
        let outcome = after_mount(&mut machine.kernel(), &mut scratch(), "/sysroot", false);
        assert_eq!(outcome, Ok(Outcome::LeftAlone), "{uuid}");
        assert!(machine.log().contains(text), "{uuid}: {}", machine.log());
        assert!(machine.drive.disk.journal.is_empty());
    }
    // Somebody else has the partition too.
    let mut machine = with_mapping("CRYPT-LUKS2-0a1b-root");
    machine.world.host.put_dir("sys/devices/vmbus/block/sda/sda1/holders/dm-1");
    let outcome = after_mount(&mut machine.kernel(), &mut scratch(), "/sysroot", false);
    assert_eq!(outcome, Ok(Outcome::LeftAlone));
}

/// Both initrds open it before `grow` comes: root=UUID= is found inside then, and nobody looks again after the mount.
#[test]
fn the_partition_of_an_open_luks_grows_before_the_mount_where_its_file_system_is_named() {
    for wanted in ["LABEL=inside", "/dev/dm-0", "253:0"] {
        let mut machine = with_mapping("CRYPT-LUKS2-0a1b-root");
        let mut inside = std::vec![0; 128 << 10];
        inside[1024 + 4..1024 + 6].copy_from_slice(&[0, 1]);
        inside[1024 + 0x38..1024 + 0x3B].copy_from_slice(&[0x53, 0xEF, 1]);
        inside[1024 + 0x78..1024 + 0x7E].copy_from_slice(b"inside");
        machine.drive.others.insert("dm-0".into(), inside);
        machine
            .world
            .host
            .put("sys/devices/virtual/block/dm-0/size", "256\n")
            .put_symlink("sys/dev/block/253:0", "../../devices/virtual/block/dm-0")
            .put("proc/cmdline", std::format!("root={wanted}"));
        assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{wanted}: {}", machine.log());
        assert_eq!(machine.drive.said, ["resize 1"]);
    }
}

#[test]
fn every_file_system_that_can_grow_later_has_its_partition_grown() {
    let raw: [(&str, u64, &[u8]); 2] = [("xfs", 0, b"XFSB\0\0\x10\0"), ("btrfs", 65536, b"")];
    for (name, at, bytes) in raw {
        let mut disk = enlarged();
        disk.put((128 << 20) + 1024, &[0; 512]);
        disk.put((128 << 20) + at, bytes);
        if name == "btrfs" {
            disk.put((128 << 20) + at + 0x40, b"_BHRfS_M");
            disk.put((128 << 20) + at + 0x88, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]);
        }
        let mut machine = Machine::boot(disk, "/dev/sda1");
        assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{name}: {}", machine.log());
    }
}

#[test]
fn a_mount_without_a_device_is_left_alone() {
    let mut machine = Machine::boot(enlarged(), "/dev/sda1");
    assert_eq!(after_mount(&mut machine.kernel(), &mut scratch(), "/sysroot", false), Ok(Outcome::LeftAlone));
    assert!(machine.log().contains("on no block device"), "{}", machine.log());
}

#[test]
fn a_disk_that_changes_under_us_is_left_alone() {
    use crate::disk::table::{self, Space};
    use crate::disk::{commit, grow};
    let mut disk = enlarged();
    let mut buffers = scratch();
    let mut space = Space::new(&mut buffers).unwrap();
    let table = table::read(&mut disk.clone(), disk.size.block, &mut space).unwrap();
    let growth = grow::plan(&table, space.array, 1, None, grow::Rules::ROOT).unwrap();
    disk.put(1024 + 5 * 128, &[9; 16]);
    let error = commit::write(&mut disk, &table, &growth, &mut space).unwrap_err();
    assert_eq!(error.reason(), "it changed while we looked at it");
    assert!(disk.journal.is_empty());
}

/// Else the new header would vouch for entries of which a part is what a cut left.
#[test]
fn whoever_writes_a_table_restores_its_torn_primary_first() {
    use crate::disk::table::{self, Source, Space};
    use crate::disk::{commit, grow};
    for torn in [512, 1024 + 128 * 100] {
        let mut disk = AZURE.image();
        disk.put(torn, &[9; 16]);
        let mut disk = disk.enlarged(8 * GIB);
        // Where the backup is found: the header that is whole says, or the disk was not enlarged.
        if torn == 512 {
            disk = disk.enlarged(2 * GIB);
        }
        let mut buffers = scratch();
        let mut space = Space::new(&mut buffers).unwrap();
        let table = table::read(&mut disk.clone(), disk.size.block, &mut space).unwrap();
        let rules = grow::Rules { alignment: 0, least_bytes: 0, ..grow::Rules::ROOT };
        let growth = grow::plan(&table, space.array, 1, None, rules).unwrap();
        assert!(table.source == Source::Backup && growth.needs_table());
        commit::write(&mut disk, &table, &growth, &mut space).unwrap();
        let now = table::read(&mut disk, table.disk.block, &mut space).unwrap();
        let root = now.header.entry(space.array, 1).unwrap();
        assert_eq!((now.source, root.last_lba()), (Source::Primary, growth.new_last_lba), "torn at {torn}");
        assert!(!now.backup_is_damaged);
    }
}

/// md 0.90 and 1.0 lie at the end of a member: the file system in it shows at the start.
#[test]
fn the_end_of_a_member_of_an_array_is_looked_at() {
    let bytes = 1919 << 20;
    for (size, at) in [(bytes, bytes - (64 << 10)), (bytes, bytes - (8 << 10)), (bytes, bytes)] {
        let mut disk = enlarged();
        disk.put((128 << 20) + at, &0xA92B_4EFC_u32.to_le_bytes());
        let mut machine = Machine::boot(disk, "/dev/sda1");
        let expected = if at == size { Outcome::Grown } else { Outcome::LeftAlone };
        assert_eq!(machine.before_mount(false), Ok(expected), "{at}: {}", machine.log());
        assert_eq!(machine.log().contains("part of a RAID array"), at != size);
        assert_eq!(machine.drive.disk.journal.is_empty(), at != size);
    }
}

#[test]
fn a_damaged_backup_is_made_anew_before_that_is_said() {
    let mut disk = AZURE.image();
    disk.put((2 << 30) - 512, &[0; 512]);
    for dry_run in [true, false] {
        let mut machine = Machine::boot(disk.clone(), "/dev/sda1");
        machine.before_mount(dry_run).unwrap();
        let log = machine.log();
        assert!(log.contains("the backup of the partition table is damaged"), "{log}");
        assert_eq!(log.contains("backup of the partition table made anew"), !dry_run, "{log}");
    }
}

/// BLKPG_RESIZE_PARTITION of the two sectors the kernel has for it is EBUSY.
#[test]
fn the_kernel_is_not_told_of_an_extended_partition() {
    use crate::disk::grow;
    use crate::disk::table::{self, Space};
    let mut disk = LOGICAL.image().enlarged(8 * GIB);
    let mut buffers = scratch();
    let mut space = Space::new(&mut buffers).unwrap();
    let block = disk.size.block;
    let table = table::read(&mut disk, block, &mut space).unwrap();
    for entry in table.header.entries(space.array) {
        let growth = grow::plan(&table, space.array, entry.number, None, grow::Rules::ROOT).unwrap();
        assert_eq!(growth.is_token, entry.number == 2);
    }
}

#[test]
fn too_little_scratch_is_an_error() {
    let mut machine = Machine::boot(enlarged(), "/dev/sda1");
    let mut kernel = machine.kernel();
    assert!(super::before_mount(&mut kernel, &mut [0; 4096], false).is_err());
}

const MBR: Layout = Layout { kind: Format::Mbr(0), name: "MBR", parts: &[(1, 1, 2047)], ..AZURE };
const LOGICAL: Layout = Layout {
    kind: Format::Mbr(2),
    name: "logical",
    parts: &[(1, 1, 100), (2, 100, 2047), (5, 101, 500), (6, 501, 2047)],
    root: 6,
    ..AZURE
};

/// The blocks that were written, each with the offsets of the bytes that changed.
fn changes(before: &SparseDisk, machine: &Machine) -> std::vec::Vec<(u64, std::vec::Vec<usize>)> {
    let block = before.size.block.bytes();
    let written = machine.drive.disk.journal.iter().flatten().map(|(at, bytes)| {
        let old = before.get(*at, bytes.len());
        (at / block, (0..bytes.len()).filter(|i| old[*i] != bytes[*i]).collect())
    });
    written.collect()
}

#[test]
fn an_mbr_partition_grows_and_nothing_but_its_end_changes() {
    for form in ["UUID=e4e4e4e4-e4e4-e4e4-e4e4-e4e4e4e4e4e4", "PARTUUID=deadbeef-01", "/dev/sda1"] {
        let before = MBR.image().enlarged(8 * GIB);
        let mut machine = Machine::boot(before.clone(), form);
        assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
        let changed = changes(&before, &machine);
        assert!(changed.len() == 1 && changed[0].0 == 0, "{changed:?}");
        assert!(changed[0].1.iter().all(|at| matches!(at - 446, 5..8 | 12..16)), "{changed:?}");
        // growpart keeps the last 33 sectors free, and we align.
        let end = machine.drive.known[&1].start_bytes + machine.drive.known[&1].length_bytes;
        assert_eq!(end, 8 * GIB - (1 << 20));
        assert_eq!(machine.drive.said, ["resize 1"]);
        let mut again = Machine::boot(machine.drive.disk.clone(), form);
        assert_eq!(again.before_mount(false), Ok(Outcome::Nothing), "{}", again.log());
        assert!(again.drive.disk.journal.is_empty() && again.drive.said.is_empty());
    }
}

#[test]
fn a_logical_partition_grows_from_the_outside_in() {
    let before = LOGICAL.image().enlarged(8 * GIB);
    let mut machine = Machine::boot(before.clone(), "PARTUUID=deadbeef-06");
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    let changed: std::vec::Vec<_> = changes(&before, &machine).iter().map(|(block, _)| *block).collect();
    assert_eq!(changed, [0, 100 << 11, 500 << 11]);
    assert_eq!(machine.drive.disk.journal.iter().filter(|op| op.is_none()).count(), 3, "each is flushed");
    let known = machine.drive.known[&6];
    assert_eq!(known.start_bytes + known.length_bytes, 8 * GIB - (1 << 20));
    // What a boot now finds is what the kernel was told.
    let again = Machine::boot(machine.drive.disk.clone(), "");
    assert_eq!(again.drive.known, machine.drive.known);
}

#[test]
fn a_logical_partition_with_something_behind_it_stays_inside() {
    let layout = Layout {
        parts: &[(1, 1, 100), (2, 100, 1500), (5, 101, 300), (6, 501, 1500), (3, 1700, 2047)],
        root: 5,
        ..LOGICAL
    };
    let before = layout.image().enlarged(8 * GIB);
    let mut machine = Machine::boot(before.clone(), "/dev/sda5");
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    let changed: std::vec::Vec<_> = changes(&before, &machine).iter().map(|(block, _)| *block).collect();
    assert_eq!(changed, [100 << 11], "only its own record");
    let known = machine.drive.known[&5];
    assert_eq!(known.start_bytes + known.length_bytes, 500 << 20, "up to the record of the next");
    let last = Layout { root: 6, ..layout };
    let mut machine = Machine::boot(last.image().enlarged(8 * GIB), "/dev/sda6");
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    let known = machine.drive.known[&6];
    assert_eq!(known.start_bytes + known.length_bytes, 1700 << 20, "up to the primary one behind");
}

#[test]
fn an_mbr_ends_at_two_tib_and_that_is_said() {
    let mut machine = Machine::boot(MBR.image().enlarged(3072 * GIB), "/dev/sda1");
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    let known = machine.drive.known[&1];
    assert_eq!(known.start_bytes + known.length_bytes, (2048 * GIB) - (1 << 20));
    assert!(machine.log().contains("an MBR ends at 2^32 sectors: 1.0 TiB"), "{}", machine.log());
}

#[test]
fn a_hybrid_mbr_is_kept_unless_the_root_is_in_it() {
    let before = Layout { kind: Format::Hybrid(0xEF), ..AZURE }.image().enlarged(8 * GIB);
    let mut machine = Machine::boot(before.clone(), "/dev/sda1");
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    assert_eq!(before.get(0, 512), machine.drive.disk.get(0, 512));
    let both = Layout { kind: Format::Hybrid(0x83), parts: &[(1, 128, 2047)], ..AZURE }.image();
    let mut machine = Machine::boot(both.enlarged(8 * GIB), "/dev/sda1");
    assert_eq!(machine.before_mount(false), Ok(Outcome::LeftAlone), "{}", machine.log());
    assert!(machine.log().contains("hybrid MBR has this partition too"), "{}", machine.log());
}

#[test]
fn a_damaged_backup_is_made_anew_only_where_nothing_else_lies() {
    let full = AZURE.image();
    let end = 2 * GIB - 512;
    for (bytes, is_ours) in [([0; 8], true), (*b"EFI PART", true), (*b"somebody", false)] {
        let mut disk = full.clone();
        disk.put(end, &[0; 512]);
        disk.put(end, &bytes);
        let mut machine = Machine::boot(disk, "/dev/sda1");
        let expected = if is_ours { Outcome::Repaired } else { Outcome::Nothing };
        assert_eq!(machine.before_mount(false), Ok(expected), "{}", machine.log());
        assert_eq!(machine.drive.disk.has_bytes_of(&full), is_ours, "{}", machine.log());
        assert_eq!(machine.log().contains("backup of the partition table is damaged"), is_ours);
    }
    let mut entries = full.clone();
    entries.put(end - 32 * 512 + 40, &[9]);
    let mut machine = Machine::boot(entries, "/dev/sda1");
    assert_eq!(machine.before_mount(false), Ok(Outcome::Repaired), "{}", machine.log());
    assert!(machine.drive.disk.has_bytes_of(&full));
}

#[test]
fn chains_that_the_kernel_reads_otherwise_are_refused() {
    let ebr = (500 << 20) + 446;
    let cases: [(&str, u64, &[u8]); 6] = [
        ("two extended", 446 + 32 + 4, &[5, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]),
        ("several logical", ebr + 32 + 4, &[0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]),
        ("chain of logical", (100 << 20) + 446 + 16 + 8, &[0, 0, 0, 0]),
        ("outside the extended", (100 << 20) + 446 + 16 + 8, &[0, 0, 0, 0xF0]),
        ("outside the extended", ebr + 12, &[0, 0, 0, 0xF0]),
        ("chain of logical", (500 << 20) + 510, &[0]),
    ];
    for (text, at, bytes) in cases {
        let mut disk = LOGICAL.image().enlarged(8 * GIB);
        disk.put(at, bytes);
        let mut machine = Machine::boot(LOGICAL.image().enlarged(8 * GIB), "/dev/sda6");
        machine.drive.disk = disk;
        let outcome = machine.before_mount(false);
        let why = outcome.map_or_else(|error| error.reason(), |_| "");
        assert!(why.contains(text) || machine.log().contains(text), "{text}: {outcome:?} {}", machine.log());
        assert!(machine.drive.disk.journal.is_empty());
    }
}
