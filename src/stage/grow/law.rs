//! The safety law: no byte to a disk that is not proven to be the root's, none but the root's entry and the table's own.

use super::machine::{Format, Layout, Machine, SparseDisk, Twin, partitions_linux_finds, put_sysfs, scratch};
use super::tests::{AZURE, enlarged};
use super::{Outcome, after_mount};
use crate::format::gpt::{GptHeader, PRIMARY_LBA};
use crate::format::guid::Guid;
use std::boxed::Box;
use std::format;

const GIB: u64 = 1 << 30;
const UUID: &str = "UUID=e4e4e4e4-e4e4-e4e4-e4e4-e4e4e4e4e4e4";
const LAST: u64 = 2 * GIB - 512;

fn nothing_was_written(machine: &Machine) {
    assert!(machine.drive.disk.journal.is_empty(), "{}", machine.log());
    assert!(machine.drive.said.is_empty(), "{:?}", machine.drive.said);
}

/// Beside the root's disk its copy, which can be opened from the `opens`th time on.
fn with_twin(form: &str, opens: usize) -> Machine {
    let mut machine = Machine::boot(enlarged(), form);
    let disk = enlarged();
    let known = partitions_linux_finds(&disk);
    put_sysfs(&mut machine.world.host, "sdb", &disk, &known);
    machine.drive.twin = Some(Twin { disk, known, opens });
    machine
}

#[test]
fn of_two_copies_none_is_written_not_even_when_the_second_comes_late() {
    for (form, at_a_look) in [
        (UUID, 3),
        ("LABEL=cloudimg-rootfs", 3),
        ("PARTUUID=01010101-0101-0101-0101-010101010101", 1),
        ("PARTLABEL=\"part 1\"", 1),
    ] {
        for opens in [0, at_a_look] {
            let mut machine = with_twin(form, opens);
            assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound), "{form}: {}", machine.log());
            assert!(machine.log().contains("on more than one device: the hook after"), "{}", machine.log());
            assert_eq!(machine.world.clock.sleeps.is_empty(), opens == 0);
            nothing_was_written(&machine);
        }
        // The mounted root has a device; the fake refuses to write any other.
        let mut machine = with_twin(form, 0);
        machine.world.host.put_symlink("sys/dev/block/0:0", "../../devices/vmbus/block/sda/sda1");
        let outcome = after_mount(&mut machine.kernel(), &mut scratch(), "/sysroot", false);
        assert_eq!(outcome, Ok(Outcome::Grown), "{}", machine.log());
    }
    let mut machine = with_twin("/dev/sda1", 0);
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "a name is one device: {}", machine.log());
    assert!(machine.world.clock.sleeps.is_empty());
}

#[test]
fn a_copy_is_waited_for_while_disks_go_on_coming() {
    let mut machine = Machine::boot(enlarged(), UUID);
    let (disk, mut host) = (enlarged(), machine.world.host.clone());
    let known = partitions_linux_finds(&disk);
    machine.drive.twin = Some(Twin { disk, known, opens: 0 });
    let mut count = 0;
    machine.world.clock.on_sleep = Some(Box::new(move |_| {
        count += 1;
        match count {
            1..12 => _ = host.put(&format!("sys/class/block/data{count}/size"), "0\n"),
            12 => put_sysfs(&mut host, "sdb", &enlarged(), &partitions_linux_finds(&enlarged())),
            _ => {}
        }
    }));
    assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound), "{}", machine.log());
    nothing_was_written(&machine);
}

#[test]
fn whoever_is_at_the_table_is_waited_for_and_then_left_to_it() {
    for locked in [3, usize::MAX] {
        let mut machine = Machine::boot(enlarged(), UUID);
        machine.drive.locked = locked;
        let outcome = machine.before_mount(false);
        assert_eq!(outcome.is_ok(), locked == 3, "{}", machine.log());
        if outcome.is_err() {
            nothing_was_written(&machine);
            assert!(machine.world.clock.us < 3_000_000);
        }
        assert!(!machine.drive.is_locked);
    }
}

