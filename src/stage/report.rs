//! How does the platform hear how provisioning went, and what must be gone once it has?
//!
//! The order: KVP record (the host takes its snapshot of the pool when the health report arrives), medium out,
//! health report, mark, secrets dropped. Each step can be repeated after a power cut; Ready is never sent again
//! once the mark says so.

mod proxy_agent;

use super::apply;
use super::fetch;
use super::identity;
use super::kvp::{self as host_reads, To};
use super::online::{self, Session};
use super::outcomes::Outcomes;
use super::persist::{FETCH_ENDED, FIRST_BOOT};
use super::pool;
use crate::cli::{Command, Verb};
use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::InstanceId;
use crate::format::goalstate::{GoalState, Reader};
use crate::limits;
use crate::machine::Platform;
use crate::net::Buffers;
use crate::net::lease::{Ipv4, Lease};
use crate::report::azure::{self, Answer, Ask, Conversation, Next};
use crate::report::health::{Health, Reason, describe, still_at_work};
use crate::report::kvp;
use crate::seed::{self, Context};
use crate::sys::linux::Scratch;
use crate::sys::{Dir, Ejected, Kernel, Owner};
use core::fmt::Write;

/// Below /run/preroot: the failure that the platform heard in this boot, so that it is told once.
const TOLD: &str = "failure-told";
/// A seed that must not be applied and does not say why: fetch did not get as far as that.
const CUT_SHORT: &str = "no provisioning data before the boot went on";
/// cloud-init's words, which the platform's pages explain.
const NO_VM_ID: &str = "failure to identify Azure VM ID";

/// What the platform is to hear.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Verdict {
    /// Everything was applied; the fault, if any, was not fatal and goes to KVP alone.
    Ready { id: InstanceId, fault: Option<Reason> },
    /// Given up.
    Failed(Reason),
}

/// Where the seed is, if it is anywhere, and what it says beside the facts.
#[derive(Default)]
struct Found {
    has_seed: bool,
    context: Context,
    /// Unsigned requests are refused until the image's proxy agent runs.
    wants_proxy_agent: bool,
}

/// Tells the platform.
///
/// # Errors
/// `NotApplicable` when there is nothing to tell, or not by this call; `NeedNetwork` when an early report did not
/// arrive; why the platform could not be told.
pub fn run(kernel: &mut Kernel<'_>, scratch: &mut Scratch, command: &Command) -> Result<()> {
    kernel.log.enter("report");
    let begin_us = kernel.clock.now_us();
    let machine = identity::observe(kernel);
    if machine.platform.is_none() {
        return Err(not_applicable!("not a platform of ours"));
    }
    let id = machine.vm_id;
    if !machine.platform.is_some_and(Platform::wants_report) {
        return conclude_alone(kernel, id.as_ref(), command);
    }
    if let Some(id) = &id
        && seed::is_marked(kernel.root, seed::REPORTED, id)
    {
        return reported_before(kernel, id, command);
    }
    if let Some(id) = &id
        && pool::is_pooled(kernel, id)
    {
        return Err(not_applicable!("a VM of a pool: it has no owner yet"));
    }
    let mut found = find_seed(kernel, id.as_ref());
    let mut verdict = decide(kernel, id.as_ref(), &found, command)?;
    if command.early && found.wants_proxy_agent {
        return Err(not_applicable!("the proxy agent must run first"));
    }
    if command.dry_run {
        say_plan(kernel, &verdict);
        return Ok(());
    }
    if found.wants_proxy_agent {
        verdict = signed(kernel, scratch, command, &mut found, verdict)?;
    }
    let Scratch { net: buffers, bytes: body, .. } = scratch;
    record(kernel, id.as_ref(), &verdict, body);
    let limit_ms = if command.early { limits::REPORT_EARLY_MS } else { limits::REPORT_LATE_MS };
    let until_us = begin_us.saturating_add(limit_ms * 1000);
    let (lease, is_early) = (found.context.lease.as_ref(), command.early);
    let mut way = Way { buffers, body, lease, is_early, until_us };
    match verdict {
        Verdict::Ready { id, .. } => {
            eject(kernel, &found.context);
            tell(kernel, &mut way, Health::Ready)?;
            kernel.say(Level::Info, "the platform knows: Ready", &[]);
            after_ready(kernel, &id)
        }
        Verdict::Failed(reason) => tell_failure(kernel, &mut way, id.as_ref(), &reason),
    }
}

