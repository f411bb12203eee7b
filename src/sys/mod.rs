//! The kernel, as traits. Everything above sees only these; `linux` talks to the real kernel,
//! `fake` (tests) is an in-memory world that can fail, delay or lose power at operation n.
//!
//! Paths are relative to the directory a [`Dir`] stands for, without a leading `/`. They are UTF-8:
//! every path we build is; foreign names that are not are skipped by [`Dir::list`].

use crate::error::Result;
use crate::event::{Level, Value};

pub use crate::format::ReadAt;
use crate::format::guid::Guid;
use crate::format::rtnetlink::LinkChange;
use crate::format::superblock::FileSystem;

mod links;
pub mod linux;

pub use links::{Frame, Frames, LinkState, Links, Only, Stream};

#[cfg(test)]
pub mod fake;

/// Type of a directory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Block device node.
    BlockDevice,
    /// Anything else.
    Other,
}

/// What `stat` says, as far as anybody here asks. Never follows a final symbolic link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Type of the entry.
    pub file_type: FileType,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Device the file system is on.
    pub device: DeviceNumber,
    /// Device the node names, for device nodes.
    pub node: DeviceNumber,
    /// Last modification, seconds since the epoch.
    pub modified: i64,
}

/// Major and minor number of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Owner, group and mode of something to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Permission bits (07777), exactly: the umask does not apply.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// root:root with this mode.
    #[must_use]
    pub const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// How the directories on the way to a path may be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symlinks {
    /// Symbolic links resolve inside the tree, as chroot would (`RESOLVE_IN_ROOT`).
    Inside,
    /// Any symbolic link is an error (`RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH`): for trees a user owns.
    Refuse,
    /// As `Refuse`, and the directory itself is no mount point, bind mounts included (`RESOLVE_NO_XDEV`): for what is
    /// taken away.
    RefuseMounts,
}

