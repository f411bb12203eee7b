//! Directories of the real kernel: every path is resolved by `openat2` inside its tree.

use super::{errno, open_path, raw, refused};
use crate::error::{Errno, Result, Rule};
use crate::format::text::{digits, join};
use crate::sys::{DeviceNumber, Dir, FileType, Owner, Stat, Symlinks};
use core::ffi::CStr;
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags};

/// `openat2` answers EAGAIN when a rename raced with `..`; more tries than this means an attack.
const RACES: usize = 8;
/// How a file of which something stays is opened for writing.
const IN_PLACE: OFlags = OFlags::WRONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const LOCK_POLL_MS: u64 = 50;
const LOCK_POLL_NS: i64 = 50_000_000;
const LABEL: &core::ffi::CStr = c"security.selinux";
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// A directory held open.
pub struct LinuxDir {
    fd: OwnedFd,
    resolve: ResolveFlags,
}

/// The name of a file as the kernel takes it, made in one place: rustix makes a C string at each call.
struct Name([u8; 256]);

impl Name {
    fn new(name: &str) -> core::result::Result<Self, Errno> {
        let mut bytes = [0; 256];
        if name.len() >= bytes.len() {
            return Err(Errno::NAMETOOLONG);
        }
        if name.bytes().any(|byte| byte == 0) {
            return Err(Errno::INVAL);
        }
        bytes.get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name.as_bytes());
        Ok(Self(bytes))
    }
}

impl core::ops::Deref for Name {
    type Target = CStr;
    fn deref(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

impl LinuxDir {
    /// Opens an absolute path; links inside the tree resolve as chroot would.
    ///
    /// # Errors
    /// `Os`.
    pub fn open(path: &str) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open_path(path, flags).map_err(|e| refused(os!("open directory"), e))?;
        Ok(Self { fd, resolve: ResolveFlags::IN_ROOT })
    }

    fn open_at(&self, path: &str, flags: OFlags, rule: &'static Rule) -> Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        for _ in 0..RACES {
            match fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), self.resolve) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(e) => return Err(refused(rule, e)),
                Ok(fd) => return Ok(fd),
            }
        }
        Err(rule.refused(Errno::AGAIN))
    }

    /// The directory that holds `path`, and its last component.
    fn parent_of(&self, path: &str, rule: &'static Rule) -> Result<(OwnedFd, Name)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() || name == "." || name == ".." {
            return Err(rule.refused(Errno::INVAL));
        }
        let name = Name::new(name).map_err(|errno| rule.refused(errno))?;
        Ok((self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY, rule)?, name))
    }

    fn create_file(&mut self, path: &str, owner: Owner, content: &[u8], sync: bool) -> Result<()> {
        let (parent, name) = self.parent_of(path, os!("create file"))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // 0600 until it has its owner: nobody else can open it meanwhile.
        let fd = fs::openat(&parent, &*name, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| refused(os!("create file"), e))?;
        let outcome = fill(&fd, owner, content, sync);
        if outcome.is_err() {
            let _ = fs::unlinkat(&parent, &*name, AtFlags::empty());
        }
        outcome
    }
}

fn fill(fd: &OwnedFd, owner: Owner, content: &[u8], sync: bool) -> Result<()> {
    write_all(fd, content, os!("write file"))?;
    give(fd, owner)?;
    if sync { fs::fsync(fd).map_err(|e| refused(os!("sync file"), e)) } else { Ok(()) }
}

fn give(fd: &OwnedFd, owner: Owner) -> Result<()> {
    // chown first: it would clear set-id bits that chmod gave.
    fs::fchown(fd, Some(fs::Uid::from_raw(owner.uid)), Some(fs::Gid::from_raw(owner.gid)))
        .map_err(|e| refused(os!("change owner"), e))?;
    fs::fchmod(fd, Mode::from_raw_mode(owner.mode)).map_err(|e| refused(os!("change mode"), e))
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8], rule: &'static Rule) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(rule.refused(Errno::NOSPC)),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(refused(rule, e)),
        }
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends.
fn read_full(fd: &OwnedFd, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let mut n = 0;
    while let Some(rest) = buf.get_mut(n..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(fd, rest, offset.saturating_add(n as u64)) {
            Ok(0) => break,
            Ok(k) => n = n.saturating_add(k),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(refused(os!("read file"), e)),
        }
    }
    Ok(n)
}

