//! What is asked of the wireserver next, given its last answer?
//!
//! One JSON request says everything where the platform takes it; where it does not (old stamps, Azure Stack),
//! the goal state gives the ids that the XML form needs. Status classes: azure-init `http.rs`, WALinuxAgent
//! `utils/restutil.py`. No I/O and no clock: the caller sends, and sleeps as long as it is told.

use super::health::Health;
use crate::error::{Error, Result};
use crate::format::goalstate::GoalState;
use crate::format::http::{Method, Request};
use crate::net::http_client::Outcome;

/// Where the wireserver is unless DHCP option 245 says otherwise.
pub const WIRESERVER: [u8; 4] = [168, 63, 129, 16];
/// Its port.
pub const PORT: u16 = 80;

const AGENT_NAME: &str = concat!("preroot v", env!("CARGO_PKG_VERSION"));
const JSON_HEADERS: &[(&str, &str)] = &[
    ("x-ms-guest-agent-name", AGENT_NAME),
    ("User-Agent", AGENT_NAME),
    ("Content-Type", "application/json"),
];
const GOAL_STATE_HEADERS: &[(&str, &str)] =
    &[("x-ms-agent-name", "preroot"), ("x-ms-version", "2012-11-30"), ("User-Agent", AGENT_NAME)];
const XML_HEADERS: &[(&str, &str)] = &[
    ("x-ms-agent-name", "preroot"),
    ("x-ms-version", "2012-11-30"),
    ("User-Agent", AGENT_NAME),
    ("Content-Type", "text/xml; charset=utf-8"),
];

/// First wait after a failure, doubled each time up to [`LONGEST_MS`].
const FIRST_MS: u64 = 1_000;
/// Longest wait; the platform asks for 5 s and more "to prevent throttling".
const LONGEST_MS: u64 = 15_000;
/// Longest that a Retry-After header is obeyed.
const RETRY_AFTER_MS: u64 = 60_000;
/// Goal states fetched without a wait because the one we had was no longer current (410).
const MOVES: u8 = 3;

/// A request of the conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// `POST /provisioning/health`.
    Json,
    /// `GET /machine/?comp=goalstate`.
    GoalState,
    /// `POST /machine?comp=health`.
    Xml,
}

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A whole response. For a goal state, its body could be read.
    Status(Outcome),
    /// No whole response, or a goal state that could not be read.
    Failed(Error),
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Wait, then send.
    Send {
        /// The request.
        ask: Ask,
        /// How long to wait before, milliseconds. 0: this is progress, not another try.
        after_ms: u64,
    },
    /// The platform has it.
    Done,
}

/// How a status is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Taken,
    /// This form is not spoken here, or the message is not understood.
    Refused,
    /// The goal state is no longer current, or the service is moving.
    Moved,
    /// Nobody is let in, in whatever form: too many, or too early.
    Busy,
    Failed,
}

fn class_of(status: u16) -> Class {
    match status {
        200..=299 => Class::Taken,
        400 | 404 | 405 | 501 => Class::Refused,
        410 => Class::Moved,
        // 403 is in waagent's retry set: the host's filter opens late. 401: the proxy agent does not sign yet.
        401 | 403 | 408 | 429 => Class::Busy,
        _ => Class::Failed,
    }
}

/// One report, until the platform has taken it.
#[derive(Debug)]
pub struct Conversation {
    ask: Ask,
    wait_ms: u64,
    moves: u8,
    /// Nobody said that JSON is not spoken here.
    has_json: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// Nothing was said yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { ask: Ask::Json, wait_ms: FIRST_MS, moves: 0, has_json: true }
    }

    /// The first request.
    #[must_use]
    pub const fn start(&self) -> Next {
        Next::Send { ask: self.ask, after_ms: 0 }
    }

    /// What follows from the answer to the request that was sent last. Until the platform has it: a status that nobody
    /// expects today may be a proxy that is gone tomorrow.
    pub fn next(&mut self, last: Answer) -> Next {
        let Answer::Status(outcome) = last else { return self.failed(0) };
        let asked_ms = u64::from(outcome.retry_after_s.unwrap_or_default()).saturating_mul(1000);
        match (self.ask, class_of(outcome.status)) {
            (Ask::Json | Ask::Xml, Class::Taken) => Next::Done,
            (Ask::GoalState, Class::Taken) => self.go_on(Ask::Xml),
            (Ask::Json, Class::Refused) => {
                self.has_json = false;
                self.go_on(Ask::GoalState)
            }
            (Ask::Xml, Class::Moved) if self.moves < MOVES => {
                self.moves += 1;
                self.go_on(Ask::GoalState)
            }
            // Neither form is taken: a service that is starting answers 404 to everything. From the beginning.
            (Ask::GoalState | Ask::Xml, Class::Refused) => {
                self.has_json = true;
                self.again(Ask::Json, asked_ms)
            }
            (_, Class::Busy) => self.again(self.first(), asked_ms),
            _ => self.failed(asked_ms),
        }
    }

    /// What does not work in one form, or is lost, may work in the other: at once, unless a pause was asked for. A failed
    /// POST of the XML form needs a goal state that is current.
    fn failed(&mut self, asked_ms: u64) -> Next {
        match self.ask {
            Ask::Json if asked_ms == 0 => self.go_on(Ask::GoalState),
            Ask::Json => self.again(Ask::GoalState, asked_ms),
            Ask::GoalState | Ask::Xml => self.again(self.first(), asked_ms),
        }
    }

    const fn first(&self) -> Ask {
        if self.has_json { Ask::Json } else { Ask::GoalState }
    }

    fn go_on(&mut self, ask: Ask) -> Next {
        self.ask = ask;
        Next::Send { ask, after_ms: 0 }
    }

    fn again(&mut self, ask: Ask, asked_ms: u64) -> Next {
        self.ask = ask;
        let after_ms = self.wait_ms.max(asked_ms.min(RETRY_AFTER_MS));
        self.wait_ms = self.wait_ms.saturating_mul(2).min(LONGEST_MS);
        Next::Send { ask, after_ms }
    }
}

