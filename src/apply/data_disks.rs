//! Data disks: the partitions, file systems, mounts and swap that the seed asks for, as cloud-config means them.
//!
//! Nothing is taken that is in use, and without `overwrite` nothing that holds something; so all of it may be asked for
//! again; what `overwrite` lets go, goes once: a note says so for all later tries. Every entry has its turn, whatever
//! became of those before it.

use super::replace::{self, Target};
use super::resource_disk::swap::{self, SWAPON};
use super::resource_disk::{device_path, make_dirs, maker};
use super::{Root, State, exists, ignore_missing, named};
use crate::disk::resource::is_blank;
use crate::disk::root::read_contents;
use crate::disk::sysfs;
use crate::error::{Result, Rule};
use crate::facts::{Facts, InstanceId};
use crate::format::ReadAt;
use crate::format::disk_setup::{Disk, FileSystem, Place, Seen};
use crate::format::fstab::{
    DEFAULTS, DEFAULTS_WITHOUT_SYSTEMD, Field, Wanted, has_mount_point, has_swap, merge, mount_points,
    to_mount, unescape,
};
use crate::format::root_arg::DeviceName;
use crate::format::superblock::Contents;
use crate::format::swap::{size_bytes, suggested_bytes};
use crate::format::text::{Out, PathText, bare, digits, join, lines, number, split_once, words};
use crate::limits;
use crate::seed;
use crate::sys::{Dir, Owner};

const WHAT: &str = "data disk";
/// Below /run/preroot: file systems of other machines wait in fstab for the network.
pub const REMOTE: &str = "remote-mounts";
/// Bytes of each file of the seed, but for the mounts.
const ENTRIES: usize = 2048;
/// Something is there, and nobody knows what.
const UNKNOWN: &[u8] = b"unknown";
/// Partitions that are looked at.
const PARTITIONS: usize = 16;
/// The types of partition tables differ, sfdisk's words do not. What was on a partition before is no file system of it.
const SFDISK: &str =
    r#"printf '%s\n' "$1" | sfdisk -q --force --wipe always --wipe-partitions always -X "$2" "$3""#;

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    for name in [seed::DISKS, seed::FILE_SYSTEMS, seed::MOUNTS, seed::SWAP] {
        // `apply` says why it cannot be read.
        if root.seed_file(name, &mut [0; 1]) != Ok(&[]) {
            return Ok(State::Missing);
        }
    }
    Ok(State::Satisfied)
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    root.until_us = root.clock.now_us().saturating_add(limits::DATA_DISKS_MS * 1000);
    let partitioned = each(root, seed::DISKS, partition);
    let made = each(root, seed::FILE_SYSTEMS, make);
    let mounted = mount(root);
    partitioned.and(made).and(mounted)
}

/// Every line has its turn; the first failure is told. Another root's disks are not this machine's.
fn each(root: &mut Root<'_>, name: &str, act: fn(&mut Root<'_>, &[u8], &str) -> Result<()>) -> Result<()> {
    let mut buf = [0; ENTRIES];
    let mut outcome = Ok(());
    let text = root.seed_file(name, &mut buf)?;
    let text = if root.is_live() { text } else { b"" };
    for (n, line) in (0_u64..).zip(lines(text).map(bare)) {
        // An entry is known by its place: the seed of a VM stays as it is.
        let file = super::split(name).1;
        let note = note_of(root.id, file, n)?;
        // What was made is its user's, whatever became of it since.
        let acted = if exists(root.dir, &note)? { Ok(()) } else { act(root, line, &note) };
        outcome = outcome.and(acted);
    }
    outcome
}