/// Tries every [`LOCK_POLL_MS`]: F_SETLKW would need a signal to be bounded.
fn wait_for_lock(fd: &OwnedFd, timeout_ms: u64) -> Result<()> {
    for _ in 0..=timeout_ms / LOCK_POLL_MS {
        match raw::lock_all(fd) {
            Ok(()) => return Ok(()),
            Err(Errno::AGAIN | Errno::ACCES | Errno::INTR) => {}
            Err(errno) => return Err(os!("take lock", errno)),
        }
        let nap = rustix::thread::Timespec { tv_sec: 0, tv_nsec: LOCK_POLL_NS };
        let _ = rustix::thread::nanosleep(&nap);
    }
    Err(deadline!("lock held by another program", timeout_ms))
}

fn file_type(raw: fs::FileType) -> FileType {
    match raw {
        fs::FileType::RegularFile => FileType::File,
        fs::FileType::Directory => FileType::Directory,
        fs::FileType::Symlink => FileType::Symlink,
        fs::FileType::BlockDevice => FileType::BlockDevice,
        _ => FileType::Other,
    }
}

fn device(raw: u64) -> DeviceNumber {
    DeviceNumber { major: fs::major(raw), minor: fs::minor(raw) }
}

impl Dir for LinuxDir {
    fn read(&mut self, path: &str, buf: &mut [u8]) -> Result<usize> {
        // Kernel attributes cannot be read at an offset reliably: one descriptor, read to the end.
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, os!("read file"))?;
        let n = read_full(&fd, 0, buf)?;
        let mut more = [0; 1];
        if n == buf.len() && read_full(&fd, n as u64, &mut more)? != 0 {
            return Err(too_many!("file", buf.len()));
        }
        Ok(n)
    }

    fn read_at(&mut self, path: &str, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, os!("read file"))?;
        read_full(&fd, offset, buf)
    }

    fn create(&mut self, path: &str, owner: Owner, content: &[u8]) -> Result<()> {
        self.create_file(path, owner, content, true)
    }

    fn create_unsynced(&mut self, path: &str, owner: Owner, content: &[u8]) -> Result<()> {
        self.create_file(path, owner, content, false)
    }

    fn append(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let fd = self.open_at(path, IN_PLACE | OFlags::APPEND, os!("append to file"))?;
        write_all(&fd, content, os!("append to file"))
    }

    fn write_at(&mut self, path: &str, offset: u64, content: &[u8]) -> Result<()> {
        let fd = self.open_at(path, IN_PLACE, os!("write into file"))?;
        fs::seek(&fd, fs::SeekFrom::Start(offset)).map_err(|e| refused(os!("write into file"), e))?;
        write_all(&fd, content, os!("write into file"))
    }

    fn set_size(&mut self, path: &str, size: u64) -> Result<()> {
        let fd = self.open_at(path, IN_PLACE, os!("cut file"))?;
        fs::ftruncate(&fd, size).map_err(|e| refused(os!("cut file"), e))
    }

    fn write_attribute(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let fd =
            self.open_at(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY, os!("write attribute"))?;
        match rustix::io::write(&fd, content) {
            Ok(n) if n == content.len() => Ok(()),
            Ok(_) => Err(os!("write attribute", Errno::NOSPC)),
            Err(e) => Err(refused(os!("write attribute"), e)),
        }
    }

    fn make_dir(&mut self, path: &str, owner: Owner) -> Result<()> {
        let (parent, name) = self.parent_of(path, os!("make directory"))?;
        fs::mkdirat(&parent, &*name, Mode::from_raw_mode(0o700))
            .map_err(|e| refused(os!("make directory"), e))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&parent, &*name, flags, Mode::empty())
            .map_err(|e| refused(os!("make directory"), e))?;
        give(&fd, owner)
    }

    fn make_symlink(&mut self, path: &str, target: &str) -> Result<()> {
        let (parent, name) = self.parent_of(path, os!("make link"))?;
        fs::symlinkat(target, &parent, &*name).map_err(|e| refused(os!("make link"), e))
    }

    fn read_link(&mut self, path: &str, buf: &mut [u8]) -> Result<usize> {
        let (parent, name) = self.parent_of(path, os!("read link"))?;
        let n = fs::readlinkat_raw(&parent, &*name, &mut *buf).map_err(|e| refused(os!("read link"), e))?;
        if n == buf.len() { Err(too_many!("link", buf.len())) } else { Ok(n) }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let (from_parent, from) = self.parent_of(from, os!("rename"))?;
        let (to_parent, to) = self.parent_of(to, os!("rename"))?;
        fs::renameat(&from_parent, &*from, &to_parent, &*to).map_err(|e| refused(os!("rename"), e))
    }

    fn exchange(&mut self, a: &str, b: &str) -> Result<()> {
        let (a_parent, a) = self.parent_of(a, os!("exchange"))?;
        let (b_parent, b) = self.parent_of(b, os!("exchange"))?;
        fs::renameat_with(&a_parent, &*a, &b_parent, &*b, RenameFlags::EXCHANGE)
            .map_err(|e| refused(os!("exchange"), e))
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let (parent, name) = self.parent_of(path, os!("remove file"))?;
        fs::unlinkat(&parent, &*name, AtFlags::empty()).map_err(|e| refused(os!("remove file"), e))
    }

    fn remove_dir(&mut self, path: &str) -> Result<()> {
        let (parent, name) = self.parent_of(path, os!("remove directory"))?;
        fs::unlinkat(&parent, &*name, AtFlags::REMOVEDIR).map_err(|e| refused(os!("remove directory"), e))
    }

    fn rename_unreadable(&mut self, path: &str) -> Result<u32> {
        let rule = os!("rename a file whose name is not UTF-8");
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, rule)?;
        let mut buf = [MaybeUninit::uninit(); 2048];
        let mut entries = fs::RawDir::new(fd.as_fd(), &mut buf);
        let (mut renamed, mut tried) = (0, 0u64);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|e| refused(rule, e))?;
            if entry.file_name().to_str().is_ok() {
                continue;
            }
            // A name that is taken is somebody's: the next one.
            loop {
                tried += 1;
                let name = join(&[".preroot-unreadable-", digits(tried, &mut [0; 20])])?;
                let name = Name::new(&name).map_err(|errno| rule.refused(errno))?;
                match fs::renameat_with(&fd, entry.file_name(), &fd, &*name, RenameFlags::NOREPLACE) {
                    Err(error) if errno(error) == Errno::EXIST => {}
                    outcome => break outcome.map_err(|e| refused(rule, e))?,
                }
            }
            renamed += 1;
        }
        Ok(renamed)
    }

    fn stat(&mut self, path: &str) -> Result<Stat> {
        let stat = if path.is_empty() {
            fs::fstat(&self.fd)
        } else {
            let (parent, name) = self.parent_of(path, os!("stat"))?;
            fs::statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW)
        };
        let stat = stat.map_err(|e| refused(os!("stat"), e))?;
        Ok(Stat {
            file_type: file_type(fs::FileType::from_raw_mode(stat.st_mode)),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            device: device(stat.st_dev),
            node: device(stat.st_rdev),
            modified: stat.st_mtime,
        })
    }

    fn set_owner(&mut self, path: &str, owner: Owner) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        give(&self.open_at(path, flags, os!("change owner"))?, owner)
    }

    fn list(&mut self, path: &str, each: &mut dyn FnMut(&str, FileType) -> bool) -> Result<()> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, os!("list directory"))?;
        let mut buf = [MaybeUninit::uninit(); 2048];
        let mut entries = fs::RawDir::new(fd.as_fd(), &mut buf);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|e| refused(os!("list directory"), e))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." && !each(name, file_type(entry.file_type())) {
                break;
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        path: &str,
        symlinks: Symlinks,
        work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>,
    ) -> Result<()> {
        let refuse = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        // The way to the directory follows this view's rule; below it the new rule holds.
        let nofollow = if symlinks == Symlinks::Inside { OFlags::empty() } else { OFlags::NOFOLLOW };
        let before = self.resolve;
        if symlinks == Symlinks::RefuseMounts {
            self.resolve |= ResolveFlags::NO_XDEV;
        }
        let opened = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | nofollow, os!("open directory"));
        self.resolve = before;
        let fd = opened?;
        let inherited = self.resolve.contains(ResolveFlags::NO_SYMLINKS);
        let resolve = if inherited || symlinks != Symlinks::Inside { refuse } else { ResolveFlags::IN_ROOT };
        work(&mut Self { fd, resolve })
    }

    fn lock(
        &mut self,
        path: &str,
        timeout_ms: u64,
        work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>,
    ) -> Result<()> {
        let (parent, name) = self.parent_of(path, os!("open lock file"))?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = fs::openat(&parent, &*name, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| refused(os!("open lock file"), e))?;
        wait_for_lock(&fd, timeout_ms)?;
        // Closing the descriptor gives the lock back.
        work(self)
    }

    fn copy_label(&mut self, from: &str, to: &str) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut label = [0; 256];
        let from = self.open_at(from, flags, os!("read label"))?;
        let n = match fs::fgetxattr(&from, LABEL, &mut label[..]) {
            Ok(n) => n,
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => return Ok(()),
            Err(e) => return Err(refused(os!("read label"), e)),
        };
        let to = self.open_at(to, flags, os!("write label"))?;
        let label = label.get(..n).unwrap_or_default();
        fs::fsetxattr(&to, LABEL, label, XattrFlags::empty()).map_err(|e| refused(os!("write label"), e))
    }

    fn sync_dir(&mut self, path: &str) -> Result<()> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, os!("sync directory"))?;
        match fs::fsync(&fd) {
            // Some file systems (overlay lower layers, FUSE) cannot; the names are then as durable as they get.
            Err(rustix::io::Errno::INVAL) | Ok(()) => Ok(()),
            Err(e) => Err(refused(os!("sync directory"), e)),
        }
    }

    fn sync_all(&mut self) -> Result<()> {
        fs::syncfs(&self.fd).map_err(|e| refused(os!("sync file system"), e))
    }

    fn free_bytes(&mut self) -> u64 {
        // ramfs has no size.
        let state = fs::fstatvfs(&self.fd).ok().filter(|state| state.f_blocks > 0);
        state.map_or(u64::MAX, |state| state.f_bavail.saturating_mul(state.f_frsize))
    }

    fn is_in_memory(&mut self) -> bool {
        fs::fstatfs(&self.fd).is_ok_and(|s| s.f_type == TMPFS_MAGIC || s.f_type == RAMFS_MAGIC)
    }
}

