//! The kernel's end of Hyper-V's data exchange, after drivers/hv/hv_kvp.c and hv_utils_transport.c, and a host behind it.

use crate::error::{Errno, Result};
use crate::format::kvp::{KEY, MESSAGE, VALUE};
use crate::sys::Messages;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

/// `HV_E_FAIL`.
const FAIL: u32 = 0x8000_4005;

/// Where the driver is with the process that has it open (`enum hvutil_device_state`, hyperv_vmbus.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Init,
    Ready,
    Asked,
}

/// What the host asks: operation, pool, and what the driver fills in.
#[derive(Clone, Debug)]
pub struct Question {
    operation: u8,
    pool: u8,
    fields: Vec<(usize, Vec<u8>)>,
}

/// What the host hears: a status, and of `Enumerate` a key and a value.
type Answer = (u32, String, String);

/// The device and the host.
#[derive(Default)]
pub struct FakeKvp {
    /// Somebody else has it open.
    pub is_busy: bool,
    /// A kernel from before a3ade8cc474d ("HV: properly delay KVP packets when negotiation is in progress", 2017): once a
    /// daemon was there, what is asked while none is fails. Since then hv_kvp_onchannelcallback does not even read the
    /// channel below HVUTIL_READY, before the first daemon and between two of them alike.
    pub is_old: bool,
    /// Questions that wait in the channel: a driver without a daemon leaves them there.
    pub questions: VecDeque<Question>,
    /// What the host heard, in order.
    pub answers: Vec<Answer>,
    /// Asks every record of the guest's pool, again and again, until it has this many rounds.
    pub rounds: usize,
    /// Rounds that came to their end: the guest's pool as the host saw it.
    pub seen: Vec<Vec<(String, String)>>,
    /// Where there is a clock the host asks for a round ten times a second instead, and this is when each ended.
    pub seen_us: Vec<u64>,
    /// That clock.
    pub now: Option<Rc<Cell<u64>>>,
    /// How often it was opened, and what `wait` does with time.
    pub opened: usize,
    /// The n-th write from the start is refused (EINVAL), as after a timeout or hibernation.
    pub fail_at: Option<usize>,
    /// So is each whose number is a multiple of this.
    pub fail_every: Option<usize>,
    /// Called at each `wait`.
    pub on_wait: Option<std::boxed::Box<dyn FnMut()>>,
    writes: usize,
    state: State,
    out: Option<Vec<u8>>,
    round: Option<Vec<(String, String)>>,
}

impl Question {
    /// `KVP_OP_ENUMERATE`.
    pub fn next(pool: u8, index: u32) -> Self {
        Self { operation: 3, pool, fields: std::vec![(0, index.to_le_bytes().to_vec())] }
    }

    /// `KVP_OP_SET`: `kvp_send_key` gives both sizes with the NUL.
    pub fn set(pool: u8, key: &str, value: &str) -> Self {
        let size = |text: &str| u32::try_from(text.len() + 1).unwrap().to_le_bytes().to_vec();
        let fields = std::vec![
            (4, size(key)),
            (8, size(value)),
            (12, key.as_bytes().to_vec()),
            (12 + KEY, value.as_bytes().to_vec()),
        ];
        Self { operation: 1, pool, fields }
    }

    /// `KVP_OP_DELETE`.
    pub fn delete(pool: u8, key: &str) -> Self {
        let size = u32::try_from(key.len() + 1).unwrap().to_le_bytes().to_vec();
        Self { operation: 2, pool, fields: std::vec![(0, size), (4, key.as_bytes().to_vec())] }
    }

    /// Whatever else: `KVP_OP_GET_IP_INFO`, `KVP_OP_SET_IP_INFO`.
    pub fn bare(operation: u8) -> Self {
        Self { operation, pool: 0, fields: Vec::new() }
    }

    fn message(&self) -> Vec<u8> {
        let mut message = std::vec![0; MESSAGE];
        (message[0], message[1]) = (self.operation, self.pool);
        for (at, bytes) in &self.fields {
            message[4 + at..4 + at + bytes.len()].copy_from_slice(bytes);
        }
        message
    }
}

impl FakeKvp {
    /// While another process has it open.
    #[must_use]
    pub fn busy() -> Self {
        Self { is_busy: true, ..Self::default() }
    }

