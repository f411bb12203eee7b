//! What does the kernel say about block devices?

use crate::error::{Errno, Kind, Result, Rule};
use crate::format::gpt::BlockSize;
use crate::format::root_arg::{DeviceName, is_device_name};
use crate::format::text::{digits, join};
use crate::limits;
use crate::sys::{DeviceNumber, Dir, KernelPartition};

const CLASS: &str = "sys/class/block/";
/// sysfs counts sizes in these, whatever the disk's blocks are.
const SYSFS_SECTOR: u64 = 512;

/// Validates and copies a name.
///
/// # Errors
/// `Malformed`, `TooMany`.
pub fn device_name(name: &str) -> Result<DeviceName> {
    if !is_device_name(name) {
        return Err(malformed!("block device", "name", 0));
    }
    DeviceName::try_from(name).map_err(|_| too_many!("device name", limits::DEVICE_NAME))
}

/// True when the kernel has a block device of that name.
pub fn exists(host: &mut dyn Dir, name: &str) -> bool {
    attribute(host, name, "dev", &mut [0; 64]).is_ok()
}

/// Text of an attribute of a block device.
///
/// # Errors
/// `Os`, `TooMany`.
pub fn attribute<'b>(host: &mut dyn Dir, name: &str, file: &str, buf: &'b mut [u8]) -> Result<&'b str> {
    text_of(host, &join(&[CLASS, name, "/", file])?, buf)
}

/// Text of an attribute of the device at `device`, a path below `sys/`.
///
/// # Errors
/// `Os`, `TooMany`.
pub fn device_attribute<'b>(
    host: &mut dyn Dir,
    device: &str,
    file: &str,
    buf: &'b mut [u8],
) -> Result<&'b str> {
    text_of(host, &join(&["sys/", device, "/", file])?, buf)
}

fn text_of<'b>(host: &mut dyn Dir, path: &str, buf: &'b mut [u8]) -> Result<&'b str> {
    let length = host.read(path, buf)?;
    let text = buf.get(..length).and_then(|text| core::str::from_utf8(text).ok());
    Ok(text.unwrap_or_default().trim_ascii())
}

fn number(host: &mut dyn Dir, name: &str, file: &str) -> Result<u64> {
    let mut buf = [0; 64];
    let text = attribute(host, name, file, &mut buf)?;
    text.parse().map_err(|_| malformed!("sysfs attribute of a block device", "number", 0))
}

/// Size of a device in bytes.
///
/// # Errors
/// `Os`, `Malformed`.
pub fn size_bytes(host: &mut dyn Dir, name: &str) -> Result<u64> {
    number(host, name, "size").map(|sectors| sectors.saturating_mul(SYSFS_SECTOR))
}

