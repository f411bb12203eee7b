//! Does every fault reach the host by every way there is, in time, and does the boot go on?
//!
//! A whole boot in the simulated world, its processes beside each other as hooks and units start them ([`sim`]): a medium,
//! a cloud behind an Ethernet card, a disk to grow, a host that asks by KVP, a root to provision. [`rows`] plants one fault
//! in it; here is what the three ways (serial console, KVP, wireserver) must have carried in the end, and what must have
//! become of the machine.

mod advisories;
mod cloud;
mod rows;
mod sim;
mod verdicts;

use super::grow::machine::{Drive, partitions_linux_finds, put_sysfs};
use super::grow::tests::enlarged;
use super::kvp::tests::offer;
use super::online::nics;
use crate::cli::Verb;
use crate::event::Level;
use crate::facts::InstanceId;
use crate::limits;
use crate::report::kvp::KEY;
use crate::report::pool::Pools;
use crate::report::pool::tests::all;
use crate::seed;
use crate::sys::fake::{FakeDisk, World};
use crate::sys::linux::Ended;
use crate::sys::{DeviceNumber, DriveStatus, Owner};
use cloud::Cloud;
use sim::{Act, Machine, Trigger};
use std::cell::Cell;
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::string::{String, ToString};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;
use std::vec::Vec;

/// What the architecture allows between a verdict and its being told.
const WITHIN_US: u64 = 1_000_000;
/// How the platform is told that it shall wait.
const STILL_AT_WORK: &str = "Provisioning is still in progress";
const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";

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
    /// This VM has no owner until it is switched off, and says what it waits for.
    Pooled,
    /// There is no real root, and no verdict: the host reads what happened.
    Stuck,
}

impl Expect {
    const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready | Self::Warned(_))
    }

    /// How the KVP record begins, and what the wireserver is told.
    fn words(&self) -> (String, String) {
        match self {
            Self::Ready => ("result=success|agent=".into(), "Ready".into()),
            Self::Warned(reason) => (format!("result=success|warning={reason}"), "Ready".into()),
            Self::Fatal(reason) | Self::Waited(reason) | Self::Failed(reason) => {
                (format!("result=error|reason={reason}"), reason.clone())
            }
            Self::Pooled => (String::new(), "Ready".into()),
            Self::Stuck => (String::new(), String::new()),
        }
    }
}

/// What becomes of the root partition.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    Now,
    /// The next boot completes it.
    Next,
    /// It cannot.
    Never,
}

/// A machine before it is switched on.
struct Sim {
    world: World,
    cloud: Cloud,
    drive: Drive,
    now: Rc<Cell<u64>>,
    triggers: Vec<Trigger>,
    is_mounted: bool,
    /// After the boot's first process.
    mount_ms: u64,
    wall_s: Option<i64>,
    no_process_for: Option<Verb>,
    write_ends: Option<(usize, Ended)>,
    at_switch_root: Option<Act>,
    off_after_us: Option<u64>,
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
        world.host.put("proc/sys/kernel/random/boot_id", "5f3a7b46-0a43-4c29-8a5e-2f0d3c1b9e77\n");
        world.host.put("proc/cmdline", "ro root=UUID=e4e4e4e4-e4e4-e4e4-e4e4-e4e4e4e4e4e4\n");
        world.root.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
        world.root.put_owned("etc/shadow", Owner::root(0o600), "root:*:19000:0:99999:7:::\n");
        world.root.put("etc/group", "root:x:0:\nsudo:x:27:\n").put("etc/hosts", "127.0.0.1 localhost\n");
        world.root.put("etc/skel/.profile", "# profile\n").put_dir("home").put_dir("var/lib");
        world.root.put_owned("etc/sudoers", Owner::root(0o440), "@includedir /etc/sudoers.d\n");
        world.root.put("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n");
        world.root.put("etc/ssh/ssh_host_ed25519_key", "key");
        world.root.put("var/lib/preroot/host-keys", ID);
        world.host.put_symlink("sys/dev/block/8:1", "../../devices/vmbus/block/sda/sda1");
        world.root.mount("", DeviceNumber { major: 8, minor: 1 }, Vec::new());
        world.system.read_only.insert("/sysroot".into());
        let now = Rc::new(Cell::new(2_000_000));
        if let Some(kvp) = &mut world.system.kvp {
            kvp.now = Some(Rc::clone(&now));
        }
        let cloud = Cloud::new(&now);
        let mut sim = Self {
            world,
            cloud,
            drive,
            now,
            triggers: Vec::new(),
            is_mounted: true,
            mount_ms: 1000,
            wall_s: None,
            no_process_for: None,
            write_ends: None,
            at_switch_root: None,
            off_after_us: None,
        };
        rows::imds_says(&mut sim, "instance");
        rows::medium_says(&mut sim, "sample-a-password");
        sim
    }

    fn insert(&mut self, medium: Vec<u8>) {
        let disk = FakeDisk { status: Some(DriveStatus::DiscOk), ..FakeDisk::new(medium) };
        self.world.disks.disks.insert("sr0".into(), disk);
    }

    /// Something happens when a stage is entered so, or says so, for the time after `skip`.
    fn when(&mut self, at: &'static str, skip: usize, act: impl Fn(&Machine, &sim::Turn) + 'static) {
        self.triggers.push(Trigger { at, skip, act: Rc::new(act) });
    }

    /// A stage ends there, without meaning to, or does not end.
    fn lose(&mut self, at: &'static str, ended: Ended) {
        self.when(at, 0, move |machine, turn| machine.die(turn, ended));
    }

    fn switch_on(mut self) -> Machine {
        // Mounted as the command line says.
        self.world.root.set_read_only(true);
        let mut machine = Machine::new(self.world, self.cloud, self.drive, self.now);
        let mount_us = machine.now.get() + self.mount_ms * 1000;
        machine.mount_us = self.is_mounted.then_some(mount_us);
        machine.no_process_for = self.no_process_for;
        machine.at_switch_root = self.at_switch_root;
        machine.off_after_us = self.off_after_us;
        machine.write_ends.set(self.write_ends);
        machine.seen.borrow_mut().triggers = self.triggers;
        if let Some(wall_s) = self.wall_s {
            machine.wall_s.set(wall_s);
        }
        machine
    }
}

