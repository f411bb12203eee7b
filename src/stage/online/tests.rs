//! The whole conversation against a platform in memory.

use super::{Body, Rest, Session, ask_imds, nics, with_lease, with_saved_lease};
use crate::error::{Errno, Error, Result};
use crate::facts::Hostname;
use crate::format::dhcp::tests::{azure, plain};
use crate::net::Buffers;
use crate::net::device::Device;
use crate::net::lease::WIRESERVER;
use crate::net::lease::tests::{said, served};
use crate::sys::fake::World;
use crate::sys::{Kernel, Link, LinkState, Links, Stream};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use std::boxed::Box;
use std::collections::VecDeque;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// A platform: DHCP on some links, IMDS behind the gateway.
struct Cloud {
    /// What each link's DHCP server is: "azure", "plain" or "silent".
    links: Vec<(&'static str, &'static str)>,
    states: Vec<(&'static str, LinkState)>,
    /// Answers of IMDS in turn; the last is repeated.
    answers: Vec<&'static str>,
    /// What happened, in order.
    story: Vec<String>,
    far: Far,
}

struct Far {
    interface: Interface,
    sockets: SocketSet<'static>,
    server: SocketHandle,
    inbox: VecDeque<Vec<u8>>,
    outbox: VecDeque<Vec<u8>>,
    asked: Vec<u8>,
    us: i64,
}

/// The far end's link: two queues.
struct Queues<'q>(&'q mut VecDeque<Vec<u8>>, &'q mut VecDeque<Vec<u8>>);

fn take(queue: &mut VecDeque<Vec<u8>>, frame: &mut [u8]) -> Option<usize> {
    let bytes = queue.pop_front()?;
    frame[..bytes.len()].copy_from_slice(&bytes);
    Some(bytes.len())
}

impl Link for Queues<'_> {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 1]
    }
    fn index(&self) -> u32 {
        2
    }
    fn carrier_changes(&self) -> Option<u32> {
        None
    }
    fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.1.push_back(frame.to_vec());
        Ok(())
    }
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>> {
        Ok(take(self.0, frame))
    }
    fn wait(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

impl Far {
    fn new() -> Self {
        let (mut a, mut b) = (VecDeque::new(), VecDeque::new());
        let (mut rx, mut tx) = ([0; 1600], [0; 1514]);
        let mut link = Queues(&mut a, &mut b);
        let mut device = Device::new(&mut link, &mut rx, &mut tx);
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, 1), 24))).unwrap();
        });
        // There is room for one address: a router that answers for every address behind it.
        interface.set_any_ip(true);
        interface.routes_mut().add_default_ipv4_route(Ipv4Address::new(10, 0, 0, 1)).unwrap();
        let buffer = |size| SocketBuffer::new(Box::leak(std::vec![0; size].into_boxed_slice()));
        let mut sockets =
            SocketSet::new(Box::leak(Box::new([smoltcp::iface::SocketStorage::EMPTY])) as &mut [_]);
        let server = sockets.add(Socket::new(buffer(2048), buffer(8192)));
        Self {
            interface,
            sockets,
            server,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            asked: Vec::new(),
            us: 0,
        }
    }

    /// Lets a millisecond pass; returns the path of a request that came, to be answered.
    fn poll(&mut self, answer: &mut dyn FnMut(&str) -> &'static str) {
        let (mut rx, mut tx) = ([0; 1600], [0; 1514]);
        self.us += 1000;
        for _ in 0..2 {
            let mut link = Queues(&mut self.inbox, &mut self.outbox);
            let mut device = Device::new(&mut link, &mut rx, &mut tx);
            self.interface.poll(Instant::from_micros(self.us), &mut device, &mut self.sockets);
            let socket = self.sockets.get_mut::<Socket<'_>>(self.server);
            if !socket.is_open() {
                socket.listen(80).unwrap();
                self.asked.clear();
            }
            if socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), self.asked.extend_from_slice(bytes))).unwrap();
            }
            if self.asked.ends_with(b"\r\n\r\n") {
                let text = core::mem::take(&mut self.asked);
                let path = core::str::from_utf8(&text).unwrap().split(' ').nth(1).unwrap().to_string();
                socket.send_slice(answer(&path).as_bytes()).unwrap();
                socket.close();
            }
        }
    }
}

