//! What does the owner of a VM of a pool want it to be?

use super::Complaint;
use crate::error::{Error, Result, Rule};
use crate::facts::{Fact, Facts, InstanceId, PreProvisioning, Provenance};
use crate::format::sha512_crypt::RANDOM;
use crate::limits;
use crate::net::http_client::{Method, Request};
use crate::net::lease::IMDS;
use crate::plan::Outcome;
use crate::seed;
use crate::source::azure_imds::ImdsReader;
use crate::source::azure_ovf::OvfReader;
use crate::stage::entropy;
use crate::stage::fetch::{Gathered, say_document};
use crate::stage::kvp::To;
use crate::stage::online::{self, Rest, Session};
use crate::sys::linux::Scratch;
use crate::sys::{Dir, Kernel};

/// The document that the owner's medium would hold.
const PATH: &str = "/metadata/reprovisiondata?api-version=2019-06-01";
/// Not the owner's data: IMDS still speaks of the pool. The words are cloud-init's.
const STILL_POOLED: &Rule = malformed!("IMDS", "invalid IMDS metadata for key=extended.compute.ppsType");

/// Asks until the owner's document is there and usable, and publishes what it and IMDS say. The platform is told of a
/// verdict that is fatal.
pub(super) fn await_document(kernel: &mut Kernel<'_>, scratch: &mut Scratch, id: InstanceId) -> Result<()> {
    let Scratch { facts, bytes, ovf, imds, net, .. } = scratch;
    let mut complaint = Complaint::default();
    let mut until_us = None;
    loop {
        begin(facts, &id);
        kernel.clock.watch(limits::POOL_WATCH_MS);
        let random = entropy::salt(kernel);
        let (mut is_decided, mut is_over) = (false, false);
        let begun = seed::begin(kernel.run);
        // Without a place for it nothing is asked; once the time is over that is told.
        let is_late = until_us.is_some_and(|until_us| kernel.clock.now_us() >= until_us);
        let mut work = |session: &mut Session<'_>, rest: &mut Rest<'_>| {
            let mut asked = Try { facts, ovf, imds, random, until_us };
            let heard = match begun {
                Ok(()) => asked.ask(session, rest),
                Err(error) => Ok((Gathered::over(session), Err(error))),
            };
            until_us = asked.until_us;
            let (mut gathered, imds) = heard?;
            is_decided = true;
            // What a seed does not write itself it keeps of the one before: here that is a placeholder's.
            let mut verdict = seed::remove(rest.run, seed::SEED).and_then(|()| match imds {
                Ok(imds) => gathered.conclude(rest.run, facts, imds),
                Err(error) => gathered.refuse(rest.run, facts, error),
            });
            is_over = until_us.is_some_and(|until_us| session.now_us() >= until_us);
            if is_over
                && let Err(error) = verdict
                && is_os(verdict)
            {
                // There is no seed for report to tell of, and there will be none.
                verdict = gathered.refuse(rest.run, facts, error);
                let wall_s = session.clock().wall_s();
                let mut to = To { run: rest.run, root: Some(rest.root) };
                // What the host cannot read it hears.
                let _ = gathered.keep_for_host(&mut to, bytes, facts, wall_s);
            }
            gathered.say_verdict(&mut |level, text, values| session.say(level, text, values));
            // What has no seed is told by whoever has one: this try is not the last.
            if !is_os(verdict) || is_over {
                gathered.tell_fatal(session, rest, bytes, facts);
            }
            verdict
        };
        let outcome = match begun {
            Err(error) if !is_late => Err(error),
            _ => online::with_lease(kernel, net, None, &mut work),
        };
        ovf.reset();
        net.wipe();
        // A full /run may become less full; a verdict stays. Neither is waited for longer than for IMDS.
        match outcome {
            outcome if is_decided && (!is_os(outcome) || is_over) => return outcome,
            outcome => complaint.say(kernel, outcome)?,
        }
    }
}

