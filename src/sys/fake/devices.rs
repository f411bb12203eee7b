//! Clock, log, disks, links and the rest of the fake kernel.

use super::{FakeDir, FakeKvp};
use crate::error::{Errno, Result};
use crate::event::{Event, Level, Value};
use crate::format::guid::Guid;
use crate::format::rtnetlink::LinkChange;
use crate::format::superblock::FileSystem;
use crate::sys::{
    Block, Clock, Disks, DriveStatus, Ejected, Frames, KernelPartition, LinkState, Links, Loaded, Log,
    Messages, Mounted, ReadAt, Stream, System, Talk,
};
use std::borrow::ToOwned;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::string::String;
use std::vec::Vec;

/// Time that passes only when somebody sleeps, plus `tick_us` per look.
#[derive(Default)]
pub struct FakeClock {
    /// Now, microseconds.
    pub us: u64,
    /// Added at each look.
    pub tick_us: u64,
    /// Wall clock, seconds.
    pub wall: i64,
    /// What `is_cancelled` answers.
    pub cancelled: bool,
    /// From this time on it answers true.
    pub cancelled_from_us: Option<u64>,
    /// Every sleep, milliseconds.
    pub sleeps: Vec<u64>,
    /// Called after each, with the time.
    pub on_sleep: Option<Box<dyn FnMut(u64)>>,
}

impl Clock for FakeClock {
    fn now_us(&mut self) -> u64 {
        self.us += self.tick_us;
        self.us
    }
    fn wall_s(&mut self) -> i64 {
        self.wall
    }
    fn sleep_ms(&mut self, ms: u64) {
        self.sleeps.push(ms);
        self.us += ms * 1000;
        if let Some(on_sleep) = &mut self.on_sleep {
            on_sleep(self.us);
        }
    }
    fn is_cancelled(&mut self) -> bool {
        self.cancelled || self.cancelled_from_us.is_some_and(|from| self.us >= from)
    }
}

/// Keeps what was said.
#[derive(Default)]
pub struct FakeLog {
    /// One line per event: `grow: text`.
    pub lines: Vec<String>,
    /// The loudest level so far.
    pub worst: Option<Level>,
    /// The stage that speaks.
    pub stage: &'static str,
}

impl Log for FakeLog {
    fn enter(&mut self, stage: &'static str) -> &'static str {
        core::mem::replace(&mut self.stage, stage)
    }

    fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        let event = Event { level, stage: self.stage, text, values };
        self.lines.push(std::format!("{}: {}", event.stage, event));
        self.worst = Some(self.worst.map_or(event.level, |worst| worst.min(event.level)));
    }
}

/// A disk in memory.
#[derive(Clone, Default, Debug)]
pub struct FakeDisk {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Logical sector size.
    pub sector: u32,
    /// For optical drives.
    pub status: Option<DriveStatus>,
    /// Every write since the start: offset and bytes; `None` is a flush.
    pub journal: Vec<Option<(u64, Vec<u8>)>>,
    /// The n-th write or flush from the start fails (and all after it).
    pub fail_at: Option<usize>,
    /// Partitions told to the kernel.
    pub partitions: BTreeMap<u32, KernelPartition>,
    /// The byte of a broken sector.
    pub broken_at: Option<u64>,
    /// Mounted, or held in another way.
    pub in_use: bool,
    /// The vendor's part of an NVMe namespace's identify data; `None`: it is no NVMe.
    pub namespace_text: Option<String>,
}

impl FakeDisk {
    /// A disk with this content and 512-byte sectors.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, sector: 512, ..Self::default() }
    }

    fn record(&mut self, what: Option<(u64, Vec<u8>)>) -> Result<()> {
        if self.fail_at.is_some_and(|at| self.journal.len() >= at) {
            return Err(os!("write disk", Errno::IO));
        }
        self.journal.push(what);
        Ok(())
    }
}

impl ReadAt for FakeDisk {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        if self.broken_at.is_some_and(|at| (offset..offset.saturating_add(buf.len() as u64)).contains(&at)) {
            return Err(os!("read disk", Errno::IO));
        }
        let from = self.bytes.get(start..).and_then(|b| b.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(os!("read disk", Errno::IO))?);
        Ok(())
    }
}

