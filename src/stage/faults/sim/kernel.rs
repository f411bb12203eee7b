//! What does the kernel of the simulated boot do: time, the serial console, disks that fail, programs?

use super::{FIRST_PID, Machine, Turn};
use crate::error::{Errno, Result};
use crate::event::{Event, Level, Value};
use crate::format::ReadAt;
use crate::format::rtnetlink::LinkChange;
use crate::sys::fake::{FakeDir, FakeKvp, FakeSystem};
use crate::sys::{
    Block, CANCEL, Clock, Dir, Disks, DriveStatus, Ejected, KernelPartition, Loaded, Log, Messages, Mounted,
    Owner, System, Talk,
};
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::format;
use std::rc::Rc;
use std::vec::Vec;

pub(super) struct SimClock {
    pub(super) turn: Turn,
    pub(super) run: FakeDir,
    pub(super) wall_s: Rc<Cell<i64>>,
    /// [`CANCEL`] is for this process.
    pub(super) obeys: bool,
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
    fn watch(&mut self, ms: u64) {
        self.turn.alarm_us.set(self.turn.now_us() + ms * 1000);
    }
    fn is_cancelled(&mut self) -> bool {
        self.turn.now_us() >= self.turn.kill_us.get() || self.obeys && self.run.stat(CANCEL).is_ok()
    }
}

/// The serial console, and the timeline in memory.
pub(super) struct SimLog {
    pub(super) machine: Machine,
    pub(super) turn: Turn,
    pub(super) stage: &'static str,
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
pub(super) struct SimDisks {
    pub(super) machine: Machine,
    pub(super) turn: Turn,
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

pub(super) struct SimSystem {
    pub(super) machine: Machine,
    pub(super) system: Rc<RefCell<FakeSystem>>,
    pub(super) root: FakeDir,
    pub(super) turn: Turn,
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
    fn pid(&mut self) -> u32 {
        u32::try_from(FIRST_PID + self.turn.me).unwrap()
    }
    fn kill(&mut self, pid: u32) -> Result<()> {
        self.machine.shoot(pid);
        Ok(())
    }
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
        // SIGTERM wakes it.
        let until_us = until_us.min(self.turn.now_us() + 1_000_000).min(self.turn.kill_us.get());
        self.turn.wait(until_us);
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
