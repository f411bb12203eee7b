//! What does IMDS say, and what follows from everything that was said?

use super::{STAGE, identify};
use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::{Fact, Facts, Hostname, PreProvisioning, Provenance};
use crate::limits;
use crate::plan::{self, Fault, Outcome, Verdict};
use crate::report::health::Reason;
use crate::report::kvp;
use crate::seed::{self, Context};
use crate::source;
use crate::source::azure_imds::{ImdsReader, Learned};
use crate::stage::kvp::To;
use crate::stage::online::{self as network, Body, Rest, Session};
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
    // The note before the look: `persist` does it the other way round, so one of the two sees the other.
    let _ = kernel.run.create_unsynced(ON_LINE, Owner::root(0o644), b"");
    let outcome = match kernel.clock.is_cancelled() {
        true => Err(Error::STOPPED),
        false => over_network(kernel, scratch, &mut gathered, is_lost),
    };
    let _ = kernel.run.remove(ON_LINE);
    if kernel.clock.is_cancelled() {
        seed::abandon(kernel.run)?;
    }
    outcome
}

/// The part for which a link may be raised.
fn over_network(
    kernel: &mut Kernel<'_>,
    scratch: &mut Scratch,
    gathered: &mut Gathered,
    is_lost: bool,
) -> Result<()> {
    let Scratch { facts, bytes, imds, net, .. } = scratch;
    // The name of a VM of a pool must not get into a DNS.
    let named = facts.hostname.as_ref().filter(|_| facts.pool() == PreProvisioning::None);
    let hostname: Option<Hostname> = named.map(|fact| fact.value.clone());
    let mut is_reached = false;
    let outcome = network::with_lease(kernel, net, hostname.as_ref(), &mut |session, rest| {
        is_reached = true;
        gathered.context.lease = session.lease().cloned();
        if is_lost {
            gathered.tell_fatal(session, rest, bytes, facts);
            return Ok(());
        }
        let asked = gathered.ask(session, rest.run, imds, facts);
        let verdict = gathered.conclude(rest.run, facts, asked);
        gathered.say_fatal(&mut |text, values| session.say(Level::Error, text, values));
        gathered.settle(session.clock(), rest.run);
        if gathered.is_final {
            let wall_s = session.clock().wall_s();
            if let Err(error) = gathered.keep_for_host(rest.run, bytes, facts, wall_s) {
                session.say(Level::Warning, NO_RECORD, &[Value::Why(error)]);
            }
            gathered.tell_fatal(session, rest, bytes, facts);
        }
        verdict
    });
    match outcome {
        Err(error) if !is_reached && !kernel.clock.is_cancelled() => {
            kernel.say(Level::Error, "no way to the platform: {}", &[Value::Why(error)]);
            if is_lost {
                return Err(error);
            }
            gathered.imds_fault = Some(error);
            gathered.without_network(kernel, bytes, facts, Outcome::Bad)
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
        Self { context, medium, imds_fault: None, why: "", is_nothing: false, is_final: false }
    }

    /// For a document that came over the network, in the place of a medium.
    pub(in crate::stage) fn over(session: &Session<'_>) -> Self {
        let context = Context { lease: session.lease().cloned(), ..Context::default() };
        let medium = Outcome::Good;
        Self { context, medium, imds_fault: None, why: "", is_nothing: false, is_final: true }
    }

    /// Publishes a seed that must not be applied, for this reason.
    ///
    /// # Errors
    /// The reason; `Os`.
    pub(in crate::stage) fn refuse(&mut self, run: &mut dyn Dir, facts: &Facts, error: Error) -> Result<()> {
        self.context.is_fatal = true;
        self.context.failure = seed::failure(error.reason());
        self.why = error.reason();
        seed::publish(run, facts, &self.context)?;
        Err(error)
    }

    /// Why IMDS did not answer well.
    pub(in crate::stage) fn imds_fault(&self) -> Error {
        self.imds_fault.unwrap_or(Error::NEED_NETWORK)
    }

    /// IMDS into `facts`; userData is spooled where the medium brought no customData.
    pub(in crate::stage) fn ask(
        &mut self,
        session: &mut Session<'_>,
        run: &mut dyn Dir,
        imds: &mut ImdsReader,
        facts: &mut Facts,
    ) -> Outcome {
        let wants_user_data = source::wants_user_data(facts);
        let mut learned = None;
        let primary = session.lease().map(|lease| lease.mac);
        let answer = network::ask_imds(session, &mut |part| match part {
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
        let Err(error) = answer else { return Outcome::Good };
        session.say(Level::Error, "IMDS: {}", &[Value::Why(error)]);
        if wants_user_data {
            let _ = seed::forget_spooled(run, seed::CUSTOM_DATA);
        }
        self.imds_fault = Some(error);
        Outcome::Bad
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
        self.say_fatal(&mut |text, values| kernel.say(Level::Error, text, values));
        self.settle(kernel.clock, kernel.run);
        if self.is_final {
            let wall_s = kernel.clock.wall_s();
            if let Err(error) = self.keep_for_host(kernel.run, bytes, facts, wall_s) {
                kernel.say(Level::Warning, NO_RECORD, &[Value::Why(error)]);
            }
        }
        verdict
    }

    /// Says why this VM is not provisioned, where that is so.
    pub(in crate::stage) fn say_fatal(&self, say: &mut dyn FnMut(&'static str, &[Value<'_>])) {
        if self.context.is_fatal {
            say("this VM is not provisioned: {}", &[Value::Text(self.why)]);
        }
    }

    /// Where nothing at all was found, it is so with a machine that is provisioned, too: is this a first boot?
    fn settle(&mut self, clock: &mut dyn Clock, run: &mut dyn Dir) {
        self.is_final = self.context.is_fatal && (!self.is_nothing || is_first_boot(clock, run));
    }

    /// A fatal verdict where the host can read it.
    fn keep_for_host(&self, run: &mut dyn Dir, bytes: &mut [u8], facts: &Facts, wall_s: i64) -> Result<()> {
        let reason = Reason::of(self.context.failure.as_deref().unwrap_or(self.why));
        let id = facts.instance_id.as_ref().map(|fact| &fact.value);
        To { run, root: None }.tell(&kvp::failure(&reason, id, wall_s), id, bytes)
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
            Verdict::Provision { fault } => self.note(fault.or(self.imds_fault.map(|_| Fault::Imds)), false),
            Verdict::Await => self.note(None, false),
            Verdict::Fail(fault) => self.note(Some(fault), true),
        }
        seed::publish(run, facts, &self.context)?;
        match self.context.is_fatal {
            true => Err(unsupported!("provisioning", "the reason is with the platform")),
            false => Ok(()),
        }
    }

    fn note(&mut self, fault: Option<Fault>, is_fatal: bool) {
        self.context.is_fatal = is_fatal;
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
        let Some(failure) = self.context.failure.as_ref().filter(|_| self.context.is_fatal) else { return };
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
