//! The resource disk, on every boot: formatted when the platform has made it anew, mounted, with its swap file.
//!
//! What may be formatted is decided in [`crate::disk::resource`]. A format that a power cut ends leaves a disk that
//! is nobody's: before it, the disk's own id is noted on the root, and only that disk is formatted again.

pub(super) mod swap;

use super::replace::{self, Target};
use super::{Root, exists, ignore_missing, join, named, read};
use crate::disk::resource::{
    Choice, Contents, DiskFacts, LABEL, TemporaryDisks, choose, identity, joined, observe,
};
use crate::disk::sysfs;
use crate::error::{Errno, Kind, Result, Rule};
use crate::format::fstab::has_mount_point;
use crate::format::root_arg::DeviceName;
use crate::format::text::{PathText, digits};
use crate::limits;
use crate::seed;
use crate::sys::{Dir, Owner};

/// Below the root: the id of a disk that is being formatted.
const BEGUN: &str = "var/lib/preroot/formatting";
const WHAT: &str = "resource disk";
const README: &str = "/DATALOSS_WARNING_README.txt";
const WARNING: &[u8] =
    b"This is a temporary disk: everything on it is lost, without a warning and for good, when the\n\
    VM is stopped, resized, moved or repaired. Keep here only what can be made again.\n";

/// How a file system is made: its name, the program, the word by which it takes a disk or what holds something, and
/// the words that spare time on a fresh disk of a terabyte.
pub(super) type Maker = (&'static str, &'static [&'static str], &'static str, &'static [&'static str]);
const MAKERS: &[Maker] = &[
    ("xfs", &["/usr/sbin/mkfs.xfs", "/sbin/mkfs.xfs"], "-f", NO_DISCARD),
    ("btrfs", &["/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs", "/usr/bin/mkfs.btrfs"], "-f", NO_DISCARD),
    ("ext2", &["/usr/sbin/mkfs.ext2", "/sbin/mkfs.ext2"], "-F", EXT_NO_DISCARD),
    ("ext3", &["/usr/sbin/mkfs.ext3", "/sbin/mkfs.ext3"], "-F", EXT_NO_DISCARD),
    ("ext4", &["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"], "-F", EXT_NO_DISCARD),
    ("swap", &["/usr/sbin/mkswap", "/sbin/mkswap"], "-f", &[]),
];
const NO_DISCARD: &[&str] = &["-q", "-K"];
const EXT_NO_DISCARD: &[&str] = &["-q", "-E", "nodiscard"];