/// Runs a program that takes what is on a device, and notes when it has. The note is begun before, durably: where there is no room
/// for it, nothing is taken. Only a program that came to its end well has its note: what a cut left half made is nobody's.
#[inline(never)]
fn take(
    root: &mut Root<'_>,
    note: &str,
    programs: &[&'static str],
    words: &[&str],
    failed: &'static Rule,
) -> Result<()> {
    let told = named(object!("note of a data disk"));
    let marks = super::split(note).0;
    let begun = join(&[marks, "/making"])?;
    seed::make_marks(root.dir, root.id).map_err(&told)?;
    ignore_missing(root.dir.remove(&begun)).map_err(&told)?;
    root.dir.create(&begun, Owner::root(0o600), b"").map_err(&told)?;
    root.dir.sync_dir(seed::STATE).map_err(&told)?;
    root.call_program(programs, words, object!(WHAT), failed)?;
    root.dir.rename(&begun, note).and_then(|()| root.dir.sync_dir(marks)).map_err(&told)
}

#[inline(never)]
fn partition(root: &mut Root<'_>, line: &[u8], note: &str) -> Result<()> {
    const FAILED: &Rule = malformed!(WHAT, "sfdisk failed");
    let disk = Disk::parse(line).ok_or(malformed!(WHAT, "no entry of disk_setup", 0))?;
    let name = device(root, disk.device)?;
    let partitions = sysfs::partitions(root.host, &name)?;
    if partitions == disk.partitions() || !root.disks.is_free(&name)? {
        return Ok(());
    }
    let is_blank = partitions == 0 && look(root, &name, b"")?.0.is_empty();
    if !disk.is_overwritten && !is_blank {
        return Ok(());
    }
    let mut script = [0; 512];
    let mut out = Out::new(too_many!(WHAT), &mut script);
    disk.put_script(sysfs::size_bytes(root.host, &name)? / 512, &mut out)?;
    let script = core::str::from_utf8(out.as_bytes()).unwrap_or_default();
    let words = ["-c", SFDISK, "sh", script, disk.table.name(), &device_path(&name)?];
    take(root, note, &["/bin/sh", "/usr/bin/sh"], &words, FAILED)?;
    // The kernel has the table; then udev reads it once more, and for an instant there are no partitions.
    let udevadm = &["/usr/bin/udevadm", "/bin/udevadm"];
    let _ = root.call_program(udevadm, &["settle", "--timeout=5"], object!(WHAT), FAILED);
    let until_us = root.clock.now_us().saturating_add(limits::TEMPORARY_DISK_MS * 1000);
    root.wait_until(until_us, &mut |host| sysfs::partitions(host, &name) == Ok(disk.partitions()));
    Ok(())
}

/// Until when a device may come that udev or a driver has not made yet: the same for all entries.
fn coming_until_us(root: &Root<'_>) -> u64 {
    root.until_us.saturating_sub((limits::DATA_DISKS_MS - limits::TEMPORARY_DISK_MS) * 1000)
}

#[inline(never)]
fn make(root: &mut Root<'_>, line: &[u8], note: &str) -> Result<()> {
    const FAILED: &Rule = malformed!(WHAT, "mkfs failed");
    let entry = FileSystem::parse(line).ok_or(malformed!(WHAT, "no entry of fs_setup", 0))?;
    let disk = device(root, entry.device)?;
    if let Place::Partition(number) = entry.place {
        let (name, until_us) = (name_of(&disk, number)?, coming_until_us(root));
        root.wait_until(until_us, &mut |host| sysfs::exists(host, &name));
    }
    let label = entry.label().unwrap_or_default();
    let is_ours = is_partitioned(root, &disk)?;
    let mut seen = heapless::Vec::<Seen<'_>, { PARTITIONS + 1 }>::new();
    for number in 0..=PARTITIONS as u32 {
        let name = name_of(&disk, number)?;
        if number == 0 || sysfs::exists(root.host, &name) {
            let (kind, has_label) = look(root, &name, &label)?;
            // What a table of ours was made over left its bytes, but it was given up.
            let is_rest = is_ours && number > 0 && kind == UNKNOWN;
            let kind = if is_rest { b"" } else { kind };
            let _ = seen.push(Seen { number, kind, has_label });
        }
    }
    if matches!(entry.place, Place::Partition(number) if seen.iter().all(|it| it.number != number)) {
        return Err(unsupported!(WHAT, "no such partition"));
    }
    let Some(number) = entry.choose(&seen) else { return Ok(()) };
    let name = name_of(&disk, number)?;
    if !root.disks.is_free(&name)? {
        return Ok(());
    }
    let (_, programs, force, quick) = maker(root, entry.kind)?;
    let device = device_path(&name)?;
    // The entry's own words come later and count more.
    let mut argv = heapless::Vec::<&str, 16>::from_iter(quick.iter().copied());
    let label = core::str::from_utf8(&label).unwrap_or_default();
    argv.extend(["-L", label].into_iter().filter(|_| !label.is_empty()));
    argv.extend(Some(*force).filter(|_| entry.is_overwritten || number == 0));
    argv.extend(entry.options().filter_map(|word| core::str::from_utf8(word).ok()).take(8));
    argv.extend([&*device]);
    take(root, note, programs, &argv, FAILED)
}

/// True when an entry of `disk_setup` made this VM's partitions there, in this boot or one that was cut off.
#[inline(never)]
fn is_partitioned(root: &mut Root<'_>, disk: &DeviceName) -> Result<bool> {
    let mut buf = [0; ENTRIES];
    let text = root.seed_file(seed::DISKS, &mut buf)?;
    for (n, line) in (0_u64..).zip(lines(text).map(bare)) {
        let is_it =
            Disk::parse(line).is_some_and(|entry| find(root.host, entry.device).is_ok_and(|it| it == *disk));
        if is_it && exists(root.dir, &note_of(root.id, "disks", n)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The note that entry `n` of a file was done.
fn note_of(id: &InstanceId, file: &str, n: u64) -> Result<PathText> {
    join(&[&seed::marks(id)?, "/made-", file, "-", digits(n, &mut [0; 20])])
}

fn name_of(disk: &DeviceName, number: u32) -> Result<DeviceName> {
    if number == 0 { Ok(disk.clone()) } else { sysfs::partition_name(disk, number) }
}

/// A device that an entry names, which may not be there yet.
#[inline(never)]
fn device(root: &mut Root<'_>, name: &[u8]) -> Result<DeviceName> {
    let until_us = coming_until_us(root);
    root.wait_until(until_us, &mut |host| find(host, name).is_ok());
    find(root.host, name)
}

/// Its kernel's name, by itself or by a link of udev's.
fn find(host: &mut dyn Dir, name: &[u8]) -> Result<DeviceName> {
    let none = unsupported!(WHAT, "no such device");
    let name = unescape(name).ok_or(none)?;
    let name = core::str::from_utf8(&name).map_err(|_| none)?;
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let mut link = [0; 256];
    let n = if name.contains('/') {
        host.read_link(&super::below("dev", name)?, &mut link).unwrap_or(0)
    } else {
        0
    };
    let link = link.get(..n).and_then(|link| core::str::from_utf8(link).ok()).unwrap_or_default();
    let name = if link.is_empty() { name } else { super::split(link).1 };
    if sysfs::exists(host, name) { sysfs::device_name(name) } else { Err(none) }
}

/// What is on a device, in blkid's words where it has one, and whether it has this label.
#[inline(never)]
fn look(root: &mut Root<'_>, name: &str, label: &[u8]) -> Result<(&'static [u8], bool)> {
    let scratch = &mut *root.buffers.old;
    let mut found: (&'static [u8], bool) = (b"", false);
    root.disks.open_read(name, &mut |device| {
        found = match read_contents(device, 0, scratch)? {
            Contents::FileSystem(it) => (it.file_system.name().as_bytes(), it.label == label),
            Contents::Unknown => (signature(device, scratch)?, label.is_empty()),
            _ => (b"container", false),
        };
        Ok(())
    })?;
    Ok(found)
}

/// What has no superblock that `root=` may name.
fn signature(device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<&'static [u8]> {
    let start = scratch.get_mut(..4096).ok_or(too_many!(WHAT, 4096))?;
    if device.size_bytes() < 4096 {
        return Ok(UNKNOWN);
    }
    device.read_at(0, start)?;
    if start.get(3..11) == Some(b"NTFS    ") {
        return Ok(b"ntfs");
    }
    if start.ends_with(b"SWAPSPACE2") {
        return Ok(b"swap");
    }
    Ok(if is_blank(device, scratch)? { b"" } else { UNKNOWN })
}

/// fstab, mount points and swap; then all of it is mounted that needs no network.
fn mount(root: &mut Root<'_>) -> Result<()> {
    let buf = core::mem::take(&mut root.buffers.person);
    let outcome = mount_all(root, buf);
    root.buffers.person = buf;
    outcome
}

#[inline(never)]
fn mount_all(root: &mut Root<'_>, mounts: &mut [u8]) -> Result<()> {
    let (mut defaults, mut swap) = ([0; 256], [0; 256]);
    let mounts = root.seed_file(seed::MOUNTS, mounts)?;
    let given = root.seed_file(seed::MOUNT_DEFAULTS, &mut defaults)?;
    let mut swap = words(root.seed_file(seed::SWAP, &mut swap)?);
    let (swap_file, size, most) =
        (swap.next(), swap.next().unwrap_or_default(), swap.next().unwrap_or_default());
    if mounts.is_empty() && swap_file.is_none() {
        return Ok(());
    }
    let has_systemd =
        exists(root.dir, "usr/lib/systemd/systemd")? || exists(root.dir, "lib/systemd/systemd")?;
    let defaults = match given {
        b"" if has_systemd => DEFAULTS,
        b"" => DEFAULTS_WITHOUT_SYSTEMD,
        given => bare(given),
    };
    let wanted = Wanted { mounts, defaults, swap_file };
    // For `deprovision`: whose lines those are that we are about to write.
    if !exists(root.dir, seed::STATE)? {
        seed::make_state_dir(root.dir).map_err(named(object!(seed::FSTAB)))?;
    }
    let note = Target::root(seed::FSTAB, object!(seed::FSTAB), 0o600);
    replace::edit(root.dir, note, &mut root.buffers, &mut |_, out| {
        out.put_all(&[swap_file.unwrap_or_default(), b"\n"])
    })?;
    let fstab = Target::root("etc/fstab", object!("etc/fstab"), 0o644);
    let host = &mut *root.host;
    replace::edit(root.dir, fstab, &mut root.buffers, &mut |old, out| {
        merge(old, &wanted, &mut |name| resolve(host, name), out)
    })?;
    for point in mount_points(&wanted) {
        let point = core::str::from_utf8(&point).unwrap_or_default();
        make_dirs(root.dir, point.trim_matches('/'))?;
    }
    if !root.is_live() {
        return Ok(());
    }
    if let Some(path) = swap_file.and_then(unescape) {
        let path = core::str::from_utf8(&path).unwrap_or_default();
        let bytes = swap_bytes(root, size, most)?;
        swap::File { path, bytes, is_encrypted: false, is_copied_on_write: true }.make(root)?;
    }
    let swapped = if has_swap(&wanted) { swap::call(root, SWAPON, &["-a"]) } else { Ok(()) };
    mount_each(root, &wanted).and(swapped)
}

/// One by one: one that fails keeps no other from its place. Those of the network wait for it, and for files of
/// `write_files` with their passwords.
#[inline(never)]
fn mount_each(root: &mut Root<'_>, wanted: &Wanted<'_>) -> Result<()> {
    const FAILED: &Rule = malformed!(WHAT, "mount failed");
    let mut outcome = Ok(());
    for (point, is_remote) in to_mount(wanted) {
        if is_remote {
            // Whoever mounts it in later boots does so by fstab.
            let _ = root.run.create_unsynced(REMOTE, Owner::root(0o600), b"");
            continue;
        }
        let mounted = has_point(root.host, "proc/mounts", root.buffers.old, &point)?;
        if mounted || !has_point(root.dir, "etc/fstab", root.buffers.old, &point)? {
            continue;
        }
        let words = [core::str::from_utf8(&point).unwrap_or_default()];
        let programs = &["/usr/bin/mount", "/bin/mount"];
        outcome = outcome.and(root.call_program(programs, &words, object!(WHAT), FAILED));
    }
    outcome
}

fn has_point(dir: &mut dyn Dir, path: &str, buf: &mut [u8], point: &[u8]) -> Result<bool> {
    Ok(has_mount_point(super::read(dir, path, object!("etc/fstab"), buf)?, point))
}

/// The size of a swap file in bytes.
fn swap_bytes(root: &mut Root<'_>, size: &[u8], most: &[u8]) -> Result<u64> {
    let bytes = |text| core::str::from_utf8(text).ok().and_then(size_bytes);
    if size != b"auto" {
        return bytes(size).ok_or(malformed!(WHAT, "size of the swap file", 0));
    }
    // Its first line is MemTotal, in KiB.
    let text = super::read(root.host, "proc/meminfo", object!("proc/meminfo"), root.buffers.old)?;
    let kib = words(lines(text).next().unwrap_or_default()).nth(1).and_then(number).unwrap_or_default();
    Ok(suggested_bytes(u64::from(kib) << 10, None, bytes(most)))
}

/// `sdc`, `/dev/sdc` or `sdc.2`: the device it means, a partitioned disk's first partition; `None` for what stays as it is.
pub(super) fn resolve(host: &mut dyn Dir, name: &[u8]) -> Option<Field> {
    let name = core::str::from_utf8(name).ok()?;
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let (disk, partition) = match split_once(name, ".") {
        Some((disk, partition)) => (disk, number(partition.as_bytes())?),
        None => (name, if sysfs::has_partitions(host, name) { 1 } else { 0 }),
    };
    let disk = sysfs::device_name(disk).ok()?;
    let name = name_of(&disk, partition).ok().filter(|name| sysfs::exists(host, name))?;
    Field::from_slice(device_path(&name).ok()?.as_bytes()).ok()
}
