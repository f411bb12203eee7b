//! How long do a lease and an answer take where frames are lost? In virtual time, driven by seeds.

use super::device::Device;
use super::far::Far;
use super::http_client::{Method, Request, Response};
use super::lease::tests::served;
use super::lease::{Client, IMDS, Lease};
use super::neighbour::Neighbour;
use super::stack::{Room, Stack, Step};
use crate::error::Result;
use crate::format::dhcp::tests::{MAC, azure};
use crate::limits;
use crate::sys::{Frame, Frames, Only};
use std::collections::VecDeque;
use std::vec::Vec;

/// One way across the wire.
const ACROSS_US: u64 = 300;

/// A wire that loses `loss` of 1000 frames, either way.
struct Wire {
    random: u64,
    loss: u64,
    now_us: u64,
    far: Far,
    /// Frames on their way to us, with the time they arrive.
    to_us: VecDeque<(u64, Vec<u8>)>,
    to_far: VecDeque<(u64, Vec<u8>)>,
}

impl Wire {
    fn new(seed: u64, loss: u64) -> Self {
        let mut far = Far::new(&[[10, 0, 0, 1]]);
        let body = std::vec![b'x'; 4000];
        far.answer = Some([&b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"[..], &body].concat());
        far.delay_us = 10_000;
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { random, loss, now_us: 0, far, to_us: VecDeque::new(), to_far: VecDeque::new() }
    }

    fn is_lost(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % 1000 < self.loss
    }

    /// The platform handles what has reached it by now.
    fn serve(&mut self) {
        while self.to_far.front().is_some_and(|(at, _)| *at <= self.now_us) {
            let (_, frame) = self.to_far.pop_front().unwrap();
            if frame[12..14] == [8, 0] && frame[23] == 17 {
                let transaction = u32::from_be_bytes(frame[46..50].try_into().unwrap());
                let kind = if frame[42 + 242] == 1 { 2 } else { 5 };
                self.far.outbox.push_back(served(&azure(kind, transaction), MAC));
            } else {
                self.far.inbox.push_back(frame);
            }
        }
        self.far.poll(self.now_us);
        while let Some(frame) = self.far.outbox.pop_front() {
            if !self.is_lost() {
                self.to_us.push_back((self.now_us + ACROSS_US, frame));
            }
        }
    }

    /// Until something happens, here or there, or `until_us`.
    fn pass(&mut self, until_us: u64) {
        let now = self.now_us;
        let arrivals = [self.to_far.front(), self.to_us.front()].into_iter().flatten().map(|(at, _)| *at);
        let far = self.far.next_us(now).max(now + 1);
        let next = arrivals.chain([until_us, far]).min().unwrap();
        self.now_us = next.max(now + 1);
        self.serve();
    }
}

impl Frames for Wire {
    fn send(&mut self, _: u32, frame: &[u8]) -> Result<()> {
        if !self.is_lost() {
            self.to_far.push_back((self.now_us + ACROSS_US, frame.to_vec()));
        }
        Ok(())
    }
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<Frame>> {
        if self.to_us.front().is_none_or(|(at, _)| *at > self.now_us) {
            return Ok(None);
        }
        let (_, bytes) = self.to_us.pop_front().unwrap();
        frame[..bytes.len()].copy_from_slice(&bytes);
        Ok(Some(Frame { length: bytes.len(), index: 2, is_intact: true }))
    }
    fn wait(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    fn narrow(&mut self, _: &Only) -> Result<()> {
        Ok(())
    }
}

/// When the lease came, within its deadline.
fn lease(wire: &mut Wire, seed: u64) -> Option<Lease> {
    let (mut rx, mut tx) = ([0; 2000], [0; 1514]);
    let mut client = Client::new(MAC, None, seed, 0);
    while wire.now_us < limits::DHCP_MS * 1000 {
        while let Some(frame) = wire.receive(&mut rx).unwrap() {
            client.on_frame(&rx[..frame.length], true, wire.now_us).unwrap();
        }
        if let Some(lease) = client.lease() {
            return Some(lease.clone());
        }
        if let Some(length) = client.next_frame(wire.now_us, &mut tx).unwrap() {
            wire.send(2, &tx[..length]).unwrap();
        }
        wire.pass(client.next_deadline_us());
    }
    None
}

/// When the answer came, within IMDS's deadline.
fn answer(wire: &mut Wire, lease: &Lease, seed: u64) -> Option<()> {
    let request = Request { method: Method::Get, path: "/m", host: "h", headers: &[], body: b"" };
    let until_us = wire.now_us + limits::IMDS_MS * 1000;
    let (mut rx, mut tx) = ([0; 2000], [0; 1514]);
    let (mut a, mut b, mut head) = ([0; 16_384], [0; 1024], [0; 1024]);
    let mut room = [Room::EMPTY];
    let mut neighbour = Neighbour::default();
    let path = lease.path(IMDS, 50_000).unwrap();
    let mut device = Device::new(wire, (&mut rx, &mut tx), 2, path, &mut neighbour).unwrap();
    let mut stack = Stack::connect(&mut room, (&mut a, &mut b), &mut device, seed, 0).unwrap();
    let mut response = Response::new(&mut head, 10_000);
    while wire.now_us < until_us {
        let now_us = wire.now_us;
        let mut device = Device::new(wire, (&mut rx, &mut tx), 2, path, &mut neighbour).unwrap();
        match stack.step(now_us, &mut device, &request, &mut response, &mut |_| Ok(())).ok()? {
            Step::Done(_) => return Some(()),
            Step::Wait { until_us } => wire.pass(until_us),
        }
    }
    None
}

/// Runs `count` boots; prints and returns how many of 1000 had an answer, and the times of those.
fn boots(count: u64, loss: u64) -> (usize, Vec<u64>) {
    let (mut leases, mut times) = (0, Vec::new());
    for seed in 1..=count {
        let mut wire = Wire::new(seed, loss);
        let Some(lease) = lease(&mut wire, seed) else { continue };
        leases += 1;
        if answer(&mut wire, &lease, seed).is_some() {
            times.push(wire.now_us / 1000);
        }
    }
    times.sort_unstable();
    let percentile = |p: usize| times.get(times.len() * p / 100).copied().unwrap_or_default();
    let success = times.len() * 1000 / usize::try_from(count).unwrap();
    std::println!(
        "{}.{} % of frames lost: leases {leases} of {count}, answers {}; P50 {} P90 {} P99 {} ms",
        loss / 10,
        loss % 10,
        times.len(),
        percentile(50),
        percentile(90),
        percentile(99)
    );
    (success, times)
}

#[test]
fn loss_costs_time_and_seldom_the_answer() {
    for (loss, least) in [(0, 1000), (10, 999), (100, 990), (300, 900)] {
        let (success, _) = boots(300, loss);
        assert!(success >= least, "{success} of 1000 at {loss} of 1000 lost");
    }
}

#[test]
#[ignore = "10,000 boots at each rate: a minute"]
fn ten_thousand_boots_at_each_rate_of_loss() {
    for (loss, least) in [(0, 1000), (10, 999), (100, 990), (300, 900)] {
        assert!(boots(10_000, loss).0 >= least);
    }
}
