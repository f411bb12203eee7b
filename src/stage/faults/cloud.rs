//! The network of the simulated boot: a card, DHCP on it, IMDS and the wireserver behind its gateway.

use super::sim::Turn;
use crate::error::{Errno, Result};
use crate::format::dhcp::tests::azure;
use crate::net::far::{Far, is_whole};
use crate::net::lease::tests::{said, served};
use crate::sys::{Frame, Frames, LinkState, Links, Stream};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

/// What becomes of a frame to the guest, by its number.
pub(super) type Mangle = fn(usize, Vec<u8>) -> Vec<Vec<u8>>;

/// A request to the wireserver.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) us: u64,
    pub(super) text: String,
    /// The answer said that it was taken.
    pub(super) is_taken: bool,
}

/// All of it.
pub(super) struct Cloud {
    /// The card; `None`: it is gone.
    pub(super) card: Option<LinkState>,
    /// Nobody gives a lease.
    pub(super) is_silent: bool,
    /// Answers of IMDS in turn; the last is repeated. One with `~` in front has no end.
    pub(super) answers: Vec<&'static str>,
    /// The same where the document of a pool's owner should be.
    pub(super) document: Vec<&'static str>,
    /// The same of the wireserver.
    pub(super) wire: Vec<&'static str>,
    /// What the wireserver was sent.
    pub(super) requests: Vec<Asked>,
    /// The card goes as soon as something is posted over it.
    pub(super) drops_at_post: bool,
    pub(super) mangle: Option<Mangle>,
    /// The kernel has a network by now.
    pub(super) is_configured: bool,
    /// What the DHCP server says, by kind and transaction.
    pub(super) offer: fn(u8, u32) -> Vec<u8>,
    /// How often IMDS was asked.
    pub(super) asked: usize,
    /// Frames of the guest.
    pub(super) sent: usize,
    now: Rc<Cell<u64>>,
    frames: usize,
    queue: VecDeque<Vec<u8>>,
    ready: VecDeque<Vec<u8>>,
    far: Option<Far>,
}

fn behind_the_gateway() -> Far {
    let mut far = Far::new(&[[10, 0, 0, 1]]);
    far.answer = Some(Vec::new());
    far
}

impl Cloud {
    pub(super) fn new(now: &Rc<Cell<u64>>) -> Self {
        Self {
            card: Some(LinkState { is_up: false, has_carrier: false, has_address: false }),
            is_silent: false,
            answers: Vec::new(),
            document: Vec::new(),
            wire: std::vec!["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
            requests: Vec::new(),
            drops_at_post: false,
            mangle: None,
            is_configured: false,
            offer: azure,
            asked: 0,
            sent: 0,
            now: Rc::clone(now),
            frames: 0,
            queue: VecDeque::new(),
            ready: VecDeque::new(),
            far: Some(behind_the_gateway()),
        }
    }

    fn card(&mut self) -> Result<&mut LinkState> {
        self.card.as_mut().ok_or(os!("link state", Errno::NODEV))
    }

    /// Which answer a path gets.
    fn answer(&mut self, path: &str) -> &'static str {
        let is_imds = path.starts_with("/metadata/");
        self.asked += usize::from(is_imds);
        let answers = match is_imds {
            true if path.contains("/reprovisiondata") => &mut self.document,
            true => &mut self.answers,
            false => &mut self.wire,
        };
        if answers.len() > 1 { answers.remove(0) } else { answers[0] }
    }

    fn note(&mut self, request: &str, answer: &str) {
        if !request.contains(" /metadata/") {
            let is_taken = answer.starts_with("HTTP/1.1 2");
            self.requests.push(Asked { us: self.now.get(), text: request.to_string(), is_taken });
        }
    }

    fn is_idle(&self) -> bool {
        let is_quiet = self.far.as_ref().is_some_and(|far| far.inbox.is_empty() && far.outbox.is_empty());
        is_quiet && self.queue.is_empty() && self.ready.is_empty()
    }

    fn state(&mut self) -> Result<LinkState> {
        self.card().copied()
    }

