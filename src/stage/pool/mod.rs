//! A VM that does not know yet who it is to be: what does it wait for, and how does it learn it?
//!
//! One that IMDS had no answer for in the initrd waits for that: [`imds`]. The others are of a pool, started before anybody
//! asked for them: they wait for their owner, and become theirs.
//!
//! The story: tell the platform Ready, as what it is now; wait until it is in its owner's network; ask for the document
//! that the medium would hold; leave what it says as the seed of this boot. `apply` and `report` follow, as on any first
//! boot. What the first medium said is never applied. A reboot on the way goes on where it was: [`seed::POOL`] says that
//! the platform was told. Source: cloud-init, sources/DataSourceAzure.py (`_determine_pps_type`, `_poll_imds`,
//! `_wait_for_pps_running_reuse`, `_wait_for_pps_savable_reuse`, `_wait_for_pps_os_disk_shutdown`).

mod imds;
mod owner;

use super::identity;
use super::online::{self, Session};
use super::report;
use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::{InstanceId, PreProvisioning};
use crate::format::rtnetlink::{LinkChange, State};
use crate::limits;
use crate::machine::Platform;
use crate::seed;
use crate::sys::linux::Scratch;
use crate::sys::{Clock, Dir, Kernel, Owner, System};

/// Below /run/preroot: apply saw that this VM waits for an owner.
pub(super) const WAITS: &str = "pool";
/// Below /run/preroot: it has one, and the seed is theirs.
pub(super) const OVER: &str = "pool.over";

/// What a VM waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    /// Its interface loses its carrier, and has it again: it runs on while its virtual switch is exchanged.
    Switch,
    /// Its interface goes, and another comes: it is frozen, and thawed with other hardware.
    Card,
    /// That it is switched off: only its disk will live on.
    PowerOff,
    /// For nothing but its owner's document: it was moved, or restarted after it told.
    Document,
    /// It is of no pool, as far as anybody knows, and IMDS has to say who it is to be.
    Imds,
}

/// What this VM waits for; `None`: for nothing; it is of no pool, or has its owner. A seed that speaks of a pool is a placeholder's,
/// whatever else is noted.
#[inline(never)]
fn wait_of(run: &mut dyn Dir, root: &mut dyn Dir, id: &InstanceId) -> Option<Wait> {
    if seed::is_marked(root, seed::PROVISIONED, id) {
        return None;
    }
    let is_told = seed::is_marked(root, seed::POOL, id);
    let wait = match seed::load_pre_provisioning(run, root, id) {
        PreProvisioning::Running => Wait::Switch,
        PreProvisioning::Savable => Wait::Card,
        PreProvisioning::OsDisk => Wait::PowerOff,
        // Of what type nobody knows, the initrd has told the platform.
        PreProvisioning::None | PreProvisioning::Unknown => {
            if is_told && run.stat(OVER).is_err() {
                return Some(Wait::Document);
            }
            // Who must sign asks later, over the kernel's network: report does.
            let is_ours = seed::is_waiting(run, root, id) && !seed::wants_proxy_agent(run, seed::SEED);
            return is_ours.then_some(Wait::Imds);
        }
    };
    Some(if is_told { Wait::Document } else { wait })
}

/// For apply: nothing of this boot's seed is this VM's own, or not enough.
pub(super) fn is_waiting(kernel: &mut Kernel<'_>, id: &InstanceId) -> bool {
    wait_of(kernel.run, kernel.root, id).is_some()
}

/// For report: this VM is nobody's. That one waits for IMDS ends with a verdict, which is told.
pub(super) fn is_pooled(kernel: &mut Kernel<'_>, id: &InstanceId) -> bool {
    wait_of(kernel.run, kernel.root, id).is_some_and(|wait| wait != Wait::Imds)
}

/// Waits for IMDS, or for the owner, as long as it takes, and leaves their seed.
///
/// # Errors
/// `NotApplicable` where nothing is waited for; `Error::STOPPED`; the verdict on the owner's data, which the platform knows then.
#[inline(never)]
pub(super) fn run(kernel: &mut Kernel<'_>, scratch: &mut Scratch, is_dry_run: bool) -> Result<()> {
    kernel.clock.watch(limits::POOL_WATCH_MS);
    kernel.log.enter("pool");
    let machine = identity::observe(kernel);
    let id = machine.vm_id.filter(|_| machine.platform == Some(Platform::Azure));
    let id = id.ok_or(not_applicable!("not a VM of Azure's"))?;
    let mut wait = wait_of(kernel.run, kernel.root, &id).ok_or(not_applicable!("nothing is waited for"))?;
    if is_dry_run {
        let text = match wait {
            Wait::Imds => "would ask IMDS again",
            _ => "would tell the platform Ready and wait for this VM's owner",
        };
        kernel.say(Level::Info, text, &[]);
        return Ok(());
    }
    // Of a process before this one, which was ended.
    online::give_back(kernel);
    if wait == Wait::Imds {
        imds::await_answer(kernel, scratch, &id)?;
        // IMDS may have said that this VM is of a pool.
        match wait_of(kernel.run, kernel.root, &id) {
            None => return Ok(()),
            Some(next) => wait = next,
        }
        kernel.log.enter("pool");
    }
    if wait != Wait::Document {
        tell(kernel, scratch, wait, &id)?;
    }
    let outcome = owner::await_document(kernel, scratch, id);
    if outcome != Err(Error::STOPPED) {
        // Also of a verdict that is fatal: report tells it, if nobody has heard.
        let _ = kernel.run.create_unsynced(OVER, Owner::root(0o644), b"");
        kernel.say(Level::Info, "this VM has an owner", &[]);
    }
    outcome
}