/// Logical block size of a disk.
///
/// # Errors
/// `Os`, `Unsupported`.
pub fn block_size(host: &mut dyn Dir, disk: &str) -> Result<BlockSize> {
    let bytes = number(host, disk, "queue/logical_block_size")?;
    BlockSize::new(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// The partition's number; `None` for anything but a partition.
pub fn partition_number(host: &mut dyn Dir, name: &str) -> Option<u32> {
    number(host, name, "partition").ok().and_then(|number| u32::try_from(number).ok())
}

/// True when the directory `entry` of a device's directory has something in it (`holders`, `slaves`).
pub fn has_any(host: &mut dyn Dir, name: &str, entry: &str) -> bool {
    let mut found = false;
    let Ok(path) = join(&[CLASS, name, "/", entry]) else { return false };
    let _ = host.list(&path, &mut |_, _| {
        found = true;
        false
    });
    found
}

/// What the directory `entry` of a device's directory holds, where that is one device.
pub fn only(host: &mut dyn Dir, name: &str, entry: &str) -> Option<DeviceName> {
    let mut found: (usize, Option<DeviceName>) = (0, None);
    let path = join(&[CLASS, name, "/", entry]).ok()?;
    host.list(&path, &mut |name, _| {
        found = (found.0.saturating_add(1), device_name(name).ok());
        true
    })
    .ok()?;
    found.1.filter(|_| found.0 == 1)
}

/// Bytes of all devices that are made of this one.
///
/// # Errors
/// `Os`, `Malformed`, `TooMany` where there are more than a few.
pub fn held_bytes(host: &mut dyn Dir, name: &str) -> Result<u64> {
    let mut holders = heapless::Vec::<DeviceName, 16>::new();
    let mut listed = Ok(());
    host.list(&join(&[CLASS, name, "/holders"])?, &mut |holder, _| {
        let full = too_many!("holders of a block device", holders.capacity());
        listed = device_name(holder).and_then(|holder| holders.push(holder).map_err(|_| full));
        listed.is_ok()
    })?;
    listed?;
    holders.iter().try_fold(0_u64, |sum, holder| Ok(sum.saturating_add(size_bytes(host, holder)?)))
}

/// True when the kernel has any partition of a disk.
pub fn has_partitions(host: &mut dyn Dir, disk: &str) -> bool {
    partitions(host, disk).is_ok_and(|count| count > 0)
}

/// How many partitions of a disk the kernel has.
///
/// # Errors
/// `Os`.
pub fn partitions(host: &mut dyn Dir, disk: &str) -> Result<usize> {
    let mut count = 0_usize;
    host.list(&join(&[CLASS, disk])?, &mut |entry, _| {
        count = count.saturating_add(usize::from(entry.len() > disk.len() && entry.starts_with(disk)));
        true
    })?;
    Ok(count)
}

/// What a device is made of, when it is not simply a disk or a partition of one.
pub fn stacked(host: &mut dyn Dir, name: &str) -> Option<&'static Rule> {
    let mut buf = [0; 256];
    match attribute(host, name, "dm/uuid", &mut buf) {
        Ok(uuid) if uuid.starts_with("CRYPT-VERITY-") => {
            return Some(unsupported!(rule "root", "dm-verity: its hash covers its size"));
        }
        Ok(uuid) if uuid.starts_with("CRYPT-") => return Some(unsupported!(rule "root", "encrypted (LUKS)")),
        Ok(uuid) if uuid.starts_with("LVM-") => {
            return Some(unsupported!(rule "root", "a logical volume (LVM)"));
        }
        Ok(_) => return Some(unsupported!(rule "root", "device mapper")),
        // No uuid, or one longer than any prefix we know.
        Err(error) if error.is(Kind::TooMany) => return Some(unsupported!(rule "root", "device mapper")),
        Err(_) => {}
    }
    if name.starts_with("md") {
        return Some(unsupported!(rule "root", "a RAID array (md)"));
    }
    has_any(host, name, "slaves").then_some(unsupported!(rule "root", "made of other devices"))
}

/// The disk a partition is on: the directory its sysfs entry is in.
///
/// # Errors
/// `Os`, `Malformed`.
pub fn disk_of(host: &mut dyn Dir, partition: &str) -> Result<DeviceName> {
    let mut buf = [0; 512];
    let link = link(host, partition, &mut buf)?;
    device_name(link.rsplit('/').nth(1).unwrap_or_default())
}

/// Where a device's directory is: `../../devices/...`.
///
/// # Errors
/// `Os`.
pub fn link<'b>(host: &mut dyn Dir, name: &str, buf: &'b mut [u8]) -> Result<&'b str> {
    read_link(host, &join(&[CLASS, name])?, buf)
}

/// The device of a `st_dev`; `None` when it is no block device (btrfs, overlay, tmpfs).
///
/// # Errors
/// `Os`, `Malformed`.
pub fn device_of(host: &mut dyn Dir, number: DeviceNumber) -> Result<Option<DeviceName>> {
    let mut buf = [0; 512];
    let (mut major, mut minor) = ([0; 20], [0; 20]);
    let (major, minor) = (digits(number.major.into(), &mut major), digits(number.minor.into(), &mut minor));
    let link = join(&["sys/dev/block/", major, ":", minor])?;
    match read_link(host, &link, &mut buf) {
        Ok(link) => device_name(link.rsplit('/').next().unwrap_or_default()).map(Some),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_link<'b>(host: &mut dyn Dir, path: &str, buf: &'b mut [u8]) -> Result<&'b str> {
    let length = host.read_link(path, buf)?;
    Ok(buf.get(..length).and_then(|link| core::str::from_utf8(link).ok()).unwrap_or_default())
}

/// The kernel's name of a partition: `p` between when the disk's name ends in a digit (block/partitions/core.c).
///
/// # Errors
/// `TooMany`.
pub fn partition_name(disk: &str, number: u32) -> Result<DeviceName> {
    let between = if disk.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    let name = join(&[disk, between, digits(number.into(), &mut [0; 20])])?;
    DeviceName::try_from(name.as_str()).map_err(|_| too_many!("device name", limits::DEVICE_NAME))
}

/// Disk and number of a partition by its name alone, for one that the kernel does not have.
#[must_use]
pub fn split_partition_name(name: &str) -> Option<(&str, u32)> {
    let stem = name.trim_end_matches(|last: char| last.is_ascii_digit());
    let number = name.strip_prefix(stem)?.parse().ok().filter(|number| *number > 0)?;
    let with_p = stem.strip_suffix('p').filter(|disk| disk.ends_with(|last: char| last.is_ascii_digit()));
    Some((with_p.unwrap_or(stem), number)).filter(|(disk, _)| !disk.is_empty())
}

/// The kernel's view of a partition; `None` when it has none of that number.
///
/// # Errors
/// `Os`, `Malformed`, `TooMany`.
pub fn partition(host: &mut dyn Dir, disk: &str, wanted: u32) -> Result<Option<KernelPartition>> {
    let name = partition_name(disk, wanted)?;
    if partition_number(host, &name) != Some(wanted) {
        return Ok(None);
    }
    let start = number(host, &name, "start")?;
    Ok(Some(KernelPartition {
        number: wanted,
        start_bytes: start.saturating_mul(SYSFS_SECTOR),
        length_bytes: size_bytes(host, &name)?,
    }))
}

