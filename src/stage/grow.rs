//! The story of `grow`: find the root partition, say how far it can grow, grow it, tell the kernel.
//!
//! Before the mount it starts from `root=`, after the mount from the mounted root's device. A table that was
//! torn by a power cut is restored on the way. What is not ours to grow is left alone, with the reason.

use crate::cli::Command;
use crate::disk::grow::{Growth, Rules, plan};
use crate::disk::root::{self, RootDisk, Search, Stack};
use crate::disk::table::{self, Source, Space, Table};
use crate::disk::{commit, filesystem, sysfs};
use crate::error::{Errno, Kind, Result};
use crate::event::{Level, Value};
use crate::format::cmdline;
use crate::format::root_arg::{self, RootArg};
use crate::format::superblock::Contents;
use crate::format::text::join;
use crate::limits;
use crate::sys::{Kernel, KernelPartition};

const STAGE: &str = "grow";
const SEVERAL: &str = "root= ({}) is on more than one device: {}";

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The partition is larger now.
    Grown,
    /// Only what a cut had left was put right.
    Repaired,
    /// All is as it should be; nothing was written.
    Nothing,
    /// `--dry-run`: said, not done.
    Planned,
    /// Not ours to grow; the reason was said.
    LeftAlone,
    /// `root=` names nothing that is there before the mount; [`after_mount`] can tell.
    NotFound,
}

/// `preroot grow`: from `root=`, or with `--root DIR` from what is mounted there.
///
/// # Errors
/// As [`before_mount`].
pub fn run(kernel: &mut Kernel<'_>, scratch: &mut [u8], command: &Command) -> Result<Outcome> {
    match command.root {
        "/" => before_mount(kernel, scratch, command.dry_run),
        path => after_mount(kernel, scratch, path, command.dry_run),
    }
}

/// Grows the partition that `root=` names. `scratch` holds at least [`limits::GROW_SCRATCH`] bytes.
///
/// # Errors
/// `Os`, `Malformed` ...; the disk is then as it was, or a later run completes it.
pub fn before_mount(kernel: &mut Kernel<'_>, scratch: &mut [u8], dry_run: bool) -> Result<Outcome> {
    kernel.log.enter(STAGE);
    let mut space = Space::new(scratch)?;
    let result = found_by_argument(kernel, &mut space).and_then(|found| match found {
        Some((wanted, root)) => grow_partition(kernel, &root, Some(&wanted), &mut space, dry_run),
        None => Ok(Outcome::NotFound),
    });
    settle(kernel, result)
}

/// Grows the partition that the file system mounted at `path` is on (`kernel.root` is that directory).
///
/// # Errors
/// As [`before_mount`].
pub fn after_mount(
    kernel: &mut Kernel<'_>,
    scratch: &mut [u8],
    path: &str,
    dry_run: bool,
) -> Result<Outcome> {
    let mut space = Space::new(scratch)?;
    let before = kernel.log.enter(STAGE);
    let asked = command_line(kernel, space.window).and_then(ours);
    let root =
        asked.and_then(|_| left_to_repart(kernel)).and_then(|()| filesystem::root_device(kernel, path));
    let root = root.and_then(|device| root::of_device(kernel.host, &device));
    let result = root.and_then(|root| grow_partition(kernel, &root, None, &mut space, dry_run));
    let result = settle(kernel, result);
    kernel.log.enter(before);
    result
}

/// Grows the file system mounted at `path` to its device. Says so in one line; nothing when it fills it: the console of a
/// second boot would be waited for.
///
/// # Errors
/// `Os` as the kernel says.
pub fn file_system(kernel: &mut Kernel<'_>, path: &str) -> Result<Outcome> {
    let before = kernel.log.enter(STAGE);
    let result = grow_file_system(kernel, path);
    kernel.log.enter(before);
    result
}

fn grow_file_system(kernel: &mut Kernel<'_>, path: &str) -> Result<Outcome> {
    use filesystem::FileSystemGrowth::{Full, Grown};
    let started_us = kernel.clock.now_us();
    match filesystem::grow(kernel, path) {
        Ok(Full) => Ok(Outcome::Nothing),
        Ok(Grown { from_bytes, to_bytes, unused_bytes }) => {
            if unused_bytes > 0 {
                let text =
                    "root file system: its features (ext4 without 64bit, or sparse_super2) leave {} unused";
                kernel.say(Level::Warning, text, &[Value::SizeBytes(unused_bytes)]);
            }
            let took = Value::Millis(elapsed_ms(kernel, started_us));
            let values = [Value::SizeBytes(from_bytes), Value::SizeBytes(to_bytes), took];
            kernel.say(Level::Info, "root file system grown from {} to {} in {}", &values);
            Ok(Outcome::Grown)
        }
        Err(error) => settle(kernel, Err(error)),
    }
}