#[test]
fn where_the_mounted_root_has_definitions_for_repart_it_is_left_alone() {
    for place in ["usr/lib/repart.d/50-home.conf", "etc/repart.d/a.conf"] {
        let mut machine = Machine::boot(enlarged(), UUID);
        machine.world.host.put_symlink("sys/dev/block/0:0", "../../devices/vmbus/block/sda/sda1");
        machine.world.root.put(place, "");
        let outcome = after_mount(&mut machine.kernel(), &mut scratch(), "/sysroot", false);
        assert_eq!(outcome, Ok(Outcome::LeftAlone), "{}", machine.log());
        nothing_was_written(&machine);
    }
    let mut machine = Machine::boot(enlarged(), UUID);
    machine.world.host.put("sysusr/usr/lib/repart.d/50-home.conf", "");
    assert_eq!(machine.before_mount(false), Ok(Outcome::LeftAlone), "{}", machine.log());
}

#[test]
fn only_who_writes_waits_for_a_copy() {
    let mut machine = Machine::boot(AZURE.image(), UUID);
    assert_eq!(machine.before_mount(false), Ok(Outcome::Nothing));
    let mut planned = Machine::boot(enlarged(), UUID);
    assert_eq!(planned.before_mount(true), Ok(Outcome::Planned));
    assert!(machine.world.clock.sleeps.is_empty() && planned.world.clock.sleeps.is_empty());
    let mut grown = Machine::boot(enlarged(), UUID);
    assert_eq!(grown.before_mount(false), Ok(Outcome::Grown));
    assert_eq!(grown.world.clock.sleeps, [crate::limits::TWIN_MS]);
}

#[test]
fn two_roots_behind_one_torn_primary_are_two() {
    let layout = Layout { parts: &[(1, 1, 100), (2, 100, 2047)], root: 2, ..AZURE };
    let mut disk = layout.image();
    let root = disk.get(100 << 20, 4096);
    disk.put(1 << 20, &root);
    disk.put(512 + 16, &[9]);
    let mut machine = Machine::boot(disk, UUID);
    assert!(machine.drive.known.is_empty());
    assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound), "{}", machine.log());
    nothing_was_written(&machine);
}

