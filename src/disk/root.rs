//! Which partition is the root? From `root=` before it is mounted, from its device number afterwards.
//!
//! sysfs says which devices there are and their own bytes say who they are: no udev, no /dev/disk.

use super::sysfs;
use super::table::{self, Space, Table};
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::gpt::PartitionEntryView;
use crate::format::root_arg::{DeviceName, RootArg};
use crate::format::superblock::{self, BTRFS_BYTES, BTRFS_OFFSET, Contents, START_BYTES, Superblock};
use crate::sys::{DeviceNumber, Dir, Disks};

/// A partition of a disk. The kernel may not have it (when only the backup of the table is whole).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootDisk {
    /// The disk.
    pub disk: DeviceName,
    /// The partition's number.
    pub number: u32,
    /// What lies between it and the file system.
    pub stack: Stack,
}

/// What a partition is used through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stack {
    /// Nothing: its file system begins where it does.
    Plain,
    /// A mapping of LUKS, and it is open: nobody else has the partition.
    Luks,
    /// A volume group, and somebody asked for it to grow.
    Lvm,
}

impl RootDisk {
    /// One that the kernel does not have.
    fn lost(disk: &str, number: u32) -> Result<Self> {
        sysfs::device_name(disk).map(|disk| Self { disk, number, stack: Stack::Plain })
    }
}

/// How a search ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Search {
    /// This is it.
    Found(RootDisk),
    /// Not there; its disk may still appear.
    NotYet,
    /// More than one device matches: a copy of the disk (a rescue VM), and which the kernel will mount is chance.
    Several,
    /// Not there, and something is that it may be inside of: no use waiting for a plain partition.
    Inside(&'static str),
}

/// Looks for the partition once.
///
/// # Errors
/// `Unsupported` when it is found and is none that we grow.
#[inline(never)]
pub fn find(
    host: &mut dyn Dir,
    disks: &mut dyn Disks,
    wanted: &RootArg,
    space: &mut Space<'_>,
) -> Result<Search> {
    match wanted {
        RootArg::Device(name) => by_name(host, disks, name, space),
        RootArg::Number { major, minor } => {
            let number = DeviceNumber { major: *major, minor: *minor };
            let device = sysfs::device_of(host, number)?;
            device.map_or(Ok(Search::NotYet), |name| of_device(host, &name).map(Search::Found))
        }
        RootArg::PartUuid { guid, offset } => {
            let shifted = |entry: &PartitionEntryView<'_>| {
                (entry.unique_guid() == *guid).then(|| entry.number.checked_add_signed(*offset)).flatten()
            };
            by_entry(host, disks, &shifted, space)
        }
        RootArg::PartLabel(name) => {
            let named = |entry: &PartitionEntryView<'_>| entry.has_name(name).then_some(entry.number);
            by_entry(host, disks, &named, space)
        }
        RootArg::Uuid(uuid) => by_contents(host, disks, &|found| found.uuid == *uuid, space),
        RootArg::Label(label) => {
            by_contents(host, disks, &|found| found.label == label.as_bytes() && !label.is_empty(), space)
        }
    }
}

/// The partition that the device of the root file system is, or that an open LUKS mapping is on: the next time it is
/// opened it has all of it (cryptsetup, segments of dynamic size).
///
/// # Errors
/// `Unsupported` when it is on none.
pub fn of_device(host: &mut dyn Dir, device: &str) -> Result<RootDisk> {
    match below_luks(host, device) {
        Some(partition) => partition_below(host, &partition, Stack::Luks),
        None => plain_partition(host, device),
    }
}

/// The partition that is all of an open LUKS mapping, and of nothing else.
fn below_luks(host: &mut dyn Dir, device: &str) -> Option<DeviceName> {
    let mut buf = [0; 256];
    sysfs::attribute(host, device, "dm/uuid", &mut buf).ok().filter(|uuid| uuid.starts_with("CRYPT-LUKS"))?;
    let below = sysfs::only(host, device, "slaves")?;
    sysfs::partition_number(host, &below)?;
    sysfs::only(host, &below, "holders").filter(|holder| holder == device)?;
    Some(below)
}

/// A partition that a mapping we know holds.
///
/// # Errors
/// `Unsupported` where its disk is not simply a disk.
pub fn partition_below(host: &mut dyn Dir, name: &str, stack: Stack) -> Result<RootDisk> {
    let number = sysfs::partition_number(host, name);
    let number = number.ok_or(unsupported!("root", "a file system on the whole disk"))?;
    let disk = sysfs::disk_of(host, name)?;
    if sysfs::has_any(host, &disk, "holders") {
        return Err(unsupported!("root", "held by device mapper or RAID"));
    }
    if let Some(stack) = sysfs::stacked(host, &disk) {
        return Err(stack.at(0));
    }
    Ok(RootDisk { disk, number, stack })
}