/// What we do not do is no failure: it is said and left alone.
fn settle(kernel: &mut Kernel<'_>, result: Result<Outcome>) -> Result<Outcome> {
    match result {
        Err(why) if why.is(Kind::Unsupported) => {
            kernel.say(Level::Info, "left alone: {}", &[Value::Why(why)]);
            Ok(Outcome::LeftAlone)
        }
        other => other,
    }
}

fn elapsed_ms(kernel: &mut Kernel<'_>, started_us: u64) -> u64 {
    kernel.clock.now_us().saturating_sub(started_us) / 1000
}

/// What the kernel was told.
fn command_line<'b>(kernel: &mut Kernel<'_>, buf: &'b mut [u8]) -> Result<&'b str> {
    let length = kernel.host.read("proc/cmdline", buf)?;
    let line = buf.get(..length).and_then(|line| core::str::from_utf8(line).ok());
    line.ok_or(malformed!("kernel command line", "not UTF-8", 0))
}

/// `rd.preroot.grow=all`: LVM and LUKS below the root too.
pub fn is_stack_asked(kernel: &mut Kernel<'_>, buf: &mut [u8]) -> bool {
    command_line(kernel, buf).is_ok_and(|line| cmdline::value(line, "rd.preroot.grow") == Some("all"))
}

/// A root whose size somebody else settles is not ours to grow: `rd.preroot.grow=0`, or dm-verity, whose hash is of a
/// size (systemd-veritysetup-generator(8)).
fn ours(line: &str) -> Result<&str> {
    if cmdline::switch(line, "rd.preroot.grow") == Some(false) {
        return Err(unsupported!("root", "rd.preroot.grow=0 on the kernel command line"));
    }
    if ["roothash", "systemd.verity_root_data"].iter().any(|name| cmdline::value(line, name).is_some()) {
        return Err(unsupported!("root", "dm-verity: its hash covers its size"));
    }
    Ok(line)
}

/// systemd-repart makes partitions in the room that is left, where there are definitions for it: the initrd's, those of
/// the root or of its /usr that are mounted there, or, once it is the root's turn, those of `kernel.root`.
fn left_to_repart(kernel: &mut Kernel<'_>) -> Result<()> {
    let mut is_repart = false;
    for above in ["", "sysroot/", "sysusr/"] {
        for place in ["etc/repart.d", "run/repart.d", "usr/lib/repart.d"] {
            let Ok(path) = join(&[above, place]) else { continue };
            let mut look = |name: &str, _| {
                is_repart |= name.ends_with(".conf");
                !is_repart
            };
            let _ = kernel.host.list(&path, &mut look);
            if above.is_empty() {
                let _ = kernel.root.list(&path, &mut look);
            }
        }
    }
    match is_repart {
        true => Err(unsupported!("root", "the disk is systemd-repart's: there are definitions in repart.d")),
        false => Ok(()),
    }
}

/// Resolves `root=`; says why when there is nothing to grow before the mount.
#[inline(never)]
fn found_by_argument(kernel: &mut Kernel<'_>, space: &mut Space<'_>) -> Result<Option<(RootArg, RootDisk)>> {
    let line = ours(command_line(kernel, space.window)?)?;
    let parsed = root_arg::parse(line);
    left_to_repart(kernel)?;
    let wanted = match parsed {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return later(kernel, "no root= on the kernel command line: {}", &[]),
        Err(why) => return later(kernel, "{}: {}", &[Value::Why(why)]),
    };
    let kind = Value::Text(root::kind(&wanted));
    match wait_for_root(kernel, &wanted, space)? {
        Search::Found(root) => Ok(Some((wanted, root))),
        Search::Inside(what) => later(
            kernel,
            "root= ({}) is on no partition yet, perhaps inside {}: {}",
            &[kind, Value::Text(what)],
        ),
        Search::Several => later(kernel, SEVERAL, &[kind]),
        Search::NotYet => {
            let waited = Value::Millis(limits::ROOT_DEVICE_MS);
            later(kernel, "root= ({}) is on no partition after {}: {}", &[kind, waited])
        }
    }
}