impl Cloud {
    fn new(links: &[(&'static str, &'static str)], answers: &[&'static str]) -> Self {
        let down = LinkState { is_up: false, has_carrier: false, has_address: false };
        let states = links.iter().map(|(name, _)| (*name, down)).collect();
        Self { links: links.to_vec(), states, answers: answers.to_vec(), story: Vec::new(), far: Far::new() }
    }

    fn at(&mut self, name: &str) -> Result<&mut LinkState> {
        let found = self.states.iter_mut().find(|(known, _)| *known == name);
        found.map(|(_, state)| state).ok_or(os!("link state", Errno::NODEV))
    }
}

impl Links for Cloud {
    fn state(&mut self, name: &str) -> Result<LinkState> {
        self.at(name).copied()
    }
    fn set_up(&mut self, name: &str, up: bool) -> Result<()> {
        let state = self.at(name)?;
        (state.is_up, state.has_carrier) = (up, up);
        self.story.push(format!("{name} {}", if up { "up" } else { "down" }));
        Ok(())
    }
    fn open(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn Link) -> Result<()>) -> Result<()> {
        let server = self.links.iter().find(|(known, _)| *known == name).unwrap().1;
        work(&mut Plug { server, cloud: self, queue: VecDeque::new() })
    }
    fn connect(
        &mut self,
        _: [u8; 4],
        _: u16,
        _: u64,
        _: &mut dyn FnMut(&mut dyn Stream) -> Result<()>,
    ) -> Result<()> {
        self.story.push("kernel socket".into());
        Err(os!("connect", Errno::NETUNREACH))
    }
}

/// An open link into the cloud.
struct Plug<'c> {
    server: &'static str,
    cloud: &'c mut Cloud,
    queue: VecDeque<Vec<u8>>,
}

impl Link for Plug<'_> {
    fn mac(&self) -> [u8; 6] {
        crate::format::dhcp::tests::MAC
    }
    fn index(&self) -> u32 {
        2
    }
    fn carrier_changes(&self) -> Option<u32> {
        None
    }
    fn send(&mut self, frame: &[u8]) -> Result<()> {
        let is_dhcp = frame[12..14] == [8, 0] && frame[23] == 17;
        if !is_dhcp {
            self.cloud.far.inbox.push_back(frame.to_vec());
            return Ok(());
        }
        let words = said(frame);
        let kind = if words.starts_with("DISCOVER") { 2 } else { 5 };
        if self.cloud.story.last() != Some(&words) {
            self.cloud.story.push(words);
        }
        let transaction = u32::from_be_bytes(frame[46..50].try_into().unwrap());
        match self.server {
            "azure" => self.queue.push_back(served(&azure(kind, transaction), self.mac())),
            "plain" => self.queue.push_back(served(&plain(kind, transaction, [10, 0, 0, 2]), self.mac())),
            _ => {}
        }
        Ok(())
    }
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>> {
        if let Some(length) = take(&mut self.queue, frame) {
            return Ok(Some(length));
        }
        let Cloud { far, answers, story, .. } = &mut *self.cloud;
        far.poll(&mut |path| {
            story.push(format!("GET {path}"));
            if answers.len() > 1 { answers.remove(0) } else { answers[0] }
        });
        Ok(take(&mut far.outbox, frame))
    }
    fn wait(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 4\r\n\r\nbusy";

fn world(names: &[&str]) -> World {
    let mut world = World::new();
    world.clock.tick_us = 1000;
    for (n, name) in names.iter().enumerate() {
        let last = if n == 0 { "56".into() } else { format!("{n:02}") };
        nics::tests::add(&mut world, name, &format!("00:0d:3a:12:34:{last}"), Some("hv_netvsc"), "0x1002\n");
    }
    world
}

fn kernel<'k>(world: &'k mut World, cloud: &'k mut Cloud) -> Kernel<'k> {
    let Kernel { clock, log, host, root, run, disks, system, .. } = world.kernel();
    log.enter("fetch");
    Kernel { clock, log, host, root, run, disks, system, links: cloud }
}

/// Asks IMDS over a lease; what its body was.
fn ask(world: &mut World, cloud: &mut Cloud) -> Result<String> {
    let mut buffers = Box::new(Buffers::new());
    let name = Hostname::parse("edge-vm-01").unwrap();
    let mut document = Vec::new();
    with_lease(&mut kernel(world, cloud), &mut buffers, Some(&name), &mut |session, _| {
        ask_imds(session, &mut |body| {
            match body {
                Body::Begin => document.clear(),
                Body::Bytes(bytes) => document.extend_from_slice(bytes),
                Body::End if document.starts_with(b"{") => {}
                Body::End => return Err(malformed!("IMDS reply", "JSON", 0)),
            }
            Ok(())
        })
    })?;
    Ok(String::from_utf8(document).unwrap())
}

const NEW: &str = "GET /metadata/instance?api-version=2021-08-01&extended=true";
const OLD: &str = "GET /metadata/instance?api-version=2019-06-01";

#[test]
fn a_lease_an_answer_and_the_link_as_it_was() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    assert_eq!(ask(&mut world, &mut cloud).unwrap(), "{\"a\":1}");
    assert_eq!(cloud.story, ["eth0 up", "DISCOVER unicast", "REQUEST broadcast", NEW, "eth0 down"]);
    assert!(
        world.log.lines[0].starts_with("fetch: lease of 10.0.0.4 on eth0 after"),
        "{:?}",
        world.log.lines
    );
    assert!(world.log.lines[1].starts_with("fetch: IMDS answered after"), "{:?}", world.log.lines);
}