/// md 0.90 and 1.0 over whole disks, firmware RAID of Intel and of the SNIA.
#[test]
fn a_disk_of_an_array_is_no_enlarged_disk() {
    let end = 8 * GIB;
    let places: [(u64, &[u8]); 4] = [
        (end - (64 << 10), &[0xFC, 0x4E, 0x2B, 0xA9]),
        (end - (8 << 10), &[0xFC, 0x4E, 0x2B, 0xA9]),
        (end - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00"),
        (end - 512, &[0xDE, 0x11, 0xDE, 0x11]),
    ];
    for (at, bytes) in places {
        for torn in [false, true] {
            let mut disk = enlarged();
            disk.put(at, bytes);
            if torn {
                disk.put(512 + 16, &[9]);
            }
            let mut machine = Machine::boot(disk, UUID);
            assert_eq!(machine.before_mount(false), Ok(Outcome::LeftAlone), "{}", machine.log());
            assert!(machine.log().contains("its disk is part of a RAID array"), "{}", machine.log());
            nothing_was_written(&machine);
        }
    }
}

/// Changes the primary header of a disk, and the backup's where `both`; checksums hold afterwards.
fn edit(disk: &mut SparseDisk, both: bool, change: &dyn Fn(&mut GptHeader)) {
    for lba in [PRIMARY_LBA, LAST / 512].into_iter().take(if both { 2 } else { 1 }) {
        let mut sector = disk.get(lba * 512, 512);
        let mut header = GptHeader::parse(&sector, lba, AZURE.image().size).unwrap();
        change(&mut header);
        header.emit(&mut sector).unwrap();
        disk.put(lba * 512, &sector);
    }
}

/// Else the root would grow over the entries that the kernel reads.
#[test]
fn entries_of_a_primary_that_lie_behind_the_partitions_are_in_nobodys_way() {
    let mut disk = AZURE.image();
    let array = disk.get(1024, 128 * 128);
    let behind = LAST / 512 - 64;
    disk.put(behind * 512, &array);
    edit(&mut disk, false, &|header| (header.entries_lba, header.last_usable_lba) = (behind, behind - 1));
    let mut machine = Machine::boot(disk.enlarged(8 * GIB), "/dev/sda1");
    assert!(
        machine.before_mount(false).is_ok_and(|outcome| outcome == Outcome::NotFound),
        "{}",
        machine.log()
    );
    nothing_was_written(&machine);
}

/// Deleted from the table, and still mounted: the next boot does not know it, this one does.
#[test]
fn a_partition_that_only_the_kernel_has_is_not_grown_into() {
    let both = Layout { parts: &[(1, 1, 1000), (2, 1500, 2047)], ..AZURE };
    let known = partitions_linux_finds(&both.image());
    let disk = Layout { parts: &[(1, 1, 1000)], ..AZURE }.image().enlarged(8 * GIB);
    let mut machine = Machine::boot(disk.clone(), UUID);
    put_sysfs(&mut machine.world.host, "sda", &disk, &known);
    assert_eq!(machine.before_mount(false), Ok(Outcome::LeftAlone), "{}", machine.log());
    assert!(
        machine.log().contains("the kernel has another partition in the room behind"),
        "{}",
        machine.log()
    );
    nothing_was_written(&machine);
}

/// As `sgdisk -j 64` leaves room for the boot loader of a small board, at block 2 and on.
fn with_loader() -> SparseDisk {
    let mut disk = Layout { parts: &[(1, 128, 2047)], ..AZURE }.image();
    let array = disk.get(1024, 128 * 128);
    disk.put(1024, &[0xB0; 62 * 512]);
    disk.put(64 * 512, &array);
    edit(&mut disk, true, &|header| {
        header.first_usable_lba = 96;
        if header.my_lba == PRIMARY_LBA {
            header.entries_lba = 64;
        }
    });
    disk
}

#[test]
fn a_boot_loader_between_header_and_entries_stays() {
    let loader = std::vec![0xB0; 62 * 512];
    let mut uncut = Machine::boot(with_loader().enlarged(8 * GIB), UUID);
    assert_eq!(uncut.before_mount(false), Ok(Outcome::Grown), "{}", uncut.log());
    assert_eq!(uncut.drive.disk.get(1024, 62 * 512), loader);
    // Torn: where its entries are is still in it.
    let mut torn = uncut.drive.disk.clone();
    torn.put(512 + 16, &[9]);
    let mut machine = Machine::boot(torn, UUID);
    assert_eq!(machine.before_mount(false), Ok(Outcome::Repaired), "{}", machine.log());
    assert!(machine.drive.disk.has_bytes_of(&uncut.drive.disk));
    // Gone: block 2 is where nearly all have them, and not this one.
    let mut gone = uncut.drive.disk.clone();
    gone.put(512, &[0; 512]);
    let mut machine = Machine::boot(gone, UUID);
    assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound), "{}", machine.log());
    nothing_was_written(&machine);
}

#[test]
fn a_header_that_is_gone_is_restored_where_its_entries_can_only_be_at_block_2() {
    let whole = AZURE.image();
    for first_usable in [34, 2048] {
        for has_entries in [true, false] {
            let mut disk = whole.clone();
            edit(&mut disk, true, &|header| header.first_usable_lba = first_usable);
            let before = disk.clone();
            disk.put(512, &[0; 512]);
            if !has_entries {
                disk.put(1024 + 4096, &[7; 512]);
            }
            let mut machine = Machine::boot(disk, UUID);
            let is_sure = has_entries || first_usable == 34;
            let expected = if is_sure { Outcome::Repaired } else { Outcome::NotFound };
            assert_eq!(machine.before_mount(false), Ok(expected), "{first_usable}: {}", machine.log());
            assert_eq!(machine.drive.disk.has_bytes_of(&before), is_sure);
        }
    }
}

/// What an image was written over ended in a table too.
#[test]
fn the_backup_of_another_disk_restores_nothing() {
    for torn in [512 + 16, 1024 + 700] {
        let mut disk = AZURE.image();
        let mut sector = disk.get(LAST, 512);
        let mut backup = GptHeader::parse(&sector, LAST / 512, disk.size).unwrap();
        backup.disk_guid = Guid::from_text_order([9; 16]);
        backup.emit(&mut sector).unwrap();
        disk.put(LAST, &sector);
        disk.put(torn, &[9]);
        for form in [UUID, "/dev/sda1"] {
            let mut machine = Machine::boot(disk.clone(), form);
            assert_eq!(machine.before_mount(false), Ok(Outcome::NotFound), "{}", machine.log());
            nothing_was_written(&machine);
        }
    }
}