/// A directory and what lies below it. The last component of a path is never followed if it is a link,
/// except by `read`, `read_at` and `list` under [`Symlinks::Inside`].
pub trait Dir {
    /// Reads a whole file into `buf`, returns its length.
    ///
    /// # Errors
    /// `TooMany` when it does not fit; `Os` as the kernel says.
    fn read(&mut self, path: &str, buf: &mut [u8]) -> Result<usize>;
    /// Reads from `offset`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// `Os`.
    fn read_at(&mut self, path: &str, offset: u64, buf: &mut [u8]) -> Result<usize>;
    /// Makes a file that must not exist yet (`O_CREAT|O_EXCL|O_NOFOLLOW`), with its content, and fsyncs it.
    ///
    /// # Errors
    /// `Os(EXIST)` when something has that name.
    fn create(&mut self, path: &str, owner: Owner, content: &[u8]) -> Result<()>;
    /// As [`Dir::create`] without the fsync, for files that a later [`Dir::sync_all`] covers.
    ///
    /// # Errors
    /// `Os(EXIST)` when something has that name.
    fn create_unsynced(&mut self, path: &str, owner: Owner, content: &[u8]) -> Result<()>;
    /// Appends to a regular file that exists (no fsync).
    ///
    /// # Errors
    /// `Os`.
    fn append(&mut self, path: &str, content: &[u8]) -> Result<()>;
    /// Writes into a regular file that exists, from `offset` on (no fsync).
    ///
    /// # Errors
    /// `Os`.
    fn write_at(&mut self, path: &str, offset: u64, content: &[u8]) -> Result<()>;
    /// Cuts a regular file, or fills it up with zeros, to `size` bytes (no fsync).
    ///
    /// # Errors
    /// `Os`.
    fn set_size(&mut self, path: &str, size: u64) -> Result<()>;
    /// Writes to an existing file or kernel attribute in one `write`, without creating or truncating.
    ///
    /// # Errors
    /// `Os`.
    fn write_attribute(&mut self, path: &str, content: &[u8]) -> Result<()>;
    /// Makes a directory.
    ///
    /// # Errors
    /// `Os(EXIST)` when something has that name.
    fn make_dir(&mut self, path: &str, owner: Owner) -> Result<()>;
    /// Makes a symbolic link.
    ///
    /// # Errors
    /// `Os(EXIST)` when something has that name.
    fn make_symlink(&mut self, path: &str, target: &str) -> Result<()>;
    /// Reads a symbolic link into `buf`, returns its length.
    ///
    /// # Errors
    /// `Os(INVAL)` when it is none.
    fn read_link(&mut self, path: &str, buf: &mut [u8]) -> Result<usize>;
    /// Renames over whatever has the new name.
    ///
    /// # Errors
    /// `Os`.
    fn rename(&mut self, from: &str, to: &str) -> Result<()>;
    /// Swaps two names atomically (`RENAME_EXCHANGE`).
    ///
    /// # Errors
    /// `Os(INVAL)` where the file system cannot.
    fn exchange(&mut self, a: &str, b: &str) -> Result<()>;
    /// Removes a file or link.
    ///
    /// # Errors
    /// `Os`.
    fn remove(&mut self, path: &str) -> Result<()>;
    /// Removes an empty directory.
    ///
    /// # Errors
    /// `Os`.
    fn remove_dir(&mut self, path: &str) -> Result<()>;
    /// Gives every entry of a directory whose name is not UTF-8 one that is, so that it can be listed, and removed.
    /// Says how many there were.
    ///
    /// # Errors
    /// `Os`.
    fn rename_unreadable(&mut self, path: &str) -> Result<u32>;
    /// What is there. Does not follow a final link.
    ///
    /// # Errors
    /// `Os(NOENT)` when nothing is.
    fn stat(&mut self, path: &str) -> Result<Stat>;
    /// Sets owner, group and mode of a file or directory.
    ///
    /// # Errors
    /// `Os`.
    fn set_owner(&mut self, path: &str, owner: Owner) -> Result<()>;
    /// Calls `each` with every entry (no `.` or `..`) until it returns `false`; order is the kernel's.
    ///
    /// # Errors
    /// `Os`.
    fn list(&mut self, path: &str, each: &mut dyn FnMut(&str, FileType) -> bool) -> Result<()>;
    /// Works below a subdirectory through its own descriptor: nothing outside it can be reached then.
    ///
    /// # Errors
    /// `Os`, and whatever `work` returns.
    fn enter(
        &mut self,
        path: &str,
        symlinks: Symlinks,
        work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>,
    ) -> Result<()>;
    /// Runs `work` while nobody else holds the lock file `path` (made 0600 if missing): an exclusive fcntl lock on
    /// all of it, which lckpwdf(3) on /etc/.pwd.lock and hv_kvp_daemon on its pools heed. It is the descriptor's
    /// (`F_OFD_SETLK`): that `work` opens and closes the same file does not give it back.
    ///
    /// # Errors
    /// `Deadline` when somebody else keeps it; `Os`; whatever `work` returns.
    fn lock(
        &mut self,
        path: &str,
        timeout_ms: u64,
        work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>,
    ) -> Result<()>;
    /// Copies `security.selinux` from one file to another; nothing where there is none.
    ///
    /// # Errors
    /// `Os`.
    fn copy_label(&mut self, from: &str, to: &str) -> Result<()>;
    /// fsync of a directory, so that names made in it are durable ("" is this directory).
    ///
    /// # Errors
    /// `Os`.
    fn sync_dir(&mut self, path: &str) -> Result<()>;
    /// Flushes the whole file system.
    ///
    /// # Errors
    /// `Os`.
    fn sync_all(&mut self) -> Result<()>;
    /// Bytes that may still be written to this file system, if that is known.
    fn free_bytes(&mut self) -> u64 {
        u64::MAX
    }
    /// True on tmpfs or ramfs, the only places where a secret may be put before it is applied.
    fn is_in_memory(&mut self) -> bool;
}

