//! The machine of the simulated boot: its processes run beside each other as hooks and units start them, each with the
//! real supervisor above it.

use super::cloud::{Cloud, SimLinks};
use crate::cli::{Command, Verb};
use crate::error::{Errno, Result};
use crate::event::{Event, Level, Value};
use crate::format::ReadAt;
use crate::format::rtnetlink::LinkChange;
use crate::stage::fetch::tests::scratch;
use crate::stage::grow::machine::Drive;
use crate::stage::pool::WAITS;
use crate::stage::{Processes, run_for_boot, run_with};
use crate::sys::fake::{Beside, FakeDir, FakeDisks, FakeKvp, FakeSystem};
use crate::sys::linux::{Ended, Scratch};
use crate::sys::{
    Block, CANCEL, Clock, Dir, Disks, DriveStatus, Ejected, Kernel, KernelPartition, Loaded, Log, Messages,
    Mounted, Owner, System, Talk,
};
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::string::{String, ToString};
use std::thread::JoinHandle;
use std::vec::Vec;

/// Between SIGTERM and SIGKILL, as in `sys::linux::process`.
const GRACE_US: u64 = 250_000;
/// Whoever hangs for so long was given up by everybody.
const FOR_EVER_US: u64 = 3_600_000_000;
const EPOCH_S: i64 = 1_750_000_000;

macro_rules! unit {
    ($path:literal) => {
        include_str!(concat!("../../../", $path))
    };
}

const MODULES: &str = unit!("dracut-module/50preroot/preroot-modules.service");
const FETCH: &str = unit!("dracut-module/50preroot/preroot-fetch.service");
const KVP: &str = unit!("dracut-module/50preroot/preroot-kvp.service");
const GROW: &str = unit!("dracut-module/50preroot/preroot-grow.service");
const PERSIST: &str = unit!("dracut-module/50preroot/preroot-persist.service");
const APPLY: &str = unit!("packaging/systemd/preroot-apply.service");
const POOL: &str = unit!("packaging/systemd/preroot-pool.service");
const REPORT_EARLY: &str = unit!("packaging/systemd/preroot-report-early.service");
const REPORT: &str = unit!("packaging/systemd/preroot-report.service");

fn setting<'u>(unit: &'u str, key: &str) -> Option<&'u str> {
    unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// How long systemd lets it run.
fn limit_us(unit: &str) -> u64 {
    let limit = setting(unit, "TimeoutStartSec").or(setting(unit, "RuntimeMaxSec"));
    limit.and_then(|limit| limit.parse::<u64>().ok()).map_or(u64::MAX / 4, |limit| limit * 1_000_000)
}

/// What happens once a stage is entered so (`enter apply`), or says so.
pub(super) type Act = Rc<dyn Fn(&Machine, &Turn)>;

/// When.
#[derive(Clone)]
pub(super) struct Trigger {
    pub(super) at: &'static str,
    /// So often it is let pass.
    pub(super) skip: usize,
    pub(super) act: Act,
}

/// What became of the boot.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) lines: Vec<(u64, Level, String)>,
    pub(super) triggers: Vec<Trigger>,
    /// Bugs that nobody planted.
    pub(super) bugs: Vec<String>,
    /// Stages whose time was over, and those that were to hang.
    pub(super) killed: Vec<String>,
    pub(super) hung: usize,
    /// Processes of the initrd that were still there in the real root.
    pub(super) left: Vec<&'static str>,
    /// When a stage was entered first.
    pub(super) entered: Vec<(&'static str, u64)>,
    is_over: bool,
}

/// A child of the boot that nobody waits for.
struct Child {
    name: &'static str,
    number: usize,
    kill_us: Rc<Cell<u64>>,
    thread: JoinHandle<()>,
}

