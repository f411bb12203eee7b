//! Which interface leads to the platform? All of them are raised and asked at once, over one deadline.

use super::nics::{self, Nic, Nics};
use super::session::Own;
use super::{Online, Rest, Session, Work};
use crate::error::{Errno, Error, Result};
use crate::event::{Level, Value};
use crate::facts::Hostname;
use crate::format::cmdline;
use crate::format::router_discovery::{ALL_NODES, is_advertisement, solicitation};
use crate::limits;
use crate::machine;
use crate::net::lease::{Client, IMDS, Lease};
use crate::sys::{Dir, Kernel, LinkState, Owner};
use core::fmt::Write as _;

/// Frames read before looking at the clock again.
const BURST: usize = 64;
/// First and longest pause between two looks for a carrier.
const CARRIER_POLL_MS: (u64, u64) = (2, 50);
/// Below /run/preroot, for each link that we raised, its index behind this: whoever finds it after our death puts the
/// link back. What it says is whether IPv6 was switched off too.
const RAISED: &str = "raised-";

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'w> {
    /// A lease of any interface; the name is sent with the question.
    Any(Option<&'w Hostname>),
    /// The interface of a lease that was taken earlier, with a carrier within a limit.
    Saved {
        /// That lease.
        lease: &'w Lease,
        /// The limit, milliseconds.
        limit_ms: u64,
    },
}

/// An interface that is being tried. Its client is at the same place in `Buffers::clients`.
struct Trial {
    nic: Nic,
    was_up: bool,
    is_raised: bool,
    has_carrier: bool,
    has_waited: bool,
    /// When IPv6 routers are asked, if there is no lease by then; never twice.
    routers_us: u64,
    /// One has answered.
    has_router: bool,
}

/// How it ended.
enum Found {
    /// With this trial's lease.
    Lease(usize),
    /// Somebody gave the kernel an address.
    Kernel,
}

pub(super) struct Hunt<'h, 'o> {
    online: &'h mut Online<'o>,
    rest: &'h mut Rest<'o>,
    wanted: Wanted<'h>,
    trials: heapless::Vec<Trial, { limits::LINKS }>,
    begin_us: u64,
    until_us: u64,
    scan_us: u64,
    look_us: u64,
    pause_ms: u64,
    /// When the first lease came that does not lead to the platform.
    other_us: Option<u64>,
    has_complained: bool,
    /// Option 245 is believed whatever it says.
    believes: bool,
}

impl<'h, 'o> Hunt<'h, 'o> {
    pub(super) fn new(online: &'h mut Online<'o>, rest: &'h mut Rest<'o>, wanted: Wanted<'h>) -> Self {
        let begin_us = online.talk.clock.now_us();
        let line = machine::command_line(online.host, &mut online.talk.buffers.frame_rx);
        let believes = cmdline::value(line, "rd.preroot.wireserver") == Some("dhcp");
        let limit_ms = match wanted {
            Wanted::Any(_) => limits::CARRIER_MS + limits::DHCP_MS,
            Wanted::Saved { limit_ms, .. } => limit_ms,
        };
        Self {
            online,
            rest,
            wanted,
            trials: heapless::Vec::new(),
            begin_us,
            until_us: begin_us.saturating_add(limit_ms * 1000),
            scan_us: begin_us.saturating_add(limits::NIC_LOOK_MS * 1000),
            look_us: begin_us,
            pause_ms: CARRIER_POLL_MS.0,
            other_us: None,
            has_complained: false,
            believes,
        }
    }

    /// Works over the best lease. Every link is left as it was found.
    pub(super) fn run(&mut self, nics: Nics, work: Work<'_>) -> Result<()> {
        if let Err(error) = self.online.links.open() {
            self.online.talk.say(Level::Warning, "no frames of any interface: {}", &[Value::Why(error)]);
            return Err(Error::NO_LEASE);
        }
        self.online.talk.buffers.clients.clear();
        self.merge(nics);
        let found = self.find();
        let winner = if let Ok(Found::Lease(winner)) = found { Some(winner) } else { None };
        for n in (0..self.trials.len()).filter(|n| Some(*n) != winner) {
            self.lower(n);
        }
        let outcome = match found {
            Ok(Found::Lease(n)) => self.work(n, work),
            Ok(Found::Kernel) => work(&mut self.online.kernel_session(), self.rest),
            Err(error) => Err(error),
        };
        if let Some(n) = winner {
            self.lower(n);
        }
        self.online.links.close();
        outcome
    }

