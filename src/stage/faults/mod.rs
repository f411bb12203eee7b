//! Does every fault reach the host by every way there is, in time, and does the boot go on?
//!
//! A whole boot in the simulated world, stage by stage as hooks and units run them: a medium, a cloud behind an Ethernet
//! card, a disk to grow, a host that asks by KVP, a root to provision. [`rows`] plants one fault in it; here is what the
//! three ways (serial console, KVP, wireserver) must have carried in the end.

mod cloud;
mod rows;
mod verdicts;

use super::fetch::tests::scratch;
use super::grow::machine::{Drive, partitions_linux_finds, put_sysfs};
use super::grow::tests::enlarged;
use super::kvp::tests::offer;
use super::online::nics;
use super::persist::{FETCH_ENDED, FIRST_BOOT};
use super::pool::WAITS;
use super::{LOST, run_with, say_lost};
use crate::cli::{Command, Verb};
use crate::event::{Event, Level, Value};
use crate::limits;
use crate::report::kvp::KEY;
use crate::report::pool::Pools;
use crate::report::pool::tests::all;
use crate::sys::fake::{FakeDir, FakeDisk, World};
use crate::sys::linux::Ended;
use crate::sys::{Clock, Dir, DriveStatus, Kernel, Log, Owner};
use cloud::Cloud;
use std::cell::Cell;
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

const EPOCH_S: i64 = 1_750_000_000;
/// What the architecture allows between a verdict and its being told.
const WITHIN_US: u64 = 1_000_000;

/// How the platform is told that it shall wait.
const STILL_AT_WORK: &str = "Provisioning is still in progress";

/// What must come of a fault.
#[derive(Clone, Debug, PartialEq)]
enum Expect {
    /// Ready; nothing was lost.
    Ready,
    /// Ready, with this warning in KVP.
    Warned(String),
    /// The initrd tells that this VM is not provisioned, over KVP and the wireserver.
    Fatal(String),
    /// IMDS is asked again in the real root, for as long as may be, and this is told when that is over.
    Waited(String),
    /// The real root could not be provisioned.
    Failed(String),
}

/// Time that all of the world shares.
struct SimClock {
    now: Rc<Cell<u64>>,
    run: FakeDir,
    /// When the host could first read of a failure.
    readable_us: Option<u64>,
    cancelled_from_us: u64,
}

impl Clock for SimClock {
    fn now_us(&mut self) -> u64 {
        self.now.set(self.now.get() + 1000);
        if self.readable_us.is_none() && Pools::in_memory(&mut self.run).has(1) {
            self.readable_us = Some(self.now.get());
        }
        self.now.get()
    }
    fn wall_s(&mut self) -> i64 {
        EPOCH_S + i64::try_from(self.now.get() / 1_000_000).unwrap()
    }
    fn sleep_ms(&mut self, ms: u64) {
        self.now.set(self.now.get() + ms * 1000);
    }
    fn is_cancelled(&mut self) -> bool {
        self.now.get() >= self.cancelled_from_us
    }
}

/// The serial console, and the timeline in memory.
struct SimLog {
    now: Rc<Cell<u64>>,
    run: FakeDir,
    stage: &'static str,
    lines: Vec<(u64, Level, String)>,
    /// The next stage that is entered so, or says so, panics.
    panic_at: Option<&'static str>,
}

impl SimLog {
    fn panic_if(&mut self, what: &str) {
        if self.panic_at.is_some_and(|at| what.contains(at)) {
            self.panic_at = None;
            panic!("planted");
        }
    }
}

impl Log for SimLog {
    fn enter(&mut self, stage: &'static str) -> &'static str {
        let before = core::mem::replace(&mut self.stage, stage);
        self.panic_if(&format!("enter {stage}"));
        before
    }
    fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        let event = Event { level, stage: self.stage, text, values };
        let line = format!("{}: {event}", self.stage);
        let entry = format!("{} {} {line}\n", self.now.get(), level as u8);
        if self.run.append("timeline", entry.as_bytes()).is_err() {
            self.run.create("timeline", Owner::root(0o644), entry.as_bytes()).unwrap();
        }
        self.lines.push((self.now.get(), level, line.clone()));
        self.panic_if(&line);
    }
}

/// A machine before it is switched on, and what became of it.
struct Sim {
    world: World,
    cloud: Cloud,
    drive: Drive,
    clock: SimClock,
    log: SimLog,
    /// What ends a stage that panics in here: with a deadline it hangs until that.
    ended: Ended,
    is_mounted: bool,
}

