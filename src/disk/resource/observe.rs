//! What is there: each disk in a place for temporary ones, its contents, and whether somebody uses it.

use super::{Contents, DiskFacts, Place};
use crate::disk::root::read_contents;
use crate::disk::sysfs;
use crate::error::{Kind, Result};
use crate::format::ReadAt;
use crate::format::ntfs::{self, Found};
use crate::format::root_arg::DeviceName;
use crate::format::superblock::{self, FileSystem};
use crate::format::text::{Out, PathText, join};
use crate::sys::{Dir, Disks};

/// The label of what we make; xfs takes 12 bytes.
pub const LABEL: &str = "preroot-temp";
/// What the platform calls its volume.
const PLATFORM_LABEL: &str = "Temporary Storage";
/// What it puts there, and what Windows leaves on any volume it has seen.
const KNOWN: &[&str] = &["DATALOSS_WARNING_README.txt", "System Volume Information", "$RECYCLE.BIN"];
/// The vmbus device of Gen1's second IDE disk begins so.
const GEN1_DEVICE: &str = "00000000-0001";
/// Gen2's first SCSI controller: OS disk (LUN 0), resource disk (1) and DVD (2). Data disks have f8b3781b and on.
const GEN2_DEVICE: &str = "f8b3781a-1e82-4818-a1c3-63d806ec15bb";
const GEN2_LUN: &str = "1";
/// Local NVMe disks by the model of their controller (azure-vm-utils, udev/80-azure-disk.rules).
const LOCAL_MODELS: &[&str] = &["Microsoft NVMe Direct Disk", "Microsoft NVMe Direct Disk v2"];
/// Microsoft's reserved partition is 16 to 128 MiB.
const RESERVED_BYTES: u64 = 128 << 20;
const MIB: u64 = 1 << 20;
/// Bytes for the names of all block devices.
const NAMES: usize = 4096;

/// Disks in places for temporary ones; the largest sizes have ten local NVMe.
pub type TemporaryDisks = heapless::Vec<DiskFacts, 16>;

/// Looks at all disks. `place` is a component of sysfs paths that the image's maker named, or empty; `begun` is what
/// [`identity`] gave of a disk that we began to format, or empty. `scratch` holds at least 16 KiB.
///
/// # Errors
/// `Os`, `TooMany`; a disk that cannot be read is [`Contents::Unknown`].
#[inline(never)]
pub fn observe(
    host: &mut dyn Dir,
    disks: &mut dyn Disks,
    place: &str,
    begun: &str,
    scratch: &mut [u8],
) -> Result<TemporaryDisks> {
    let short = too_many!("scratch of the resource disk", scratch.len());
    let (names, scratch) = scratch.split_at_mut_checked(NAMES).ok_or(short)?;
    let mut found = TemporaryDisks::new();
    for name in sysfs::names(host, names)?.lines() {
        if sysfs::partition_number(host, name).is_some() {
            continue;
        }
        let parts = if name.starts_with("md") { members(host, name)? } else { Members::new() };
        let mut places = parts.iter().map(|part| place_of(host, disks, part, place));
        let place = match places.next() {
            None => place_of(host, disks, name, place),
            Some(first) if places.all(|it| it == first) && first == Place::LocalNvme => first,
            Some(_) => Place::Lasting,
        };
        if place == Place::Lasting {
            continue;
        }
        let name = sysfs::device_name(name)?;
        let (target, mut contents) = look(host, disks, &name, place, scratch)?;
        if contents == Contents::Blank && !parts.is_empty() {
            // Somebody joined its disks a moment ago, unless our note says that it was us.
            contents = Contents::Unknown;
        }
        let mut is_begun = |disk: &str| identity(host, disks, disk).is_some_and(|it| it == begun);
        let was_begun = !begun.is_empty() && (is_begun(&name) || parts.iter().any(|part| is_begun(part)));
        let is_free = disks.is_free(&name).unwrap_or_default();
        let facts = DiskFacts { name, target, place, contents, is_free, was_begun };
        found.push(facts).map_err(|_| too_many!("temporary disks", found.capacity()))?;
    }
    Ok(found)
}