impl Block for FakeDisk {
    fn sector_bytes(&self) -> u32 {
        self.sector
    }
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        self.record(Some((offset, buf.to_vec())))?;
        let start = usize::try_from(offset).unwrap();
        let to = self.bytes.get_mut(start..).and_then(|b| b.get_mut(..buf.len()));
        to.ok_or(os!("write disk", Errno::NOSPC))?.copy_from_slice(buf);
        Ok(())
    }
    fn flush(&mut self) -> Result<()> {
        self.record(None)
    }
}

/// Disks by name.
#[derive(Default)]
pub struct FakeDisks {
    /// Whole disks, partitions and optical drives.
    pub disks: BTreeMap<String, FakeDisk>,
    /// Drives that were ejected.
    pub ejected: Vec<String>,
    /// Devices opened, in order, `r:sda` or `w:sda`.
    pub opened: Vec<String>,
}

impl FakeDisks {
    fn get(&mut self, name: &str) -> Result<&mut FakeDisk> {
        self.disks.get_mut(name).ok_or(os!("open disk", Errno::NOENT))
    }
}

impl Disks for FakeDisks {
    fn open_read(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn ReadAt) -> Result<()>) -> Result<()> {
        self.opened.push(std::format!("r:{name}"));
        let disk = self.get(name)?;
        if disk.status.is_some_and(|status| status != DriveStatus::DiscOk) {
            return Err(os!("open disk", Errno::NOMEDIUM));
        }
        work(disk)
    }
    fn open_write(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn Block) -> Result<()>) -> Result<()> {
        self.opened.push(std::format!("w:{name}"));
        work(self.get(name)?)
    }
    fn resize_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()> {
        let known = &mut self.get(disk)?.partitions;
        let old = known.get_mut(&partition.number).ok_or(os!("BLKPG", Errno::NOENT))?;
        if old.start_bytes != partition.start_bytes {
            return Err(os!("BLKPG", Errno::INVAL));
        }
        *old = partition;
        Ok(())
    }
    fn add_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()> {
        let known = &mut self.get(disk)?.partitions;
        if known.contains_key(&partition.number) {
            return Err(os!("BLKPG", Errno::BUSY));
        }
        known.insert(partition.number, partition);
        Ok(())
    }
    fn is_free(&mut self, name: &str) -> Result<bool> {
        self.get(name).map(|disk| !disk.in_use)
    }
    fn namespace_text(&mut self, name: &str, buf: &mut [u8]) -> Result<usize> {
        let text = self.get(name)?.namespace_text.clone().ok_or(os!("identify", Errno::INVAL))?;
        buf[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }
    fn drive_status(&mut self, name: &str) -> Result<DriveStatus> {
        Ok(self.get(name)?.status.unwrap_or(DriveStatus::NoInfo))
    }
    fn eject(&mut self, name: &str) -> Result<Ejected> {
        let disk = self.get(name)?;
        if matches!(disk.status, Some(DriveStatus::NoDisc | DriveStatus::TrayOpen)) {
            return Ok(Ejected::Empty);
        }
        disk.status = Some(DriveStatus::NoDisc);
        self.ejected.push(name.to_owned());
        Ok(Ejected::Out)
    }
}

/// Interfaces; `state` by name. Frames are `net`'s own test concern.
#[derive(Default)]
pub struct FakeLinks {
    /// State by name.
    pub states: BTreeMap<String, LinkState>,
    /// `up eth0`, `down eth0` in order.
    pub changes: Vec<String>,
}

impl Frames for FakeLinks {}

