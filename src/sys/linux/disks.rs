//! How are block devices reached? By kernel name; for writing, through a node of our own.
//!
//! udev watches the nodes it made and re-reads the partition table when one that was open for writing is
//! closed: partitions vanish for a moment (systemd docs/BLOCK_DEVICE_LOCKING.md). A node it does not know is
//! not watched. It lives for one `open`.
#![expect(unsafe_code, reason = "ioctls")]

use super::process::{Ended, fork};
use super::{errno, open_path, raw, refused};
use crate::error::{Errno, Result};
use crate::format::ReadAt;
use crate::format::root_arg::is_device_name;
use crate::format::text::{digits, join};
use crate::limits;
use crate::sys::{Block, DeviceNumber, Disks, DriveStatus, Ejected, KernelPartition};
use linux_raw_sys::general as nr;
use linux_raw_sys::ioctl as request;
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno as Code;

/// Where nodes may be made. `/` is the initrd's own file system, never nodev (initramfs-tools' /run is);
/// in the real root it may be read-only, and devtmpfs takes nodes of any name.
const NODE_PLACES: [&str; 2] = ["/", "/dev/"];

/// CDROM_DRIVE_STATUS, CDROM_LOCKDOOR, CDROMEJECT, CDSL_CURRENT (include/uapi/linux/cdrom.h).
const DRIVE_STATUS: u32 = 0x5326;
const LOCK_DOOR: u32 = 0x5329;
const EJECT: u32 = 0x5309;
const CURRENT_SLOT: usize = i32::MAX as usize;
/// CDROMMULTISESSION, CDROM_LBA, and the sectors it counts.
const MULTI_SESSION: u32 = 0x5310;
const BY_BLOCK: u8 = 1;
const CD_SECTOR: u64 = 2048;

/// `struct cdrom_multisession`.
#[repr(C)]
#[derive(Default)]
struct SessionRaw {
    block: i32,
    is_valid: u8,
    format: u8,
}