/// What names this very disk and no other, also after its next boot: its world wide id, else the number that who
/// partitioned it gave it, which our mkfs does not touch. `None` where it has neither.
#[inline(never)]
pub fn identity(host: &mut dyn Dir, disks: &mut dyn Disks, disk: &str) -> Option<PathText> {
    // NVMe has it at the namespace, SCSI at the device.
    let file = if disk.starts_with("nvme") { "wwid" } else { "device/wwid" };
    let mut buf = [0; 256];
    if let Ok(text) = sysfs::attribute(host, disk, file, &mut buf)
        && !text.is_empty()
    {
        return PathText::try_from(text).ok();
    }
    if sysfs::has_partitions(host, disk) { table_number(disks, disk) } else { None }
}

/// The disk signature of the MBR, and the disk GUID of a GPT behind it.
#[inline(never)]
fn table_number(disks: &mut dyn Disks, disk: &str) -> Option<PathText> {
    let mut start = [0; 1024];
    disks.open_read(disk, &mut |device| device.read_at(0, &mut start)).ok()?;
    let (mut text, mut is_one) = ([0; 64], false);
    let mut out = Out::new(too_many!("disk number"), &mut text);
    let guid = if start.get(512..520) == Some(b"EFI PART") { 568..584 } else { 0..0 };
    for byte in [440..444, guid].into_iter().filter_map(|part| start.get(part)).flatten() {
        is_one |= *byte != 0;
        out.put_hex(*byte).ok()?;
    }
    let text = core::str::from_utf8(out.as_bytes()).ok().filter(|_| is_one)?;
    PathText::try_from(text).ok()
}

/// The disks that an array is made of.
type Members = heapless::Vec<DeviceName, 16>;

fn members(host: &mut dyn Dir, array: &str) -> Result<Members> {
    let mut members = Members::new();
    let mut is_whole = true;
    host.list(&join(&["sys/class/block/", array, "/slaves"])?, &mut |name, _| {
        is_whole &= sysfs::device_name(name).is_ok_and(|name| members.push(name).is_ok());
        true
    })?;
    if is_whole { Ok(members) } else { Err(too_many!("disks of an array", members.capacity())) }
}

fn place_of(host: &mut dyn Dir, disks: &mut dyn Disks, name: &str, wanted: &str) -> Place {
    let mut buf = [0; 512];
    let Ok(link) = sysfs::link(host, name, &mut buf) else { return Place::Lasting };
    let is_wanted = has_component(link, wanted);
    if name.starts_with("nvme") {
        return if is_wanted || is_local_nvme(host, disks, name) { Place::LocalNvme } else { Place::Lasting };
    }
    if is_wanted || is_in_resource_place(host, link).unwrap_or_default() {
        return Place::Resource;
    }
    Place::Lasting
}

fn has_component(link: &str, wanted: &str) -> bool {
    !wanted.is_empty() && link.split('/').any(|component| component == wanted)
}

/// By the model; and where the disk says more of itself, it says `type=local`.
#[inline(never)]
fn is_local_nvme(host: &mut dyn Dir, disks: &mut dyn Disks, name: &str) -> bool {
    let mut text = [0; 128];
    if !sysfs::attribute(host, name, "device/model", &mut text).is_ok_and(|it| LOCAL_MODELS.contains(&it)) {
        return false;
    }
    let Ok(length) = disks.namespace_text(name, &mut text) else { return false };
    let text = text.get(..length).unwrap_or_default();
    text.is_empty() || text.split(|byte| *byte == b',').any(|word| word == b"type=local")
}

/// By the vmbus device above the SCSI host: `.../DEVICE/hostN/targetN:0:0/N:0:0:LUN/block/sdX`.
#[inline(never)]
fn is_in_resource_place(host: &mut dyn Dir, link: &str) -> Result<bool> {
    let mut up = link.rsplitn(6, '/').skip(1);
    let (block, address) = (up.next(), up.next().unwrap_or_default());
    let (target, scsi_host) = (up.next().unwrap_or_default(), up.next().unwrap_or_default());
    let device = up.next().and_then(|above| above.strip_prefix("../../"));
    let (Some("block"), Some(device)) = (block, device) else { return Ok(false) };
    if !target.starts_with("target") || !scsi_host.starts_with("host") {
        return Ok(false);
    }
    let mut id = [0; 64];
    let id = sysfs::device_attribute(host, device, "device_id", &mut id)?;
    let id = id.trim_start_matches('{').trim_end_matches('}');
    let lun = address.rsplit(':').next();
    Ok(id.starts_with(GEN1_DEVICE) || id == GEN2_DEVICE && lun == Some(GEN2_LUN))
}