/// How this file system is made with what the image has.
pub(super) fn maker(root: &mut Root<'_>, name: &[u8]) -> Result<&'static Maker> {
    let maker = MAKERS.iter().find(|(it, ..)| it.as_bytes() == name);
    let has_program = |root: &mut Root<'_>, maker: &Maker| root.program(maker.1).is_some();
    maker.filter(|maker| has_program(root, maker)).ok_or(unsupported!("mkfs", "the image has no mkfs for it"))
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing is wanted of it.
    Unwanted,
    /// There is none.
    Absent,
    /// Not touched.
    LeftAlone(&'static str),
    /// It was mounted before, and has all it should.
    AsItShouldBe(DeviceName),
    /// It had a file system, or was mounted without its swap.
    Mounted(DeviceName),
    /// It was fresh.
    Formatted(DeviceName),
    /// It was one of several fresh ones, and the image has no mdadm to join them.
    OneFormatted(DeviceName),
}

/// What is to be done with it.
enum Plan {
    Unwanted,
    Absent,
    Foreign(&'static str),
    Mounted(DeviceName),
    Mount(DiskFacts),
    /// The disk, and all that may be joined.
    Format(DiskFacts, Names),
    Assemble(Names),
}

/// Disks of an array.
type Names = heapless::Vec<DeviceName, { limits::ARRAY_DISKS }>;

/// Makes it as `root.config` has it; with `dry_run` it only tells what it would do.
///
/// # Errors
/// `Unsupported` where the image has no program for it; `Malformed` when one failed; `Os`.
#[inline(never)]
pub fn settle(root: &mut Root<'_>, dry_run: bool) -> Result<Outcome> {
    look_and_settle(root, dry_run, false)
}

fn look_and_settle(root: &mut Root<'_>, dry_run: bool, is_second_look: bool) -> Result<Outcome> {
    let outcome = match plan(root)? {
        Plan::Unwanted => return Ok(Outcome::Unwanted),
        Plan::Absent => return Ok(Outcome::Absent),
        Plan::Foreign(why) => return Ok(Outcome::LeftAlone(why)),
        Plan::Mounted(device) if is_complete(root)? => return Ok(Outcome::AsItShouldBe(device)),
        Plan::Mounted(device) => Outcome::Mounted(device),
        Plan::Mount(disk) => {
            if !dry_run {
                mount(root, &disk.target)?;
                forget(root)?;
            }
            Outcome::Mounted(disk.target)
        }
        Plan::Assemble(_) if dry_run || is_second_look => {
            return Ok(Outcome::LeftAlone("an array of its local disks that is not assembled"));
        }
        Plan::Assemble(names) => {
            let array = free_array(root)?;
            call_mdadm(root, &["--assemble", "--run", &device_path(&array)?], &names)?;
            return look_and_settle(root, dry_run, true);
        }
        Plan::Format(mut disk, names) => {
            let is_alone = names.len() < 2;
            let is_joined = !is_alone && root.program(MDADM).is_some();
            if !dry_run {
                format(root, &mut disk, if is_joined { &names } else { &[] })?;
                mount(root, &disk.target)?;
            }
            let target = disk.target;
            if is_alone || is_joined { Outcome::Formatted(target) } else { Outcome::OneFormatted(target) }
        }
    };
    if !dry_run {
        furnish(root)?;
    }
    Ok(outcome)
}

/// What belongs on it once it is mounted.
#[inline(never)]
fn furnish(root: &mut Root<'_>) -> Result<()> {
    let readme = join(&[point(root), README])?;
    if !exists(root.dir, &readme)? {
        let target = Target::root(&readme, object!(WHAT), 0o644);
        replace::write(root.dir, target, WARNING, &mut |_, _| Ok(()))?;
    }
    swap::settle(root)
}

fn is_complete(root: &mut Root<'_>) -> Result<bool> {
    let readme = join(&[point(root), README])?;
    Ok(exists(root.dir, &readme)? && swap::is_settled(root)?)
}

/// The mount point, relative to the root.
fn point<'r>(root: &Root<'r>) -> &'r str {
    root.config.resource_disk_mount_point().trim_matches('/')
}

#[inline(never)]
fn plan(root: &mut Root<'_>) -> Result<Plan> {
    // Another root's disks are not this machine's.
    if !root.is_live() || !root.config.resource_disk_format() {
        return Ok(Plan::Unwanted);
    }
    let mut begun = [0; 256];
    let begun = read(root.dir, BEGUN, object!(WHAT), &mut begun)?;
    let begun = core::str::from_utf8(begun).unwrap_or_default().trim_ascii();
    let place = root.config.resource_disk_place();
    let disks = observe(root.host, root.disks, place, begun, root.buffers.old)?;
    if disks.is_empty() {
        return Ok(Plan::Absent);
    }
    if let Some(device) = mounted(root)? {
        let is_it = disks.iter().any(|disk| device == disk.target);
        let foreign = Plan::Foreign("something else is at its mount point");
        return Ok(if is_it { Plan::Mounted(device) } else { foreign });
    }
    Ok(match choose(&disks) {
        Choice::Nothing { why } => Plan::Foreign(why),
        _ if is_in_fstab(root)? => Plan::Foreign("/etc/fstab has an entry for its mount point"),
        Choice::Format(disk) if joined(&disks).any(|it| it.name == disk.name) => {
            Plan::Format(disk.clone(), joined(&disks).map(|it| it.name.clone()).collect())
        }
        Choice::Format(disk) => Plan::Format(disk.clone(), Names::new()),
        Choice::Assemble => Plan::Assemble(members(&disks)),
        Choice::Mount(disk) => Plan::Mount(disk.clone()),
    })
}

fn is_in_fstab(root: &mut Root<'_>) -> Result<bool> {
    let point = root.config.resource_disk_mount_point().trim_end_matches('/');
    let text = read(root.dir, "etc/fstab", object!("etc/fstab"), root.buffers.old)?;
    Ok(has_mount_point(text, point.as_bytes()))
}

/// The device mounted at the mount point; "" for one without a device (tmpfs).
fn mounted(root: &mut Root<'_>) -> Result<Option<DeviceName>> {
    let point = point(root);
    let here = match root.dir.stat(point) {
        Err(error) if error.is_not_found() => return Ok(None),
        outcome => outcome.map_err(named(object!(WHAT)))?,
    };
    let above = root.dir.stat(super::split(point).0).map_err(named(object!(WHAT)))?;
    if here.device == above.device {
        return Ok(None);
    }
    sysfs::device_of(root.host, here.device).map(|device| Some(device.unwrap_or_default()))
}

pub(super) fn device_path(name: &str) -> Result<PathText> {
    join(&["/dev/", name])
}

fn members(disks: &TemporaryDisks) -> Names {
    let members = disks.iter().filter(|disk| disk.contents == Contents::Member && disk.is_free);
    members.map(|disk| disk.name.clone()).collect()
}

const MDADM: &[&str] = &["/usr/sbin/mdadm", "/sbin/mdadm"];

/// A name that no array has; mdadm too begins with the last.
fn free_array(root: &mut Root<'_>) -> Result<DeviceName> {
    for number in (0..128_u64).rev() {
        let name = join(&["md", digits(number, &mut [0; 20])])?;
        if !sysfs::exists(root.host, &name) {
            return sysfs::device_name(&name);
        }
    }
    Err(unsupported!(WHAT, "no name for an array"))
}

#[inline(never)]
fn call_mdadm(root: &mut Root<'_>, words: &[&str], disks: &[DeviceName]) -> Result<()> {
    const FAILED: &Rule = malformed!(WHAT, "mdadm failed");
    let mut paths = heapless::Vec::<PathText, { limits::ARRAY_DISKS }>::new();
    for disk in disks {
        let _ = paths.push(device_path(disk)?);
    }
    let mut argv = heapless::Vec::<&str, 30>::from_iter(words.iter().copied());
    argv.extend(paths.iter().map(|path| path.as_str()));
    root.call_program(MDADM, &argv, object!(WHAT), FAILED)
}

/// One device of several, without redundancy: what is on them is lost anyway.
fn join_disks(root: &mut Root<'_>, disks: &[DeviceName]) -> Result<DeviceName> {
    let array = free_array(root)?;
    let (path, mut number) = (device_path(&array)?, [0; 20]);
    let count = join(&["--raid-devices=", digits(disks.len() as u64, &mut number)])?;
    let words: &[&str] = &[
        "--create",
        &path,
        "--run",
        "--level=0",
        "--chunk=512",
        "--metadata=1.2",
        "--name",
        LABEL,
        "--homehost=any",
        &count,
    ];
    call_mdadm(root, words, disks)?;
    Ok(array)
}

/// Makes a file system on a disk that is proven fresh, or on all of `joined` as one.
#[inline(never)]
fn format(root: &mut Root<'_>, disk: &mut DiskFacts, joined: &[DeviceName]) -> Result<()> {
    const FAILED: &Rule = malformed!(WHAT, "mkfs failed");
    let file_system = root.config.resource_disk_file_system();
    let (_, programs, force, words) = maker(root, file_system.as_bytes())?;
    let id = identity(root.host, root.disks, &disk.name);
    if let Some(id) = &id {
        seed::make_state_dir(root.dir).map_err(named(object!(seed::STATE)))?;
        let note = Target::root(BEGUN, object!(WHAT), 0o600);
        replace::write(root.dir, note, id.as_bytes(), &mut |_, _| Ok(()))?;
    }
    if !joined.is_empty() {
        disk.target = join_disks(root, joined)?;
    }
    let device = device_path(&disk.target)?;
    let mut argv = heapless::Vec::<&str, 8>::from_iter(words.iter().copied());
    argv.extend([force, "-L", LABEL, &*device]);
    let made = root.call_program(programs, &argv, object!(WHAT), FAILED);
    if !made.is_err_and(|error| error.is(Kind::Deadline)) {
        // It came to its end, well or not: what is there now is not to be formatted once more.
        forget(root)?;
    }
    made
}

/// Drops the note of a format that ended.
fn forget(root: &mut Root<'_>) -> Result<()> {
    match root.dir.remove(BEGUN) {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome.and_then(|()| root.dir.sync_dir(seed::STATE)).map_err(named(object!(seed::STATE))),
    }
}

#[inline(never)]
fn mount(root: &mut Root<'_>, target: &str) -> Result<()> {
    const FAILED: &Rule = malformed!(WHAT, "mount failed");
    let point = point(root);
    make_dirs(root.dir, point)?;
    let (device, options) = (device_path(target)?, root.config.resource_disk_mount_options());
    let words = ["-o", options, &device, root.config.resource_disk_mount_point()];
    let words = if options.is_empty() { words.get(2..).unwrap_or_default() } else { &words };
    root.call_program(&["/usr/bin/mount", "/bin/mount"], words, object!(WHAT), FAILED)
}

/// A mount point, and what is above it.
pub(super) fn make_dirs(dir: &mut dyn Dir, point: &str) -> Result<()> {
    let ends = point.match_indices('/').map(|(at, _)| at).chain([point.len()]);
    for above in ends.filter_map(|end| point.get(..end)) {
        match dir.make_dir(above, Owner::root(0o755)) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            outcome => outcome.map_err(named(object!("mount point")))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
