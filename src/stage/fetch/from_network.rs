//! What does IMDS say, and what follows from everything that was said?

use super::{STAGE, identify};
use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::{Fact, Facts, Hostname, InstanceId, PreProvisioning, Provenance};
use crate::limits;
use crate::net::lease::Lease;
use crate::plan::{self, Fault, Outcome, Verdict};
use crate::report::health::Reason;
use crate::report::kvp;
use crate::seed::{self, Context};
use crate::source;
use crate::source::azure_imds::{ImdsReader, Learned};
use crate::stage::kvp::To;
use crate::stage::online::{self as network, Body, Refusal, Rest, Session};
use crate::stage::persist::{FIRST_BOOT, MOUNT_LATER, ON_LINE};
use crate::stage::report;
use crate::sys::linux::Scratch;
use crate::sys::{Clock, Dir, Kernel, Owner};

const NO_RECORD: &str = "no KVP record for the host: {}";

/// Takes a lease, asks IMDS, weighs everything and publishes the seed again; a fatal verdict is for the host to read at
/// once, and reported over the same lease. With `is_lost` an earlier process did not get to the end of that: IMDS is not
/// asked again, and nobody dies of the same question twice.
///
/// # Errors
/// `NotApplicable` on a machine that is not ours or with a specialised disk; the fatal verdict's error.
pub(in crate::stage) fn online(kernel: &mut Kernel<'_>, scratch: &mut Scratch, is_lost: bool) -> Result<()> {
    kernel.log.enter(STAGE);
    let Scratch { facts, bytes, .. } = &mut *scratch;
    let id = identify(kernel)?;
    let mut gathered = Gathered::load(kernel, bytes, facts);
    facts.instance_id = Some(Fact { value: id, from: Provenance::Dmi });
    seed::begin(kernel.run)?;
    if Fact::is_true(facts.wants_proxy_agent.as_ref()) {
        kernel.say(Level::Info, "the proxy agent must sign requests: IMDS is not asked from here", &[]);
        return gathered.without_network(kernel, bytes, facts, Outcome::NotAsked);
    }
    if is_lost {
        gathered.imds_fault = Some(unsupported!("fetch", "unhandled exception"));
        let outcome = gathered.without_network(kernel, bytes, facts, Outcome::Bad);
        if !gathered.is_final {
            return outcome;
        }
    }
    let task = if is_lost { Task::TellLost } else { Task::Ask };
    // The note before the look: `persist` does it the other way round, so one of the two sees the other.
    let _ = kernel.run.create_unsynced(ON_LINE, Owner::root(0o644), b"");
    let outcome = match kernel.clock.is_cancelled() {
        true => Err(Error::STOPPED),
        false => over_network(kernel, scratch, &mut gathered, task),
    };
    let _ = kernel.run.remove(ON_LINE);
    if kernel.clock.is_cancelled() {
        seed::abandon(kernel.run)?;
    }
    outcome
}

/// In the real root, where the initrd's IMDS did not answer well: asks again and again until it does, or `until_us` is
/// over. What is fatal then is for the report that follows.
///
/// # Errors
/// As [`online`].
pub(in crate::stage) fn ask_again(
    kernel: &mut Kernel<'_>,
    scratch: &mut Scratch,
    id: &InstanceId,
    until_us: u64,
) -> Result<()> {
    let (mut say_us, mut pause_ms, mut tell_us) = (0, limits::IMDS_SAY_MS, 0);
    let (mut last, mut is_known) = (None, false);
    let card_us = kernel.clock.now_us().saturating_add(limits::NO_CARD_AGAIN_MS * 1000);
    loop {
        let now_us = kernel.clock.now_us();
        // A card whose driver only the root has is there by then; without one nobody will ever answer.
        let until_us = if last == Some(Error::NO_CARD) { until_us.min(card_us) } else { until_us };
        // Once more as soon as it is known why.
        let is_news = last.is_some() && !core::mem::replace(&mut is_known, last.is_some());
        if now_us >= say_us || is_news {
            let left_s = Value::Number(until_us.saturating_sub(now_us) / 1_000_000);
            let why = Value::Text(last.map_or("the initrd had no answer", |error: Error| error.reason()));
            let text =
                "waiting for IMDS, {} s at most: {}; rd.preroot=0 on the kernel command line boots without";
            kernel.say(Level::Warning, text, &[left_s, why]);
            say_us = now_us.saturating_add(pause_ms * 1000);
            pause_ms = (pause_ms * 2).min(limits::IMDS_SAY_LONGEST_MS);
        }
        let Scratch { facts, bytes, .. } = &mut *scratch;
        let mut gathered = Gathered::load(kernel, bytes, facts);
        gathered.is_in_root = true;
        facts.instance_id = Some(Fact { value: id.clone(), from: Provenance::Dmi });
        seed::begin(kernel.run)?;
        let outcome =
            over_network(kernel, scratch, &mut gathered, Task::AskAgain { until_us, tell_us: &mut tell_us });
        if kernel.clock.is_cancelled() {
            seed::abandon(kernel.run)?;
            return Err(Error::STOPPED);
        }
        if gathered.is_concluded {
            return outcome;
        }
        let now_us = kernel.clock.now_us();
        last = gathered.imds_fault;
        let left_ms = until_us.saturating_sub(now_us) / 1000;
        let pause_ms = gathered.pause_ms.max(limits::POOL_PAUSE_MS);
        kernel.clock.sleep_ms(pause_ms.min(left_ms.saturating_sub(limits::IMDS_MS)));
    }
}