/// The device that counts on a disk, and what is on it.
#[inline(never)]
fn look(
    host: &mut dyn Dir,
    disks: &mut dyn Disks,
    disk: &DeviceName,
    place: Place,
    scratch: &mut [u8],
) -> Result<(DeviceName, Contents)> {
    let foreign = |why| Ok((disk.clone(), Contents::Foreign { why }));
    let partition = match sysfs::partitions(host, disk)? {
        0 => return Ok((disk.clone(), look_into(disks, disk, place, scratch).unwrap_or(Contents::Unknown))),
        1 => sysfs::partition_name(disk, 1)?,
        // Larger disks have a GPT whose first partition is Microsoft's reserved one.
        2 if sysfs::size_bytes(host, &sysfs::partition_name(disk, 1)?)
            .is_ok_and(|bytes| bytes <= RESERVED_BYTES) =>
        {
            sysfs::partition_name(disk, 2)?
        }
        _ => return foreign("a temporary disk with partitions that are not the platform's"),
    };
    let contents = look_into(disks, &partition, Place::Resource, scratch).unwrap_or(Contents::Unknown);
    Ok((partition, contents))
}

#[inline(never)]
fn look_into(disks: &mut dyn Disks, name: &str, place: Place, scratch: &mut [u8]) -> Result<Contents> {
    let mut contents = Contents::Unknown;
    disks.open_read(name, &mut |device| {
        contents = match ntfs::examine(device, PLATFORM_LABEL, KNOWN, scratch) {
            Ok(Found::Untouched) => Contents::Untouched,
            Ok(Found::Files) => Contents::Foreign { why: "there are files on the temporary disk's NTFS" },
            Ok(Found::Dirty) => Contents::Foreign { why: "an NTFS volume that somebody did not unmount" },
            Ok(Found::OtherLabel) => Contents::Foreign { why: "an NTFS volume with another label" },
            Ok(Found::Other) => look_for_others(device, place, scratch)?,
            Err(error) if error.is(Kind::Os) => return Err(error),
            Err(_) => Contents::Unknown,
        };
        Ok(())
    })?;
    Ok(contents)
}

#[inline(never)]
fn look_for_others(device: &mut dyn ReadAt, place: Place, scratch: &mut [u8]) -> Result<Contents> {
    /// In an xfs superblock: mkfs has not come to its end.
    const XFS_IN_PROGRESS: u64 = 126;
    let why = match read_contents(device, 0, scratch)? {
        superblock::Contents::FileSystem(found) => {
            let is_ours = found.label == LABEL.as_bytes();
            let mut in_progress = [0; 1];
            device.read_at(XFS_IN_PROGRESS, &mut in_progress)?;
            if found.file_system == FileSystem::Xfs && in_progress != [0] {
                return Ok(Contents::Unknown);
            }
            return Ok(Contents::FileSystem { is_ours });
        }
        superblock::Contents::Luks => "an encrypted volume (LUKS)",
        superblock::Contents::Lvm => "an LVM physical volume",
        superblock::Contents::Raid if place == Place::LocalNvme && is_in_our_array(device)? => {
            return Ok(Contents::Member);
        }
        superblock::Contents::Raid => "a member of a RAID array (md)",
        superblock::Contents::Unknown => {
            let is_blank = place == Place::LocalNvme && is_blank(device, scratch)?;
            return Ok(if is_blank { Contents::Blank } else { Contents::Unknown });
        }
    };
    Ok(Contents::Foreign { why })
}

/// By the name in its superblock (version 1.2: set_name, include/uapi/linux/raid/md_p.h).
fn is_in_our_array(device: &mut dyn ReadAt) -> Result<bool> {
    let mut name = [0; 32];
    device.read_at(4096 + 32, &mut name)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(name.rsplit(|byte| *byte == b':').next() == Some(LABEL.as_bytes()))
}

/// Zeros in the first and the last MiB: no signature that anybody writes has all its copies between them. Of a
/// device smaller than that, all of it.
///
/// # Errors
/// `Os`; `TooMany` with a scratch below 4096 bytes.
#[inline(never)]
pub fn is_blank(device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<bool> {
    let window = scratch.get_mut(..4096).ok_or(too_many!("scratch of the resource disk", 4096))?;
    let size = device.size_bytes();
    let part = size.min(MIB);
    for start in [0, size - part] {
        for at in (start..start + part).step_by(window.len()) {
            let left = usize::try_from(start + part - at).unwrap_or(usize::MAX).min(window.len());
            let window = window.get_mut(..left).unwrap_or_default();
            device.read_at(at, window)?;
            if window.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }
    Ok(size > 0)
}