#[test]
fn a_link_that_was_up_stays_up() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    (cloud.states[0].1.is_up, cloud.states[0].1.has_carrier) = (true, true);
    ask(&mut world, &mut cloud).unwrap();
    assert_eq!(cloud.story, ["DISCOVER unicast", "REQUEST broadcast", NEW]);
}

#[test]
fn the_primary_interface_is_found_by_its_routes() {
    let links = [("eth0", "silent"), ("eth1", "plain"), ("eth2", "azure"), ("eth3", "azure")];
    let (mut world, mut cloud) = (world(&["eth0", "eth1", "eth2", "eth3"]), Cloud::new(&links, &[GOOD]));
    ask(&mut world, &mut cloud).unwrap();
    let links: Vec<_> = cloud.story.iter().filter(|line| line.starts_with("eth")).collect();
    assert_eq!(links, ["eth0 up", "eth0 down", "eth1 up", "eth1 down", "eth2 up", "eth2 down"]);
}

#[test]
fn the_only_lease_will_do_where_option_121_is_unknown() {
    for links in [&[("eth0", "plain")][..], &[("eth0", "plain"), ("eth1", "silent")]] {
        let names: Vec<&str> = links.iter().map(|link| link.0).collect();
        let (mut world, mut cloud) = (world(&names), Cloud::new(links, &[GOOD]));
        assert!(ask(&mut world, &mut cloud).is_ok(), "{:?}", cloud.story);
        assert_eq!(cloud.story.last().unwrap(), "eth0 down");
    }
}

#[test]
fn without_an_answer_the_link_is_put_back_and_the_boot_goes_on() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "silent")], &[GOOD]));
    assert_eq!(ask(&mut world, &mut cloud), Err(Error::NEED_NETWORK));
    assert_eq!(cloud.story.last().unwrap(), "eth0 down");
    assert_eq!(world.log.lines, ["fetch: no lease on eth0: DHCP answer: nothing after 10000 ms"]);
    let mut nothing = World::new();
    nothing.host.put_dir("sys/class/net");
    assert_eq!(ask(&mut nothing, &mut Cloud::new(&[], &[GOOD])), Err(Error::NEED_NETWORK));
}

