//! What is on a disk today, and what will be tomorrow? As a table that a person reads; nothing is written.

use crate::disk::grow::{Growth, Rules, plan};
use crate::disk::mbr_table;
use crate::disk::root::read_contents;
use crate::disk::sysfs;
use crate::disk::table::{self, Space, Table};
use crate::error::Result;
use crate::event::Value;
use crate::format::gpt::{self, BlockSize, PartitionEntryView};
use crate::format::superblock::Contents;
use crate::format::text::join;
use crate::limits;
use crate::sys::linux::{self, Node};
use crate::sys::{Disks, Kernel};
use core::fmt::{self, Write};

/// What a path names, as `Disks` wants it.
pub(in crate::stage) struct Target {
    /// A kernel name, or the path of an image with a `/` in it.
    pub(in crate::stage) name: heapless::String<{ limits::PATH }>,
    /// A block device, and no file with a disk in it.
    pub(in crate::stage) is_device: bool,
}

impl Target {
    /// # Errors
    /// `Os` when there is no such path.
    pub(in crate::stage) fn of(kernel: &mut Kernel<'_>, path: &str) -> Result<Self> {
        let name = match linux::node(path)? {
            Node::Device(number) => {
                let none = unsupported!("disk", "no such block device");
                let device = sysfs::device_of(kernel.host, number)?.ok_or(none)?;
                return Ok(Self { name: join(&[&device])?, is_device: true });
            }
            Node::File if path.starts_with('/') => join(&[path])?,
            Node::File => join(&["./", path])?,
        };
        Ok(Self { name, is_device: false })
    }

    /// An image does not say its block size; a table of 4096-byte blocks begins at its second.
    fn block_size(&self, kernel: &mut Kernel<'_>, window: &mut [u8]) -> Result<BlockSize> {
        if self.is_device {
            return sysfs::block_size(kernel.host, &self.name);
        }
        let mut bytes = 512;
        kernel.disks.open_read(&self.name, &mut |image| {
            image.read_at(0, window)?;
            let has_table_at = |at: usize| window.get(at..).is_some_and(gpt::is_signed);
            if has_table_at(4096) && !has_table_at(512) {
                bytes = 4096;
            }
            Ok(())
        })?;
        BlockSize::new(bytes)
    }
}

/// A disk to be shown.
pub(in crate::stage) struct Shown<'s> {
    /// What the person called it.
    pub(in crate::stage) name: &'s str,
    /// Its table.
    pub(in crate::stage) table: &'s Table,
    /// What is to become of it.
    pub(in crate::stage) growth: Option<&'s Growth>,
}

/// `preroot grow --dry-run --disk PATH`.
///
/// # Errors
/// As `grow`; `Os` when there is no such path.
#[inline(never)]
pub(in crate::stage) fn run(
    kernel: &mut Kernel<'_>,
    scratch: &mut [u8],
    path: &str,
    out: &mut dyn Write,
) -> Result<()> {
    let mut space = Space::new(scratch)?;
    let target = Target::of(kernel, path)?;
    let block = target.block_size(kernel, space.window)?;
    let table = read(kernel.disks, &target.name, block, &mut space)?;
    let root = likely_root(kernel.disks, &target.name, &table, &mut space)?;
    let planned = match root {
        Some(number) => Some(plan(&table, space.array, number, None, Rules::ROOT)),
        None => None,
    };
    let growth = planned.and_then(Result::ok);
    let shown = Shown { name: path, table: &table, growth: growth.as_ref() };
    print(kernel.disks, &target.name, &shown, &mut space, out)?;
    let _ = match (root, planned) {
        (_, Some(Err(why))) => writeln!(out, "left alone: {why}"),
        (None, _) => writeln!(out, "no partition here holds a file system that grows (ext4, xfs, btrfs)"),
        (Some(number), _) => writeln!(
            out,
            "shown for partition {number}, the largest file system; in a VM root= decides. Nothing was written."
        ),
    };
    Ok(())
}

/// Reads the table of a disk or an image by what `Disks` calls it.
///
/// # Errors
/// As [`table::read`].
pub(in crate::stage) fn read(
    disks: &mut dyn Disks,
    name: &str,
    block: BlockSize,
    space: &mut Space<'_>,
) -> Result<Table> {
    let mut found = Err(unsupported!("partition table", "never read"));
    disks.open_read(name, &mut |device| {
        found = table::read(device, block, space);
        Ok(())
    })?;
    found
}

/// The largest partition with a file system that grows.
fn likely_root(
    disks: &mut dyn Disks,
    name: &str,
    table: &Table,
    space: &mut Space<'_>,
) -> Result<Option<u32>> {
    let mut largest = None;
    disks.open_read(name, &mut |device| {
        for entry in table.header.entries(space.array) {
            let offset = table.disk.offset(entry.first_lba());
            let blocks = entry.blocks();
            let is_one = read_contents(device, offset, space.window)?.file_system().is_some();
            if is_one && largest.is_none_or(|(most, _)| blocks > most) {
                largest = Some((blocks, entry.number));
            }
        }
        Ok(())
    })?;
    Ok(largest.map(|(_, number)| number))
}