impl Machine {
    /// When it was said first.
    fn said_us(&self, text: &str) -> Option<u64> {
        self.seen.borrow().lines.iter().find(|(_, _, line)| line.contains(text)).map(|(us, ..)| *us)
    }

    fn entered_us(&self, stage: &str) -> Option<u64> {
        self.seen.borrow().entered.iter().find(|(entered, _)| *entered == stage).map(|(_, us)| *us)
    }

    /// Warnings and worse, and when.
    fn troubles(&self) -> Vec<(u64, String)> {
        let seen = self.seen.borrow();
        let troubles = seen.lines.iter().filter(|(_, level, _)| *level <= Level::Warning);
        troubles.map(|(us, _, line)| (*us, line.clone())).collect()
    }

    /// What the wireserver took, and when: "Ready", or the reason. And how often it was tried.
    fn told(&self) -> (Vec<(u64, String)>, usize) {
        let cloud = self.cloud.borrow();
        let posts = cloud.requests.iter().filter(|asked| asked.text.starts_with("POST "));
        let posts: Vec<_> = posts.filter(|post| !post.text.contains(STILL_AT_WORK)).collect();
        let taken = posts.iter().filter(|post| post.is_taken).map(|post| {
            let reason = post.text.split_once("result=error|reason=");
            let reason = reason.and_then(|(_, rest)| rest.split('|').next());
            assert_eq!(reason.is_some(), post.text.contains("NotReady"), "{}", post.text);
            (post.us, reason.unwrap_or("Ready").to_string())
        });
        (taken.collect(), posts.len())
    }

    /// The guest's pool as the host sees it in the end: without a root, as it saw it last.
    fn records(&self) -> Vec<(String, String)> {
        match self.mount_us {
            Some(_) => all(&mut Pools::of_root(&mut self.root.clone()), 1),
            None => {
                let system = self.system.borrow();
                system.kvp.as_ref().and_then(|kvp| kvp.seen.last().cloned()).unwrap_or_default()
            }
        }
    }

    /// When the host had read a report that begins so.
    fn read_us(&self, report: &str) -> Option<u64> {
        let system = self.system.borrow();
        let kvp = system.kvp.as_ref()?;
        let has_it = |seen: &&Vec<(String, String)>| {
            seen.iter().any(|(key, value)| key == KEY && value.starts_with(report))
        };
        let at = kvp.seen.iter().position(|seen| has_it(&seen))?;
        kvp.seen_us.get(at).copied()
    }

    fn has_grown(&self) -> bool {
        let drive = self.drive.borrow();
        drive.known.get(&1).is_some_and(|part| part.length_bytes > 7 << 30)
            && partitions_linux_finds(&drive.disk) == drive.known
    }
}