    fn set_up(&mut self, up: bool) -> Result<()> {
        let card = self.card()?;
        (card.is_up, card.has_carrier) = (up, up);
        Ok(())
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        if !self.card()?.is_up {
            return Err(os!("send", Errno::NETDOWN));
        }
        self.sent += 1;
        let is_dhcp = frame[12..14] == [8, 0] && frame[23] == 17;
        if !is_dhcp {
            self.far.as_mut().unwrap().inbox.push_back(frame.to_vec());
        } else if !self.is_silent {
            let kind = if said(frame).starts_with("DISCOVER") { 2 } else { 5 };
            // With a new lease nobody waits for what an earlier one asked.
            self.far = Some(behind_the_gateway());
            let answer = (self.offer)(kind, u32::from_be_bytes(frame[46..50].try_into().unwrap()));
            self.queue.push_back(served(&answer, frame[70..76].try_into().unwrap()));
        }
        Ok(())
    }
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<Frame>> {
        if self.queue.is_empty() {
            let (mut far, mut answer) = (self.far.take().unwrap(), None);
            far.poll_with(self.now.get(), &mut |path| {
                let is_post = !path.starts_with("/metadata/");
                let text = if is_post && self.drops_at_post { "~" } else { self.answer(path) };
                answer = Some(text);
                text.into()
            });
            if let Some(answer) = answer {
                self.note(&far.asked, answer);
                if answer == "~" && self.drops_at_post {
                    (self.card, self.drops_at_post) = (None, false);
                }
            }
            self.queue.extend(far.outbox.drain(..));
            self.far = Some(far);
        }
        if self.ready.is_empty()
            && let Some(next) = self.queue.pop_front()
        {
            self.frames += 1;
            match self.mangle {
                Some(mangle) => self.ready.extend(mangle(self.frames, next)),
                None => self.ready.push_back(next),
            }
        }
        let Some(bytes) = self.ready.pop_front() else { return Ok(None) };
        frame[..bytes.len()].copy_from_slice(&bytes);
        Ok(Some(Frame { length: bytes.len(), index: 2, is_intact: true }))
    }
}

/// The network as one process has it.
pub(super) struct SimLinks {
    pub(super) cloud: Rc<RefCell<Cloud>>,
    pub(super) turn: Turn,
}

impl Frames for SimLinks {
    fn send(&mut self, _: u32, frame: &[u8]) -> Result<()> {
        self.cloud.borrow_mut().send(frame)
    }
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<Frame>> {
        self.cloud.borrow_mut().receive(frame)
    }
    fn wait(&mut self, until_us: u64) -> Result<()> {
        if self.cloud.borrow().is_idle() {
            self.turn.wait(until_us.min(self.turn.now_us() + 20_000));
        }
        Ok(())
    }
}

impl Links for SimLinks {
    fn state(&mut self, _: &str) -> Result<LinkState> {
        self.cloud.borrow_mut().state()
    }
    fn set_up(&mut self, _: &str, up: bool) -> Result<()> {
        self.cloud.borrow_mut().set_up(up)
    }
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn give_back(&mut self, index: u32, _: bool) -> Result<()> {
        assert_eq!(index, 2);
        self.cloud.borrow_mut().set_up(false)
    }
    fn connect(
        &mut self,
        _: [u8; 4],
        _: u16,
        _: u64,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<()>,
    ) -> Result<()> {
        let (cloud, turn) = (Rc::clone(&self.cloud), self.turn.clone());
        if !cloud.borrow().is_configured {
            return Err(os!("connect", Errno::NETUNREACH));
        }
        work(&mut Connection { cloud, turn, asked: Vec::new(), reply: b"" })
    }
}

/// A connection of the kernel's own to the wireserver.
struct Connection {
    cloud: Rc<RefCell<Cloud>>,
    turn: Turn,
    asked: Vec<u8>,
    reply: &'static [u8],
}

impl Stream for Connection {
    fn send(&mut self, bytes: &[u8], _: u64) -> Result<usize> {
        self.asked.extend_from_slice(bytes);
        if is_whole(&self.asked) {
            let text = String::from_utf8(core::mem::take(&mut self.asked)).unwrap();
            let mut cloud = self.cloud.borrow_mut();
            let answer = cloud.answer(text.split(' ').nth(1).unwrap());
            cloud.note(&text, answer);
            self.reply = answer.as_bytes();
        }
        Ok(bytes.len())
    }
    fn receive(&mut self, bytes: &mut [u8], until_us: u64) -> Result<usize> {
        if self.reply.first() == Some(&b'~') {
            self.turn.wait(until_us);
            return Err(deadline!("TCP connection", 0));
        }
        let length = self.reply.len().min(bytes.len());
        bytes[..length].copy_from_slice(&self.reply[..length]);
        self.reply = &self.reply[length..];
        Ok(length)
    }
}