/// Not to be told before the mount; the mounted root has a device number.
fn later<T>(kernel: &mut Kernel<'_>, text: &'static str, values: &[Value<'_>]) -> Result<Option<T>> {
    let mut all = [Value::Text("the hook after the mount looks again"); 3];
    for (place, value) in all.iter_mut().zip(values) {
        *place = *value;
    }
    kernel.say(Level::Info, text, &all);
    Ok(None)
}

fn wait_for_root(kernel: &mut Kernel<'_>, wanted: &RootArg, space: &mut Space<'_>) -> Result<Search> {
    let started_us = kernel.clock.now_us();
    loop {
        let search = root::find(kernel.host, kernel.disks, wanted, space)?;
        let is_late = elapsed_ms(kernel, started_us) >= limits::ROOT_DEVICE_MS;
        if search != Search::NotYet || is_late || kernel.clock.is_cancelled() {
            return Ok(search);
        }
        kernel.clock.sleep_ms(limits::ROOT_POLL_MS);
    }
}

/// Plan, print, do. `wanted` is what the root was found by, where that may be on a copy of the disk too.
fn grow_partition(
    kernel: &mut Kernel<'_>,
    root: &RootDisk,
    wanted: Option<&RootArg>,
    space: &mut Space<'_>,
    dry_run: bool,
) -> Result<Outcome> {
    let table = examine(kernel, root, space)?;
    let is_torn = table.source == Source::Backup;
    let seen = sysfs::partition(kernel.host, &root.disk, root.number)?;
    let planned = plan(&table, space.array, root.number, seen, Rules::ROOT);
    if is_torn || planned.is_ok_and(|growth| growth.writes()) {
        check_end(kernel, root, space)?;
        let wanted = wanted.filter(|_| !dry_run);
        if !wanted.map_or(Ok(true), |wanted| is_alone(kernel, root, &table, wanted, space))? {
            return Ok(Outcome::NotFound);
        }
    }
    if !dry_run {
        lock(kernel, &root.disk)?;
    }
    let outcome = put_right(kernel, root, table, seen, space, dry_run);
    kernel.disks.lock(None)?;
    outcome
}

/// Waits for whoever is at the table already. The node's lock is of no use to those who do not know of it, so that the table
/// is compared once more before it is written.
fn lock(kernel: &mut Kernel<'_>, disk: &str) -> Result<()> {
    let started_us = kernel.clock.now_us();
    loop {
        match kernel.disks.lock(Some(disk)) {
            Err(error) if error.errno() == Some(Errno::AGAIN) => {}
            outcome => return outcome,
        }
        if elapsed_ms(kernel, started_us) >= limits::DISK_LOCK_MS || kernel.clock.is_cancelled() {
            return Err(deadline!("disk that another program has locked", limits::DISK_LOCK_MS));
        }
        kernel.clock.sleep_ms(limits::STOP_LOOK_MS);
    }
}

/// The same with the table in the buffers, and nobody else at it.
fn put_right(
    kernel: &mut Kernel<'_>,
    root: &RootDisk,
    mut table: Table,
    seen: Option<KernelPartition>,
    space: &mut Space<'_>,
    dry_run: bool,
) -> Result<Outcome> {
    let name = sysfs::partition_name(&root.disk, root.number)?;
    let is_torn = table.source == Source::Backup;
    if is_torn {
        let values = [Value::Name(&root.disk)];
        kernel.say(Level::Warning, "{}: primary partition table is damaged, its backup is whole", &values);
        if !dry_run {
            table = restore(kernel, root, &table, space)?;
            kernel.say(Level::Info, "{}: primary partition table restored", &values);
        }
    }
    if table.backup_is_damaged {
        let values = [Value::Name(&root.disk)];
        kernel.say(Level::Warning, "{}: the backup of the partition table is damaged", &values);
    }
    let growth = plan(&table, space.array, root.number, seen, Rules::ROOT)?;
    check_room(kernel, &root.disk, &growth)?;
    let is_lost = seen.is_none();
    if growth.is_nothing() && !is_torn && !is_lost {
        say_full(kernel, &name, &growth);
        return Ok(Outcome::Nothing);
    }
    say_plan(kernel, root, &name, &growth);
    if dry_run {
        kernel.say(Level::Info, "dry run: nothing was written", &[]);
        return Ok(Outcome::Planned);
    }
    carry_out(kernel, root, &table, &growth, space, is_lost)?;
    if table.backup_is_damaged {
        kernel.say(Level::Info, "{}: backup of the partition table made anew", &[Value::Name(&root.disk)]);
    }
    Ok(if growth.needs_table() { Outcome::Grown } else { Outcome::Repaired })
}

/// The kernel may have a partition that the table has no more: somebody may use it.
///
/// # Errors
/// `Unsupported` where it has; `Os`.
pub(super) fn check_room(kernel: &mut Kernel<'_>, disk: &str, growth: &Growth) -> Result<()> {
    if growth.needs_table() && sysfs::has_neighbour_in(kernel.host, disk, growth.kernel_partition())? {
        return Err(unsupported!("partition table", "the kernel has another partition in the room behind"));
    }
    Ok(())
}

/// The end of the disk may say that it is a member of an array that nobody has put together yet: then the table is the
/// array's, ends before that, and no disk was enlarged.
fn check_end(kernel: &mut Kernel<'_>, root: &RootDisk, space: &mut Space<'_>) -> Result<()> {
    let mut is_member = false;
    kernel.disks.open_read(&root.disk, &mut |device| {
        let bytes = device.size_bytes();
        is_member = root::ends_as_raid(device, 0, bytes, space.window)?;
        Ok(())
    })?;
    if is_member { Err(unsupported!("root", "its disk is part of a RAID array")) } else { Ok(()) }
}

/// True when nothing else that `root=` may mean appeared in the meantime: the disks of a rescue VM are copies, their
/// drivers find them one after the other, and the kernel may mount another than we grow. Only who is about to write
/// waits for that. The buffers hold the same table afterwards.
#[inline(never)]
fn is_alone(
    kernel: &mut Kernel<'_>,
    root: &RootDisk,
    table: &Table,
    wanted: &RootArg,
    space: &mut Space<'_>,
) -> Result<bool> {
    // Names and numbers are those of one device, and it is what will be mounted.
    if matches!(wanted, RootArg::Device(_) | RootArg::Number { .. }) {
        return Ok(true);
    }
    // Until no disk came for that long, or it is time to go on: a controller's disks come one after the other.
    let mut before = sysfs::count(kernel.host)?;
    for _ in 0..limits::TWIN_LOOKS {
        kernel.clock.sleep_ms(limits::TWIN_MS);
        let now = sysfs::count(kernel.host)?;
        if core::mem::replace(&mut before, now) == now {
            break;
        }
    }
    if root::find(kernel.host, kernel.disks, wanted, space)? != Search::Found(root.clone()) {
        let kind = Value::Text(root::kind(wanted));
        return later::<()>(kernel, SEVERAL, &[kind]).map(|_| false);
    }
    if examine(kernel, root, space)? != *table {
        return Err(commit::CHANGED);
    }
    Ok(true)
}

/// Reads the table, and what the partition holds: anything but what we know could be made of hashes over its whole
/// size. All in one go: what was read is forgotten by the kernel once nobody has the disk open.
fn examine(kernel: &mut Kernel<'_>, root: &RootDisk, space: &mut Space<'_>) -> Result<Table> {
    const WHAT: &str = "root partition";
    let block = sysfs::block_size(kernel.host, &root.disk)?;
    let mut examined = Err(unsupported!("partition table", "never read"));
    kernel.disks.open_read(&root.disk, &mut |device| {
        examined = table::read(device, block, space);
        let table = examined.as_ref().map_err(|why| *why)?;
        let entry = table.header.entry(space.array, root.number);
        let entry =
            entry.ok_or(malformed!("partition table", "no such partition", u64::from(root.number)))?;
        let offset = table.disk.offset(entry.first_lba());
        // Its size today: with another end it would no longer be found.
        let bytes = table.disk.offset(entry.blocks().unwrap_or_default());
        let is_member = root::ends_as_raid(device, offset, bytes, space.window)?;
        let rule = match root::read_contents(device, offset, space.window)? {
            _ if is_member => unsupported!(rule WHAT, "part of a RAID array"),
            Contents::FileSystem(found) if found.devices > 1 => {
                unsupported!(rule WHAT, "part of a btrfs on several devices")
            }
            Contents::FileSystem(_) => return Ok(()),
            Contents::Luks if root.stack == Stack::Luks => return Ok(()),
            Contents::Lvm if root.stack == Stack::Lvm => return Ok(()),
            Contents::Luks => unsupported!(rule WHAT, "encrypted (LUKS)"),
            Contents::Lvm => unsupported!(rule WHAT, "a physical volume (LVM)"),
            Contents::Raid => unsupported!(rule WHAT, "part of a RAID array (md)"),
            Contents::Unknown => unsupported!(rule WHAT, "neither ext4, xfs nor btrfs: not supported"),
        };
        Err(rule.at(0))
    })?;
    examined
}

/// Writes the primary from the backup and reads the table again.
fn restore(kernel: &mut Kernel<'_>, root: &RootDisk, table: &Table, space: &mut Space<'_>) -> Result<Table> {
    let mut restored = Ok(*table);
    kernel.disks.open_write(&root.disk, &mut |disk| {
        commit::restore(disk, table, space)?;
        restored = table::read(disk, table.disk.block, space);
        Ok(())
    })?;
    restored
}

fn carry_out(
    kernel: &mut Kernel<'_>,
    root: &RootDisk,
    table: &Table,
    growth: &Growth,
    space: &mut Space<'_>,
    is_lost: bool,
) -> Result<()> {
    let started_us = kernel.clock.now_us();
    if growth.writes() {
        kernel.disks.open_write(&root.disk, &mut |disk| commit::write(disk, table, growth, space))?;
    }
    if is_lost {
        add_partitions(kernel, root, table, space)?;
    } else if growth.needs_kernel_resize {
        kernel.disks.resize_partition(&root.disk, growth.kernel_partition())?;
    }
    let (disk, number) = (Value::Name(&root.disk), Value::Number(u64::from(root.number)));
    let took = Value::Millis(elapsed_ms(kernel, started_us));
    if growth.needs_table() {
        let (from, to) = (Value::SizeBytes(growth.old_bytes()), Value::SizeBytes(growth.new_bytes()));
        kernel.say(
            Level::Info,
            "{} partition {}: grown from {} to {} in {}",
            &[disk, number, from, to, took],
        );
    } else {
        kernel.say(Level::Info, "{} partition {}: put right in {}", &[disk, number, took]);
    }
    Ok(())
}

/// The kernel found no table when it looked, so it has none of the disk's partitions. One that it has by now
/// (somebody asked it to look again) is no error.
fn add_partitions(kernel: &mut Kernel<'_>, root: &RootDisk, table: &Table, space: &Space<'_>) -> Result<()> {
    for entry in table.header.entries(space.array) {
        let number = entry.number;
        let start_bytes = table.disk.offset(entry.first_lba());
        let length_bytes = table.disk.offset(entry.blocks().unwrap_or_default());
        let partition = KernelPartition { number, start_bytes, length_bytes };
        let added = kernel.disks.add_partition(&root.disk, partition);
        if let Err(why) = added
            && sysfs::partition(kernel.host, &root.disk, number)?.is_none()
        {
            let values = [Value::Name(&root.disk), Value::Number(u64::from(number)), Value::Why(why)];
            kernel.say(Level::Warning, "{} partition {}: not added: {}", &values);
            if number == root.number {
                return Err(why);
            }
        }
    }
    Ok(())
}

fn say_full(kernel: &mut Kernel<'_>, name: &str, growth: &Growth) {
    let size = Value::SizeBytes(growth.old_bytes());
    match growth.next {
        None => {
            let values = [Value::Name(name), size];
            kernel.say(Level::Info, "{}: {}, fills its disk already: nothing to do", &values);
        }
        Some(next) => {
            let values = [Value::Name(name), size, Value::Number(u64::from(next))];
            kernel.say(Level::Info, "{}: {}, up to partition {} behind it: nothing to do", &values);
        }
    }
}

/// The plan, before anything is written.
fn say_plan(kernel: &mut Kernel<'_>, root: &RootDisk, name: &str, growth: &Growth) {
    let disk_bytes = growth.disk.offset(growth.disk.blocks);
    let values = [
        Value::Name(name),
        Value::Number(u64::from(root.number)),
        Value::Name(&root.disk),
        Value::SizeBytes(disk_bytes),
    ];
    kernel.say(Level::Info, "root partition {}: number {} of {} ({})", &values);
    let row = |last: u64, bytes: u64| {
        [Value::Number(growth.first_lba), Value::Number(last), Value::SizeBytes(bytes)]
    };
    let today = row(growth.old_last_lba, growth.old_bytes());
    kernel.say(Level::Info, "  today     sectors {} to {}, {}", &today);
    let tomorrow = row(growth.new_last_lba, growth.new_bytes());
    kernel.say(Level::Info, "  tomorrow  sectors {} to {}, {}", &tomorrow);
    if growth.is_cut {
        let cut = Value::SizeBytes(growth.disk.offset(growth.disk.blocks.saturating_sub(growth.limit)));
        kernel.say(
            Level::Info,
            "  an MBR ends at 2^32 sectors: {} behind stay unused; a GPT would have them",
            &[cut],
        );
    }
}

pub(in crate::stage) mod show;
pub mod stack;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod law;
#[cfg(test)]
pub(super) mod machine;
#[cfg(test)]
pub(super) mod tests;