/// All that its processes share.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) host: FakeDir,
    pub(super) root: FakeDir,
    pub(super) run: FakeDir,
    pub(super) disks: Rc<RefCell<FakeDisks>>,
    pub(super) drive: Rc<RefCell<Drive>>,
    pub(super) cloud: Rc<RefCell<Cloud>>,
    pub(super) system: Rc<RefCell<FakeSystem>>,
    pub(super) seen: Rc<RefCell<Seen>>,
    pub(super) now: Rc<Cell<u64>>,
    /// The clock on the wall when the machine was switched on.
    pub(super) wall_s: Rc<Cell<i64>>,
    /// The real root has taken over.
    pub(super) is_switched: Rc<Cell<bool>>,
    /// The n-th write or flush of the disk ends its stage so.
    pub(super) write_ends: Rc<Cell<Option<(usize, Ended)>>>,
    pub(super) no_process_for: Option<Verb>,
    /// When the root is mounted, if it ever is.
    pub(super) mount_us: Option<u64>,
    pub(super) at_switch_root: Option<Act>,
    beside: Beside,
    children: Rc<RefCell<Vec<Child>>>,
}

/// A process' part of the time.
#[derive(Clone)]
pub(super) struct Turn {
    beside: Beside,
    me: usize,
    now: Rc<Cell<u64>>,
    /// When it gets SIGTERM.
    kill_us: Rc<Cell<u64>>,
}

impl Turn {
    pub(super) fn now_us(&self) -> u64 {
        self.now.get()
    }

    /// Lets the others run; a process whose time is over does not come back.
    pub(super) fn wait(&self, until_us: u64) {
        let end_us = self.kill_us.get().saturating_add(GRACE_US);
        let until_us = until_us.min(end_us).max(self.now.get());
        self.beside.wait(self.me, until_us);
        self.now.set(self.now.get().max(until_us));
        // Its time may have been cut short meanwhile.
        if self.now.get() >= self.kill_us.get().saturating_add(GRACE_US) {
            resume_unwind(Box::new(Ended::Deadline));
        }
    }
}

impl Machine {
    pub(super) fn new(
        world: crate::sys::fake::World,
        cloud: Cloud,
        drive: Drive,
        now: Rc<Cell<u64>>,
    ) -> Self {
        let shared = |seen| Rc::new(RefCell::new(seen));
        Self {
            host: world.host,
            root: world.root,
            run: world.run,
            disks: Rc::new(RefCell::new(world.disks)),
            drive: Rc::new(RefCell::new(drive)),
            cloud: Rc::new(RefCell::new(cloud)),
            system: Rc::new(RefCell::new(world.system)),
            seen: shared(Seen::default()),
            mount_us: Some(now.get() + 1_000_000),
            now,
            wall_s: Rc::new(Cell::new(EPOCH_S)),
            is_switched: Rc::new(Cell::new(false)),
            write_ends: Rc::new(Cell::new(None)),
            no_process_for: None,
            at_switch_root: None,
            beside: Beside::new(),
            children: Rc::new(RefCell::new(Vec::new())),
        }
    }

    /// A process ends in the middle of its work, or never.
    pub(super) fn die(&self, turn: &Turn, ended: Ended) {
        if ended != Ended::Deadline {
            resume_unwind(Box::new(ended));
        }
        self.seen.borrow_mut().hung += 1;
        let begin_us = turn.now_us();
        while turn.now_us() < begin_us + FOR_EVER_US {
            turn.wait(turn.now_us() + 1_000_000);
        }
        self.bug("nobody ends what hangs");
    }

    fn bug(&self, what: &str) {
        self.seen.borrow_mut().bugs.push(what.into());
    }

    fn process(&self, me: usize) -> Process {
        let kill_us = Rc::new(Cell::new(u64::MAX));
        let turn = Turn { beside: self.beside.clone(), me, now: Rc::clone(&self.now), kill_us };
        Process { machine: self.clone(), turn }
    }

