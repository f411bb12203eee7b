//! The machine of the simulated boot: its processes run beside each other as hooks and units start them, each with the
//! real supervisor above it.

mod kernel;

use super::cloud::{Cloud, SimLinks};
use crate::cli::{Command, Verb};
use crate::error::{Errno, Result};
use crate::event::Level;
use crate::stage::fetch::tests::scratch;
use crate::stage::grow::machine::Drive;
use crate::stage::pool::WAITS;
use crate::stage::{Processes, run_for_boot, run_with};
use crate::sys::Kernel;
use crate::sys::fake::{Beside, FakeDir, FakeDisks, FakeSystem};
use crate::sys::linux::{Ended, Scratch};
use kernel::{SimClock, SimDisks, SimLog, SimSystem};
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
/// No row takes longer: what is still at work then does not end.
const LIMIT_US: u64 = 6 * FOR_EVER_US;
const FIRST_PID: usize = 100;
const ALARM: Ended = Ended::Signal(14);
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
    is_shot: Rc<Cell<bool>>,
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
    /// Somebody switches a VM off that waits for an owner so long.
    pub(super) off_after_us: Option<u64>,
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
    /// When it gets SIGALRM.
    alarm_us: Rc<Cell<u64>>,
    /// Somebody sent SIGKILL to the stage in it.
    is_shot: Rc<Cell<bool>>,
}

impl Turn {
    pub(super) fn now_us(&self) -> u64 {
        self.now.get()
    }

    /// Lets the others run; a process whose time is over does not come back.
    pub(super) fn wait(&self, until_us: u64) {
        let end_us = self.kill_us.get().saturating_add(GRACE_US);
        let end_us = end_us.min(LIMIT_US).min(self.alarm_us.get());
        let until_us = until_us.min(end_us).max(self.now.get());
        self.beside.wait(self.me, until_us);
        self.now.set(self.now.get().max(until_us));
        // Its time may have been cut short meanwhile.
        if self.now.get() >= self.kill_us.get().saturating_add(GRACE_US) {
            resume_unwind(Box::new(Ended::Deadline));
        }
        if self.is_shot.take() {
            resume_unwind(Box::new(Ended::Signal(9)));
        }
        if self.now.get() >= self.alarm_us.get() {
            resume_unwind(Box::new(ALARM));
        }
        if self.now.get() >= LIMIT_US {
            resume_unwind(Box::new(format!("no end after {} s", LIMIT_US / 1_000_000)));
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
            off_after_us: None,
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
            turn.wait(turn.now_us() + 100_000);
        }
        self.bug("nobody ends what hangs");
    }

    /// SIGKILL to the stage in a process that nobody waits for.
    fn shoot(&self, pid: u32) {
        let number = usize::try_from(pid).unwrap() - FIRST_PID;
        for child in self.children.borrow().iter().filter(|child| child.number == number) {
            child.is_shot.set(true);
            self.seen.borrow_mut().killed.push(format!("{} by us", child.name));
        }
    }

    fn bug(&self, what: &str) {
        self.seen.borrow_mut().bugs.push(what.into());
    }

    fn process(&self, me: usize) -> Process {
        let never = || Rc::new(Cell::new(u64::MAX));
        let (beside, now) = (self.beside.clone(), Rc::clone(&self.now));
        let turn = Turn { beside, me, now, kill_us: never(), alarm_us: never(), is_shot: Rc::default() };
        Process { machine: self.clone(), turn }
    }

    /// Starts what nobody waits for.
    fn start(&self, unit: &'static str, words: &'static [&'static str]) {
        let machine = self.clone();
        let kill_us = Rc::new(Cell::new(u64::MAX));
        let is_shot = Rc::new(Cell::new(false));
        let mine = (Rc::clone(&kill_us), Rc::clone(&is_shot));
        let work = move |me| {
            let mut process = machine.process(me);
            (process.turn.kill_us, process.turn.is_shot) = mine;
            process.call(unit, words);
        };
        let (number, thread) = self.beside.start(self.now.get(), Box::new(work));
        let stat = format!("{0} (preroot) S{1} {0} 0", FIRST_PID + number, " 0".repeat(18));
        self.host.clone().put(&format!("proc/{}/stat", FIRST_PID + number), stat);
        self.children.borrow_mut().push(Child { name: words[0], number, kill_us, is_shot, thread });
    }

    /// The initrd, the root, the network of the OS.
    pub(super) fn boot(&self) {
        let mut main = self.process(0);
        let ran = catch_unwind(AssertUnwindSafe(|| self.run(&mut main)));
        self.end();
        if let Err(panic) = ran {
            resume_unwind(panic);
        }
    }

    fn run(&self, main: &mut Process) {
        main.call(MODULES, &["modules"]);
        self.start(FETCH, &["fetch"]);
        self.start(KVP, &["kvp", "--early"]);
        main.call(GROW, &["grow"]);
        match self.mount_us {
            Some(mount_us) => {
                main.turn.wait(mount_us);
                main.call(PERSIST, &["persist", "--root", "/sysroot"]);
                self.go_on_in_root(main);
            }
            None => main.turn.wait(self.now.get() + 200_000_000),
        }
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
            let off_us = self.off_after_us.map_or(u64::MAX, |us| self.now.get() + us);
            main.turn.kill_us.set(off_us);
            main.unit(POOL, &[&["pool"], &["apply"]]);
            if self.now.get() >= off_us {
                return;
            }
            main.turn.kill_us.set(u64::MAX);
        }
        main.unit(REPORT_EARLY, &[&["report", "--early"]]);
        self.cloud.borrow_mut().is_configured = true;
        main.unit(REPORT, &[&["report"]]);
    }

    /// Nothing that is said after this counts.
    fn end(&self) {
        self.seen.borrow_mut().is_over = true;
        for child in self.children.borrow().iter() {
            child.kill_us.set(0);
        }
        let mut until_us = self.now.get();
        while self.children.borrow().iter().any(|child| !self.beside.has_ended(child.number)) {
            until_us += 1_000_000;
            self.beside.wait(0, until_us);
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
        self.turn.alarm_us.set(u64::MAX);
        // Unless somebody wants all of it to end.
        if self.turn.kill_us.get() == mine_us {
            self.turn.kill_us.set(before_us);
        }
        let payload = match outcome {
            Ok(code) => return Ended::Exit(code),
            Err(payload) => payload,
        };
        if let Some(ended) = payload.downcast_ref::<Ended>() {
            if matches!(*ended, Ended::Deadline | ALARM) && !self.machine.seen.borrow().is_over {
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
            system: &mut SimSystem { machine: machine.clone(), system, root: machine.root.clone(), turn },
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
    fn sleep_ms(&mut self, ms: u64) {
        self.turn.wait(self.turn.now_us().saturating_add(ms * 1000));
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