/// Nothing leaves this machine before the proxy agent runs. What it signs may be asked: IMDS says what the medium did not, and
/// that is applied before the platform is told.
#[inline(never)]
fn signed(
    kernel: &mut Kernel<'_>,
    scratch: &mut Scratch,
    command: &Command,
    found: &mut Found,
    verdict: Verdict,
) -> Result<Verdict> {
    let is_waiting = found.context.verdict == seed::Verdict::Wait;
    let is_open = matches!(verdict, Verdict::Ready { .. }) || (is_waiting && command.failed.is_none());
    if let Err(reason) = proxy_agent::await_signing(kernel) {
        // Of two reasons the first is the one to know.
        return Ok(if is_open { Verdict::Failed(Reason::of(reason)) } else { verdict });
    }
    let machine = identity::observe(kernel);
    let Some(id) = machine.vm_id.filter(|_| is_open) else { return Ok(verdict) };
    let asked = fetch::ask_signed(kernel, scratch, &id);
    if asked == Err(Error::STOPPED) {
        return Err(Error::STOPPED);
    }
    if asked == Ok(true) {
        // All of it: what is as it should be stays, and what is done once is not done again.
        if seed::is_marked(kernel.root, seed::PROVISIONED, &id) {
            apply::marks::keep_done(kernel, &id);
        }
        // A boot that is cut in it begins there again.
        let _ = seed::unmark(kernel.root, seed::PROVISIONED);
        let Scratch { facts, bytes, net, .. } = &mut *scratch;
        let applied = apply::run(kernel, facts, bytes, net, &Command { verb: Verb::Apply, ..*command });
        kernel.log.enter("report");
        if let Err(error) = applied {
            kernel.say(Level::Error, "what IMDS said was not applied: {}", &[Value::Why(error)]);
        }
    }
    *found = find_seed(kernel, Some(&id));
    decide(kernel, Some(&id), found, command)
}

/// Where nobody waits to hear: once everything is applied, the secrets go, and that is all.
fn conclude_alone(kernel: &mut Kernel<'_>, id: Option<&InstanceId>, command: &Command) -> Result<()> {
    let none = not_applicable!("this platform wants no report");
    let Some(id) = id else { return Err(none) };
    if seed::is_marked(kernel.root, seed::PROVISIONED, id) && !command.dry_run {
        after_ready(kernel, id)?;
    }
    Err(none)
}

fn tell_failure(
    kernel: &mut Kernel<'_>,
    way: &mut Way<'_>,
    id: Option<&InstanceId>,
    reason: &Reason,
) -> Result<()> {
    if was_told(kernel.run, reason) {
        return Err(not_applicable!("the platform was told of this failure"));
    }
    let text = describe(reason, id);
    tell(kernel, way, Health::Failed(&text))?;
    kernel.say(Level::Warning, "the platform knows: provisioning failed", &[]);
    note_told(kernel.run, reason);
    Ok(())
}

/// Tells the platform of a fatal verdict at once, over the session that the stage has: one try per form,
/// no longer than [`limits::REPORT_EARLY_MS`]. The stage keeps the reason in the seed in case this fails.
///
/// # Errors
/// Why the platform could not be told; the late report tries again.
pub fn fatal(
    session: &mut Session<'_>,
    run: &mut dyn Dir,
    body: &mut [u8],
    id: Option<&InstanceId>,
    reason: &Reason,
) -> Result<()> {
    if was_told(run, reason) {
        return Ok(());
    }
    let text = describe(reason, id);
    let until_us = session.now_us().saturating_add(limits::REPORT_EARLY_MS * 1000);
    let address = session.wireserver();
    speak(session, address, Health::Failed(&text), body, Pace { until_us, is_patient: false })?;
    session.say(Level::Warning, "the platform knows: provisioning failed", &[]);
    note_told(run, reason);
    Ok(())
}

/// Tells the platform that a VM of a pool is ready for an owner, within [`limits::POOL_TRY_MS`].
///
/// # Errors
/// Why it may not have heard.
pub(super) fn ready_in_pool(session: &mut Session<'_>, body: &mut [u8]) -> Result<()> {
    let until_us = session.now_us().saturating_add(limits::POOL_TRY_MS * 1000);
    let address = session.wireserver();
    speak(session, address, Health::Ready, body, Pace { until_us, is_patient: true })
}