impl Sim {
    fn new() -> Self {
        let mut world = World::new();
        offer(&mut world);
        nics::tests::add(&mut world, "eth0", "00:0d:3a:12:34:56", Some("hv_netvsc"), "0x1002\n");
        let disk = enlarged();
        let known = partitions_linux_finds(&disk);
        put_sysfs(&mut world.host, "sda", &disk, &known);
        let drive = Drive::new(disk, known);
        world.host.put("proc/cmdline", "ro root=UUID=e4e4e4e4-e4e4-e4e4-e4e4-e4e4e4e4e4e4\n");
        world.root.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
        world.root.put_owned("etc/shadow", Owner::root(0o600), "root:*:19000:0:99999:7:::\n");
        world.root.put("etc/group", "root:x:0:\nsudo:x:27:\n").put("etc/hosts", "127.0.0.1 localhost\n");
        world.root.put("etc/skel/.profile", "# profile\n").put_dir("home").put_dir("var/lib");
        world.root.put_owned("etc/sudoers", Owner::root(0o440), "@includedir /etc/sudoers.d\n");
        world.root.put("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n");
        world.root.put("etc/ssh/ssh_host_ed25519_key", "key");
        world.root.put("var/lib/preroot/host-keys", "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf");
        let now = Rc::new(Cell::new(2_000_000));
        let cloud = Cloud::new(&now);
        let clock = SimClock {
            now: Rc::clone(&now),
            run: world.run.clone(),
            readable_us: None,
            cancelled_from_us: u64::MAX,
        };
        let log = SimLog { now, run: world.run.clone(), stage: "", lines: Vec::new(), panic_at: None };
        let ended = Ended::Exit(101);
        let mut sim = Self { world, cloud, drive, clock, log, ended, is_mounted: true };
        rows::imds_says(&mut sim, "instance");
        rows::medium_says(&mut sim, "sample-a-password");
        sim
    }

    fn insert(&mut self, medium: Vec<u8>) {
        let disk = FakeDisk { status: Some(DriveStatus::DiscOk), ..FakeDisk::new(medium) };
        self.world.disks.disks.insert("sr0".into(), disk);
    }