/// Makes a directory by absolute path (0755) and what is missing above it, then opens it.
///
/// # Errors
/// `Os`.
pub fn open_or_make(path: &str) -> Result<LinuxDir> {
    let mut end = 0;
    for part in path.split_inclusive('/') {
        end += part.len();
        let above = path.get(..end).unwrap_or_default().trim_end_matches('/');
        if above.is_empty() {
            continue;
        }
        let mode = Mode::from_raw_mode(0o755);
        match fs::mkdir(above, mode) {
            // Past the umask: people may read status and timeline.
            Ok(()) => fs::chmod(above, mode).map_err(|e| refused(os!("make directory"), e))?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) if errno(e) == Errno::ROFS => {}
            Err(e) => return Err(refused(os!("make directory"), e)),
        }
    }
    LinuxDir::open(path)
}

#[cfg(test)]
mod tests {
    use super::LinuxDir;
    use crate::sys::Dir;

    #[test]
    fn what_people_may_read_is_readable_under_any_umask() {
        use crate::event::Level;
        use crate::sys::Log;
        let at = std::env::temp_dir().join(std::format!("preroot-run-{}/run", std::process::id()));
        let run = std::string::String::from(at.to_str().unwrap());
        let timeline = run.clone() + "/timeline";
        let code = super::super::fork_stage(10_000, &mut || {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            let Ok(mut dir) = super::open_or_make(&run) else { return 1 };
            for _ in 0..2 {
                super::super::Console::new(false, &timeline).say(Level::Debug, "said", &[]);
            }
            let modes = [dir.stat("").map(|s| s.mode), dir.stat("timeline").map(|s| s.mode)];
            u8::from(modes != [Ok(0o755), Ok(0o644)])
        });
        let lines = std::fs::read_to_string(&timeline).unwrap().lines().count();
        std::fs::remove_dir_all(at.parent().unwrap()).unwrap();
        assert_eq!((code.unwrap(), lines), (super::super::Ended::Exit(0), 2));
    }

    #[test]
    fn a_lock_file_is_private_and_given_back() {
        let at = std::env::temp_dir().join(std::format!("preroot-lock-{}", std::process::id()));
        std::fs::create_dir(&at).unwrap();
        let mut dir = LinuxDir::open(at.to_str().unwrap()).unwrap();
        for _ in 0..2 {
            dir.lock(".pwd.lock", 100, &mut |dir| {
                assert_eq!(dir.stat(".pwd.lock").unwrap().mode, 0o600);
                // It outlives a use of the file itself, and holds lckpwdf and hv_kvp_daemon off.
                dir.append(".pwd.lock", b"x").unwrap();
                let taken = super::super::fork_stage(10_000, &mut || {
                    let file = super::open_path(at.join(".pwd.lock").to_str().unwrap(), super::OFlags::RDWR);
                    let Ok(file) = file else { return 2 };
                    let wanted = rustix::fs::FlockOperation::NonBlockingLockExclusive;
                    u8::from(rustix::fs::fcntl_lock(&file, wanted).is_ok())
                });
                assert_eq!(taken.unwrap(), super::super::Ended::Exit(0));
                Ok(())
            })
            .unwrap();
        }
        std::fs::remove_dir_all(at).unwrap();
    }
}