/// In the real root, once the image's proxy agent signs what goes over the kernel's network: IMDS as the initrd would have
/// asked it. What is known then is this boot's seed, on the root too. False: IMDS said nothing.
///
/// # Errors
/// `NotApplicable` where the initrd left no seed; as [`online`].
#[inline(never)]
pub(in crate::stage) fn ask_signed(
    kernel: &mut Kernel<'_>,
    scratch: &mut Scratch,
    id: &InstanceId,
) -> Result<bool> {
    seed::verify(kernel.run, seed::SEED).map_err(|_| not_applicable!("no seed to persist"))?;
    let Scratch { facts, bytes, imds, net, .. } = scratch;
    let mut gathered = Gathered::load(kernel, bytes, facts);
    gathered.is_in_root = true;
    facts.instance_id = Some(Fact { value: id.clone(), from: Provenance::Dmi });
    seed::begin(kernel.run)?;
    let until_us = kernel.clock.now_us().saturating_add(limits::IMDS_AGAIN_MS * 1000);
    let mut is_heard = false;
    network::with_kernel_network(kernel, net, &mut |session, rest| {
        let asked = match gathered.ask(session, rest.run, imds, facts, until_us) {
            _ if session.is_cancelled() => return Err(Error::STOPPED),
            Outcome::Late => Outcome::Bad,
            asked => asked,
        };
        is_heard = asked == Outcome::Good;
        let verdict = gathered.conclude(rest.run, facts, asked);
        gathered.say_verdict(&mut |level, text, values| session.say(level, text, values));
        verdict?;
        seed::persist(rest.run, rest.root, id).map(|_| ())
    })?;
    Ok(is_heard)
}

/// What a network is wanted for.
enum Task<'t> {
    /// To ask IMDS, in the initrd.
    Ask,
    /// To ask it in the real root, in tries, until then.
    AskAgain {
        until_us: u64,
        /// When the platform is to hear next that this VM is still worked on.
        tell_us: &'t mut u64,
    },
    /// To tell that an earlier process did not get to the end of that.
    TellLost,
}

impl Task<'_> {
    /// How long one try may last.
    fn try_until_us(&self, now_us: u64) -> u64 {
        match self {
            Self::AskAgain { until_us, .. } => {
                now_us.saturating_add(limits::IMDS_TRIES_MS * 1000).min(*until_us)
            }
            Self::Ask | Self::TellLost => now_us.saturating_add(limits::IMDS_MS * 1000),
        }
    }

    /// True when another try follows one that ended so: it would have as long as one in the initrd.
    fn goes_on(&self, now_us: u64, asked: Outcome) -> bool {
        let end_us = now_us.saturating_add(limits::IMDS_MS * 1000);
        matches!(self, Self::AskAgain { until_us, .. } if asked == Outcome::Late && end_us < *until_us)
    }

    /// As what silence counts in the end.
    fn judged(&self, asked: Outcome) -> Outcome {
        if matches!(self, Self::AskAgain { .. }) && asked == Outcome::Late { Outcome::Bad } else { asked }
    }
}