/// A device by its kernel name, as a partition that we may grow.
fn plain_partition(host: &mut dyn Dir, name: &str) -> Result<RootDisk> {
    if let Some(stack) = sysfs::stacked(host, name) {
        return Err(stack.at(0));
    }
    if sysfs::has_any(host, name, "holders") {
        return Err(unsupported!("root", "held by device mapper or RAID"));
    }
    partition_below(host, name, Stack::Plain)
}

fn by_name(host: &mut dyn Dir, disks: &mut dyn Disks, name: &str, space: &mut Space<'_>) -> Result<Search> {
    if sysfs::exists(host, name) {
        return of_device(host, name).map(Search::Found);
    }
    // The kernel has no such partition; perhaps because a primary table was torn.
    let Some((disk, number)) =
        sysfs::split_partition_name(name).filter(|(disk, _)| sysfs::exists(host, disk))
    else {
        return Ok(Search::NotYet);
    };
    match read_table(host, disks, disk, space) {
        Ok(table) if is_lost(host, disk, &table, number, space.array) => {
            Ok(Search::Found(RootDisk::lost(disk, number)?))
        }
        _ => Ok(Search::NotYet),
    }
}

/// Reads the partition table of a disk by name.
fn read_table(host: &mut dyn Dir, disks: &mut dyn Disks, disk: &str, space: &mut Space<'_>) -> Result<Table> {
    let block = sysfs::block_size(host, disk)?;
    let mut found = Err(unsupported!("partition table", "never read"));
    disks.open_read(disk, &mut |device| {
        found = table::read(device, block, space);
        Ok(())
    })?;
    found
}

/// What matched so far.
#[derive(Default)]
struct Matches {
    first: Option<RootDisk>,
    are_several: bool,
}

impl Matches {
    fn add(&mut self, found: RootDisk) {
        self.are_several |= self.first.replace(found).is_some();
    }

    fn or_else(self, otherwise: Search) -> Search {
        if self.are_several { Search::Several } else { self.first.map_or(otherwise, Search::Found) }
    }
}

type EntryTest<'t> = dyn Fn(&PartitionEntryView<'_>) -> Option<u32> + 't;

/// By what the table says: `test` gives the number of the wanted partition.
fn by_entry(
    host: &mut dyn Dir,
    disks: &mut dyn Disks,
    test: &EntryTest<'_>,
    space: &mut Space<'_>,
) -> Result<Search> {
    let mut matches = Matches::default();
    let names = core::mem::take(&mut space.names);
    let searched = sysfs::names(host, names).and_then(|all| {
        for disk in all.lines().filter(|name| is_worth_a_look(name) && !is_stacked_name(name)) {
            if sysfs::partition_number(host, disk).is_some()
                || sysfs::size_bytes(host, disk).unwrap_or(0) == 0
            {
                continue;
            }
            let Ok(table) = read_table(host, disks, disk, space) else { continue };
            for number in table.header.entries(space.array).filter_map(|entry| test(&entry)) {
                if let Some(found) = of_table(host, disk, &table, number, space.array)? {
                    matches.add(found);
                }
            }
        }
        Ok(())
    });
    space.names = names;
    searched.map(|()| matches.or_else(Search::NotYet))
}

/// The partition of a table's entry; `None` while the kernel has others of the disk, but not this one.
fn of_table(
    host: &mut dyn Dir,
    disk: &str,
    table: &Table,
    number: u32,
    array: &[u8],
) -> Result<Option<RootDisk>> {
    if sysfs::partition(host, disk, number)?.is_some() {
        return plain_partition(host, &sysfs::partition_name(disk, number)?).map(Some);
    }
    let is_lost = is_lost(host, disk, table, number, array);
    is_lost.then(|| RootDisk::lost(disk, number)).transpose()
}

/// True for a partition that the kernel lacks with all others of its disk: it does not look at a GPT's backup. An MBR
/// has none, so a kernel without its partitions does not know that kind of table.
fn is_lost(host: &mut dyn Dir, disk: &str, table: &Table, number: u32, array: &[u8]) -> bool {
    !table.is_mbr && table.header.entry(array, number).is_some() && !sysfs::has_partitions(host, disk)
}

type ContentsTest<'t> = dyn Fn(&Superblock<'_>) -> bool + 't;

/// By the file system inside.
fn by_contents(
    host: &mut dyn Dir,
    disks: &mut dyn Disks,
    test: &ContentsTest<'_>,
    space: &mut Space<'_>,
) -> Result<Search> {
    let mut matches = Matches::default();
    let mut otherwise = Search::NotYet;
    let names = core::mem::take(&mut space.names);
    let searched = sysfs::names(host, names).and_then(|all| {
        for name in all.lines().filter(|name| is_worth_a_look(name)) {
            // What lies at the start of a disk with partitions is from before them.
            let is_partition = sysfs::partition_number(host, name).is_some();
            let is_empty = sysfs::size_bytes(host, name).unwrap_or(0) == 0;
            if is_empty || !is_partition && sysfs::has_partitions(host, name) {
                continue;
            }
            match look_into(disks, name, 0, test, space.window) {
                Ok(Look::Match) => matches.add(of_device(host, name)?),
                Ok(Look::Container(what)) => otherwise = Search::Inside(what),
                Ok(Look::Other) if !is_partition => {
                    in_lost_partitions(host, disks, name, test, &mut matches, space)?;
                }
                _ => {}
            }
        }
        Ok(())
    });
    space.names = names;
    searched.map(|()| matches.or_else(otherwise))
}