/// True for what the kernel refused: no verdict.
fn is_os(outcome: Result<()>) -> bool {
    outcome.is_err_and(|error| error.errno().is_some())
}

/// Nothing of an earlier try is the owner's: IMDS may have spoken of the pool in it.
#[inline(never)]
fn begin(facts: &mut Facts, id: &InstanceId) {
    *facts = Facts::new();
    facts.instance_id = Some(Fact { value: id.clone(), from: Provenance::Dmi });
}

/// One try, over one lease.
struct Try<'t> {
    facts: &'t mut Facts,
    ovf: &'t mut OvfReader,
    imds: &'t mut ImdsReader,
    random: Option<[u8; RANDOM]>,
    /// Once the document was there: so long everything may be asked again.
    until_us: Option<u64>,
}

impl Try<'_> {
    /// How IMDS was, or what is wrong with the owner's data and stays so.
    ///
    /// # Errors
    /// Why it has to be tried again.
    fn ask(&mut self, session: &mut Session<'_>, rest: &mut Rest<'_>) -> Result<(Gathered, Result<Outcome>)> {
        let mut gathered = Gathered::over(session);
        let read = self.await_answer(session, rest.run)?;
        let begin_us = session.now_us();
        let until_us = *self.until_us.get_or_insert(begin_us.saturating_add(limits::POOL_IMDS_MS * 1000));
        let is_late = begin_us >= until_us;
        match read.and_then(|()| self.ovf.finish(self.facts, self.random)) {
            Ok(learned) => say_document(session.log(), &learned),
            Err(error) if is_late => return Ok((gathered, Err(error))),
            Err(error) => return Err(error),
        }
        // The document says what the VM was, IMDS what it is.
        self.facts.pre_provisioning = None;
        let ask_until_us = session.now_us().saturating_add(limits::IMDS_MS * 1000);
        let asked = match gathered.ask(session, rest.run, self.imds, self.facts, ask_until_us) {
            Outcome::Late => Outcome::Bad,
            asked => asked,
        };
        match (asked, self.facts.pool()) {
            (Outcome::Good, PreProvisioning::None) => {}
            (Outcome::Good, _) if is_late => return Ok((gathered, Err(STILL_POOLED.at(0)))),
            (Outcome::Good, _) => return Err(STILL_POOLED.at(0)),
            _ if is_late => {}
            _ => return Err(gathered.imds_fault()),
        }
        Ok((gathered, Ok(asked)))
    }

    /// Asks as long as the platform says that there is no document yet, for days if need be. Of one that came: whether it
    /// can be read.
    ///
    /// # Errors
    /// What another lease may mend.
    fn await_answer(&mut self, session: &mut Session<'_>, run: &mut dyn Dir) -> Result<Result<()>> {
        let request = Request {
            method: Method::Get,
            path: PATH,
            host: "169.254.169.254",
            headers: &[("Metadata", "true"), ("User-Agent", "preroot")],
            body: b"",
        };
        loop {
            session.clock().watch(limits::POOL_WATCH_MS);
            self.ovf.reset();
            seed::forget_spooled(run, seed::CUSTOM_DATA)?;
            let until_us = session.now_us().saturating_add(limits::POOL_TRY_MS * 1000);
            let mut read = Ok(());
            let outcome = session.exchange(IMDS, &request, limits::OVF_DOCUMENT, until_us, &mut |bytes| {
                if read.is_ok() {
                    read = self.ovf.push(bytes, &mut |data| seed::spool(run, seed::CUSTOM_DATA, data));
                }
                Ok(())
            })?;
            match outcome.status {
                200..=299 => return Ok(read),
                404 | 410 | 429 | 500..=599 => {}
                status => return Err(online::refused(status)),
            }
            if session.is_cancelled() {
                return Err(Error::STOPPED);
            }
            let asked_ms = u64::from(outcome.retry_after_s.unwrap_or_default()).saturating_mul(1000);
            session.sleep_ms(asked_ms.clamp(limits::POOL_PAUSE_MS, limits::POOL_LOOK_MS));
        }
    }
}