/// Which ways a row cannot use.
#[derive(Clone, Copy, Default)]
struct Blocked {
    kvp: bool,
    /// It has to be begun anew first.
    early_kvp: bool,
    /// The wireserver never takes anything.
    wire: bool,
    /// It takes nothing from the initrd.
    early_wire: bool,
    /// Its answers are lost, so that it is told again.
    answers: bool,
    /// What happened cannot be kept.
    events: bool,
}

/// What is wrong with a row.
struct Wrong(Vec<String>);

impl Wrong {
    fn hold(&mut self, is_so: bool, what: impl Into<String>) {
        if !is_so {
            self.0.push(what.into());
        }
    }
}

/// How often a way was used: serial console, KVP, wireserver; and how often the last gave up.
type Used = [u32; 4];

/// Runs one row; which ways were used, or what was wrong.
fn check(row: &rows::Row) -> Result<Used, String> {
    let mut sim = Sim::new();
    (row.plant)(&mut sim);
    let machine = sim.switch_on();
    let ran = catch_unwind(AssertUnwindSafe(|| machine.boot()));
    let mut wrong = Wrong(Vec::new());
    if let Err(panic) = ran {
        wrong.hold(false, panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panic".into()));
    }
    machine.root.clone().set_read_only(false);
    let mut used = [0; 4];
    check_processes(&machine, &mut wrong);
    if let Some(text) = row.said {
        wrong.hold(machine.troubles().iter().any(|(_, line)| line.contains(text)), "serial: it is not said");
        used[0] = 1;
    }
    check_kvp(&machine, row, &mut wrong);
    used[1] = u32::from(!row.blocked.kvp);
    check_times(&machine, row, &mut wrong);
    check_wire(&machine, row, &mut wrong);
    used[2] = u32::from(!row.blocked.wire && row.expect != Expect::Stuck);
    used[3] = u32::from(row.blocked.wire && row.expect != Expect::Pooled);
    check_machine(&machine, row, &mut wrong);
    if wrong.0.is_empty() {
        return Ok(used);
    }
    let seen = machine.seen.borrow();
    let lines: Vec<_> = seen
        .lines
        .iter()
        .map(|(us, level, line)| format!("{:>9} {} {line}", us / 1000, *level as u8))
        .collect();
    Err(format!(
        "{}: {:?}: {:#?}\n  told {:?}\n  records {:?}\n  {}",
        row.name,
        row.expect,
        wrong.0,
        machine.told(),
        machine.records(),
        lines.join("\n  ")
    ))
}

/// Nothing but what was planted went wrong with the processes themselves.
fn check_processes(machine: &Machine, wrong: &mut Wrong) {
    let seen = machine.seen.borrow();
    wrong.hold(seen.bugs.is_empty(), format!("bugs: {:?}", seen.bugs));
    // What hangs is killed, also by an init that ends nothing when the root is switched.
    wrong.hold(seen.left.is_empty(), format!("left in the real root: {:?}", seen.left));
    let killed = &seen.killed;
    wrong.hold(killed.len() == seen.hung, format!("killed: {killed:?}, {} hung", seen.hung));
    let is_busy = machine.system.borrow().kvp.as_ref().is_some_and(|kvp| kvp.is_busy && kvp.now.is_none());
    wrong.hold(!is_busy, "the device of KVP is not given back");
    wrong.hold(seen.triggers.is_empty(), "what was planted did not happen");
}

/// In the end: the report, and every trouble from before the first report of the real root.
fn check_kvp(machine: &Machine, row: &rows::Row, wrong: &mut Wrong) {
    let (expected, _) = row.expect.words();
    if row.blocked.kvp {
        wrong.hold(machine.read_us("").is_none(), "KVP: who read that?");
        return;
    }
    let records = machine.records();
    let report = records.iter().find(|(key, _)| key == KEY).map(|(_, value)| value.as_str());
    match row.expect {
        Expect::Stuck | Expect::Pooled => wrong.hold(report.is_none(), "KVP: a verdict"),
        _ => wrong.hold(report.is_some_and(|report| report.starts_with(&expected)), "KVP: report"),
    }
    let events: String =
        records.iter().filter(|(key, _)| key.contains("|timeline|")).map(|(_, v)| v.as_str()).collect();
    let until_us = machine.entered_us("report").unwrap_or(u64::MAX);
    // Without a root nobody comes by again: what was said before, and what is about the fault.
    let is_due = |us: u64, line: &str| match row.expect {
        Expect::Stuck => row.said.is_some_and(|said| line.contains(said)),
        // Nobody has come by yet.
        Expect::Pooled => false,
        _ => us < until_us && !row.blocked.events,
    };
    for (_, line) in machine.troubles().iter().filter(|(us, line)| is_due(*us, line)) {
        wrong.hold(events.contains(line.as_str()), format!("KVP: no event {line}"));
    }
}

/// What the initrd has to tell, within a second; what has to be waited for, not before.
fn check_times(machine: &Machine, row: &rows::Row, wrong: &mut Wrong) {
    let (expected, reason) = row.expect.words();
    let verdict_us = machine.said_us("this VM is not provisioned: ");
    let (told, _) = machine.told();
    let first = told.first();
    match row.expect {
        Expect::Pooled => {
            let is_said = machine.said_us("waiting for an owner").or(machine.said_us("not yet: "));
            wrong.hold(is_said.is_some(), "serial: what is waited for");
        }
        Expect::Waited(ref reason) => {
            // Without any interface nobody will answer.
            let (time_ms, count) = match reason.contains("find DHCP interface") {
                true => (25_000..=33_000, 1..=2),
                false => (285_000..=330_000, 4..=7),
            };
            let waited_us = machine.entered_us("imds").zip(verdict_us);
            let waited_ms = waited_us.map_or(0, |(begin, end)| end.saturating_sub(begin) / 1000);
            wrong.hold(time_ms.contains(&waited_ms), format!("IMDS is waited for {waited_ms} ms"));
            let troubles = machine.troubles();
            let lines = troubles.iter().filter(|(_, line)| line.contains("waiting for IMDS")).count();
            wrong.hold(count.contains(&lines), "serial: what is waited for");
            wrong.hold(first.is_none_or(|(us, _)| Some(*us) > verdict_us), "wireserver: too early");
        }
        Expect::Fatal(_) => {
            wrong.hold(verdict_us.is_some(), "serial: no verdict");
            let verdict_us = verdict_us.unwrap_or_default();
            if !row.blocked.kvp && !row.blocked.early_kvp {
                let in_time = machine.read_us(&expected).is_some_and(|us| us <= verdict_us + WITHIN_US);
                wrong.hold(in_time, format!("KVP: not within a second: {:?}", machine.read_us(&expected)));
            }
            let last_us = verdict_us.max(machine.said_us("lease of").unwrap_or_default());
            let in_time =
                first.is_some_and(|(us, text)| *us <= last_us + WITHIN_US && text.starts_with(&reason));
            wrong.hold(
                in_time || row.blocked.wire || row.blocked.early_wire,
                "wireserver: not within a second",
            );
        }
        _ => {}
    }
}

/// Exactly once, or given up for good reasons.
fn check_wire(machine: &Machine, row: &rows::Row, wrong: &mut Wrong) {
    let (_, wanted) = row.expect.words();
    let (mut told, tries) = machine.told();
    if row.is_pooled {
        let first = (!told.is_empty()).then(|| told.remove(0));
        wrong.hold(first.is_some_and(|(_, text)| text == "Ready"), "wireserver: not told of the pool");
    }
    let id = InstanceId::parse(ID).unwrap();
    let is_marked = seed::is_marked(&mut machine.root.clone(), seed::REPORTED, &id);
    wrong.hold(
        is_marked == (row.expect.is_ready() && !row.blocked.wire),
        format!("mark REPORTED: {is_marked}"),
    );
    if row.expect == Expect::Stuck {
        return wrong.hold(tries == 0, "wireserver: told without a verdict");
    }
    if row.expect == Expect::Pooled {
        let is_right = told.is_empty() && tries > 0;
        return wrong.hold(is_right, format!("wireserver: told {told:?} in {tries} tries"));
    }
    if !row.blocked.wire {
        let is_counted = told.len() == 1 || row.blocked.answers && told.len() > 1;
        let is_right = is_counted && told.iter().all(|(_, text)| text.starts_with(&wanted));
        return wrong.hold(is_right, format!("wireserver: told {told:?} in {tries} tries"));
    }
    wrong.hold(told.is_empty() && tries > 3, format!("wireserver: told {told:?} in {tries} tries"));
    let status = machine.run.text(super::STATUS).unwrap_or_default();
    let last = status.lines().rfind(|line| line.starts_with("report=")).unwrap_or_default();
    let ms = last.strip_prefix("report=failed ").and_then(|ms| ms.parse::<u64>().ok());
    let limit_ms = limits::REPORT_LATE_MS;
    wrong.hold(
        ms.is_some_and(|ms| (limit_ms / 2..=limit_ms + 1000).contains(&ms)),
        format!("wireserver: gave up {last}"),
    );
}

/// What became of the machine itself.
fn check_machine(machine: &Machine, row: &rows::Row, wrong: &mut Wrong) {
    let root = machine.root.dump();
    let text = |path: &str| machine.root.text(path).unwrap_or_default();
    let users = ["opsadmin", "azureuser"];
    let user = users.into_iter().find(|user| text("etc/passwd").contains(&format!("\n{user}:")));
    let is_kept = machine.run.text("seed/format").is_some()
        || root.keys().any(|path| path.starts_with("var/lib/preroot/pending"));
    if row.expect.is_ready() {
        let keys = user.map(|user| text(&format!("home/{user}/.ssh/authorized_keys"))).unwrap_or_default();
        let has_password = user.is_some_and(|user| text("etc/shadow").contains(&format!("\n{user}:$6$")));
        wrong.hold(has_password || keys.contains("ssh-"), format!("nobody can log in: {user:?}"));
        wrong.hold(!text("etc/hostname").is_empty(), "no host name");
        wrong.hold(is_kept == row.blocked.wire, format!("the seed is there: {is_kept}"));
    }
    if matches!(row.expect, Expect::Fatal(_) | Expect::Waited(_) | Expect::Pooled | Expect::Stuck) {
        wrong.hold(user.is_none(), format!("a user of a VM that is not provisioned: {user:?}"));
    }
    if row.growth == Growth::Next {
        wrong.hold(!machine.has_grown(), "grown in this boot");
        machine.grow_again();
    }
    wrong.hold(machine.has_grown() == (row.growth != Growth::Never), format!("growth {:?}", row.growth));
}

/// Every n-th row: how many there were, which ways they used, what was wrong.
fn check_each(
    first: usize,
    step: usize,
    only: Option<&str>,
    begun: &Sender<(usize, String)>,
) -> (u32, Used, Vec<String>) {
    let (mut count, mut used, mut wrong) = (0, [0; 4], Vec::new());
    let rows = rows::rows();
    let wanted = rows.iter().filter(|row| only.is_none_or(|only| row.name.contains(only)));
    for row in wanted.skip(first).step_by(step) {
        count += 1;
        begun.send((first, row.name.clone())).unwrap();
        match catch_unwind(AssertUnwindSafe(|| check(row))) {
            Ok(Ok(ways)) => used.iter_mut().zip(ways).for_each(|(sum, way)| *sum += way),
            Ok(Err(text)) => wrong.push(text),
            Err(_) => wrong.push(format!("{}: no machine to look at", row.name)),
        }
    }
    (count, used, wrong)
}

#[test]
fn what_does_not_end_is_a_failed_row_and_no_test_that_hangs() {
    let mut sim = Sim::new();
    sim.when("enter apply", 0, |_, turn| {
        loop {
            turn.wait(turn.now_us() + 60_000_000);
        }
    });
    let machine = sim.switch_on();
    assert_eq!(machine.stage(&["apply"]), 101);
    assert!(machine.seen.borrow().bugs.iter().any(|bug| bug.contains("no end after")));
}

#[test]
fn every_fault_reaches_the_host_by_every_way_there_is() {
    const WORKERS: usize = 4;
    const STACK_BYTES: usize = 16 << 20;
    /// Where no time passes the clock of the machine is of no help. A row takes a second, on a busy machine some.
    const STANDSTILL: Duration = Duration::from_secs(300);
    let (begun, rows_begun) = channel();
    let workers: Vec<_> = (0..WORKERS)
        .map(|first| {
            let begun = begun.clone();
            let work = move || {
                let only = std::env::var("PREROOT_FAULT").ok();
                check_each(first, WORKERS, only.as_deref(), &begun)
            };
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap()
        })
        .collect();
    drop(begun);
    let mut at = std::vec![String::new(); WORKERS];
    loop {
        match rows_begun.recv_timeout(STANDSTILL) {
            Ok((worker, row)) => at[worker] = row,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("one of these stands still: {at:?}"),
        }
    }
    let (mut count, mut used, mut wrong) = (0, [0; 4], Vec::new());
    for worker in workers {
        let (more, ways, others) = worker.join().unwrap();
        count += more;
        used.iter_mut().zip(ways).for_each(|(sum, way): (&mut u32, u32)| *sum += way);
        wrong.extend(others);
    }
    // Past the capture of tests that pass.
    let [serial, kvp, wire, gave_up] = used;
    let counts = format!(
        "faults: {count} of them; told on the serial console {serial}, in KVP {kvp}, taken by the wireserver {wire}, \
         given up {gave_up}; {} not as they should be\n",
        wrong.len()
    );
    std::io::Write::write_all(&mut std::io::stdout(), counts.as_bytes()).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(std::env::var("PREROOT_FAULT").is_ok() || count >= 200, "{count}");
}