/// A block device that may be written.
pub trait Block: ReadAt {
    /// Logical sector size in bytes (512 or 4096).
    fn sector_bytes(&self) -> u32;
    /// Writes all of `buf` at `offset`.
    ///
    /// # Errors
    /// `Os`.
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> Result<()>;
    /// Everything written is on the medium when this returns.
    ///
    /// # Errors
    /// `Os`.
    fn flush(&mut self) -> Result<()>;
}

/// What CDROM_DRIVE_STATUS answers (include/uapi/linux/cdrom.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DriveStatus {
    /// 0: the driver cannot tell.
    NoInfo,
    /// 1.
    NoDisc,
    /// 2.
    TrayOpen,
    /// 3.
    NotReady,
    /// 4.
    DiscOk,
}

/// What became of a medium that was to leave its drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ejected {
    /// It is out.
    Out,
    /// There was none.
    Empty,
    /// The drive is still at it.
    Underway,
}

/// A partition as the kernel's BLKPG wants it, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelPartition {
    /// Partition number, from 1.
    pub number: u32,
    /// First byte.
    pub start_bytes: u64,
    /// Length.
    pub length_bytes: u64,
}

/// Block devices by kernel name (`sda`, `nvme0n1`, `sr0`), opened through a node of our own: closing a
/// `/dev` node that was open for writing makes udev re-read the partition table under us.
pub trait Disks {
    /// Opens for reading.
    ///
    /// # Errors
    /// `Os(NOENT)` when there is no such device, `Os(NOMEDIUM)` when the drive is empty.
    fn open_read(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn ReadAt) -> Result<()>) -> Result<()>;
    /// Keeps others from writing the table of a disk, until the next call with `None`: a shared flock(2) of its node in
    /// /dev, where there is one. Who makes partitions takes it alone (systemd.io/BLOCK_DEVICE_LOCKING), udev shares it.
    ///
    /// # Errors
    /// `Os(AGAIN)`: somebody has it.
    fn lock(&mut self, _disk: Option<&str>) -> Result<()> {
        Ok(())
    }
    /// Opens for writing.
    ///
    /// # Errors
    /// As `open_read`.
    fn open_write(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn Block) -> Result<()>) -> Result<()>;
    /// BLKPG_RESIZE_PARTITION on the whole disk.
    ///
    /// # Errors
    /// `Os`.
    fn resize_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()>;
    /// BLKPG_ADD_PARTITION on the whole disk.
    ///
    /// # Errors
    /// `Os`.
    fn add_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()>;
    /// True when nobody uses the disk or a part of it: no mount, no swap, no device made of it. The kernel's own
    /// answer (`O_EXCL` on a block device, block/bdev.c).
    ///
    /// # Errors
    /// As `open_read`.
    fn is_free(&mut self, name: &str) -> Result<bool>;
    /// What the maker of an NVMe namespace says of it, into `buf`: the vendor's part of its identify data, up to
    /// the first NUL (NVMe base specification, Identify Namespace, bytes 384 on). Empty: nothing.
    ///
    /// # Errors
    /// `Os`.
    fn namespace_text(&mut self, name: &str, buf: &mut [u8]) -> Result<usize>;
    /// CDROM_DRIVE_STATUS.
    ///
    /// # Errors
    /// `Os`.
    fn drive_status(&mut self, name: &str) -> Result<DriveStatus>;
    /// Unlocks the door and ejects. A drive that does not answer for [`limits::EJECT_MS`](crate::limits::EJECT_MS)
    /// is left to it: nobody waits for that.
    ///
    /// # Errors
    /// `Os`.
    fn eject(&mut self, name: &str) -> Result<Ejected>;
}

/// Below /run/preroot: its existence asks a running fetch to stop and put its link back.
pub const CANCEL: &str = "cancel";

/// Time. Only `stage` holds one; everything below takes a time as an argument.
pub trait Clock {
    /// Microseconds since boot (CLOCK_BOOTTIME would jump with a frozen VM; this is CLOCK_MONOTONIC).
    fn now_us(&mut self) -> u64;
    /// Seconds since the epoch; may be wrong before the host has set it.
    fn wall_s(&mut self) -> i64;
    /// Sleeps, or returns early when the process was asked to stop.
    fn sleep_ms(&mut self, ms: u64);
    /// True once SIGTERM came or `/run/preroot/cancel` exists.
    fn is_cancelled(&mut self) -> bool;
    /// A signal ends this process in `ms`, unless it says this again: for what nobody else would end if it hung.
    fn watch(&mut self, _ms: u64) {}
}