    fn work(&mut self, n: usize, work: Work<'_>) -> Result<()> {
        let trial = self.trials.get(n).ok_or(Error::NEED_NETWORK)?;
        let lease = self.online.talk.buffers.clients.get(n).and_then(Client::lease).cloned();
        let lease = lease.ok_or(Error::NEED_NETWORK)?;
        let own = Own::new(&lease, &trial.nic, self.online.talk.random);
        let mut session = Session { own: Some(own), ..self.online.kernel_session() };
        work(&mut session, self.rest)
    }

    /// Until there is a lease that leads to the platform; failing that, any.
    fn find(&mut self) -> Result<Found> {
        loop {
            let now_us = self.online.talk.clock.now_us();
            if self.look(now_us)? {
                return Ok(Found::Kernel);
            }
            self.read_frames(now_us)?;
            if let Some(n) = self.decide(now_us) {
                self.say_lease(n, now_us);
                return Ok(Found::Lease(n));
            }
            if self.online.talk.clock.is_cancelled() {
                return Err(Error::STOPPED);
            }
            if now_us >= self.until_us {
                self.say_none();
                return Err(Error::NO_LEASE);
            }
            let next_us = self.send_due(now_us)?;
            let look_us = now_us.saturating_add(limits::STOP_LOOK_MS * 1000);
            let wake_us = [next_us, self.look_us, self.scan_us, self.until_us, look_us];
            self.online.links.wait(wake_us.into_iter().min().unwrap_or(now_us))?;
        }
    }

    /// Looks for carriers, and now and then for interfaces. True when the kernel has got an address.
    fn look(&mut self, now_us: u64) -> Result<bool> {
        if now_us >= self.scan_us {
            self.scan_us = now_us.saturating_add(limits::NIC_LOOK_MS * 1000);
            let nics = nics::choose(self.online.host, self.online.links)?;
            self.merge(nics);
            let links = &mut *self.online.links;
            let mut states = self.trials.iter().map(|trial| links.state(&trial.nic.name));
            if states.any(|state| state.is_ok_and(|state| state.has_address)) && links.has_route(IMDS) {
                return Ok(true);
            }
        }
        if now_us >= self.look_us {
            let (_, longest_ms) = CARRIER_POLL_MS;
            for n in 0..self.trials.len() {
                self.look_for_carrier(n, now_us);
            }
            self.look_us = match self.trials.iter().all(|trial| trial.has_carrier) {
                true => self.scan_us,
                false => now_us.saturating_add(self.pause_ms * 1000),
            };
            self.pause_ms = (self.pause_ms * 2).min(longest_ms);
        }
        Ok(false)
    }

    fn look_for_carrier(&mut self, n: usize, now_us: u64) {
        let Some(trial) = self.trials.get_mut(n).filter(|trial| !trial.has_carrier) else { return };
        // An interface that was renamed has no state; the next scan gives its name.
        if !self.online.links.state(&trial.nic.name).is_ok_and(|state| state.has_carrier) {
            trial.has_waited = true;
            return;
        }
        trial.has_carrier = true;
        let Wanted::Any(hostname) = self.wanted else { return };
        trial.routers_us = now_us.saturating_add(limits::ROUTERS_MS * 1000);
        // The kernel switches the queue on a moment after the carrier came (net/core/link_watch.c); a frame sent
        // before that is lost.
        let pause_us = if trial.has_waited { CARRIER_POLL_MS.0 * 1000 } else { 0 };
        let seed = self.online.talk.random ^ now_us ^ (u64::from(trial.nic.index) << 40);
        let mut client = Client::new(trial.nic.mac, hostname, seed, now_us.saturating_add(pause_us));
        if self.believes {
            client.believe();
        }
        if let Some(place) = self.online.talk.buffers.clients.get_mut(n) {
            *place = client;
        }
        let latest_us = self.begin_us.saturating_add((limits::CARRIER_MS + limits::DHCP_MS) * 1000);
        self.until_us = latest_us.min(now_us.saturating_add(limits::DHCP_MS * 1000));
    }