/// Looks into the partitions that the table has and the kernel has not.
fn in_lost_partitions(
    host: &mut dyn Dir,
    disks: &mut dyn Disks,
    disk: &str,
    test: &ContentsTest<'_>,
    matches: &mut Matches,
    space: &mut Space<'_>,
) -> Result<()> {
    if sysfs::has_partitions(host, disk) || is_stacked_name(disk) {
        return Ok(());
    }
    let Ok(table) = read_table(host, disks, disk, space) else { return Ok(()) };
    // Reading made the kernel look for partitions if it had not yet (GD_NEED_PART_SCAN): then they are its own.
    if table.is_mbr || sysfs::has_partitions(host, disk) {
        return Ok(());
    }
    for entry in table.header.entries(space.array) {
        let offset = table.disk.offset(entry.first_lba());
        if matches!(look_into(disks, disk, offset, test, space.window), Ok(Look::Match)) {
            matches.add(RootDisk::lost(disk, entry.number)?);
        }
    }
    Ok(())
}

enum Look {
    Match,
    Container(&'static str),
    Other,
}

fn look_into(
    disks: &mut dyn Disks,
    name: &str,
    offset: u64,
    test: &ContentsTest<'_>,
    window: &mut [u8],
) -> Result<Look> {
    let mut look = Look::Other;
    disks.open_read(name, &mut |device| {
        look = match read_contents(device, offset, window)? {
            Contents::FileSystem(found) if test(&found) => Look::Match,
            Contents::Luks => Look::Container("an encrypted partition (LUKS)"),
            Contents::Lvm => Look::Container("a logical volume (LVM)"),
            Contents::Raid => Look::Container("a RAID array (md)"),
            _ => Look::Other,
        };
        Ok(())
    })?;
    Ok(look)
}

/// What begins at `offset`. Devices too small for one of the places have nothing there.
///
/// # Errors
/// `Os`.
pub fn read_contents<'w>(device: &mut dyn ReadAt, offset: u64, window: &'w mut [u8]) -> Result<Contents<'w>> {
    let short = too_many!("window", window.len());
    let (start, rest) = window.split_at_mut_checked(START_BYTES).ok_or(short)?;
    let btrfs = rest.get_mut(..BTRFS_BYTES).ok_or(short)?;
    read_part(device, offset, start)?;
    // Most file systems show at the start: another place is another wait for the disk.
    let found = Contents::parse(start, &[]);
    if !matches!(found, Contents::Unknown) {
        return Ok(found);
    }
    read_part(device, offset.saturating_add(BTRFS_OFFSET), btrfs)?;
    Ok(Contents::parse(start, btrfs))
}

/// True when the `bytes` bytes at `offset` (a partition, or a whole disk) are a member of an array that says so at its
/// end.
///
/// # Errors
/// `Os`.
pub fn ends_as_raid(device: &mut dyn ReadAt, offset: u64, bytes: u64, window: &mut [u8]) -> Result<bool> {
    let limit = window.len();
    let sector = window.get_mut(..superblock::RAID_BYTES).ok_or(too_many!("window", limit))?;
    for place in superblock::raid_places(bytes).into_iter().flatten() {
        read_part(device, offset.saturating_add(place), sector)?;
        if superblock::is_raid(sector) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_part(device: &mut dyn ReadAt, at: u64, buf: &mut [u8]) -> Result<()> {
    buf.fill(0);
    if at.saturating_add(buf.len() as u64) <= device.size_bytes() { device.read_at(at, buf) } else { Ok(()) }
}

/// Optical drives, floppies and RAM disks hold no root partition, and opening a floppy takes seconds.
fn is_worth_a_look(name: &str) -> bool {
    !["sr", "fd", "ram", "zram", "mtdblock"].iter().any(|prefix| name.starts_with(prefix))
}

/// Their tables are those of the disks below them.
fn is_stacked_name(name: &str) -> bool {
    name.starts_with("dm-") || name.starts_with("md")
}

/// What identifies the root, for messages.
#[must_use]
pub const fn kind(wanted: &RootArg) -> &'static str {
    match wanted {
        RootArg::Uuid(_) => "UUID",
        RootArg::Label(_) => "LABEL",
        RootArg::PartUuid { .. } => "PARTUUID",
        RootArg::PartLabel(_) => "PARTLABEL",
        RootArg::Device(_) => "device name",
        RootArg::Number { .. } => "device number",
    }
}