/// The part for which a link may be raised.
fn over_network(
    kernel: &mut Kernel<'_>,
    scratch: &mut Scratch,
    gathered: &mut Gathered,
    mut task: Task<'_>,
) -> Result<()> {
    let Scratch { facts, bytes, imds, net, .. } = scratch;
    // The name of a VM of a pool must not get into a DNS.
    let named = facts.hostname.as_ref().filter(|_| facts.pool() == PreProvisioning::None);
    let hostname: Option<Hostname> = named.map(|fact| fact.value.clone());
    let mut is_reached = false;
    let outcome = network::with_lease(kernel, net, hostname.as_ref(), &mut |session, rest| {
        is_reached = true;
        gathered.context.lease = session.lease().cloned();
        if matches!(task, Task::TellLost) {
            gathered.tell_fatal(session, rest, bytes, facts);
            return Ok(());
        }
        let until_us = task.try_until_us(session.now_us());
        let has_imds = session.lease().is_none_or(Lease::has_imds);
        let asked = match has_imds || !gathered.is_enough(facts) {
            true => gathered.ask(session, rest.run, imds, facts, until_us),
            false => {
                let text = "no route to IMDS, as on Azure Stack Hub: the medium is all there is";
                session.say(Level::Info, text, &[]);
                Outcome::Absent
            }
        };
        if session.is_cancelled() {
            return Err(Error::STOPPED);
        }
        let now_us = session.now_us();
        if task.goes_on(now_us, asked) {
            if let Task::AskAgain { tell_us, .. } = &mut task
                && now_us >= **tell_us
                && let Some(id) = &facts.instance_id
            {
                **tell_us = now_us.saturating_add(limits::PROGRESS_AGAIN_MS * 1000);
                report::in_progress(session, bytes, &id.value);
            }
            return Err(gathered.imds_fault());
        }
        let verdict = gathered.conclude(rest.run, facts, task.judged(asked));
        gathered.say_verdict(&mut |level, text, values| session.say(level, text, values));
        gathered.settle(session.clock(), rest.run);
        if gathered.is_final {
            let wall_s = session.clock().wall_s();
            let mut to = To { run: rest.run, root: None };
            if let Err(error) = gathered.keep_for_host(&mut to, bytes, facts, wall_s) {
                session.say(Level::Warning, NO_RECORD, &[Value::Why(error)]);
            }
            gathered.tell_fatal(session, rest, bytes, facts);
        }
        verdict
    });
    match outcome {
        Err(error) if !is_reached && !kernel.clock.is_cancelled() => {
            gathered.imds_fault = Some(error);
            if task.goes_on(kernel.clock.now_us(), Outcome::Late) {
                return Err(error);
            }
            kernel.say(Level::Error, "no way to the platform: {}", &[Value::Why(error)]);
            if matches!(task, Task::TellLost) {
                return Err(error);
            }
            gathered.without_network(kernel, bytes, facts, task.judged(Outcome::Late))
        }
        outcome => outcome,
    }
}

/// What the online half carries from the medium's seed to the last publish.
pub(in crate::stage) struct Gathered {
    context: Context,
    medium: Outcome,
    imds_fault: Option<Error>,
    /// The verdict in words.
    why: &'static str,
    /// No source at all: so it is with a machine that is provisioned, too, where IMDS is silent.
    is_nothing: bool,
    /// The verdict is fatal, and known to concern this boot.
    is_final: bool,
    /// The real root has taken over.
    is_in_root: bool,
    /// There is a verdict.
    is_concluded: bool,
    /// What IMDS wanted to be left alone for.
    pause_ms: u64,
}

impl Gathered {
    /// The seed that the offline half left, if it got that far.
    fn load(kernel: &mut Kernel<'_>, bytes: &mut [u8], facts: &mut Facts) -> Self {
        let loaded = seed::verify(kernel.run, seed::SEED)
            .and_then(|()| seed::load(kernel.run, seed::SEED, bytes, facts))
            .and_then(|()| seed::load_context(kernel.run, seed::SEED));
        let context = loaded.unwrap_or_default();
        let medium = match (&context.medium, &context.failure) {
            (Some(_), _) => Outcome::Good,
            (None, Some(_)) => Outcome::Bad,
            (None, None) => Outcome::Absent,
        };
        Self::new(context, medium)
    }

    const fn new(context: Context, medium: Outcome) -> Self {
        Self {
            context,
            medium,
            imds_fault: None,
            why: "",
            is_nothing: false,
            is_final: false,
            is_in_root: false,
            is_concluded: false,
            pause_ms: 0,
        }
    }

    /// For a document that came over the network, in the place of a medium.
    pub(in crate::stage) fn over(session: &Session<'_>) -> Self {
        let context = Context { lease: session.lease().cloned(), ..Context::default() };
        Self { is_final: true, is_in_root: true, ..Self::new(context, Outcome::Good) }
    }

    /// True if nothing is wanting where there is no IMDS.
    fn is_enough(&self, facts: &Facts) -> bool {
        plan::verdict(facts, self.medium, Outcome::Absent) == Verdict::Provision { fault: None }
    }