    /// Starts what nobody waits for.
    fn start(&self, unit: &'static str, words: &'static [&'static str]) {
        let machine = self.clone();
        let kill_us = Rc::new(Cell::new(u64::MAX));
        let mine = Rc::clone(&kill_us);
        let work = move |me| {
            let mut process = machine.process(me);
            process.turn.kill_us = mine;
            process.call(unit, words);
        };
        let (number, thread) = self.beside.start(self.now.get(), Box::new(work));
        self.children.borrow_mut().push(Child { name: words[0], number, kill_us, thread });
    }

    /// The initrd, the root, the network of the OS.
    pub(super) fn boot(&self) {
        let mut main = self.process(0);
        main.call(MODULES, &["modules"]);
        self.start(FETCH, &["fetch"]);
        self.start(KVP, &["kvp", "--early"]);
        main.call(GROW, &["grow"]);
        match self.mount_us {
            Some(mount_us) => {
                main.turn.wait(mount_us);
                main.call(PERSIST, &["persist", "--root", "/sysroot"]);
                self.go_on_in_root(&mut main);
            }
            None => main.turn.wait(self.now.get() + 200_000_000),
        }
        self.end(&main);
    }

    fn go_on_in_root(&self, main: &mut Process) {
        self.is_switched.set(true);
        if let Some(act) = &self.at_switch_root {
            act(self, &main.turn);
        }
        main.turn.wait(self.now.get() + 1_000_000);
        for child in self.children.borrow().iter() {
            if !self.beside.has_ended(child.number) {
                self.seen.borrow_mut().left.push(child.name);
            }
        }
        // systemd-remount-fs.service.
        self.root.clone().set_read_only(false);
        self.system.borrow_mut().read_only.clear();
        main.unit(APPLY, &[&["apply"]]);
        if self.run.text(WAITS).is_some() {
            main.unit(POOL, &[&["pool"], &["apply"]]);
        }
        main.unit(REPORT_EARLY, &[&["report", "--early"]]);
        self.cloud.borrow_mut().is_configured = true;
        main.unit(REPORT, &[&["report"]]);
    }

    /// Nothing that is said after this counts.
    fn end(&self, main: &Process) {
        self.seen.borrow_mut().is_over = true;
        for child in self.children.borrow().iter() {
            child.kill_us.set(0);
        }
        while self.children.borrow().iter().any(|child| !self.beside.has_ended(child.number)) {
            main.turn.wait(self.now.get() + 1_000_000);
        }
        for child in self.children.borrow_mut().drain(..) {
            child.thread.join().unwrap();
        }
    }

    /// One stage, alone and for as long as it takes.
    pub(super) fn stage(&self, words: &[&'static str]) -> u8 {
        self.process(0).call("", words)
    }

    /// Only `grow` of the next boot: the kernel has looked at the disk anew.
    pub(super) fn grow_again(&self) {
        let known = crate::stage::grow::machine::partitions_linux_finds(&self.drive.borrow().disk);
        let mut host = self.host.clone();
        crate::stage::grow::machine::put_sysfs(&mut host, "sda", &self.drive.borrow().disk, &known);
        self.drive.borrow_mut().known = known;
        Self { no_process_for: None, ..self.clone() }.process(0).call(GROW, &["grow"]);
    }
}

/// One process.
struct Process {
    machine: Machine,
    turn: Turn,
}

impl Process {
    /// As systemd runs it: its exit code, 101 also for what it did not end by itself.
    fn call(&mut self, unit: &str, words: &[&'static str]) -> u8 {
        let command = crate::cli::parse(&mut words.iter().map(|word| Some(*word))).unwrap();
        let end_us = self.turn.now_us().saturating_add(limit_us(unit));
        match self.until(end_us, |process| run_for_boot(process, &command)) {
            Ended::Exit(code) => code,
            _ => 101,
        }
    }

    /// As systemd has a unit: one command after the other, and again, where that is wished for.
    fn unit(&mut self, unit: &str, commands: &[&[&'static str]]) {
        let lists = |key, code: u8| {
            let codes = setting(unit, key).unwrap_or_default();
            codes.split(' ').any(|word| word == code.to_string())
        };
        // Nothing is repeated for ever.
        for _ in 0..4 {
            let is_good = |code: &u8| *code == 0 || lists("SuccessExitStatus", *code);
            let mut codes = commands.iter().map(|words| self.call(unit, words));
            let Some(code) = codes.find(|code| !is_good(code)) else { return };
            if setting(unit, "Restart") != Some("on-failure") || lists("RestartPreventExitStatus", code) {
                return;
            }
            self.turn.wait(self.turn.now_us() + 5_000_000);
        }
    }

    /// Runs `work` until `end_us` at most.
    fn until(&mut self, end_us: u64, work: impl FnOnce(&mut Self) -> u8) -> Ended {
        let before_us = self.turn.kill_us.get();
        let mine_us = end_us.min(before_us);
        self.turn.kill_us.set(mine_us);
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self)));
        // Unless somebody wants all of it to end.
        if self.turn.kill_us.get() == mine_us {
            self.turn.kill_us.set(before_us);
        }
        let payload = match outcome {
            Ok(code) => return Ended::Exit(code),
            Err(payload) => payload,
        };
        if let Some(ended) = payload.downcast_ref::<Ended>() {
            if *ended == Ended::Deadline && !self.machine.seen.borrow().is_over {
                self.machine.seen.borrow_mut().killed.push(format!("at {} ms", self.turn.now_us() / 1000));
            }
            return *ended;
        }
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or(payload.downcast_ref::<&str>().map(|text| (*text).to_string()));
        self.machine.bug(&text.unwrap_or_default());
        Ended::Exit(101)
    }

    fn with_kernel<T>(
        &mut self,
        command: &Command,
        work: impl FnOnce(&mut Kernel<'_>, &mut Scratch) -> T,
    ) -> T {
        let machine = &self.machine;
        let obeys = matches!(command.verb, Verb::FetchOffline | Verb::FetchOnline);
        let (turn, run) = (self.turn.clone(), machine.run.clone());
        let (cloud, system) = (Rc::clone(&machine.cloud), Rc::clone(&machine.system));
        let is_initrds = !machine.is_switched.get() && command.root == "/";
        let root = if is_initrds { machine.host.clone() } else { machine.root.clone() };
        let mut kernel = Kernel {
            clock: &mut SimClock { turn: turn.clone(), run, wall_s: Rc::clone(&machine.wall_s), obeys },
            log: &mut SimLog { machine: machine.clone(), turn: turn.clone(), stage: "" },
            host: &mut machine.host.clone(),
            root: &mut root.clone(),
            run: &mut machine.run.clone(),
            disks: &mut SimDisks { machine: machine.clone(), turn: turn.clone() },
            links: &mut SimLinks { cloud, turn: turn.clone() },
            system: &mut SimSystem { system, root: machine.root.clone(), turn },
        };
        work(&mut kernel, &mut scratch())
    }
}

impl Processes for Process {
    type Directory = FakeDir;
    fn open(&mut self, path: &str) -> Result<FakeDir> {
        Ok(if path == "/" { self.machine.host.clone() } else { self.machine.run.clone() })
    }
    fn now_us(&mut self) -> u64 {
        self.turn.now_us()
    }
    fn run_stage(&mut self, command: &Command) -> u8 {
        self.with_kernel(command, |kernel, scratch| run_with(kernel, scratch, command, false))
    }
    fn fork_stage(&mut self, command: &Command, deadline_ms: u64) -> Result<Ended> {
        if self.machine.no_process_for == Some(command.verb) {
            return Err(os!("start a process", Errno::AGAIN));
        }
        let end_us = self.turn.now_us().saturating_add(deadline_ms * 1000);
        Ok(self.until(end_us, |process| process.run_stage(command)))
    }
    fn afterwards(&mut self, command: &Command, work: &mut dyn FnMut(&mut Kernel<'_>, &mut [u8])) {
        self.with_kernel(command, |kernel, scratch| work(kernel, &mut scratch.bytes));
    }
}

struct SimClock {
    turn: Turn,
    run: FakeDir,
    wall_s: Rc<Cell<i64>>,
    /// [`CANCEL`] is for this process.
    obeys: bool,
}

impl Clock for SimClock {
    fn now_us(&mut self) -> u64 {
        self.turn.wait(self.turn.now_us() + 1000);
        self.turn.now_us()
    }
    fn wall_s(&mut self) -> i64 {
        self.wall_s.get() + i64::try_from(self.turn.now_us() / 1_000_000).unwrap()
    }
    fn sleep_ms(&mut self, ms: u64) {
        let kill_us = self.turn.kill_us.get();
        let until_us = self.turn.now_us() + ms * 1000;
        // SIGTERM wakes it.
        let until_us = if self.turn.now_us() < kill_us { until_us.min(kill_us) } else { until_us };
        self.turn.wait(until_us);
    }
    fn is_cancelled(&mut self) -> bool {
        self.turn.now_us() >= self.turn.kill_us.get() || self.obeys && self.run.stat(CANCEL).is_ok()
    }
}

/// The serial console, and the timeline in memory.
struct SimLog {
    machine: Machine,
    turn: Turn,
    stage: &'static str,
}

impl SimLog {
    fn act_at(&self, what: &str) {
        let mut due = Vec::new();
        self.machine.seen.borrow_mut().triggers.retain_mut(|trigger| {
            if !what.contains(trigger.at) {
                return true;
            }
            let is_due = trigger.skip == 0;
            trigger.skip = trigger.skip.saturating_sub(1);
            if is_due {
                due.push(Rc::clone(&trigger.act));
            }
            !is_due
        });
        for act in due {
            act(&self.machine, &self.turn);
        }
    }
}

impl Log for SimLog {
    fn enter(&mut self, stage: &'static str) -> &'static str {
        let before = core::mem::replace(&mut self.stage, stage);
        if before != stage {
            self.machine.seen.borrow_mut().entered.push((stage, self.turn.now_us()));
            self.act_at(&format!("enter {stage}"));
        }
        before
    }
    fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        if self.machine.seen.borrow().is_over {
            return;
        }
        let event = Event { level, stage: self.stage, text, values };
        let line = format!("{}: {event}", self.stage);
        let entry = format!("{} {} {line}\n", self.turn.now_us(), level as u8);
        let run = &mut self.machine.run;
        if run.append("timeline", entry.as_bytes()).is_err() {
            let _ = run.create("timeline", Owner::root(0o644), entry.as_bytes());
        }
        self.machine.seen.borrow_mut().lines.push((self.turn.now_us(), level, line.clone()));
        self.act_at(&line);
    }
}

/// `sda`, and the others.
struct SimDisks {
    machine: Machine,
    turn: Turn,
}

/// The disk, at whose n-th write something happens.
struct Fragile<'f> {
    block: &'f mut dyn Block,
    machine: &'f Machine,
    turn: &'f Turn,
}

impl Fragile<'_> {
    fn count(&self) {
        if let Some((left, ended)) = self.machine.write_ends.get() {
            self.machine.write_ends.set((left > 0).then(|| (left - 1, ended)));
            if left == 0 {
                self.machine.die(self.turn, ended);
            }
        }
    }
}

impl ReadAt for Fragile<'_> {
    fn size_bytes(&self) -> u64 {
        self.block.size_bytes()
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.block.read_at(offset, buf)
    }
}

impl Block for Fragile<'_> {
    fn sector_bytes(&self) -> u32 {
        self.block.sector_bytes()
    }
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        self.count();
        self.block.write_at(offset, buf)
    }
    fn flush(&mut self) -> Result<()> {
        self.count();
        self.block.flush()
    }
}