/// BLKPG_ADD_PARTITION, BLKPG_RESIZE_PARTITION (include/uapi/linux/blkpg.h).
const ADD_PARTITION: i32 = 1;
const RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_partition`.
#[repr(C)]
struct PartitionRaw {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct ArgumentRaw<'a> {
    operation: i32,
    flags: i32,
    length: i32,
    data: &'a PartitionRaw,
}

/// NVME_IOCTL_ID, NVME_IOCTL_ADMIN_CMD (include/uapi/linux/nvme_ioctl.h).
const NAMESPACE_ID: u32 = 0x4E40;
const ADMIN_COMMAND: u32 = 0xC048_4E41;
/// Bytes of Identify Namespace, and where the vendor's part of them begins.
const IDENTIFY_BYTES: usize = 4096;
const VENDOR_PART: usize = 384;

/// `struct nvme_passthru_cmd`.
#[repr(C)]
#[derive(Default)]
struct NvmeCommandRaw {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    words_2_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_length: u32,
    length: u32,
    words_10_15: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

/// The block devices of the running kernel.
#[derive(Default)]
pub struct LinuxDisks {
    /// The node whose lock is ours.
    locked: Option<OwnedFd>,
}

/// An open device.
struct Device {
    file: OwnedFd,
    size_bytes: u64,
    sector_bytes: u32,
    session_bytes: u64,
}

/// What a path of a person's names, symbolic links followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Node {
    /// A block device.
    Device(DeviceNumber),
    /// A regular file: an image of a disk.
    File,
}

/// Looks at a path.
///
/// # Errors
/// `Os`; `Unsupported` for anything else.
pub fn node(path: &str) -> Result<Node> {
    let stat = rustix::fs::stat(path).map_err(|code| refused(os!("disk or image"), code))?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::BlockDevice => {
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            Ok(Node::Device(DeviceNumber { major, minor }))
        }
        rustix::fs::FileType::RegularFile => Ok(Node::File),
        _ => Err(unsupported!("disk or image", "neither a block device nor a file")),
    }
}

fn open(name: &str, access: OFlags) -> Result<OwnedFd> {
    // An image that a person named: no kernel name has a `/`.
    if name.starts_with('/') || name.starts_with("./") {
        return open_path(name, access | OFlags::CLOEXEC).map_err(|code| refused(os!("open image"), code));
    }
    if !is_device_name(name) {
        return Err(os!("block device name", Errno::INVAL));
    }
    // An optical drive without a medium opens only with O_NONBLOCK.
    let is_optical = name.starts_with("sr");
    let flags = access | OFlags::CLOEXEC | if is_optical { OFlags::NONBLOCK } else { OFlags::empty() };
    if access == OFlags::RDONLY {
        // Closing a node that was only read makes udev do nothing.
        let node = join(&["/dev/", name])?;
        if let Ok(file) = open_path(node.as_str(), flags) {
            return Ok(file);
        }
    }
    let number = device_number(name)?;
    let mut not_made = os!("make device node", Errno::NODEV);
    for place in NODE_PLACES {
        match open_own_node(place, name, number, flags) {
            Err(error) if matches!(error.errno(), Some(Errno::ROFS | Errno::NOENT | Errno(1 | 13))) => {
                not_made = error;
            }
            other => return other,
        }
    }
    Err(not_made)
}

fn open_own_node(place: &str, name: &str, number: rustix::fs::Dev, flags: OFlags) -> Result<OwnedFd> {
    // Stages run side by side: the process id keeps their nodes apart.
    let id = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    let node = join(&[place, ".preroot-", digits(id.into(), &mut [0; 20]), "-", name])?;
    let make = || {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            node.as_str(),
            rustix::fs::FileType::BlockDevice,
            Mode::RUSR | Mode::WUSR,
            number,
        )
    };
    let remove = || rustix::fs::unlink(node.as_str());
    let made = match make() {
        // A process of this id died here in an earlier life of the node's directory.
        Err(Code::EXIST) => remove().and_then(|()| make()),
        other => other,
    };
    made.map_err(|code| refused(os!("make device node"), code))?;
    let opened = open_path(node.as_str(), flags | OFlags::NOFOLLOW);
    let _ = remove();
    opened.map_err(|code| match code {
        Code::NXIO | Code::NODEV => os!("open block device", Errno::NOENT),
        code => refused(os!("open block device"), code),
    })
}

/// `MAJOR:MINOR` of /sys/class/block/NAME/dev.
fn device_number(name: &str) -> Result<rustix::fs::Dev> {
    const WHAT: &str = "block device number in sysfs";
    let file = join(&["/sys/class/block/", name, "/dev"])?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = open_path(file.as_str(), flags).map_err(|code| os!(WHAT, errno(code)))?;
    let mut text = [0; 32];
    let length = rustix::io::read(&file, &mut text).map_err(|code| os!(WHAT, errno(code)))?;
    let text = text.get(..length).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
    let (major, minor) = text.trim_ascii().split_once(':').unwrap_or_default();
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => Ok(rustix::fs::makedev(major, minor)),
        _ => Err(malformed!(WHAT, "MAJOR:MINOR", 0)),
    }
}

/// An ioctl whose argument is a number.
fn ioctl_number(file: &OwnedFd, request: u32, argument: usize) -> core::result::Result<usize, Errno> {
    // SAFETY: the requests named in this file take an integer and touch no memory of ours.
    let result =
        unsafe { raw::syscall(nr::__NR_ioctl, [descriptor(file), request as usize, argument, 0, 0]) };
    raw::checked(result)
}

fn descriptor(file: &OwnedFd) -> usize {
    usize::try_from(file.as_raw_fd()).unwrap_or(usize::MAX)
}

impl Device {
    fn open(name: &str, access: OFlags) -> Result<Self> {
        let file = open(name, access)?;
        if name.starts_with("sr")
            && matches!(drive_status(&file), Ok(DriveStatus::NoDisc | DriveStatus::TrayOpen))
        {
            return Err(os!("open block device", Errno::NOMEDIUM));
        }
        // SAFETY: BLKGETSIZE64 writes a u64 and BLKSSZGET an int (include/uapi/linux/fs.h).
        let (size, sector) = unsafe {
            (
                rustix::ioctl::ioctl(&file, rustix::ioctl::Getter::<{ request::BLKGETSIZE64 }, u64>::new()),
                rustix::ioctl::ioctl(&file, rustix::ioctl::Getter::<{ request::BLKSSZGET }, u32>::new()),
            )
        };
        let size = match size {
            // An image: a file.
            Err(Code::NOTTY) => {
                let stat = rustix::fs::fstat(&file).map_err(|code| refused(os!("size of image"), code))?;
                let size_bytes = u64::try_from(stat.st_size).unwrap_or_default();
                return Ok(Self { file, size_bytes, sector_bytes: 512, session_bytes: 0 });
            }
            size => size,
        };
        let size_bytes = size.map_err(|code| refused(os!("size of block device"), code))?;
        let sector_bytes = sector.map_err(|code| refused(os!("sector size of block device"), code))?;
        let session_bytes = if name.starts_with("sr") { last_session(&file) } else { 0 };
        Ok(Self { file, size_bytes, sector_bytes, session_bytes })
    }
}

impl ReadAt for Device {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (mut offset, mut rest) = (offset, buf);
        while !rest.is_empty() {
            match rustix::io::pread(&self.file, &mut *rest, offset) {
                Ok(0) => return Err(os!("read past the end of a block device", Errno::IO)),
                Ok(n) => {
                    offset = offset.saturating_add(n as u64);
                    rest = rest.get_mut(n..).unwrap_or_default();
                }
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("read block device"), code)),
            }
        }
        Ok(())
    }

    fn session_bytes(&self) -> u64 {
        self.session_bytes
    }
}

impl Block for Device {
    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        let (mut offset, mut rest) = (offset, buf);
        while !rest.is_empty() {
            match rustix::io::pwrite(&self.file, rest, offset) {
                Ok(0) => return Err(os!("write past the end of a block device", Errno::NOSPC)),
                Ok(n) => {
                    offset = offset.saturating_add(n as u64);
                    rest = rest.get(n..).unwrap_or_default();
                }
                Err(Code::INTR) => {}
                Err(code) => return Err(refused(os!("write block device"), code)),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        rustix::fs::fsync(&self.file).map_err(|code| refused(os!("flush block device"), code))
    }
}

fn blkpg(disk: &str, operation: i32, partition: KernelPartition) -> Result<()> {
    const WHAT: &str = "tell the kernel about a partition (BLKPG)";
    let too_large = os!(WHAT, Errno::INVAL);
    let data = PartitionRaw {
        start: i64::try_from(partition.start_bytes).map_err(|_| too_large)?,
        length: i64::try_from(partition.length_bytes).map_err(|_| too_large)?,
        number: i32::try_from(partition.number).map_err(|_| too_large)?,
        names: [0; 128],
    };
    let length = i32::try_from(size_of::<PartitionRaw>()).map_err(|_| too_large)?;
    let argument = ArgumentRaw { operation, flags: 0, length, data: &data };
    let file = open(disk, OFlags::RDONLY)?;
    // SAFETY: BLKPG reads a `struct blkpg_ioctl_arg` and the `struct blkpg_partition` it points to; both live.
    let told = unsafe {
        rustix::ioctl::ioctl(
            &file,
            rustix::ioctl::Setter::<{ request::BLKPG }, ArgumentRaw<'_>>::new(argument),
        )
    };
    told.map_err(|code| os!(WHAT, errno(code)))
}

/// Identify Namespace (opcode 6, CNS 0) of the namespace the device is of.
fn identify(name: &str, data: &mut [u8; IDENTIFY_BYTES]) -> Result<()> {
    const WHAT: &str = "identify an NVMe namespace";
    let file = open(name, OFlags::RDONLY)?;
    let id = ioctl_number(&file, NAMESPACE_ID, 0).map_err(|errno| os!(WHAT, errno))?;
    let mut command = NvmeCommandRaw {
        opcode: 6,
        namespace: u32::try_from(id).map_err(|_| os!(WHAT, Errno::INVAL))?,
        address: data.as_mut_ptr().expose_provenance() as u64,
        length: IDENTIFY_BYTES as u32,
        ..NvmeCommandRaw::default()
    };
    // SAFETY: NVME_IOCTL_ADMIN_CMD reads and writes a `struct nvme_passthru_cmd`, and `length` bytes at the address
    // in it, which are `data`'s.
    let told = unsafe {
        rustix::ioctl::ioctl(
            &file,
            rustix::ioctl::Updater::<{ ADMIN_COMMAND }, NvmeCommandRaw>::new(&mut command),
        )
    };
    told.map_err(|code| os!(WHAT, errno(code)))
}

/// First byte of a disc's last session; 0 where the drive knows of one only, as isofs takes it.
fn last_session(file: &OwnedFd) -> u64 {
    let mut session = SessionRaw { format: BY_BLOCK, ..SessionRaw::default() };
    // SAFETY: CDROMMULTISESSION reads and writes a `struct cdrom_multisession`.
    let told = unsafe {
        rustix::ioctl::ioctl(file, rustix::ioctl::Updater::<{ MULTI_SESSION }, SessionRaw>::new(&mut session))
    };
    let is_known = told.is_ok() && session.is_valid != 0;
    u64::try_from(session.block).ok().filter(|_| is_known).unwrap_or(0).saturating_mul(CD_SECTOR)
}

fn drive_status(file: &OwnedFd) -> Result<DriveStatus> {
    match ioctl_number(file, DRIVE_STATUS, CURRENT_SLOT) {
        Ok(1) => Ok(DriveStatus::NoDisc),
        Ok(2) => Ok(DriveStatus::TrayOpen),
        Ok(3) => Ok(DriveStatus::NotReady),
        Ok(4) => Ok(DriveStatus::DiscOk),
        Ok(_) => Ok(DriveStatus::NoInfo),
        Err(errno) => Err(os!("drive status", errno)),
    }
}

impl Disks for LinuxDisks {
    fn open_read(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn ReadAt) -> Result<()>) -> Result<()> {
        work(&mut Device::open(name, OFlags::RDONLY)?)
    }

    fn lock(&mut self, disk: Option<&str>) -> Result<()> {
        self.locked = None;
        let Some(disk) = disk else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Without the node nobody else has a lock of it. Read only: closing it makes udev do nothing.
        let Ok(node) = open_path(join(&["/dev/", disk])?.as_str(), flags) else { return Ok(()) };
        rustix::fs::flock(&node, FlockOperation::NonBlockingLockShared)
            .map_err(|code| refused(os!("lock disk"), code))?;
        self.locked = Some(node);
        Ok(())
    }

    fn open_write(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn Block) -> Result<()>) -> Result<()> {
        work(&mut Device::open(name, OFlags::RDWR)?)
    }

    fn resize_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()> {
        blkpg(disk, RESIZE_PARTITION, partition)
    }

    fn add_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()> {
        blkpg(disk, ADD_PARTITION, partition)
    }

    fn is_free(&mut self, name: &str) -> Result<bool> {
        match open(name, OFlags::RDONLY | OFlags::EXCL) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(Errno::BUSY) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn namespace_text(&mut self, name: &str, buf: &mut [u8]) -> Result<usize> {
        let mut data = [0; IDENTIFY_BYTES];
        identify(name, &mut data)?;
        let text = data.split_at(VENDOR_PART).1.split(|byte| *byte == 0).next().unwrap_or_default();
        let length = text.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(text) {
            *to = *from;
        }
        Ok(length)
    }

    fn drive_status(&mut self, name: &str) -> Result<DriveStatus> {
        drive_status(&open(name, OFlags::RDONLY | OFlags::NONBLOCK)?)
    }

    fn eject(&mut self, name: &str) -> Result<Ejected> {
        // Opening a drive can take as long as ejecting: both sleep in the kernel while others use it.
        match fork(&mut || eject_now(name))?.ended_within(limits::EJECT_MS)? {
            None => Ok(Ejected::Underway),
            Some(Ended::Exit(0)) => Ok(Ejected::Out),
            Some(Ended::Exit(IS_EMPTY)) => Ok(Ejected::Empty),
            Some(Ended::Exit(errno)) => Err(os!("eject", Errno(u16::from(errno)))),
            Some(_) => Err(os!("eject", Errno::INTR)),
        }
    }
}

/// No error number of the kernel is as high.
const IS_EMPTY: u8 = 255;

/// In a process of its own; its exit code is 0, [`IS_EMPTY`] or the kernel's error.
fn eject_now(name: &str) -> u8 {
    let outcome = open(name, OFlags::RDONLY | OFlags::NONBLOCK).and_then(|drive| {
        if matches!(drive_status(&drive), Ok(DriveStatus::NoDisc | DriveStatus::TrayOpen)) {
            return Ok(IS_EMPTY);
        }
        // The lock of a drive that has none cannot be opened; that is no reason to stop.
        let _ = ioctl_number(&drive, LOCK_DOOR, 0);
        ioctl_number(&drive, EJECT, 0).map(|_| 0).map_err(|errno| os!("eject", errno))
    });
    outcome.unwrap_or_else(|error| error.errno().map_or(5, |errno| u8::try_from(errno.0).unwrap_or(5)))
}

#[cfg(test)]
mod tests {
    use super::{ArgumentRaw, LinuxDisks, NvmeCommandRaw, PartitionRaw};
    use crate::error::Errno;
    use crate::sys::Disks;

    /// Sizes from include/uapi/linux/blkpg.h: long long 2, int, char 64 2; int 3, pointer.
    #[test]
    fn the_kernels_structures_have_its_sizes() {
        assert_eq!(size_of::<PartitionRaw>(), 152);
        assert_eq!(size_of::<ArgumentRaw<'_>>(), 24);
        assert_eq!(size_of::<NvmeCommandRaw>(), (super::ADMIN_COMMAND >> 16 & 0x3FFF) as usize);
    }

    #[test]
    fn names_cannot_leave_sysfs_and_absent_devices_are_not_found() {
        let mut disks = LinuxDisks::default();
        let mut open = |name: &str| disks.open_read(name, &mut |_| Ok(())).unwrap_err();
        assert_eq!(open("../../dev/null").errno(), Some(Errno::INVAL));
        assert!(open("sdzz99").is_not_found());
        assert!(disks.is_free("sdzz99").unwrap_err().is_not_found());
    }
}