impl Links for FakeLinks {
    fn state(&mut self, name: &str) -> Result<LinkState> {
        self.states.get(name).copied().ok_or(os!("link state", Errno::NODEV))
    }
    fn set_up(&mut self, name: &str, up: bool) -> Result<()> {
        let state = self.states.get_mut(name).ok_or(os!("set link", Errno::NODEV))?;
        state.is_up = up;
        self.changes.push(std::format!("{} {name}", if up { "up" } else { "down" }));
        Ok(())
    }
    fn connect(
        &mut self,
        _: [u8; 4],
        _: u16,
        _: u64,
        _: &mut dyn FnMut(&mut dyn Stream) -> Result<()>,
    ) -> Result<()> {
        Err(os!("connect", Errno::NETUNREACH))
    }
}

/// The rest.
pub struct FakeSystem {
    /// What uname says.
    pub release: String,
    /// Modules that load, by path.
    pub modules: BTreeMap<String, core::result::Result<Loaded, Errno>>,
    /// Paths given to `load_module`, in order, each with its parameters behind a blank.
    pub loads: Vec<String>,
    /// The host name that was set.
    pub hostname: Option<String>,
    /// What `random` returns, repeated; `None`: not seeded.
    pub random: Option<u8>,
    /// CPUID says Hyper-V.
    pub hyperv: bool,
    /// Mount points that are read-only.
    pub read_only: BTreeSet<String>,
    /// What is mounted, wherever; an ext4 by default.
    pub mounted: Option<Mounted>,
    /// Bytes asked of `resize`.
    pub resized: Vec<(String, u64)>,
    /// Programs run; argv joined by blanks.
    pub runs: Vec<String>,
    /// Exit status by argv[0].
    pub programs: BTreeMap<String, i32>,
    /// What programs do, where they do something.
    pub acts: Option<Act>,
    /// What followed programs write, and the world their log is in.
    pub output: Option<(FakeDir, String)>,
    /// What a program answers to what it was told, and that.
    pub says: Vec<u8>,
    /// The same of a program of this path alone.
    pub answers: BTreeMap<String, Vec<u8>>,
    /// Every program that was talked to, and what it was told.
    pub told: Vec<(String, String)>,
    /// See [`FakeSystem::says`].
    pub heard: Vec<u8>,
    /// An input that such a program does not survive; empty for none.
    pub breaks_on: &'static str,
    /// The kernel's end of the data exchange.
    pub kvp: Option<FakeKvp>,
    /// What each look at the interfaces finds; behind the last nothing changes any more.
    pub link_changes: VecDeque<Result<Vec<LinkChange>>>,
    /// Somebody follows the interfaces.
    pub is_following: bool,
    /// Processes that were killed.
    pub killed: Vec<u32>,
}

/// A program of the image: argv to exit status.
pub type Act = std::boxed::Box<dyn FnMut(&[&str]) -> Result<i32>>;

impl Default for FakeSystem {
    fn default() -> Self {
        Self {
            release: "6.1.0-test".to_owned(),
            modules: BTreeMap::new(),
            loads: Vec::new(),
            hostname: None,
            random: Some(7),
            hyperv: false,
            read_only: BTreeSet::new(),
            mounted: Some(Mounted {
                file_system: Some(FileSystem::Ext4),
                id: Guid::default(),
                devices: 1,
                device_id: 1,
                block_bytes: 0,
                bytes: 0,
                last_copy_bytes: 0,
            }),
            resized: Vec::new(),
            runs: Vec::new(),
            programs: BTreeMap::new(),
            acts: None,
            output: None,
            says: Vec::new(),
            answers: BTreeMap::new(),
            told: Vec::new(),
            heard: Vec::new(),
            breaks_on: "",
            kvp: None,
            link_changes: VecDeque::new(),
            is_following: false,
            killed: Vec::new(),
        }
    }
}