impl SimDisks {
    fn with<T>(&mut self, name: &str, work: impl FnOnce(&mut dyn Disks) -> T) -> T {
        match name.starts_with("sd") {
            true => work(&mut *self.machine.drive.borrow_mut()),
            false => work(&mut *self.machine.disks.borrow_mut()),
        }
    }
}

impl Disks for SimDisks {
    fn open_read(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn ReadAt) -> Result<()>) -> Result<()> {
        self.with(name, |disks| disks.open_read(name, work))
    }
    fn open_write(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn Block) -> Result<()>) -> Result<()> {
        let (machine, turn) = (self.machine.clone(), self.turn.clone());
        self.with(name, |disks| {
            disks.open_write(name, &mut |block| work(&mut Fragile { block, machine: &machine, turn: &turn }))
        })
    }
    fn lock(&mut self, disk: Option<&str>) -> Result<()> {
        self.machine.drive.borrow_mut().lock(disk)
    }
    fn resize_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()> {
        self.with(disk, |disks| disks.resize_partition(disk, partition))
    }
    fn add_partition(&mut self, disk: &str, partition: KernelPartition) -> Result<()> {
        self.with(disk, |disks| disks.add_partition(disk, partition))
    }
    fn is_free(&mut self, name: &str) -> Result<bool> {
        self.machine.disks.borrow_mut().is_free(name)
    }
    fn namespace_text(&mut self, name: &str, buf: &mut [u8]) -> Result<usize> {
        self.machine.disks.borrow_mut().namespace_text(name, buf)
    }
    fn drive_status(&mut self, name: &str) -> Result<DriveStatus> {
        self.with(name, |disks| disks.drive_status(name))
    }
    fn eject(&mut self, name: &str) -> Result<Ejected> {
        self.with(name, |disks| disks.eject(name))
    }
}