/// The partitions in the order of their places.
///
/// # Errors
/// `Os` when the disk cannot be read.
pub(in crate::stage) fn print(
    disks: &mut dyn Disks,
    device: &str,
    shown: &Shown<'_>,
    space: &mut Space<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    let Shown { name, table, growth } = *shown;
    let disk = table.disk;
    let kind = match (table.is_mbr, table.hybrid == [0; 4]) {
        (true, _) => "MBR",
        (_, true) => "GPT",
        _ => "GPT with a hybrid MBR",
    };
    let _ = super::super::print_plain(name, out);
    let size = Size(disk.offset(disk.blocks));
    let _ = writeln!(out, ": {size}, {kind}, {} blocks of {} bytes", disk.blocks, disk.block.bytes());
    let _ = writeln!(out, "{:>27}   {:<22}   {:<22}", "", "today", "tomorrow");
    let _ = writeln!(
        out,
        "{:>4} {:>21}   {:>11} {:>10}   {:>11} {:>10}   holds",
        "nr", "first block", "last", "size", "last", "size"
    );
    let mut after = None;
    while let Some(entry) = next_by_place(table, space.array, after) {
        after = Some((entry.first_lba(), entry.number));
        let (first, last) = (entry.first_lba(), entry.last_lba());
        let bytes = |last: u64| Size(disk.offset(last.saturating_add(1).saturating_sub(first)));
        let _ = write!(out, "{:>4} {first:>21}   {last:>11} {:>10}", entry.number, bytes(last));
        let new = growth.map(|growth| new_last(growth, &entry)).unwrap_or(last);
        let _ = match new > last {
            true => write!(out, "   {new:>11} {:>10}   ", bytes(new)),
            false => write!(out, "   {:>11} {:>10}   ", "same", ""),
        };
        disks.open_read(device, &mut |device| {
            let contents = read_contents(device, disk.offset(first), space.window)?;
            let _ = describe(&entry, table.is_mbr, &contents, out);
            Ok(())
        })?;
        let is_it = growth.is_some_and(|growth| growth.number == entry.number);
        let _ = writeln!(out, "{}", if is_it && new > last { "  <- grows" } else { "" });
    }
    if let Some(growth) = growth {
        say_rest(growth, out);
    }
    Ok(())
}

/// The last block of a partition tomorrow; the extended one may grow with a logical one.
fn new_last(growth: &Growth, entry: &PartitionEntryView<'_>) -> u64 {
    let outer = growth.records.iter().flatten().find(|end| end.first == entry.first_lba());
    match outer {
        Some(end) => end.last,
        None if growth.number == entry.number => growth.new_last_lba,
        None => entry.last_lba(),
    }
}

fn say_rest(growth: &Growth, out: &mut dyn Write) {
    let rest = |last: u64| Size(growth.disk.offset(growth.limit.saturating_sub(last)));
    let (old, new) = (rest(growth.old_last_lba), rest(growth.new_last_lba));
    let _ = match growth.next {
        Some(next) => writeln!(out, "free up to partition {next}: {old} today, {new} tomorrow"),
        None => writeln!(out, "free up to the end: {old} today, {new} tomorrow"),
    };
    if growth.is_cut {
        let _ =
            writeln!(out, "an MBR ends at 2^32 blocks: what lies behind stays unused, a GPT would have it");
    }
}

fn next_by_place<'a>(
    table: &Table,
    array: &'a [u8],
    after: Option<(u64, u32)>,
) -> Option<PartitionEntryView<'a>> {
    let place = |entry: &PartitionEntryView<'_>| (entry.first_lba(), entry.number);
    let entries = table.header.entries(array);
    entries.filter(|entry| after.is_none_or(|after| place(entry) > after)).min_by_key(place)
}

/// A size in a column.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = heapless::String::<24>::new();
        write!(text, "{}", Value::SizeBytes(self.0))?;
        f.pad(&text)
    }
}

/// Types by the first four bytes of their GUID (UEFI 2.10, 5.3.3; the Discoverable Partitions Specification).
const GPT_TYPES: &[(u32, &str)] = &[
    (0xC12A_7328, "EFI system partition"),
    (0x2168_6148, "BIOS boot"),
    (0x0657_FD6D, "swap"),
    (0x4F68_BCE3, "root (x86-64)"),
    (0xB921_B045, "root (arm64)"),
    (0xBC13_C2FF, "boot (XBOOTLDR)"),
    (0x9E1A_2D38, "PReP boot"),
    (0xE3C9_E316, "Microsoft reserved"),
];
const MBR_TYPES: &[(u32, &str)] = &[(0x82, "swap"), (0xEF, "EFI system partition"), (0x41, "PReP boot")];

/// What a partition holds; what it is for where that is more.
fn describe(
    entry: &PartitionEntryView<'_>,
    is_mbr: bool,
    contents: &Contents<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    if is_mbr && mbr_table::is_extended(entry) {
        return out.write_str("logical partitions");
    }
    match contents {
        Contents::FileSystem(found) => {
            out.write_str(found.file_system.name())?;
            if let Some(label) = core::str::from_utf8(found.label).ok().filter(|label| !label.is_empty()) {
                out.write_char(' ')?;
                super::super::print_plain(label, out)?;
            }
            return Ok(());
        }
        Contents::Luks => return out.write_str("LUKS"),
        Contents::Lvm => return out.write_str("LVM"),
        Contents::Raid => return out.write_str("md array"),
        Contents::Unknown => {}
    }
    let kind = if is_mbr { u32::from(mbr_table::kind(entry)) } else { entry.type_guid().first_group() };
    let types = if is_mbr { MBR_TYPES } else { GPT_TYPES };
    out.write_str(types.iter().find(|(known, _)| *known == kind).map_or("-", |(_, text)| text))
}