    /// Publishes a seed that must not be applied, for this reason.
    ///
    /// # Errors
    /// The reason; `Os`.
    pub(in crate::stage) fn refuse(&mut self, run: &mut dyn Dir, facts: &Facts, error: Error) -> Result<()> {
        self.context.verdict = seed::Verdict::Fail;
        self.context.failure = seed::failure(error.reason());
        self.why = error.reason();
        self.publish(run, facts)?;
        Err(error)
    }

    fn publish(&mut self, run: &mut dyn Dir, facts: &Facts) -> Result<()> {
        self.is_concluded = true;
        match self.is_in_root {
            true => seed::publish_in_root(run, facts, &self.context),
            false => seed::publish(run, facts, &self.context),
        }
    }

    fn is_fatal(&self) -> bool {
        self.context.verdict == seed::Verdict::Fail
    }

    /// Why IMDS did not answer well.
    pub(in crate::stage) fn imds_fault(&self) -> Error {
        self.imds_fault.unwrap_or(Error::NEED_NETWORK)
    }

    /// IMDS into `facts`, until `until_us` at most; userData is spooled where the medium brought no customData.
    pub(in crate::stage) fn ask(
        &mut self,
        session: &mut Session<'_>,
        run: &mut dyn Dir,
        imds: &mut ImdsReader,
        facts: &mut Facts,
        until_us: u64,
    ) -> Outcome {
        let wants_user_data = source::wants_user_data(facts);
        let mut learned = None;
        let primary = session.lease().map(|lease| lease.mac);
        let answer = network::ask_imds(session, until_us, &mut |part| match part {
            Body::Begin => {
                imds.reset();
                if wants_user_data { seed::forget_spooled(run, seed::CUSTOM_DATA) } else { Ok(()) }
            }
            Body::Bytes(bytes) => imds.push(bytes, &mut |data| match wants_user_data {
                true => seed::spool(run, seed::CUSTOM_DATA, data),
                false => Ok(()),
            }),
            Body::End => imds.finish(facts, primary).map(|new| learned = Some(new)),
        });
        if let Some(learned) = learned {
            say_learned(session, &learned);
            self.imds_fault = learned.fault;
        }
        if wants_user_data && learned.is_some_and(|learned| learned.user_data_fault.is_some()) {
            let _ = seed::forget_spooled(run, seed::CUSTOM_DATA);
        }
        let Err(Refusal { error, heals, pause_ms }) = answer else { return Outcome::Good };
        // In the real root, with others of the kind: it was said why IMDS is waited for.
        let level = if heals && self.is_in_root { Level::Debug } else { Level::Error };
        session.say(level, "IMDS: {}", &[Value::Why(error)]);
        if wants_user_data {
            let _ = seed::forget_spooled(run, seed::CUSTOM_DATA);
        }
        self.imds_fault = Some(error);
        self.pause_ms = pause_ms;
        if heals { Outcome::Late } else { Outcome::Bad }
    }

    /// The end of it where nobody can be asked: a fatal verdict is for the host to read.
    fn without_network(
        &mut self,
        kernel: &mut Kernel<'_>,
        bytes: &mut [u8],
        facts: &Facts,
        imds: Outcome,
    ) -> Result<()> {
        let verdict = self.conclude(kernel.run, facts, imds);
        self.say_verdict(&mut |level, text, values| kernel.say(level, text, values));
        self.settle(kernel.clock, kernel.run);
        if self.is_final {
            let wall_s = kernel.clock.wall_s();
            let mut to = To { run: kernel.run, root: None };
            if let Err(error) = self.keep_for_host(&mut to, bytes, facts, wall_s) {
                kernel.say(Level::Warning, NO_RECORD, &[Value::Why(error)]);
            }
        }
        verdict
    }

