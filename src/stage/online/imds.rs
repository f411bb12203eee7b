//! What does the instance metadata service say, and when is it asked again?

use super::Session;
use crate::error::{Errno, Error, Kind, Result, Rule};
use crate::event::{Level, Value};
use crate::limits;
use crate::net::http_client::{Method, Outcome, Request};
use crate::net::lease::IMDS;

/// `extended=true` says "a provisioning agent asks": the answer is complete, or an error.
const PATH: &str = "/metadata/instance?api-version=2021-08-01&extended=true";
/// For hosts that do not know the version above (cloud-init falls back to the same).
const OLD_PATH: &str = "/metadata/instance?api-version=2019-06-01";
/// IMDS takes five requests a second; every agent waits a second or more between two.
const PAUSE_MS: u64 = 1000;

/// A document as it comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// A (new) try starts: forget what came before.
    Begin,
    /// The next bytes.
    Bytes(&'a [u8]),
    /// That was all. `Malformed` from here leads to another try while there is time.
    End,
}

/// Why IMDS did not answer well, however often it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The last try's, or what `body` returned that a new try cannot help (anything but `Malformed`).
    pub error: Error,
    /// A minute may mend it.
    pub heals: bool,
    /// What IMDS wanted to be left alone for, milliseconds.
    pub pause_ms: u64,
}

/// Asks IMDS for the instance document until it answers well or `until_us` is over.
///
/// # Errors
/// [`Refusal`].
pub fn ask_imds(
    session: &mut Session<'_>,
    until_us: u64,
    body: &mut dyn FnMut(Body<'_>) -> Result<()>,
) -> core::result::Result<(), Refusal> {
    let begin_us = session.now_us();
    let mut path = PATH;
    let mut said = None;
    loop {
        let next = match ask(session, path, until_us, body) {
            Ok(outcome) if outcome.is_success() => {
                let after = Value::Millis(session.now_us().saturating_sub(begin_us) / 1000);
                session.say(Level::Info, "IMDS answered after {}", &[after]);
                return Ok(());
            }
            Ok(Outcome { status: 400, .. }) if path == PATH => {
                path = OLD_PATH;
                continue;
            }
            Ok(outcome) => after_status(outcome),
            Err(error) => after_error(error),
        };
        let (error, pause_ms) = match next {
            Next::GiveUp(error) => return Err(Refusal { error, heals: false, pause_ms: 0 }),
            Next::Again { error, pause_ms } => (error, pause_ms),
        };
        let wake_us = session.now_us().saturating_add(pause_ms * 1000);
        if wake_us >= until_us {
            return Err(Refusal { error, heals: !error.is(Kind::Malformed), pause_ms });
        }
        if said != Some(error.reason()) {
            session.say(Level::Info, "IMDS is asked again: {}", &[Value::Why(error)]);
            said = Some(error.reason());
        }
        session.sleep_ms(pause_ms);
    }
}

/// One try.
fn ask(
    session: &mut Session<'_>,
    path: &str,
    until_us: u64,
    body: &mut dyn FnMut(Body<'_>) -> Result<()>,
) -> Result<Outcome> {
    let request = Request {
        method: Method::Get,
        path,
        host: "169.254.169.254",
        headers: &[("Metadata", "true"), ("User-Agent", "preroot")],
        body: b"",
    };
    body(Body::Begin)?;
    let outcome = session
        .exchange(IMDS, &request, limits::IMDS_DOCUMENT, until_us, &mut |bytes| body(Body::Bytes(bytes)))?;
    if outcome.is_success() {
        body(Body::End)?;
    }
    Ok(outcome)
}

/// What follows a try that did not work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    GiveUp(Error),
    Again { error: Error, pause_ms: u64 },
}

/// facts: 404 early in a boot, 410 while the host is serviced, 429 too many requests.
fn after_status(outcome: Outcome) -> Next {
    let error = refused(outcome.status);
    match outcome.status {
        404 | 410 | 429 | 500..=599 => {
            let asked_ms = u64::from(outcome.retry_after_s.unwrap_or_default()).saturating_mul(1000);
            Next::Again { error, pause_ms: asked_ms.max(PAUSE_MS) }
        }
        _ => Next::GiveUp(error),
    }
}

/// What a status means that is no success.
pub const fn refused(status: u16) -> Error {
    let rule: &'static Rule = match status {
        400 => unsupported!(rule "IMDS", "http error 400 querying IMDS"),
        401 | 403 => unsupported!(rule "IMDS", "http error 403 querying IMDS"),
        404 => unsupported!(rule "IMDS", "http error 404 querying IMDS"),
        410 => unsupported!(rule "IMDS", "http error 410 querying IMDS"),
        429 => unsupported!(rule "IMDS", "http error 429 querying IMDS"),
        500..=599 => unsupported!(rule "IMDS", "http error 5xx querying IMDS"),
        _ => unsupported!(rule "IMDS", "http error querying IMDS"),
    };
    rule.at(0)
}

/// Whatever the network or a damaged document did may be better next time. Told in cloud-init's words.
fn after_error(error: Error) -> Next {
    let rule = match error.kind() {
        Kind::Malformed => return Next::Again { error, pause_ms: PAUSE_MS },
        Kind::Deadline if error.what() == "HTTP answer" => rule!(Deadline, "read timeout querying IMDS", ""),
        Kind::Deadline => rule!(Deadline, "connection timeout querying IMDS", ""),
        _ => match error.errno() {
            Some(
                Errno::NETUNREACH
                | Errno::NETDOWN
                | Errno::HOSTUNREACH
                | Errno::CONNREFUSED
                | Errno::CONNRESET
                | Errno::TIMEDOUT
                | Errno::PIPE,
            ) => os!("connection error querying IMDS"),
            _ => return Next::GiveUp(error),
        },
    };
    Next::Again { error: error.told_as(rule), pause_ms: PAUSE_MS }
}