/// Tells the platform that this VM is still worked on, so that nobody gives it up: one try per form. Nothing depends on it.
pub(super) fn in_progress(session: &mut Session<'_>, body: &mut [u8], id: &InstanceId) {
    let until_us = session.now_us().saturating_add(limits::REPORT_EARLY_MS * 1000);
    let (address, text) = (session.wireserver(), still_at_work(id));
    let pace = Pace { until_us, is_patient: false };
    match speak(session, address, Health::Provisioning(&text), body, pace) {
        Ok(()) => session.say(Level::Info, "the platform knows: still at work", &[]),
        Err(error) => {
            session.say(Level::Info, "the platform may wonder: {}", &[Value::Why(error)]);
        }
    }
}

/// The same over the initrd's lease, before the OS has a network.
#[inline(never)]
pub(super) fn in_progress_over(
    kernel: &mut Kernel<'_>,
    buffers: &mut Buffers,
    body: &mut [u8],
    lease: &Lease,
    id: &InstanceId,
) {
    let until_us = kernel.clock.now_us().saturating_add(limits::REPORT_EARLY_MS * 1000);
    let outcome = online::with_saved_lease(kernel, buffers, lease, until_us, &mut |session, _| {
        in_progress(session, body, id);
        Ok(())
    });
    if let Err(error) = outcome {
        kernel.say(Level::Info, "the platform may wonder: {}", &[Value::Why(error)]);
    }
}

/// Takes the medium of this boot's seed out.
pub(super) fn eject_medium(kernel: &mut Kernel<'_>) {
    let context = seed::load_context(kernel.run, seed::SEED).unwrap_or_default();
    eject(kernel, &context);
}

/// A boot after the platform took our Ready. A power cut may have come before the secrets were dropped.
fn reported_before(kernel: &mut Kernel<'_>, id: &InstanceId, command: &Command) -> Result<()> {
    if command.failed.is_some() {
        let text = "a unit failed, but the platform was told Ready before and is not told again";
        kernel.say(Level::Warning, text, &[]);
    }
    drop_secrets(kernel, id)?;
    Err(not_applicable!("reported before"))
}

/// The seed of this boot, else the one kept on the root. A seed that is not to be trusted counts as none.
fn find_seed(kernel: &mut Kernel<'_>, id: Option<&InstanceId>) -> Found {
    if seed::verify(kernel.run, seed::SEED).is_ok() {
        return look_into(kernel.run, seed::SEED);
    }
    let Some(pending) = id.and_then(|id| seed::pending(id).ok()) else { return Found::default() };
    if seed::verify(kernel.root, &pending).is_err() {
        return Found::default();
    }
    let mut found = look_into(kernel.root, &pending);
    // It is from an earlier boot: the address could be another VM's by now.
    found.context.lease = None;
    found
}

fn look_into(dir: &mut dyn Dir, base: &str) -> Found {
    Found {
        has_seed: true,
        context: seed::load_context(dir, base).unwrap_or_default(),
        wants_proxy_agent: seed::wants_proxy_agent(dir, base),
    }
}

fn decide(
    kernel: &mut Kernel<'_>,
    id: Option<&InstanceId>,
    found: &Found,
    command: &Command,
) -> Result<Verdict> {
    let failure = found.context.failure.as_deref().map(Reason::of);
    let apply_failure = apply_failure(kernel.run);
    if let Some(text) = command.failed {
        return Ok(Verdict::Failed(apply_failure.unwrap_or_else(|| Reason::of(text))));
    }
    let Some(id) = id else { return Ok(Verdict::Failed(Reason::of(NO_VM_ID))) };
    if seed::is_marked(kernel.root, seed::PROVISIONED, id) {
        return Ok(Verdict::Ready { id: id.clone(), fault: failure });
    }
    let verdict = found.context.verdict;
    if command.early && verdict == seed::Verdict::Wait {
        return Err(not_applicable!("IMDS is to be asked again first"));
    }
    // One that still waits: whoever was to ask again did not get to the end of it.
    if verdict != seed::Verdict::Provision {
        return Ok(Verdict::Failed(failure.unwrap_or_else(|| Reason::of(CUT_SHORT))));
    }
    match apply_failure {
        // Also of a seed that was refused, and so counts as none here.
        Some(reason) => Ok(Verdict::Failed(reason)),
        None if !found.has_seed && !is_cut_short(kernel.run) => {
            Err(not_applicable!("nothing was provisioned"))
        }
        None if command.early => Err(not_applicable!("apply has not finished")),
        None if !found.has_seed => Ok(Verdict::Failed(Reason::of(CUT_SHORT))),
        None => Ok(Verdict::Failed(Reason::of("apply did not finish"))),
    }
}