    fn kernel(&mut self, verb: Verb) -> Kernel<'_> {
        let Kernel { host, root, run, disks, system, .. } = self.world.kernel();
        let disks = if verb == Verb::Grow { &mut self.drive } else { disks };
        Kernel {
            clock: &mut self.clock,
            log: &mut self.log,
            host,
            root,
            run,
            disks,
            system,
            links: &mut self.cloud,
        }
    }

    /// A stage in a process of its own, as `supervise` has it, and not longer than that allows.
    fn stage(&mut self, words: &[&'static str], failed: Option<&'static str>, limit_ms: u64) -> u8 {
        let command = crate::cli::parse(&mut words.iter().map(|word| Some(*word))).unwrap();
        let command = Command { failed, ..command };
        let (begin, ended) = (self.clock.now.get(), self.ended);
        let mut scratch = scratch();
        let kernel = &mut self.kernel(command.verb);
        let run = AssertUnwindSafe(|| run_with(kernel, &mut scratch, &command, false));
        let code = catch_unwind(run).unwrap_or(LOST);
        if code == LOST {
            if ended == Ended::Deadline {
                self.clock.now.set(begin + limit_ms * 1000);
            }
            let is_supervised =
                command.verb != Verb::Apply && (command.verb != Verb::Report || command.early);
            if is_supervised {
                say_lost(&mut self.kernel(command.verb), &mut scratch.bytes, &command, Ok(ended));
            } else {
                // The panic's own line; apply's unit starts the report.
                self.log.lines.push((self.clock.now.get(), Level::Error, "report: bug: panic".into()));
            }
        }
        let took_ms = (self.clock.now.get() - begin) / 1000;
        assert!(took_ms <= limit_ms + 500, "{words:?} took {took_ms} ms of {limit_ms}");
        code
    }

    /// The initrd, the root, the network of the OS.
    fn boot(&mut self) {
        self.stage(&["modules"], None, limits::MODULES_MS);
        self.stage(&["fetch", "--offline"], None, limits::MEDIUM_MS + limits::SLACK_MS);
        if self.is_mounted {
            self.world.run.put(FIRST_BOOT, "");
        }
        let online = ["fetch", "--online"];
        if self.stage(&online, None, limits::ONLINE_MS + limits::SLACK_MS) == LOST {
            self.stage(&online, Some(""), limits::LOST_MS + limits::SLACK_MS);
        }
        self.world.run.put(FETCH_ENDED, "");
        self.stage(&["grow"], None, limits::GROW_MS);
        self.host_reads();
        self.stage(&["persist", "--root", "/sysroot"], None, limits::PERSIST_MS);
        self.stage(&["apply"], None, 300_000);
        // preroot-pool.service.
        if self.world.run.text(WAITS).is_some() {
            let last_try_ms = limits::CARRIER_MS + limits::DHCP_MS + limits::SLACK_MS;
            let code = self.stage(&["pool"], None, limits::IMDS_AGAIN_MS + last_try_ms);
            if [0, 76].contains(&code) {
                self.stage(&["apply"], None, 300_000);
            }
        }
        self.stage(&["report", "--early"], None, limits::REPORT_EARLY_MS + 1000);
        self.cloud.is_configured = true;
        self.stage(&["report"], None, limits::REPORT_LATE_MS + 30_000);
    }

    /// `preroot kvp --early`, which runs beside the others: what the host reads while the initrd is there.
    fn host_reads(&mut self) {
        if let Some(kvp) = &mut self.world.system.kvp {
            kvp.rounds = 1;
        }
        let begin = self.clock.now.get();
        self.clock.cancelled_from_us = begin + WITHIN_US / 2;
        self.stage(&["kvp", "--early"], None, limits::KVP_OPEN_MS + 2 * limits::SLACK_MS);
        self.clock.cancelled_from_us = u64::MAX;
    }

    /// The guest's pool as the host saw it from the initrd, once.
    fn seen_early(&self) -> Option<&Vec<(String, String)>> {
        self.world.system.kvp.as_ref().and_then(|kvp| kvp.seen.first())
    }

    /// When it was said first.
    fn said_us(&self, text: &str) -> Option<u64> {
        self.log.lines.iter().find(|(_, _, line)| line.contains(text)).map(|(us, ..)| *us)
    }

    fn troubles(&self) -> impl Iterator<Item = &String> {
        self.log.lines.iter().filter(|(_, level, _)| *level <= Level::Warning).map(|(_, _, line)| line)
    }

    /// What the wireserver was told at first, and when: "Ready", or the reason.
    fn told(&self, wanted: usize) -> Option<(u64, String)> {
        let is_final = |request: &str| request.starts_with("POST ") && !request.contains(STILL_AT_WORK);
        let states = self.cloud.posts.iter().filter(|(_, request)| is_final(request));
        let mut states = states.map(|(us, request)| {
            let reason =
                request.split_once("result=error|reason=").map(|(_, rest)| rest.split('|').next().unwrap());
            (*us, String::from(reason.unwrap_or("Ready")))
        });
        states.nth(wanted)
    }
}

/// Which ways a row cannot use.
#[derive(Clone, Copy, Default)]
struct Blocked {
    kvp: bool,
    wire: bool,
}

/// The wireserver is there, only IMDS is not.
fn reason_is_imds(expect: &Expect) -> bool {
    matches!(expect, Expect::Waited(reason) if reason.starts_with("http error"))
}