impl System for FakeSystem {
    fn load_module(&mut self, path: &str, parameters: &str, _compressed: bool) -> Result<Loaded> {
        self.loads.push(std::format!("{path} {parameters}").trim_end().to_owned());
        match self.modules.get(path) {
            Some(Ok(loaded)) => Ok(*loaded),
            Some(Err(errno)) => Err(os!("load module", *errno)),
            None => Err(os!("load module", Errno::NOENT)),
        }
    }
    fn pid(&mut self) -> u32 {
        4242
    }
    fn kill(&mut self, pid: u32) -> Result<()> {
        self.killed.push(pid);
        Ok(())
    }
    fn kernel_release<'b>(&mut self, buf: &'b mut [u8]) -> &'b str {
        let n = self.release.len().min(buf.len());
        buf[..n].copy_from_slice(&self.release.as_bytes()[..n]);
        core::str::from_utf8(&buf[..n]).unwrap()
    }
    fn set_hostname(&mut self, name: &str) -> Result<()> {
        self.hostname = Some(name.to_owned());
        Ok(())
    }
    fn random(&mut self, buf: &mut [u8]) -> Result<()> {
        buf.fill(self.random.ok_or(os!("getrandom", Errno::AGAIN))?);
        Ok(())
    }
    fn add_entropy(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn with_kvp(&mut self, work: &mut dyn FnMut(&mut dyn Messages) -> Result<()>) -> Result<()> {
        self.kvp.as_mut().ok_or(os!("open /dev/vmbus/hv_kvp", Errno::NOENT))?.with_open(work)
    }
    fn is_hyperv(&mut self) -> bool {
        self.hyperv
    }
    fn remount(&mut self, path: &str, read_only: bool) -> Result<bool> {
        let was = self.read_only.remove(path);
        if read_only {
            self.read_only.insert(path.to_owned());
        }
        Ok(was)
    }
    fn mounted(&mut self, _path: &str) -> Result<Mounted> {
        self.mounted.ok_or(os!("open mount point", Errno::NOENT))
    }
    fn resize(&mut self, path: &str, _mounted: &Mounted, bytes: u64) -> Result<()> {
        self.resized.push((path.to_owned(), bytes));
        if self.read_only.contains(path) {
            return Err(os!("grow", Errno::ROFS));
        }
        if let Some(mounted) = &mut self.mounted {
            mounted.bytes = bytes;
        }
        Ok(())
    }
    fn follow_links(&mut self) -> Result<()> {
        self.is_following = true;
        Ok(())
    }
    fn link_changes(&mut self, _until_us: u64, each: &mut dyn FnMut(LinkChange)) -> Result<()> {
        assert!(self.is_following);
        self.link_changes.pop_front().unwrap_or(Ok(Vec::new()))?.into_iter().for_each(each);
        Ok(())
    }
    fn run(&mut self, _root: &str, argv: &[&str], _timeout_ms: u64) -> Result<i32> {
        self.runs.push(argv.join(" "));
        if let Some(act) = &mut self.acts {
            return act(argv);
        }
        let name = argv.first().copied().unwrap_or_default();
        // Nobody looks into PATH.
        if !name.starts_with('/') {
            return Ok(127);
        }
        self.programs.get(name).copied().ok_or(os!("run program", Errno::NOENT))
    }
    fn run_logged(
        &mut self,
        root: &str,
        argv: &[&str],
        log: &str,
        timeout_ms: u64,
        beat: &mut dyn FnMut(),
    ) -> Result<i32> {
        if let Some((dir, text)) = &mut self.output {
            crate::sys::Dir::append(dir, log.trim_start_matches('/'), text.as_bytes())?;
        }
        beat();
        self.run(root, argv, timeout_ms)
    }
    fn run_talking(
        &mut self,
        root: &str,
        argv: &[&str],
        timeout_ms: u64,
        room: &mut [u8],
        talk: &mut dyn Talk,
    ) -> Result<i32> {
        self.heard.clear();
        loop {
            let n = talk.feed(room)?;
            if n == 0 {
                break;
            }
            self.heard.extend_from_slice(&room[..n]);
        }
        let program = argv.first().copied().unwrap_or_default();
        self.told.push((program.into(), String::from_utf8_lossy(&self.heard).into_owned()));
        let is_broken = String::from_utf8_lossy(&self.heard).contains(self.breaks_on);
        if is_broken && !self.breaks_on.is_empty() {
            return Ok(134);
        }
        self.answers.get(program).unwrap_or(&self.says).chunks(7).try_for_each(|piece| talk.take(piece))?;
        self.run(root, argv, timeout_ms)
    }
}