    /// Takes new interfaces, new names, and leaves those that are no more (a virtual function whose synthetic interface
    /// has appeared, too).
    fn merge(&mut self, nics: Nics) {
        for n in (0..self.trials.len()).rev() {
            let Some(trial) = self.trials.get_mut(n) else { continue };
            match nics.iter().find(|nic| nic.index == trial.nic.index) {
                Some(nic) => trial.nic.name = nic.name.clone(),
                None => {
                    self.lower(n);
                    let _ = self.trials.remove(n);
                    let _ = self.online.talk.buffers.clients.remove(n);
                }
            }
        }
        for nic in nics {
            let is_known = self.trials.iter().any(|trial| trial.nic.index == nic.index);
            let client = match self.wanted {
                Wanted::Saved { lease, .. } if lease.mac == nic.mac => Client::bound(lease),
                Wanted::Saved { .. } => continue,
                Wanted::Any(_) => Client::new(nic.mac, None, 0, 0),
            };
            let Ok(LinkState { is_up: was_up, has_address: false, .. }) = self.online.links.state(&nic.name)
            else {
                continue; // going away, or the kernel's: there we would be reset
            };
            let trial = Trial {
                nic,
                was_up,
                is_raised: was_up,
                has_carrier: false,
                has_waited: false,
                routers_us: u64::MAX,
                has_router: false,
            };
            // The list that they come from has no more room than these.
            if !is_known && self.trials.push(trial).is_ok() {
                let _ = self.online.talk.buffers.clients.push(client);
                self.look_us = 0;
                self.pause_ms = CARRIER_POLL_MS.0;
            }
        }
        for n in 0..self.trials.len() {
            self.raise(n);
        }
    }

    /// Raises a link that was down, once it was noted.
    fn raise(&mut self, n: usize) {
        let Some(trial) = self.trials.get_mut(n).filter(|trial| !trial.is_raised) else { return };
        note(self.rest.run, self.online.host, &trial.nic);
        match self.online.links.set_up(&trial.nic.name, true) {
            Ok(()) => trial.is_raised = true,
            Err(_) => forget(self.rest.run, trial.nic.index), // it has another name now: tried again
        }
    }

    fn lower(&mut self, n: usize) {
        let Some(trial) = self.trials.get_mut(n).filter(|trial| trial.is_raised && !trial.was_up) else {
            return;
        };
        trial.is_raised = false;
        match self.online.links.set_up(&trial.nic.name, false) {
            // NODEV: somebody pulled it.
            Err(error) if error.errno() != Some(Errno::NODEV) => {
                let values = [Value::Name(&trial.nic.name), Value::Why(error)];
                self.online.talk.say(Level::Warning, "{} stays up: {}", &values);
            }
            _ => {}
        }
        forget(self.rest.run, trial.nic.index);
    }

    /// Takes the frames that are there. A server's message that breaks a rule is said and passed over.
    fn read_frames(&mut self, now_us: u64) -> Result<()> {
        for _ in 0..BURST {
            let buffers = &mut *self.online.talk.buffers;
            let Some(frame) = self.online.links.receive(&mut buffers.frame_rx)? else { break };
            let bytes = buffers.frame_rx.get(..frame.length).unwrap_or_default();
            let mut tried = self.trials.iter_mut().zip(&mut buffers.clients);
            let at = tried.find(|(trial, _)| trial.nic.index == frame.index && trial.has_carrier);
            let Some((trial, client)) = at else { continue };
            if is_advertisement(bytes) {
                trial.has_router = true;
            } else if let Err(error) = client.on_frame(bytes, frame.is_intact, now_us)
                && !core::mem::replace(&mut self.has_complained, true)
            {
                // Once: whoever sends it may send many.
                self.online.talk.say(Level::Warning, "ignored: {}", &[Value::Why(error)]);
            }
        }
        Ok(())
    }

    /// Sends what is due; says when something is again.
    fn send_due(&mut self, now_us: u64) -> Result<u64> {
        let mut next_us = u64::MAX;
        let super::Talk { buffers, .. } = &mut self.online.talk;
        for (trial, client) in self.trials.iter_mut().zip(&mut buffers.clients) {
            if !trial.has_carrier {
                continue;
            }
            // A link that refuses is gone, or about to be: the next scan says so.
            if let Some(length) = client.next_frame(now_us, &mut buffers.frame_tx)? {
                let frame = buffers.frame_tx.get(..length).unwrap_or_default();
                let _ = self.online.links.send(trial.nic.index, frame);
            }
            if now_us >= trial.routers_us && client.lease().is_none() {
                let _ = self.online.links.join(trial.nic.index, ALL_NODES);
                let _ = self.online.links.send(trial.nic.index, &solicitation(trial.nic.mac));
                trial.routers_us = u64::MAX;
            }
            next_us = next_us.min(client.next_deadline_us()).min(trial.routers_us);
        }
        Ok(next_us)
    }