/// Runs one row; how often each way was used, or what was wrong.
fn check(row: &rows::Row) -> Result<[u32; 3], String> {
    let mut sim = Sim::new();
    (row.plant)(&mut sim);
    let ran = catch_unwind(AssertUnwindSafe(|| sim.boot()));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| String::from("panic"));
        return Err(format!("{}: {text}\n{:#?}", row.name, sim.log.lines));
    }
    let mut used = [0; 3];
    let mut wrong = Vec::new();
    let mut hold = |is_so: bool, what: &str| {
        if !is_so {
            wrong.push(String::from(what));
        }
    };
    // The serial console.
    if let Some(text) = row.said {
        hold(sim.troubles().any(|line| line.contains(text)), "serial: it is not said");
        used[0] = 1;
    }
    // KVP in the end: the report, and every trouble of the timeline.
    let records = all(&mut Pools::of_root(&mut sim.world.root.clone()), 1);
    let report = records.iter().find(|(key, _)| key == KEY).map_or("", |(_, value)| value);
    let events: String =
        records.iter().filter(|(key, _)| key.contains("|timeline|")).map(|(_, v)| v.as_str()).collect();
    let told = sim.told(0);
    let expected = match &row.expect {
        Expect::Ready => "result=success|agent=".into(),
        Expect::Warned(reason) => format!("result=success|warning={reason}"),
        Expect::Fatal(reason) | Expect::Waited(reason) | Expect::Failed(reason) => {
            format!("result=error|reason={reason}")
        }
    };
    if !row.blocked.kvp {
        hold(report.starts_with(&expected), "KVP: report");
        for line in sim.troubles().filter(|line| !line.starts_with("report") && !line.starts_with("kvp")) {
            hold(events.contains(line.as_str()), &format!("KVP: no event {line}"));
        }
        used[1] = 1;
    }
    // From the initrd: within a second.
    if matches!(row.expect, Expect::Waited(_)) {
        let waited_us =
            sim.said_us("is asked again in the real root").zip(sim.said_us("is not provisioned: "));
        let waited_ms = waited_us.map_or(0, |(begin, end)| end.saturating_sub(begin) / 1000);
        hold((290_000..=330_000).contains(&waited_ms), "IMDS is not waited for as long as it should be");
        let is_reached = sim.log.lines.iter().any(|(_, _, line)| line.contains("the platform knows: still"));
        let posts = sim.cloud.posts.iter().filter(|(_, request)| request.contains(STILL_AT_WORK));
        let is_told = posts.count() > 0;
        hold(is_told || !(is_reached || reason_is_imds(&row.expect)), "wireserver: still at work");
        let lines = sim.troubles().filter(|line| line.contains("waiting for IMDS")).count();
        hold((9..=12).contains(&lines), "serial: what is waited for");
        hold(
            told.as_ref()
                .is_some_and(|(us, _)| sim.said_us("is not provisioned: ").is_some_and(|said| *us > said)),
            "wireserver: too early",
        );
    }
    if let Expect::Fatal(reason) = &row.expect {
        let verdict_us = sim.said_us("this VM is not provisioned").unwrap_or(u64::MAX);
        hold(verdict_us < u64::MAX, "serial: no verdict");
        if !row.blocked.kvp {
            let in_time =
                sim.clock.readable_us.is_some_and(|us| us < verdict_us.saturating_add(WITHIN_US / 2));
            hold(in_time, "KVP: not within a second");
            let early = sim.seen_early().and_then(|seen| seen.iter().find(|(key, _)| key == KEY));
            hold(
                early.is_some_and(|(_, value)| value.starts_with(&expected)),
                "KVP: not readable in the initrd",
            );
        }
        {
            let lease_us = sim.said_us("lease of").unwrap_or(0);
            let last_us = verdict_us.max(lease_us);
            let in_time = told.as_ref().is_some_and(|(us, text)| {
                *us <= last_us.saturating_add(WITHIN_US) && text.contains(reason.as_str())
            });
            hold(in_time, "wireserver: not within a second");
        }
    }
    if !row.blocked.wire {
        let wanted = match &row.expect {
            Expect::Ready | Expect::Warned(_) => "Ready",
            Expect::Fatal(reason) | Expect::Waited(reason) | Expect::Failed(reason) => reason,
        };
        hold(told.as_ref().is_some_and(|(_, text)| text.starts_with(wanted)), "wireserver: not told");
        used[2] = 1;
    }
    if wrong.is_empty() {
        return Ok(used);
    }
    let lines: Vec<_> = sim
        .log
        .lines
        .iter()
        .map(|(us, level, line)| format!("{:>9} {} {line}", us / 1000, *level as u8))
        .collect();
    Err(format!(
        "{}: {:?}: {wrong:?}\n  report {report}\n  told {told:?} readable {:?}\n  {}",
        row.name,
        row.expect,
        sim.clock.readable_us,
        lines.join("\n  ")
    ))
}

#[test]
fn every_fault_reaches_the_host_by_every_way_there_is() {
    let rows = rows::rows();
    let only = std::env::var("PREROOT_FAULT").ok();
    let (mut used, mut wrong) = ([0; 3], Vec::new());
    let mut count = 0;
    for row in rows.iter().filter(|row| only.as_ref().is_none_or(|only| row.name.contains(only.as_str()))) {
        count += 1;
        match check(row) {
            Ok(ways) => used.iter_mut().zip(ways).for_each(|(sum, way)| *sum += way),
            Err(text) => wrong.push(text),
        }
    }
    // Past the capture of tests that pass.
    let counts = format!(
        "faults: {count} of them; told on the serial console {}, in KVP {}, to the wireserver {}; {} not as they should be\n",
        used[0],
        used[1],
        used[2],
        wrong.len()
    );
    std::io::Write::write_all(&mut std::io::stdout(), counts.as_bytes()).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(only.is_some() || count >= 100, "{count}");
}