/// Where events go.
pub trait Log {
    /// From now on this stage speaks: "fetch", "grow" ... Returns the one that spoke before.
    fn enter(&mut self, stage: &'static str) -> &'static str;
    /// Says `text`; each `{}` in it takes the next value.
    fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]);
}

/// A character device whose every read and write is one whole message.
pub trait Messages {
    /// Sends one.
    ///
    /// # Errors
    /// `Os`.
    fn send(&mut self, message: &[u8]) -> Result<()>;
    /// The next one, if it is there; returns its length. Never waits.
    ///
    /// # Errors
    /// `Os`.
    fn receive(&mut self, message: &mut [u8]) -> Result<Option<usize>>;
    /// Waits until a message is there, `until_us` has passed, or the process was asked to stop.
    ///
    /// # Errors
    /// `Os`.
    fn wait(&mut self, until_us: u64) -> Result<()>;
}

/// How a module's loading ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    /// It is there now.
    Now,
    /// It was there already.
    Before,
    /// The driver said ENODEV: its hardware is absent.
    NoHardware,
}

/// The rest of the kernel.
pub trait System {
    /// finit_module(2) of the file at `path` (absolute). `parameters` are the module's, `name=value` joined by
    /// blanks: the kernel leaves those of its own command line to whoever loads. `compressed` asks the kernel
    /// to decompress (MODULE_INIT_COMPRESSED_FILE).
    ///
    /// # Errors
    /// `Os`; `Unsupported` when the kernel cannot decompress it.
    fn load_module(&mut self, path: &str, parameters: &str, compressed: bool) -> Result<Loaded>;
    /// This process.
    fn pid(&mut self) -> u32;
    /// SIGKILL.
    ///
    /// # Errors
    /// `Os`.
    fn kill(&mut self, pid: u32) -> Result<()>;
    /// The release of the running kernel (uname), into `buf`.
    fn kernel_release<'b>(&mut self, buf: &'b mut [u8]) -> &'b str;
    /// The host name of the running kernel.
    ///
    /// # Errors
    /// `Os`.
    fn set_hostname(&mut self, name: &str) -> Result<()>;
    /// Fills `buf` from the kernel's generator without waiting.
    ///
    /// # Errors
    /// `Os(AGAIN)` while it is not seeded.
    fn random(&mut self, buf: &mut [u8]) -> Result<()>;
    /// Bytes mixed into the kernel's generator, without credit.
    ///
    /// # Errors
    /// `Os`.
    fn add_entropy(&mut self, bytes: &[u8]) -> Result<()>;
    /// Works with `/dev/vmbus/hv_kvp`, the kernel's end of Hyper-V's data exchange. One process at a time has it.
    ///
    /// # Errors
    /// `Os(BUSY)` when another has it, `Os(NOENT)` when there is none, and what `work` returns.
    fn with_kvp(&mut self, work: &mut dyn FnMut(&mut dyn Messages) -> Result<()>) -> Result<()>;
    /// True when the CPUID hypervisor leaf says "Microsoft Hv".
    fn is_hyperv(&mut self) -> bool;
    /// Remounts the file system that holds `path` (absolute) read-write or read-only, keeping its other
    /// flags; returns whether it was read-only before.
    ///
    /// # Errors
    /// `Os`.
    fn remount(&mut self, path: &str, read_only: bool) -> Result<bool>;
    /// What the file system mounted at `path` (absolute) says of itself.
    ///
    /// # Errors
    /// `Os`.
    fn mounted(&mut self, path: &str) -> Result<Mounted>;
    /// Grows the file system mounted at `path` (absolute), of which [`System::mounted`] said `mounted`, to `bytes`;
    /// btrfs to its whole device.
    ///
    /// # Errors
    /// `Os`: `ROFS` where it is mounted read-only.
    fn resize(&mut self, path: &str, mounted: &Mounted, bytes: u64) -> Result<()>;
    /// From now on the kernel announces interfaces that change, for [`System::link_changes`]: nothing is lost between the
    /// two. Once is enough.
    ///
    /// # Errors
    /// `Os`.
    fn follow_links(&mut self) -> Result<()>;
    /// Calls `each` with every interface that changed since, in order; waits for the first until `until_us`, or until the
    /// process was asked to stop.
    ///
    /// # Errors
    /// `Os`: `NOBUFS` when there were more than the kernel keeps, and some are lost.
    fn link_changes(&mut self, until_us: u64, each: &mut dyn FnMut(LinkChange)) -> Result<()>;
    /// Runs a program of the image in `root` (apply only; never in the initrd) with a clean environment
    /// and no standard input; its output goes to /dev/null. Returns the exit status.
    ///
    /// # Errors
    /// `Os`, `Deadline` (the program is killed then).
    fn run(&mut self, root: &str, argv: &[&str], timeout_ms: u64) -> Result<i32>;
    /// As [`System::run`], but what the program writes goes to the end of the file `log` (absolute, outside of
    /// `root`), and what it leaves behind goes on writing there. `beat` is called some times a second until it
    /// ends, and once after.
    ///
    /// # Errors
    /// As `run`.
    fn run_logged(
        &mut self,
        root: &str,
        argv: &[&str],
        log: &str,
        timeout_ms: u64,
        beat: &mut dyn FnMut(),
    ) -> Result<i32>;
    /// As [`System::run`], but as a user of its own ([`limits::TRANSLATOR_ID`](crate::limits::TRANSLATOR_ID)), with `talk` at the other end of its standard input and output, and
    /// no more memory, time and files than a translator needs. `room` is for bytes on their way.
    ///
    /// # Errors
    /// As `run`, and those of `talk`; the program is killed then.
    fn run_talking(
        &mut self,
        root: &str,
        argv: &[&str],
        timeout_ms: u64,
        room: &mut [u8],
        talk: &mut dyn Talk,
    ) -> Result<i32>;
}