/// The request for `ask`; `body` holds what is posted ([`crate::limits::HEALTH_BODY`] bytes are enough).
///
/// # Errors
/// `Malformed` for the XML form without a goal state, `TooMany` when `body` is too small.
pub fn request<'r>(
    ask: Ask,
    health: Health<'_>,
    goal: Option<&GoalState>,
    host: &'r str,
    body: &'r mut [u8],
) -> Result<Request<'r>> {
    let (method, path, headers, length) = match ask {
        Ask::Json => (Method::Post, "/provisioning/health", JSON_HEADERS, health.emit_json(body)?),
        Ask::GoalState => (Method::Get, "/machine/?comp=goalstate", GOAL_STATE_HEADERS, 0),
        Ask::Xml => {
            let goal = goal.ok_or(malformed!("goal state", "no goal state", 0))?;
            (Method::Post, "/machine?comp=health", XML_HEADERS, health.emit_xml(goal, body)?)
        }
    };
    Ok(Request { method, path, host, headers, body: body.get(..length).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::{Answer, Ask, Conversation, LONGEST_MS, Next, request};
    use crate::format::goalstate::GoalState;
    use crate::limits;
    use crate::net::http_client::Outcome;
    use crate::report::health::Health;
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, proptest};
    use std::string::String;
    use std::vec::Vec;

    const SILENT: Answer = Answer::Failed(deadline!("HTTP response", 1));

    fn status(status: u16) -> Answer {
        Answer::Status(Outcome { status, retry_after_s: None, body_bytes: 0 })
    }

    /// What is sent, in order, when these answers come, each with the wait before it; and how it ends.
    fn talk(answers: &[Answer]) -> (Vec<(Ask, u64)>, Option<Next>) {
        let mut conversation = Conversation::new();
        let mut sent = Vec::new();
        let mut next = conversation.start();
        for answer in answers {
            let Next::Send { ask, after_ms } = next else { break };
            sent.push((ask, after_ms));
            next = conversation.next(*answer);
        }
        let is_open = matches!(next, Next::Send { .. });
        (sent, (!is_open).then_some(next))
    }

    #[test]
    fn one_json_request_is_enough() {
        for good in [200, 201, 202, 204] {
            assert_eq!(talk(&[status(good)]), (Vec::from([(Ask::Json, 0)]), Some(Next::Done)));
        }
    }

    #[test]
    fn a_platform_without_json_gets_xml_at_once() {
        for refused in [404, 405, 400] {
            let (sent, end) = talk(&[status(refused), status(200), status(200)]);
            assert_eq!(sent, [(Ask::Json, 0), (Ask::GoalState, 0), (Ask::Xml, 0)]);
            assert_eq!(end, Some(Next::Done));
        }
    }

    #[test]
    fn a_goal_state_that_moved_on_is_fetched_again_at_once() {
        let answers = [404, 200, 410, 200, 200].map(status);
        let (sent, end) = talk(&answers);
        assert_eq!(sent[2..], [(Ask::Xml, 0), (Ask::GoalState, 0), (Ask::Xml, 0)]);
        assert_eq!(end, Some(Next::Done));
    }

    #[test]
    fn a_goal_state_that_moves_for_ever_is_not_chased_without_a_wait() {
        let mut answers = Vec::from([status(404)]);
        for _ in 0..20 {
            answers.extend([status(200), status(410)]);
        }
        let (sent, _) = talk(&answers);
        assert!(sent.iter().filter(|(_, wait)| *wait == 0).count() <= 1 + 1 + 3 + 20);
        assert!(sent.iter().filter(|(_, wait)| *wait > 0).count() >= 16);
    }

    #[test]
    fn errors_and_silence_are_met_with_longer_and_longer_waits_in_both_forms() {
        let (sent, end) = talk(&[status(500), SILENT, status(503), status(429), status(410), SILENT, SILENT]);
        let (json, goal) = (Ask::Json, Ask::GoalState);
        let expected = [(json, 0), (goal, 0), (json, 1000), (goal, 0), (json, 2000), (goal, 0), (json, 4000)];
        assert_eq!(sent, expected);
        assert_eq!(end, None);
    }

    #[test]
    fn where_json_is_lost_or_not_implemented_xml_is_taken() {
        for lost in [SILENT, status(500), status(501), status(302)] {
            let (sent, end) = talk(&[lost, status(200), status(200)]);
            assert_eq!(sent, [(Ask::Json, 0), (Ask::GoalState, 0), (Ask::Xml, 0)]);
            assert_eq!(end, Some(Next::Done));
        }
    }

    #[test]
    fn a_lost_xml_post_starts_with_a_fresh_goal_state() {
        for lost in [SILENT, status(500)] {
            let (sent, _) = talk(&[status(405), status(200), lost, status(200), status(200)]);
            assert_eq!(sent[3..], [(Ask::GoalState, 1000), (Ask::Xml, 0)]);
        }
    }

    #[test]
    fn a_service_that_knows_nothing_yet_is_asked_from_the_beginning() {
        let (sent, end) = talk(&[status(404), status(404), status(200)]);
        assert_eq!(sent, [(Ask::Json, 0), (Ask::GoalState, 0), (Ask::Json, 1000)]);
        assert_eq!(end, Some(Next::Done));
    }

    #[test]
    fn no_status_ends_it_and_a_closed_door_is_knocked_at_later() {
        for closed in [401, 403, 408, 429] {
            let (sent, end) = talk(&[status(closed), status(closed), status(200)]);
            assert_eq!(sent, [(Ask::Json, 0), (Ask::Json, 1000), (Ask::Json, 2000)]);
            assert_eq!(end, Some(Next::Done));
        }
        for strange in [301, 402, 411, 418, 600] {
            assert_eq!(talk(&[status(strange); 9]).1, None);
        }
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        let slow = |s| Answer::Status(Outcome { status: 429, retry_after_s: Some(s), body_bytes: 0 });
        assert_eq!(talk(&[slow(5), slow(100_000), SILENT]).0[1..], [(Ask::Json, 5000), (Ask::Json, 60_000)]);
    }

    #[test]
    fn requests_carry_what_the_service_checks() {
        let goal = GoalState {
            incarnation: 1,
            container_id: "c".try_into().unwrap(),
            instance_id: "i".try_into().unwrap(),
        };
        let mut body = [0; limits::HEALTH_BODY];
        let mut out = [0; 2048];
        for (ask, start, header) in [
            (Ask::Json, "POST /provisioning/health HTTP/1.1\r\n", "\r\nx-ms-guest-agent-name: preroot v"),
            (Ask::GoalState, "GET /machine/?comp=goalstate HTTP/1.1\r\n", "\r\nx-ms-version: 2012-11-30\r\n"),
            (
                Ask::Xml,
                "POST /machine?comp=health HTTP/1.1\r\n",
                "\r\nContent-Type: text/xml; charset=utf-8\r\n",
            ),
        ] {
            let request = request(ask, Health::Ready, Some(&goal), "168.63.129.16", &mut body).unwrap();
            let length = request.emit(&mut out).unwrap();
            let text = String::from_utf8(out[..length].to_vec()).unwrap();
            assert!(text.starts_with(start) && text.contains(header), "{text}");
        }
        assert!(request(Ask::Xml, Health::Ready, None, "h", &mut body).is_err());
    }

    proptest! {
        /// Whatever is answered: waits are bounded, XML is only sent after a goal state, and a wait follows
        /// at most a handful of requests without one.
        #[test]
        fn no_answers_make_it_hurry(codes in prop::collection::vec(any::<u16>(), 0..200)) {
            let answers: Vec<Answer> = codes.iter().map(|c| if *c == 0 { SILENT } else { status(200 + c % 400) }).collect();
            let (sent, _) = talk(&answers);
            prop_assert!(sent.iter().all(|(_, wait)| *wait <= LONGEST_MS));
            for pair in sent.windows(2) {
                prop_assert!(pair[1].0 != Ask::Xml || pair[0].0 == Ask::GoalState);
            }
            for run in sent.windows(12) {
                prop_assert!(run.iter().any(|(_, wait)| *wait > 0) || sent.len() < 12);
            }
        }
    }
}