    /// `open`, the work of the one process that has it, `release`.
    ///
    /// # Errors
    /// `Os(BUSY)`, and what `work` returns.
    pub fn with_open(&mut self, work: &mut dyn FnMut(&mut dyn Messages) -> Result<()>) -> Result<()> {
        if self.is_busy {
            return Err(os!("open /dev/vmbus/hv_kvp", Errno::BUSY));
        }
        self.opened += 1;
        let outcome = work(self);
        self.release();
        outcome
    }

    /// hvt_op_release, also of a process that died: what was under way is answered for the daemon (kvp_on_reset).
    pub fn release(&mut self) {
        if self.state == State::Asked {
            self.answers.push((FAIL, String::new(), String::new()));
            self.round = None;
        }
        (self.state, self.out) = (State::Init, None);
    }

    /// What the host asks now, whoever has the device.
    pub fn ask(&mut self, question: Question) {
        match self.is_old && self.opened > 0 && self.state == State::Init {
            true => self.answers.push((FAIL, String::new(), String::new())),
            false => self.questions.push_back(question),
        }
    }

    fn wants_round(&self) -> bool {
        let Some(now) = &self.now else { return self.seen.len() < self.rounds };
        self.round.is_some() || self.seen_us.last().is_none_or(|us| now.get() >= us + 100_000)
    }

    /// hv_kvp_onchannelcallback: the next question goes to the daemon, one at a time.
    fn poll_channel(&mut self) {
        if self.state != State::Ready {
            return;
        }
        if self.questions.is_empty() && self.wants_round() {
            let index = self.round.get_or_insert_default().len();
            self.questions.push_back(Question::next(1, u32::try_from(index).unwrap()));
        }
        if let Some(question) = self.questions.pop_front() {
            (self.state, self.out) = (State::Asked, Some(question.message()));
        }
    }

    /// kvp_respond_to_host.
    fn hear(&mut self, message: &[u8]) {
        let text = |at: usize, size: usize| {
            let field = &message[at..at + size];
            let end = field.iter().position(|byte| *byte == 0).expect("the driver reads up to the NUL");
            std::str::from_utf8(&field[..end]).expect("the driver makes UTF-16 of it").to_string()
        };
        let status = u32::from_le_bytes(message[..4].try_into().unwrap());
        let answer = match status {
            0 => (0, text(20, KEY), text(20 + KEY, VALUE)),
            _ => (status, String::new(), String::new()),
        };
        if let Some(mut round) = self.round.take() {
            if status == 0 {
                round.push((answer.1.clone(), answer.2.clone()));
                self.round = Some(round);
            } else {
                self.seen.push(round);
                self.seen_us.extend(self.now.as_ref().map(|now| now.get()));
            }
        }
        self.answers.push(answer);
    }
}

impl Messages for FakeKvp {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let refused = Err(os!("write /dev/vmbus/hv_kvp", Errno::INVAL));
        self.writes += 1;
        let is_refused = self.fail_at == Some(self.writes)
            || self.fail_every.is_some_and(|every| self.writes.is_multiple_of(every));
        if message.len() < MESSAGE || is_refused {
            return refused;
        }
        match self.state {
            State::Init if message[0] == 100 => {
                let mut version = std::vec![0; MESSAGE];
                version[0] = 100;
                version[4..7].copy_from_slice(b"3.1");
                self.out = Some(version);
                Ok(())
            }
            State::Asked if self.out.is_none() => {
                self.state = State::Ready;
                self.hear(message);
                self.poll_channel();
                Ok(())
            }
            _ => refused,
        }
    }

    fn receive(&mut self, message: &mut [u8]) -> Result<Option<usize>> {
        let Some(bytes) = self.out.take() else { return Ok(None) };
        assert_eq!(message.len(), MESSAGE, "the driver refuses less, and has no more");
        message.copy_from_slice(&bytes);
        // kvp_register_done.
        if self.state == State::Init {
            self.state = State::Ready;
            self.poll_channel();
        }
        Ok(Some(bytes.len()))
    }

    fn wait(&mut self, _: u64) -> Result<()> {
        if let Some(on_wait) = &mut self.on_wait {
            on_wait();
        }
        self.poll_channel();
        Ok(())
    }
}