#[test]
fn what_only_a_hybrid_mbr_names_is_not_grown_into() {
    let hybrid = |start_mib: u32, kind: u8| {
        let mut disk = Layout { kind: Format::Hybrid(kind), ..AZURE }.image();
        disk.put(470, &(start_mib * 2048).to_le_bytes());
        Machine::boot(disk.enlarged(8 * GIB), UUID)
    };
    let mut behind = hybrid(3000, 0x83);
    assert_eq!(behind.before_mount(false), Ok(Outcome::Grown), "{}", behind.log());
    let part = behind.drive.known[&1];
    assert_eq!(part.start_bytes + part.length_bytes, 3000 << 20);
    let mut inside = hybrid(1000, 0x83);
    assert_eq!(inside.before_mount(false), Ok(Outcome::LeftAlone), "{}", inside.log());
    nothing_was_written(&inside);
    // A second protective record stands for what is nobody's.
    let mut protective = hybrid(3000, 0xEE);
    assert_eq!(protective.before_mount(false), Ok(Outcome::Grown), "{}", protective.log());
    let part = protective.drive.known[&1];
    assert!(part.start_bytes + part.length_bytes > 8 * GIB - (2 << 20));
}

/// Linux and libfdisk have a partition of it.
#[test]
fn a_record_of_type_0_with_a_size_is_a_neighbour() {
    let layout = Layout { kind: Format::Mbr(0), parts: &[(1, 1, 1000), (2, 1500, 2047)], ..AZURE };
    let mut disk = layout.image().enlarged(8 * GIB);
    disk.put(446 + 16 + 4, &[0]);
    let mut machine = Machine::boot(disk, "/dev/sda1");
    assert!(machine.drive.known.contains_key(&2));
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    let part = machine.drive.known[&1];
    assert_eq!(part.start_bytes + part.length_bytes, 1500 << 20);
}

#[test]
fn room_that_the_table_keeps_back_stays_free_while_the_disk_is_as_it_was() {
    let layout = Layout { parts: &[(1, 1, 1000)], ..AZURE };
    let mut disk = layout.image();
    edit(&mut disk, true, &|header| header.last_usable_lba = 1500 * 2048 - 1);
    let mut machine = Machine::boot(disk.clone(), UUID);
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    let part = machine.drive.known[&1];
    assert_eq!(part.start_bytes + part.length_bytes, 1500 << 20);
    let sector = machine.drive.disk.get(512, 512);
    let header = GptHeader::parse(&sector, PRIMARY_LBA, disk.size).unwrap();
    assert_eq!(header.last_usable_lba, 1500 * 2048 - 1);
    // sgdisk -e would take all of an enlarged one too.
    let mut machine = Machine::boot(disk.enlarged(8 * GIB), UUID);
    assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{}", machine.log());
    let part = machine.drive.known[&1];
    assert!(part.start_bytes + part.length_bytes > 8 * GIB - (2 << 20));
}

/// Bits 59 (grow the file system), 60 (read-only), 63 (no automount), and the firmware's: kept, and no reason.
#[test]
fn attribute_bits_are_kept_and_forbid_nothing() {
    for bits in [1_u64 << 59, 1 << 60, 1 << 63, 0b111, u64::MAX] {
        let mut disk = AZURE.image();
        for array in [1024, LAST - 128 * 128] {
            disk.put(array + 48, &bits.to_le_bytes());
        }
        let crc = crate::format::crc32::Crc32::new().with(&disk.get(1024, 128 * 128)).value();
        edit(&mut disk, true, &|header| header.entries_crc = crc);
        let mut machine = Machine::boot(disk.enlarged(8 * GIB), UUID);
        assert_eq!(machine.before_mount(false), Ok(Outcome::Grown), "{bits:x}: {}", machine.log());
        for array in [1024, 8 * GIB - 512 - 128 * 128] {
            assert_eq!(machine.drive.disk.get(array + 48, 8), bits.to_le_bytes());
        }
    }
}