    /// The lease that is good enough by now.
    fn decide(&mut self, now_us: u64) -> Option<usize> {
        let clients = &self.online.talk.buffers.clients;
        let leases = || {
            let pairs = self.trials.iter().zip(clients).enumerate();
            pairs.filter_map(|(n, (trial, client))| Some((n, client.lease().filter(|_| trial.has_carrier)?)))
        };
        let primary = leases().find(|(_, lease)| lease.is_primary());
        if primary.is_some() || matches!(self.wanted, Wanted::Saved { .. }) {
            return primary.or_else(|| leases().next()).map(|(n, _)| n);
        }
        // As on Azure Stack Hub, which may tell no routes: one with a wireserver, else with a way out; of several the first.
        let rank = |lease: &Lease| (lease.wireserver.is_some(), lease.router.is_some());
        let (best, _) = leases().reduce(|a, b| if rank(b.1) > rank(a.1) { b } else { a })?;
        let is_all = leases().count() == self.trials.len();
        let limit_ms = if is_all { limits::LONE_LEASE_MS } else { limits::OTHER_LEASE_MS };
        let since_us = *self.other_us.get_or_insert(now_us);
        (now_us >= since_us.saturating_add(limit_ms * 1000).min(self.until_us)).then_some(best)
    }

    fn say_lease(&mut self, n: usize, now_us: u64) {
        let Wanted::Any(_) = self.wanted else { return };
        let client = self.online.talk.buffers.clients.get(n);
        let (Some(trial), Some(lease)) = (self.trials.get(n), client.and_then(Client::lease)) else { return };
        let ms = now_us.saturating_sub(self.begin_us) / 1000;
        let values = [Value::Ipv4(lease.address), Value::Name(&trial.nic.name), Value::Millis(ms)];
        // Who tries for days says each lease once.
        let told = (lease.address, trial.nic.index, lease.is_primary());
        if self.online.talk.buffers.told == Some(told) {
            return;
        }
        let text = match lease.is_primary() {
            true => "lease of {} on {} after {}",
            false => "lease of {} on {} after {}, without a route to the platform: no better one came",
        };
        self.online.talk.log.say(Level::Info, text, &values);
        if let Some(address) = client.and_then(Client::refused) {
            let text = "DHCP names {} as the wireserver: that is not Azure's, and not used";
            self.online.talk.log.say(Level::Warning, text, &[Value::Ipv4(address)]);
        }
        self.online.talk.buffers.told = Some(told);
    }

    fn say_none(&mut self) {
        for trial in &self.trials {
            let error = match trial.has_carrier {
                true => deadline!("DHCP answer", limits::DHCP_MS),
                false => deadline!("carrier", limits::CARRIER_MS + limits::DHCP_MS),
            };
            let values = [Value::Name(&trial.nic.name), Value::Why(error)];
            let text = match trial.has_router {
                true => "no lease on {}: {}; but an IPv6 router answers: the platform needs IPv4",
                false => "no lease on {}: {}",
            };
            self.online.talk.log.say(Level::Warning, text, &values);
        }
    }
}

type Note = heapless::String<24>;

fn name_of_note(index: u32) -> Note {
    let mut name = Note::new();
    let _ = write!(name, "{RAISED}{index}"); // ten digits: it has room
    name
}

/// Notes a link before it is raised, with what becomes of its IPv6.
fn note(run: &mut dyn Dir, host: &mut dyn Dir, nic: &Nic) {
    let mut path = heapless::String::<64>::new();
    let mut value = [0; 2];
    let is_silenced = write!(path, "proc/sys/net/ipv6/conf/{}/disable_ipv6", nic.name).is_ok()
        && host.read(&path, &mut value).is_ok()
        && value.starts_with(b"0");
    let text: &[u8] = if is_silenced { b"1" } else { b"0" };
    let _ = run.create_unsynced(&name_of_note(nic.index), Owner::root(0o600), text);
}

fn forget(run: &mut dyn Dir, index: u32) {
    let _ = run.remove(&name_of_note(index));
}

/// Puts back the links that a process of ours left raised: it was killed, or ended by a bug. It must be dead.
pub fn give_back(kernel: &mut Kernel<'_>) {
    let mut left = heapless::Vec::<u32, { limits::LINKS }>::new();
    let listed = kernel.run.list("", &mut |name, _| {
        if let Some(index) = name.strip_prefix(RAISED).and_then(|index| index.parse().ok()) {
            let _ = left.push(index); // no more were raised
        }
        true
    });
    if listed.is_err() {
        return;
    }
    for index in left {
        let mut value = [0; 2];
        let length = kernel.run.read(&name_of_note(index), &mut value).unwrap_or_default();
        let outcome = kernel.links.give_back(index, value.get(..length) == Some(b"1"));
        forget(kernel.run, index);
        match outcome {
            Ok(()) => kernel.say(Level::Info, "a link that was left raised is put back", &[]),
            Err(error) if error.errno() == Some(Errno::NODEV) => {}
            Err(error) => kernel.say(Level::Warning, "a link stays up: {}", &[Value::Why(error)]),
        }
    }
}