/// The other end of a program's standard input and output.
pub trait Talk {
    /// Fills `room` with what the program is to read; 0 is the end.
    ///
    /// # Errors
    /// Its own; they end the program.
    fn feed(&mut self, room: &mut [u8]) -> Result<usize>;
    /// What the program wrote.
    ///
    /// # Errors
    /// Its own; they end the program.
    fn take(&mut self, bytes: &[u8]) -> Result<()>;
}

/// A mounted file system in its own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mounted {
    /// Which, if it is one that we grow.
    pub file_system: Option<FileSystem>,
    /// Its UUID; of ext4 nothing.
    pub id: Guid,
    /// How many devices it is on.
    pub devices: u64,
    /// btrfs: the number of its device, where it is only one.
    pub device_id: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// Its size; of ext4 nothing, its superblock says that.
    pub bytes: u64,
    /// xfs: where the last copy of its superblock begins.
    pub last_copy_bytes: u64,
}

/// All of it, lent to a stage.
pub struct Kernel<'k> {
    /// Time.
    pub clock: &'k mut dyn Clock,
    /// Messages.
    pub log: &'k mut dyn Log,
    /// `/` of the running system: `sys/`, `proc/`, `dev/`, `lib/modules/`.
    pub host: &'k mut dyn Dir,
    /// The root being provisioned (`--root`).
    pub root: &'k mut dyn Dir,
    /// `/run/preroot` (`--run`).
    pub run: &'k mut dyn Dir,
    /// Block devices.
    pub disks: &'k mut dyn Disks,
    /// Network interfaces.
    pub links: &'k mut dyn Links,
    /// The rest.
    pub system: &'k mut dyn System,
}

impl Kernel<'_> {
    /// Says something.
    pub fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        self.log.say(level, text, values);
    }
}