    /// Says why this VM is not provisioned, where that is so.
    pub(in crate::stage) fn say_verdict(&self, say: &mut dyn FnMut(Level, &'static str, &[Value<'_>])) {
        let (level, text) = match self.context.verdict {
            seed::Verdict::Provision => return,
            seed::Verdict::Wait => {
                (Level::Warning, "this VM is not provisioned yet: {}; IMDS is asked again in the real root")
            }
            seed::Verdict::Fail => (Level::Error, "this VM is not provisioned: {}"),
        };
        say(level, text, &[Value::Text(self.why)]);
    }

    /// Where nothing at all was found, it is so with a machine that is provisioned, too: is this a first boot?
    fn settle(&mut self, clock: &mut dyn Clock, run: &mut dyn Dir) {
        // In the real root a report follows that has other ways, too.
        self.is_final =
            self.is_fatal() && !self.is_in_root && (!self.is_nothing || is_first_boot(clock, run));
    }

    /// A fatal verdict where the host can read it.
    pub(in crate::stage) fn keep_for_host(
        &self,
        to: &mut To<'_>,
        bytes: &mut [u8],
        facts: &Facts,
        wall_s: i64,
    ) -> Result<()> {
        let reason = Reason::of(self.context.failure.as_deref().unwrap_or(self.why));
        let id = facts.instance_id.as_ref().map(|fact| &fact.value);
        to.tell(&kvp::failure(&reason, id, wall_s), id, bytes)
    }

    /// Weighs, writes the outcome into the seed and publishes it.
    ///
    /// # Errors
    /// `NotApplicable` with a specialised disk; the fatal verdict's error; `Os`.
    pub(in crate::stage) fn conclude(
        &mut self,
        run: &mut dyn Dir,
        facts: &Facts,
        imds: Outcome,
    ) -> Result<()> {
        self.is_nothing = self.medium == Outcome::Absent && imds != Outcome::Good;
        match plan::verdict(facts, self.medium, imds) {
            Verdict::Specialised => {
                seed::remove(run, seed::SEED)?;
                return Err(not_applicable!("a specialised disk: nothing to provision"));
            }
            Verdict::Provision { fault } => {
                self.note(fault.or(self.imds_fault.map(|_| Fault::Imds)), seed::Verdict::Provision);
            }
            Verdict::Await => self.note(None, seed::Verdict::Provision),
            Verdict::AskAgain => {
                // What was wrong with the medium stays in the seed.
                self.why = self.imds_fault.map_or("the proxy agent must run first", |error| error.reason());
                self.context.verdict = seed::Verdict::Wait;
            }
            Verdict::Fail(fault) => self.note(Some(fault), seed::Verdict::Fail),
        }
        self.publish(run, facts)?;
        match self.is_fatal() {
            true => Err(unsupported!("provisioning", "the reason is with the platform")),
            false => Ok(()),
        }
    }

    fn note(&mut self, fault: Option<Fault>, verdict: seed::Verdict) {
        self.context.verdict = verdict;
        let reason = match fault {
            None => return self.context.failure = None,
            // The medium's own words came with its seed.
            Some(Fault::Medium) => return self.why = "the provisioning medium",
            Some(Fault::Imds) => self.imds_fault.map_or("IMDS", |error| error.reason()),
            Some(Fault::NoSource) => "No OVF or IMDS available",
            Some(Fault::NoLogin) => "neither SSH key nor password",
            Some(Fault::CustomData) => "failure to read customData while hasCustomData=true",
            Some(Fault::Pool) => "unsupported pps_type",
        };
        self.why = reason;
        self.context.failure = seed::failure(reason);
    }

    /// Tells the platform at once, while the lease is there.
    pub(in crate::stage) fn tell_fatal(
        &self,
        session: &mut Session<'_>,
        rest: &mut Rest<'_>,
        body: &mut [u8],
        facts: &Facts,
    ) {
        let Some(failure) = self.context.failure.as_ref().filter(|_| self.is_fatal()) else { return };
        let id = facts.instance_id.as_ref().map(|fact| &fact.value);
        if let Err(error) = report::fatal(session, rest.run, body, id, &Reason::of(failure)) {
            session.say(Level::Error, "the platform could not be told: {}", &[Value::Why(error)]);
        }
    }
}

/// True once `persist` saw that the mounted root is not provisioned for this VM. Where the mount takes longer, the
/// report of the real root tells.
fn is_first_boot(clock: &mut dyn Clock, run: &mut dyn Dir) -> bool {
    let until_us = clock.now_us().saturating_add(limits::MARK_MS * 1000);
    while run.stat(FIRST_BOOT).is_err() {
        if clock.is_cancelled() || run.stat(MOUNT_LATER).is_ok() || clock.now_us() >= until_us {
            return false;
        }
        clock.sleep_ms(limits::STOP_LOOK_MS);
    }
    true
}

fn say_learned(session: &mut Session<'_>, learned: &Learned) {
    if let Some(error) = learned.fault {
        session.say(Level::Warning, "a value of IMDS is not used: {}", &[Value::Why(error)]);
    }
    if let Some(error) = learned.key_fault {
        session.say(Level::Warning, "IMDS keys are not used: {}", &[Value::Why(error)]);
    }
    if let Some(error) = learned.user_data_fault {
        session.say(Level::Warning, "userData is not used: {}", &[Value::Why(error)]);
    }
}