/// True on a first boot whose fetch never came to its end, or was ended before it had a seed.
fn is_cut_short(run: &mut dyn Dir) -> bool {
    run.stat(FIRST_BOOT).is_ok()
        && (run.stat(FETCH_ENDED).is_err()
            || Outcomes::read(run, &mut [0; 128]).is_ok_and(|all| all.ended("fetch", "failed")))
}

/// What this boot's apply left as its reason.
fn apply_failure(run: &mut dyn Dir) -> Option<Reason> {
    let mut buf = [0; limits::REASON];
    let length = run.read(super::apply::FAILURE, &mut buf).ok()?;
    core::str::from_utf8(buf.get(..length)?).ok().map(Reason::of)
}

fn say_plan(kernel: &mut Kernel<'_>, verdict: &Verdict) {
    let text = match verdict {
        Verdict::Ready { .. } => {
            "would write the KVP record, eject the medium, report Ready and drop the seed"
        }
        Verdict::Failed(_) => "would write the KVP record and report ProvisioningFailed",
    };
    kernel.say(Level::Info, text, &[]);
}

/// The KVP records. The boot goes on without them.
fn record(kernel: &mut Kernel<'_>, id: Option<&InstanceId>, verdict: &Verdict, window: &mut [u8]) {
    let wall_s = kernel.clock.wall_s();
    let value = match verdict {
        Verdict::Ready { id, fault } => kvp::success(id, fault.as_ref(), wall_s),
        Verdict::Failed(reason) => kvp::failure(reason, id, wall_s),
    };
    let told = host_reads::hand_over(kernel).and_then(|()| {
        let mut to = To { run: kernel.run, root: Some(kernel.root) };
        to.tell(&value, id, window)
    });
    if let Err(error) = told {
        kernel.say(Level::Warning, "no KVP record for the host: {}", &[Value::Why(error)]);
    }
}

/// Takes the medium out, so that nobody can read the clear password from it later. Everything it said is on
/// the root by now. Source: cloud-init pull request 348.
fn eject(kernel: &mut Kernel<'_>, context: &Context) {
    let Some(drive) = &context.medium else { return };
    let name = Value::Name(drive.as_str());
    match kernel.disks.eject(drive.as_str()) {
        Ok(Ejected::Out) => kernel.say(Level::Info, "medium ejected from {}", &[name]),
        Ok(Ejected::Empty) => {}
        Ok(Ejected::Underway) => {
            kernel.say(Level::Info, "{} takes its time to eject; the report does not wait", &[name]);
        }
        Err(error) => {
            let values = [name, Value::Why(error)];
            kernel.say(Level::Warning, "the medium stays in {}: {}", &values);
        }
    }
}

/// Marks first: a cut after it drops the secrets at the next boot, a cut before it reports again.
fn after_ready(kernel: &mut Kernel<'_>, id: &InstanceId) -> Result<()> {
    let marked =
        seed::mark(kernel.root, seed::REPORTED, id).and_then(|()| seed::unmark(kernel.root, seed::POOL));
    drop_secrets(kernel, id)?;
    marked
}

fn drop_secrets(kernel: &mut Kernel<'_>, id: &InstanceId) -> Result<()> {
    seed::forget(kernel.run, kernel.root, id)
}

fn was_told(run: &mut dyn Dir, reason: &Reason) -> bool {
    let mut buf = [0; limits::REASON];
    let length = run.read(TOLD, &mut buf).unwrap_or_default();
    buf.get(..length) == Some(reason.as_str().as_bytes())
}

fn note_told(run: &mut dyn Dir, reason: &Reason) {
    let _ = run.remove(TOLD);
    // Telling twice is harmless: nothing depends on this note.
    let _ = run.create(TOLD, Owner::root(0o644), reason.as_str().as_bytes());
}

/// Over what the platform is told.
struct Way<'w> {
    buffers: &'w mut Buffers,
    body: &'w mut [u8],
    lease: Option<&'w Lease>,
    is_early: bool,
    /// Counted from the start of the stage: an eject that takes long is in it.
    until_us: u64,
}

