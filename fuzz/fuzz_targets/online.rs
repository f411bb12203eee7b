//! Frames: a lease and an HTTP exchange fed with whatever the link brings panic never and end in bounded steps.
//!
//! The input is frames: a flag byte, two bytes of length, the bytes. Flags mend what a fuzzer cannot guess.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::Result;
use preroot::net::device::Device;
use preroot::net::http_client::{Method, Request, Response};
use preroot::net::lease::{Client, Lease};
use preroot::net::neighbour::Neighbour;
use preroot::net::stack::{Room, Stack, Step};
use preroot::sys::{Frame, Frames};

const MAC: [u8; 6] = [0, 13, 58, 18, 52, 86];
const IMDS: [u8; 4] = [169, 254, 169, 254];

struct Wire<'i> {
    input: &'i [u8],
    /// What we sent last.
    sent: Vec<u8>,
    count: usize,
    /// Every other look finds nothing: one frame comes at a time.
    is_idle: bool,
}

impl Wire<'_> {
    fn mend(&self, flags: u8, frame: &mut [u8]) {
        if flags & 1 == 0 || frame.len() < 42 {
            return;
        }
        frame[..6].copy_from_slice(&MAC);
        if flags & 2 != 0 {
            frame[12..15].copy_from_slice(&[8, 6, 0]);
            frame[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
            if self.sent.len() == 42 {
                frame[28..32].copy_from_slice(&self.sent[38..42]);
                frame[38..42].copy_from_slice(&self.sent[28..32]);
            }
            return;
        }
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        let length = u16::try_from(frame.len() - 14).unwrap_or(u16::MAX);
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[20..22].fill(0);
        if flags & 4 != 0 && frame.len() > 300 && self.sent.len() > 50 {
            frame[23] = 17;
            frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
            let length = u16::try_from(frame.len() - 34).unwrap_or(u16::MAX);
            frame[38..40].copy_from_slice(&length.to_be_bytes());
            frame[42..45].copy_from_slice(&[2, 1, 6]);
            frame[46..50].copy_from_slice(&self.sent[46..50]);
            frame[70..76].copy_from_slice(&MAC);
            frame[278..282].copy_from_slice(&[99, 130, 83, 99]);
        } else if frame.len() >= 54 && self.sent.len() >= 54 {
            frame[23] = 6;
            frame[26..30].copy_from_slice(&self.sent[30..34]);
            frame[30..34].copy_from_slice(&self.sent[26..30]);
            frame[34..36].copy_from_slice(&self.sent[36..38]);
            frame[36..38].copy_from_slice(&self.sent[34..36]);
            if flags & 8 != 0 {
                let ours = u32::from_be_bytes(self.sent[38..42].try_into().unwrap_or_default());
                let near = ours.wrapping_add(1).wrapping_add(u32::from(frame[45] & 15));
                frame[42..46].copy_from_slice(&near.to_be_bytes());
                frame[38..42].copy_from_slice(&self.sent[42..46]);
            }
            frame[46] = frame[46].max(0x50);
        }
        frame[24..26].fill(0);
        let sum: u32 =
            frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

impl Frames for Wire<'_> {
    fn send(&mut self, _: u32, frame: &[u8]) -> Result<()> {
        self.sent = frame.to_vec();
        self.count += 1;
        Ok(())
    }
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<Frame>> {
        self.is_idle = !self.is_idle;
        let [flags, a, b, rest @ ..] = self.input else { return Ok(None) };
        if self.is_idle {
            return Ok(None);
        }
        let length = usize::from(u16::from_le_bytes([*a, *b]) % 1600).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        frame[..length].copy_from_slice(bytes);
        let flags = *flags;
        self.input = rest;
        self.mend(flags, &mut frame[..length]);
        Ok(Some(Frame { length, index: 2, is_intact: flags & 128 == 0 }))
    }
}

fn lease(wire: &mut Wire<'_>) -> Option<Lease> {
    let mut client = Client::new(MAC, None, 7, 0);
    let (mut rx, mut tx) = ([0; 2000], [0; 1514]);
    let mut now_us = 0;
    while client.lease().is_none() && wire.input.len() >= 3 {
        if let Ok(Some(length)) = client.next_frame(now_us, &mut tx) {
            let _ = wire.send(2, &tx[..length]);
        }
        if let Ok(Some(frame)) = wire.receive(&mut rx) {
            let _ = client.on_frame(&rx[..frame.length], frame.is_intact, now_us);
        }
        now_us += 50_000;
        if let Ok(Some(length)) = client.next_frame(now_us, &mut tx) {
            let _ = wire.send(2, &tx[..length]);
        }
        assert!(client.next_deadline_us() > now_us, "it would spin");
    }
    client.lease().cloned()
}

fuzz_target!(|input: &[u8]| {
    let mut wire = Wire { input, sent: Vec::new(), count: 0, is_idle: true };
    let Some(lease) = lease(&mut wire) else { return };
    let Ok(path) = lease.path(IMDS, 50_000) else { return };
    let (mut rx, mut tx, mut a, mut b, mut head) = ([0; 2000], [0; 1514], [0; 4096], [0; 1024], [0; 1024]);
    let (mut room, mut neighbour) = ([Room::EMPTY], Neighbour::default());
    let Ok(mut device) = Device::new(&mut wire, (&mut rx, &mut tx), 2, path, &mut neighbour) else { return };
    let Ok(mut stack) = Stack::connect(&mut room, (&mut a, &mut b), &mut device, 7, 0) else { return };
    let mut response = Response::new(&mut head, 4096);
    let request = Request { method: Method::Get, path: "/", host: "h", headers: &[], body: b"" };
    for step in 0..200_u64 {
        let Ok(mut device) = Device::new(&mut wire, (&mut rx, &mut tx), 2, path, &mut neighbour) else {
            return;
        };
        match stack.step(step * 50_000, &mut device, &request, &mut response, &mut |_| Ok(())) {
            Ok(Step::Wait { .. }) => {}
            Ok(Step::Done(_)) | Err(_) => break,
        }
    }
    assert!(wire.count < 1000, "{} frames sent", wire.count);
});