struct SimSystem {
    system: Rc<RefCell<FakeSystem>>,
    root: FakeDir,
    turn: Turn,
}

/// Puts the device back, also when whoever has it open dies.
struct Open {
    system: Rc<RefCell<FakeSystem>>,
    kvp: Option<FakeKvp>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(kvp) = &mut self.kvp {
            kvp.release();
            kvp.on_wait = None;
        }
        self.system.borrow_mut().kvp = self.kvp.take();
    }
}

impl System for SimSystem {
    fn load_module(&mut self, path: &str, parameters: &str, compressed: bool) -> Result<Loaded> {
        self.system.borrow_mut().load_module(path, parameters, compressed)
    }
    fn kernel_release<'b>(&mut self, buf: &'b mut [u8]) -> &'b str {
        self.system.borrow_mut().kernel_release(buf)
    }
    fn set_hostname(&mut self, name: &str) -> Result<()> {
        self.system.borrow_mut().set_hostname(name)
    }
    fn random(&mut self, buf: &mut [u8]) -> Result<()> {
        self.system.borrow_mut().random(buf)
    }
    fn add_entropy(&mut self, bytes: &[u8]) -> Result<()> {
        self.system.borrow_mut().add_entropy(bytes)
    }
    fn with_kvp(&mut self, work: &mut dyn FnMut(&mut dyn Messages) -> Result<()>) -> Result<()> {
        let kvp = self.system.borrow_mut().kvp.take();
        let busy = kvp.as_ref().map(|_| FakeKvp::busy());
        self.system.borrow_mut().kvp = busy;
        let mut open = Open { system: Rc::clone(&self.system), kvp };
        let Some(kvp) = &mut open.kvp else { return Err(os!("open /dev/vmbus/hv_kvp", Errno::NOENT)) };
        let turn = self.turn.clone();
        kvp.on_wait = Some(Box::new(move || turn.wait(turn.now_us() + 10_000)));
        kvp.with_open(work)
    }
    fn is_hyperv(&mut self) -> bool {
        self.system.borrow_mut().is_hyperv()
    }
    fn remount(&mut self, path: &str, read_only: bool) -> Result<bool> {
        self.root.set_read_only(read_only);
        self.system.borrow_mut().remount(path, read_only)
    }
    fn mounted(&mut self, path: &str) -> Result<Mounted> {
        self.system.borrow_mut().mounted(path)
    }
    fn resize(&mut self, path: &str, mounted: &Mounted, bytes: u64) -> Result<()> {
        self.system.borrow_mut().resize(path, mounted, bytes)
    }
    fn follow_links(&mut self) -> Result<()> {
        self.system.borrow_mut().follow_links()
    }
    fn link_changes(&mut self, until_us: u64, each: &mut dyn FnMut(LinkChange)) -> Result<()> {
        self.turn.wait(until_us.min(self.turn.now_us() + 1_000_000));
        self.system.borrow_mut().link_changes(until_us, each)
    }
    fn run(&mut self, root: &str, argv: &[&str], timeout_ms: u64) -> Result<i32> {
        self.system.borrow_mut().run(root, argv, timeout_ms)
    }
    fn run_logged(
        &mut self,
        root: &str,
        argv: &[&str],
        log: &str,
        timeout_ms: u64,
        beat: &mut dyn FnMut(),
    ) -> Result<i32> {
        self.system.borrow_mut().run_logged(root, argv, log, timeout_ms, beat)
    }
    fn run_talking(
        &mut self,
        root: &str,
        argv: &[&str],
        timeout_ms: u64,
        room: &mut [u8],
        talk: &mut dyn Talk,
    ) -> Result<i32> {
        self.system.borrow_mut().run_talking(root, argv, timeout_ms, room, talk)
    }
}