/// True when the kernel has another partition of the disk in the bytes of `part`.
///
/// # Errors
/// As [`partition`].
pub fn has_neighbour_in(host: &mut dyn Dir, disk: &str, part: KernelPartition) -> Result<bool> {
    let end = |part: KernelPartition| part.start_bytes.saturating_add(part.length_bytes);
    for number in (1..=limits::KERNEL_PARTITIONS).filter(|number| *number != part.number) {
        let other = partition(host, disk, number)?;
        if other.is_some_and(|other| other.start_bytes < end(part) && part.start_bytes < end(other)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Collects the names of all block devices into `buf`, each ended by a newline; returns them as text.
///
/// # Errors
/// `Os`; `TooMany` when they do not fit.
pub fn names<'b>(host: &mut dyn Dir, buf: &'b mut [u8]) -> Result<&'b str> {
    let limit = buf.len();
    let mut end = Some(0_usize);
    host.list("sys/class/block", &mut |name, _| {
        end = end.and_then(|end| append_line(buf, end, name));
        end.is_some()
    })?;
    let end = end.ok_or(too_many!("names of block devices, bytes", limit))?;
    Ok(buf.get(..end).and_then(|names| core::str::from_utf8(names).ok()).unwrap_or_default())
}

/// How many block devices there are.
///
/// # Errors
/// `Os`.
pub fn count(host: &mut dyn Dir) -> Result<usize> {
    let mut count = 0_usize;
    host.list("sys/class/block", &mut |_, _| {
        count = count.saturating_add(1);
        true
    })?;
    Ok(count)
}

fn append_line(buf: &mut [u8], at: usize, name: &str) -> Option<usize> {
    let place = buf.get_mut(at..)?.get_mut(..name.len().checked_add(1)?)?;
    let (last, text) = place.split_last_mut()?;
    text.copy_from_slice(name.as_bytes());
    *last = b'\n';
    at.checked_add(place.len())
}

#[cfg(test)]
mod tests {
    use super::{device_of, disk_of, names, partition, partition_name, split_partition_name, stacked};
    use crate::sys::fake::FakeDir;
    use crate::sys::{DeviceNumber, KernelPartition};

    #[test]
    fn partition_names_are_the_kernels_both_ways() {
        for (disk, number, name) in
            [("sda", 1, "sda1"), ("nvme0n1", 15, "nvme0n1p15"), ("loop0", 2, "loop0p2"), ("vdap", 3, "vdap3")]
        {
            assert_eq!(partition_name(disk, number).unwrap(), name);
            assert_eq!(split_partition_name(name), Some((disk, number)));
        }
        for bad in ["sda", "sda0", "1", "", "sda99999999999"] {
            assert_eq!(split_partition_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn sysfs_is_read() {
        let mut host = FakeDir::default();
        host.put("sys/devices/pci/block/sda/dev", "8:0\n")
            .put("sys/devices/pci/block/sda/sda1/partition", "1\n")
            .put("sys/devices/pci/block/sda/sda1/start", "2048\n")
            .put("sys/devices/pci/block/sda/sda1/size", "100\n")
            .put("sys/devices/virtual/block/dm-0/dm/uuid", "CRYPT-LUKS2-1234-x\n")
            .put_symlink("sys/class/block/sda", "../../devices/pci/block/sda")
            .put_symlink("sys/class/block/sda1", "../../devices/pci/block/sda/sda1")
            .put_symlink("sys/class/block/dm-0", "../../devices/virtual/block/dm-0")
            .put_symlink("sys/dev/block/8:1", "../../devices/pci/block/sda/sda1");
        let seen = KernelPartition { number: 1, start_bytes: 2048 * 512, length_bytes: 51200 };
        assert_eq!(partition(&mut host, "sda", 1), Ok(Some(seen)));
        assert_eq!(partition(&mut host, "sda", 2), Ok(None));
        assert_eq!(disk_of(&mut host, "sda1").unwrap(), "sda");
        assert_eq!(device_of(&mut host, DeviceNumber { major: 8, minor: 1 }).unwrap().unwrap(), "sda1");
        assert_eq!(device_of(&mut host, DeviceNumber { major: 0, minor: 40 }), Ok(None));
        assert_eq!(stacked(&mut host, "dm-0"), Some(unsupported!(rule "root", "encrypted (LUKS)")));
        assert_eq!(stacked(&mut host, "sda1"), None);
        assert_eq!(names(&mut host, &mut [0; 64]).unwrap(), "dm-0\nsda\nsda1\n");
        assert!(names(&mut host, &mut [0; 13]).is_err());
    }
}