/// Early: one try. That it failed is nothing to worry about, the late report follows.
fn tell(kernel: &mut Kernel<'_>, way: &mut Way<'_>, health: Health<'_>) -> Result<()> {
    match connect(kernel, way, health) {
        Err(error) if way.is_early => {
            let text = "not told yet: {}; tried again once the network is up";
            kernel.say(Level::Info, text, &[Value::Why(error)]);
            Err(Error::NEED_NETWORK)
        }
        outcome => outcome,
    }
}

/// Early over our own stack, so that the kernel's network stays as it is; late over the kernel's.
fn connect(kernel: &mut Kernel<'_>, way: &mut Way<'_>, health: Health<'_>) -> Result<()> {
    let until_us = way.until_us;
    let pace = Pace { until_us, is_patient: !way.is_early };
    let (lease, body) = (way.lease, &mut *way.body);
    let mut work = |session: &mut Session<'_>, _: &mut online::Rest<'_>| {
        let address = lease.and_then(|lease| lease.wireserver).unwrap_or_else(|| session.wireserver());
        speak(session, address, health, body, pace)
    };
    match lease {
        Some(lease) if way.is_early => {
            online::with_saved_lease(kernel, way.buffers, lease, until_us, &mut work)
        }
        None if way.is_early => Err(Error::NEED_NETWORK),
        _ => online::with_kernel_network(kernel, way.buffers, &mut work),
    }
}

/// How long, and whether failed requests are repeated.
#[derive(Clone, Copy)]
struct Pace {
    until_us: u64,
    is_patient: bool,
}

/// Talks to the wireserver until it has taken the report.
fn speak(
    session: &mut Session<'_>,
    address: Ipv4,
    health: Health<'_>,
    body: &mut [u8],
    pace: Pace,
) -> Result<()> {
    let mut conversation = Conversation::new();
    let mut goal = None;
    let mut next = conversation.start();
    let mut last = deadline!("wireserver", 0);
    loop {
        let (ask, after_ms) = match next {
            Next::Done => return Ok(()),
            Next::Send { ask, after_ms } => (ask, after_ms),
        };
        let wake_us = session.now_us().saturating_add(after_ms * 1000);
        if wake_us >= pace.until_us || (after_ms > 0 && !pace.is_patient) || session.is_cancelled() {
            return Err(last);
        }
        session.sleep_ms(after_ms);
        let until_us = pace.until_us.min(session.now_us().saturating_add(limits::REPORT_TRY_MS * 1000));
        let answer = exchange(session, address, ask, health, &mut goal, body, until_us);
        if let Some(error) = fault_of(answer)
            && error != last
        {
            say_fault(session, answer);
            last = error;
        }
        next = conversation.next(answer);
    }
}

fn fault_of(answer: Answer) -> Option<Error> {
    match answer {
        Answer::Failed(error) => Some(error),
        Answer::Status(outcome) if outcome.is_success() => None,
        Answer::Status(_) => Some(unsupported!("wireserver", "http error from wireserver")),
    }
}

fn say_fault(session: &mut Session<'_>, answer: Answer) {
    match answer {
        Answer::Status(outcome) => {
            let values = [Value::Number(outcome.status.into())];
            session.say(Level::Info, "the wireserver answers with status {}", &values);
        }
        Answer::Failed(error) => {
            session.say(Level::Info, "no answer from the wireserver: {}", &[Value::Why(error)]);
        }
    }
}

/// One request and its answer; a goal state is kept in `goal`.
fn exchange(
    session: &mut Session<'_>,
    address: Ipv4,
    ask: Ask,
    health: Health<'_>,
    goal: &mut Option<GoalState>,
    body: &mut [u8],
    until_us: u64,
) -> Answer {
    let mut host = heapless::String::<16>::new();
    let _ = write!(host, "{}", Value::Ipv4(address));
    let request = match azure::request(ask, health, goal.as_ref(), &host, body) {
        Ok(request) => request,
        Err(error) => return Answer::Failed(error),
    };
    let mut reader = Reader::new();
    let received = session.exchange(address, &request, limits::GOAL_STATE, until_us, &mut |piece| {
        if ask == Ask::GoalState { reader.push(piece) } else { Ok(()) }
    });
    match received {
        Ok(outcome) if ask == Ask::GoalState && outcome.is_success() => match reader.finish() {
            Ok(state) => {
                *goal = Some(state);
                Answer::Status(outcome)
            }
            Err(error) => Answer::Failed(error),
        },
        Ok(outcome) => Answer::Status(outcome),
        Err(error) => Answer::Failed(error),
    }
}

#[cfg(test)]
mod tests;