#[test]
fn an_address_of_the_kernel_means_its_sockets() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    cloud.states[0].1 = LinkState { is_up: true, has_carrier: true, has_address: true };
    assert_eq!(ask(&mut world, &mut cloud).unwrap_err().errno(), Some(Errno::NETUNREACH));
    assert!(cloud.story.iter().all(|line| line == "kernel socket"));
    assert!(cloud.story.len() > 1, "asked again");
}

#[test]
fn a_wish_to_stop_is_heard_within_a_step() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "silent")], &[GOOD]));
    world.clock.cancelled = true;
    assert_eq!(ask(&mut world, &mut cloud), Err(Error::STOPPED));
    assert_eq!(cloud.story.last().unwrap(), "eth0 down");
    assert!(world.clock.us < 1_000_000);
}

#[test]
fn imds_is_asked_again_as_the_rules_say() {
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n{\"a\":";
    const NO_JSON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<xml>";
    const OLD_HOST: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    for (answers, asked, works) in [
        (&[FAILED, FAILED, GOOD][..], &[NEW, NEW, NEW][..], true),
        (&[CUT, GOOD], &[NEW, NEW], true),
        (&[NO_JSON, GOOD], &[NEW, NEW], true),
        (&[OLD_HOST, GOOD], &[NEW, OLD], true),
        (&[OLD_HOST, BUSY, GOOD], &[NEW, OLD, OLD], true),
        (&[OLD_HOST], &[NEW, OLD], false),
        (&[DENIED], &[NEW], false),
    ] {
        let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], answers));
        let outcome = ask(&mut world, &mut cloud);
        let gets: Vec<&str> =
            cloud.story.iter().map(String::as_str).filter(|line| line.starts_with("GET")).collect();
        assert_eq!((&gets[..], outcome.is_ok()), (asked, works), "{outcome:?}");
        assert_eq!(cloud.story.last().unwrap(), "eth0 down");
    }
}

#[test]
fn a_busy_imds_gets_the_pause_it_asks_for_and_the_deadline_holds() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[BUSY]));
    let error = ask(&mut world, &mut cloud).unwrap_err();
    assert_eq!(error.reason(), "http error 429 querying IMDS");
    assert_eq!(world.clock.sleeps.iter().filter(|ms| **ms == 2000).count(), 2);
    assert!(world.clock.us < 6_000_000);
}

#[test]
fn what_the_caller_cannot_store_is_not_asked_again() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    let mut buffers = Box::new(Buffers::new());
    let outcome = with_lease(&mut kernel(&mut world, &mut cloud), &mut buffers, None, &mut |session, _| {
        ask_imds(session, &mut |body| match body {
            Body::Bytes(_) => Err(os!("write", Errno::NOSPC)),
            _ => Ok(()),
        })
    });
    assert_eq!(outcome.unwrap_err().errno(), Some(Errno::NOSPC));
    assert_eq!(cloud.story.iter().filter(|line| line.starts_with("GET")).count(), 1);
}

#[test]
fn a_saved_lease_needs_no_dhcp_and_survives_a_rename() {
    let (mut first, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    let mut buffers = Box::new(Buffers::new());
    let mut saved = None;
    let mut keep = |session: &mut Session<'_>, rest: &mut Rest<'_>| {
        saved = session.lease().cloned();
        assert!(rest.run.is_in_memory());
        Ok(())
    };
    with_lease(&mut kernel(&mut first, &mut cloud), &mut buffers, None, &mut keep).unwrap();
    let (mut second, mut cloud) = (world(&["enP1s0"]), Cloud::new(&[("enP1s0", "silent")], &[GOOD]));
    let mut bytes = 0;
    let mut post = |session: &mut Session<'_>, _: &mut Rest<'_>| {
        assert_eq!(session.wireserver(), WIRESERVER);
        ask_imds(session, &mut |body| {
            bytes += if let Body::Bytes(bytes) = body { bytes.len() } else { 0 };
            Ok(())
        })
    };
    let mut kernel = kernel(&mut second, &mut cloud);
    with_saved_lease(&mut kernel, &mut buffers, saved.as_ref().unwrap(), u64::MAX, &mut post).unwrap();
    assert_eq!(bytes, 7);
    assert_eq!(cloud.story, ["enP1s0 up", NEW, "enP1s0 down"]);
}