/// Tells the platform Ready, again and again until it has heard, and waits to be moved.
fn tell(kernel: &mut Kernel<'_>, scratch: &mut Scratch, wait: Wait, id: &InstanceId) -> Result<()> {
    report::eject_medium(kernel);
    let Scratch { net, bytes, .. } = scratch;
    let mut complaint = Complaint::default();
    loop {
        let mut told = None;
        kernel.clock.watch(limits::POOL_WATCH_MS);
        // Without a name: the pool's must not get into a DNS.
        let outcome = online::with_lease(kernel, net, None, &mut |session, rest| {
            rest.system.follow_links()?;
            let moving = Move::new(wait, session.link_index(), session.carrier_changes());
            match report::ready_in_pool(session, bytes) {
                // A VM that is frozen in the middle of its request does not see the answer.
                Err(error) if wait == Wait::Card && !session.is_cancelled() => {
                    let text = "the platform may not have heard: {}; it is waited for all the same";
                    session.say(Level::Warning, text, &[Value::Why(error)]);
                }
                outcome => outcome?,
            }
            note(session, rest.root, wait, id);
            let moving = told.insert(moving);
            match wait {
                Wait::Switch => await_move(rest.system, session.clock(), moving),
                Wait::PowerOff => sleep_for_ever(session),
                Wait::Card | Wait::Document | Wait::Imds => Ok(()),
            }
        });
        match told {
            Some(mut moving) if wait == Wait::Card => {
                await_move(kernel.system, kernel.clock, &mut moving)?;
            }
            Some(_) => outcome?,
            None => {
                complaint.say(kernel, outcome)?;
                continue;
            }
        }
        kernel.say(Level::Info, "moved to another network", &[]);
        net.told = None;
        return Ok(());
    }
}

/// So that a reboot does not tell again. Where only the disk lives on, the VM that will have it tells for itself.
fn note(session: &mut Session<'_>, root: &mut dyn Dir, wait: Wait, id: &InstanceId) {
    session.say(Level::Info, "the platform knows: Ready, in its pool; waiting for an owner", &[]);
    if wait == Wait::PowerOff {
        return;
    }
    if let Err(error) = seed::mark(root, seed::POOL, id) {
        let text = "after a reboot the platform would be told again: {}";
        session.say(Level::Warning, text, &[Value::Why(error)]);
    }
}

/// The host switches the machine off, and a year is as good as ever.
fn sleep_for_ever(session: &mut Session<'_>) -> Result<()> {
    let until_us = session.now_us().saturating_add(limits::POOL_POWER_OFF_MS * 1000);
    while !session.is_cancelled() && session.now_us() < until_us {
        session.clock().watch(limits::POOL_WATCH_MS);
        session.sleep_ms(limits::POOL_LOOK_MS);
    }
    match session.is_cancelled() {
        true => Err(Error::STOPPED),
        false => Err(deadline!("host shutdown", limits::POOL_POWER_OFF_MS)),
    }
}

/// How far it is on its way to the owner's network.
struct Move {
    wait: Wait,
    /// The interface that the platform was told over; `None`: the kernel's own network had it.
    index: Option<u32>,
    /// How often its carrier had changed by then.
    carrier_changes: Option<u32>,
    /// It left the pool's.
    is_away: bool,
}

impl Move {
    const fn new(wait: Wait, index: Option<u32>, carrier_changes: Option<u32>) -> Self {
        Self { wait, index, carrier_changes, is_away: false }
    }

    /// True once it has arrived.
    fn is_over(&mut self, change: LinkChange) -> bool {
        let is_ours = self.index.is_none_or(|index| index == change.index);
        match (self.wait, change.state) {
            (Wait::Switch, State::Down | State::Gone) if is_ours => self.is_away = true,
            (Wait::Switch, State::Up) => {
                let was_away =
                    change.carrier_changes > self.carrier_changes && self.carrier_changes.is_some();
                // Under another number, where the host exchanged the hardware as well.
                return self.is_away || (is_ours && was_away);
            }
            (Wait::Card, State::Gone) if is_ours => self.is_away = true,
            (Wait::Card, State::Up | State::Down | State::Unknown) => return self.is_away,
            _ => {}
        }
        false
    }
}

/// Waits until the kernel has announced it.
fn await_move(system: &mut dyn System, clock: &mut dyn Clock, moving: &mut Move) -> Result<()> {
    let mut is_over = false;
    while !is_over {
        if clock.is_cancelled() {
            return Err(Error::STOPPED);
        }
        clock.watch(limits::POOL_WATCH_MS);
        let until_us = clock.now_us().saturating_add(limits::POOL_LOOK_MS * 1000);
        match system.link_changes(until_us, &mut |change| is_over |= moving.is_over(change)) {
            // What is lost, or cannot be heard, may have been it. The platform has no document yet if it was not.
            Err(error) if error.errno().is_some() => return Ok(()),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// What does not work is said once, and tried less and less often: a VM may be in its pool for days.
#[derive(Default)]
struct Complaint {
    error: Option<Error>,
    pause_ms: u64,
}

impl Complaint {
    /// Says why a try failed and waits before the next.
    fn say(&mut self, kernel: &mut Kernel<'_>, outcome: Result<()>) -> Result<()> {
        if kernel.clock.is_cancelled() {
            return Err(Error::STOPPED);
        }
        self.pause_ms = (self.pause_ms * 2).clamp(limits::POOL_PAUSE_MS, limits::POOL_LONGEST_MS);
        if let Err(error) = outcome
            && self.error.replace(error) != Some(error)
        {
            kernel.say(Level::Warning, "not yet: {}; tried again until it works", &[Value::Why(error)]);
            self.pause_ms = limits::POOL_PAUSE_MS;
        }
        kernel.clock.sleep_ms(self.pause_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
