//! The whole conversation against a platform in memory.

use super::{Body, Rest, Session, ask_imds, nics, with_lease, with_saved_lease};
use crate::error::{Errno, Error, Result};
use crate::facts::Hostname;
use crate::format::dhcp::tests::{azure, foreign, message, plain};
use crate::format::router_discovery::SOLICITATION;
use crate::format::router_discovery::tests::advertisement;
use crate::limits;
use crate::net::Buffers;
use crate::net::far::Far;
use crate::net::lease::tests::{said, served};
use crate::net::lease::{IMDS, WIRESERVER};
use crate::sys::fake::World;
use crate::sys::{Dir as _, Frame, Frames, Kernel, LinkState, Links, Only, Stream};
use std::boxed::Box;
use std::collections::VecDeque;
use std::format;
use std::string::String;
use std::vec::Vec;

/// A platform: DHCP on some links, IMDS behind the gateway.
struct Cloud {
    /// What each link's DHCP server is: "azure", "plain", "silent", or "ipv6" for a router without one.
    links: Vec<(&'static str, &'static str)>,
    states: Vec<(&'static str, LinkState)>,
    /// Answers of IMDS in turn; the last is repeated.
    answers: Vec<&'static str>,
    /// What happened, in order.
    story: Vec<String>,
    far: Far,
    /// A millisecond for each time that nothing comes.
    us: u64,
    /// The interface that spoke last.
    index: u32,
    queue: VecDeque<(u32, Vec<u8>)>,
    /// No carrier before.
    carrier_us: u64,
    /// Then the kernel gets an address on all.
    address_us: Option<u64>,
    has_route: bool,
}

impl Cloud {
    fn new(links: &[(&'static str, &'static str)], answers: &[&'static str]) -> Self {
        let down = LinkState { is_up: false, has_carrier: false, has_address: false };
        let states = links.iter().map(|(name, _)| (*name, down)).collect();
        let mut far = Far::new(&[[10, 0, 0, 1]]);
        far.answer = Some(Vec::new());
        Self {
            links: links.to_vec(),
            states,
            answers: answers.to_vec(),
            story: Vec::new(),
            far,
            us: 0,
            index: 0,
            queue: VecDeque::new(),
            carrier_us: 0,
            address_us: None,
            has_route: true,
        }
    }

    fn at(&mut self, name: &str) -> Result<&mut LinkState> {
        let found = self.states.iter_mut().find(|(known, _)| *known == name);
        found.map(|(_, state)| state).ok_or(os!("link state", Errno::NODEV))
    }
}

impl Links for Cloud {
    fn state(&mut self, name: &str) -> Result<LinkState> {
        let (has_carrier, has_address) =
            (self.us >= self.carrier_us, self.address_us.is_some_and(|at| self.us >= at));
        let state = *self.at(name)?;
        Ok(LinkState {
            has_carrier: state.has_carrier && has_carrier,
            has_address: state.has_address || has_address,
            ..state
        })
    }
    fn has_route(&mut self, _: [u8; 4]) -> bool {
        self.has_route
    }
    fn open(&mut self) -> Result<()> {
        Ok(())
    }
    fn give_back(&mut self, index: u32, is_silenced: bool) -> Result<()> {
        self.story.push(format!("given back {index} {is_silenced}"));
        Ok(())
    }
    fn set_up(&mut self, name: &str, up: bool) -> Result<()> {
        let state = self.at(name)?;
        (state.is_up, state.has_carrier) = (up, up);
        self.story.push(format!("{name} {}", if up { "up" } else { "down" }));
        Ok(())
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

impl Frames for Cloud {
    fn send(&mut self, index: u32, frame: &[u8]) -> Result<()> {
        let (name, server) = self.links[index as usize - 2];
        assert!(self.at(name).unwrap().is_up);
        self.index = index;
        let is_dhcp = frame[12..14] == [8, 0] && frame[23] == 17;
        if frame[12..14] == [0x86, 0xdd] {
            assert_eq!(frame.len(), SOLICITATION);
            self.story.push("routers asked".into());
            if server == "ipv6" {
                self.queue.push_back((index, advertisement()));
            }
            return Ok(());
        }
        if !is_dhcp {
            self.far.inbox.push_back(frame.to_vec());
            return Ok(());
        }
        let words = said(frame);
        let kind = if words.starts_with("DISCOVER") { 2 } else { 5 };
        if self.story.last() != Some(&words) {
            self.story.push(words);
        }
        let transaction = u32::from_be_bytes(frame[46..50].try_into().unwrap());
        let mut answer = match server {
            "azure" => azure(kind, transaction),
            "plain" => plain(kind, transaction, [10, 0, 0, 2]),
            "foreign" => foreign(kind, transaction),
            "no way out" => {
                message(transaction, &[(53, &[kind]), (54, &[10, 0, 0, 2]), (1, &[255, 0, 0, 0])])
            }
            _ => return Ok(()),
        };
        answer[28..34].copy_from_slice(&frame[70..76]);
        self.queue.push_back((index, served(&answer, frame[70..76].try_into().unwrap())));
        Ok(())
    }
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<Frame>> {
        let next = self.queue.pop_front().or_else(|| {
            self.us += 1000;
            let Self { far, answers, story, us, index, .. } = &mut *self;
            far.poll_with(*us, &mut |path| {
                story.push(format!("GET {path}"));
                (if answers.len() > 1 { answers.remove(0) } else { answers[0] }).into()
            });
            far.outbox.pop_front().map(|frame| (*index, frame))
        });
        let Some((index, bytes)) = next else { return Ok(None) };
        frame[..bytes.len()].copy_from_slice(&bytes);
        Ok(Some(Frame { length: bytes.len(), index, is_intact: true }))
    }
    fn narrow(&mut self, only: &Only) -> Result<()> {
        assert!(only.peer == IMDS && only.ours == [10, 0, 0, 4]);
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

/// As the initrd asks.
fn ask_now(session: &mut Session<'_>, body: &mut dyn FnMut(Body<'_>) -> Result<()>) -> Result<()> {
    let until_us = session.now_us() + limits::IMDS_MS * 1000;
    ask_imds(session, until_us, body).map_err(|refusal| refusal.error)
}

/// Asks IMDS over a lease; what its body was.
fn ask(world: &mut World, cloud: &mut Cloud) -> Result<String> {
    let mut buffers = Box::new(Buffers::new());
    let name = Hostname::parse("edge-vm-01").unwrap();
    let mut document = Vec::new();
    with_lease(&mut kernel(world, cloud), &mut buffers, Some(&name), &mut |session, _| {
        ask_now(session, &mut |body| {
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
    let ups = ["eth0 up", "eth1 up", "eth2 up", "eth3 up"];
    assert_eq!(links[..4], ups);
    assert_eq!(links[4..], ["eth0 down", "eth1 down", "eth3 down", "eth2 down"]);
    assert!(world.clock.us < 100_000, "nobody waits for the silent ones");
}

#[test]
fn one_of_fifty_interfaces_is_found_in_the_time_of_one() {
    let names: Vec<&'static str> = (0..50).map(|n| &*Box::leak(format!("eth{n}").into_boxed_str())).collect();
    let server = |n| match n {
        33 => "azure",
        3 | 40 => "plain",
        _ => "silent",
    };
    let links: Vec<_> = names.iter().enumerate().map(|(n, name)| (*name, server(n))).collect();
    let (mut world, mut cloud) = (world(&names), Cloud::new(&links, &[GOOD]));
    ask(&mut world, &mut cloud).unwrap();
    assert!(world.clock.us < 100_000);
    assert_eq!(cloud.story.last().unwrap(), "eth33 down");
    assert!(cloud.states.iter().all(|(_, state)| !state.is_up));
}

#[test]
fn a_carrier_may_come_late() {
    for carrier_ms in [4_900, 7_000, 12_000] {
        let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
        cloud.carrier_us = carrier_ms * 1000;
        ask(&mut world, &mut cloud).unwrap();
    }
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    cloud.carrier_us = u64::MAX;
    assert_eq!(ask(&mut world, &mut cloud), Err(Error::NO_LEASE));
    assert_eq!(world.log.lines, ["fetch: no lease on eth0: carrier: nothing after 15000 ms"]);
}

#[test]
fn an_answer_may_take_three_seconds() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    cloud.far.delay_us = 3_000_000;
    ask(&mut world, &mut cloud).unwrap();
    assert_eq!(cloud.story.iter().filter(|line| line.starts_with("GET")).count(), 1);
}

#[test]
fn a_virtual_function_waits_for_its_interface_first() {
    let mut world = World::new();
    world.clock.tick_us = 1000;
    nics::tests::add(&mut world, "eth0", "00:0d:3a:12:34:56", Some("mlx5_core"), "0x1002\n");
    let mut cloud = Cloud::new(&[("eth0", "azure")], &[GOOD]);
    ask(&mut world, &mut cloud).unwrap();
    assert!(world.clock.us > 2_000_000, "it never came: a card like others");
}

#[test]
fn an_address_of_the_kernel_without_a_route_is_no_way() {
    let links = [("eth0", "silent"), ("eth1", "azure")];
    let (mut world, mut cloud) = (world(&["eth0", "eth1"]), Cloud::new(&links, &[GOOD]));
    cloud.states[0].1 = LinkState { is_up: true, has_carrier: true, has_address: true };
    cloud.has_route = false;
    ask(&mut world, &mut cloud).unwrap();
    let links: Vec<_> = cloud.story.iter().filter(|line| line.starts_with("eth")).collect();
    assert_eq!(links, ["eth1 up", "eth1 down"], "the other is left alone");
}

#[test]
fn an_address_that_the_kernel_gets_meanwhile_means_its_sockets() {
    // While a lease is asked for.
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "silent")], &[GOOD]));
    cloud.address_us = Some(1_000_000);
    assert_eq!(ask(&mut world, &mut cloud).unwrap_err().errno(), Some(Errno::NETUNREACH));
    assert!(cloud.story.iter().any(|line| line == "kernel socket"), "{:?}", cloud.story);
    // And while IMDS is asked: the kernel resets what it does not know.
    let (mut world, mut cloud) = (self::world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[BUSY]));
    cloud.address_us = Some(3_000);
    cloud.far.answer = None;
    assert_eq!(ask(&mut world, &mut cloud).unwrap_err().errno(), Some(Errno::NETUNREACH));
    assert!(cloud.story.iter().any(|line| line == "kernel socket"), "{:?}", cloud.story);
}

#[test]
fn links_are_noted_while_they_are_raised_and_put_back_by_whoever_finds_the_note() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    world.host.put("proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0\n");
    let mut buffers = Box::new(Buffers::new());
    let mut noted = None;
    let mut work = |_: &mut Session<'_>, rest: &mut Rest<'_>| {
        let mut value = [0; 4];
        noted = Some((rest.run.read("raised-2", &mut value)?, value[0]));
        Ok(())
    };
    with_lease(&mut kernel(&mut world, &mut cloud), &mut buffers, None, &mut work).unwrap();
    assert_eq!(noted, Some((1, b'1')));
    assert!(world.run.stat("raised-2").is_err());
    world.run.put("raised-2", "1");
    super::give_back(&mut kernel(&mut world, &mut cloud));
    assert!(world.run.stat("raised-2").is_err());
    assert_eq!(cloud.story.last().unwrap(), "given back 2 true");
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

/// Azure Stack Hub may tell no routes.
#[test]
fn of_leases_without_routes_to_the_platform_one_with_a_way_out_is_taken() {
    let links = [("eth0", "no way out"), ("eth1", "plain"), ("eth2", "plain")];
    let (mut world, mut cloud) = (world(&["eth0", "eth1", "eth2"]), Cloud::new(&links, &[GOOD]));
    ask(&mut world, &mut cloud).unwrap();
    assert_eq!(cloud.story.last().unwrap(), "eth1 down");
}

#[test]
fn a_wireserver_that_is_not_azures_is_said_once_and_not_used() {
    const LINE: &str = "fetch: DHCP names 10.0.0.66 as the wireserver: that is not Azure's, and not used";
    for (arguments, address) in [
        ("ro quiet", WIRESERVER),
        ("ro rd.preroot.wireserver=dhcp", [10, 0, 0, 66]),
        ("rd.preroot.wireserver=1.2.3.4", WIRESERVER),
    ] {
        let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "foreign")], &[GOOD]));
        world.host.put("proc/cmdline", arguments);
        let mut buffers = Box::new(Buffers::new());
        let mut used = None;
        let mut work = |session: &mut Session<'_>, _: &mut Rest<'_>| {
            used = Some(session.wireserver());
            Ok(())
        };
        with_lease(&mut kernel(&mut world, &mut cloud), &mut buffers, None, &mut work).unwrap();
        assert_eq!(used, Some(address), "{arguments}");
        let said = world.log.lines.iter().filter(|line| *line == LINE).count();
        assert_eq!(said, usize::from(address == WIRESERVER), "{:?}", world.log.lines);
    }
}

#[test]
fn without_an_answer_the_link_is_put_back_and_the_boot_goes_on() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "silent")], &[GOOD]));
    assert_eq!(ask(&mut world, &mut cloud), Err(Error::NO_LEASE));
    assert_eq!(cloud.story.last().unwrap(), "eth0 down");
    assert_eq!(world.log.lines, ["fetch: no lease on eth0: DHCP answer: nothing after 10000 ms"]);
    assert_eq!(cloud.story.iter().filter(|line| *line == "routers asked").count(), 1);
    let mut nothing = World::new();
    nothing.host.put_dir("sys/class/net");
    assert_eq!(ask(&mut nothing, &mut Cloud::new(&[], &[GOOD])), Err(Error::NO_CARD));
}

#[test]
fn a_network_of_ipv6_alone_is_said() {
    let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "ipv6")], &[GOOD]));
    assert_eq!(ask(&mut world, &mut cloud), Err(Error::NO_LEASE));
    let text = "DHCP answer: nothing after 10000 ms; but an IPv6 router answers: the platform needs IPv4";
    assert_eq!(world.log.lines, [format!("fetch: no lease on eth0: {text}")]);
    // Where there is a lease nobody asks.
    let (mut world, mut cloud) = (self::world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
    ask(&mut world, &mut cloud).unwrap();
    assert!(!cloud.story.iter().any(|line| line == "routers asked"));
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
        ask_now(session, &mut |body| match body {
            Body::Bytes(_) => Err(os!("write", Errno::NOSPC)),
            _ => Ok(()),
        })
    });
    assert_eq!(outcome.unwrap_err().errno(), Some(Errno::NOSPC));
    assert_eq!(cloud.story.iter().filter(|line| line.starts_with("GET")).count(), 1);
}

/// A pool's VM tries for days.
#[test]
fn a_lease_that_stays_is_told_once() {
    let mut buffers = Box::new(Buffers::new());
    let mut again = |others: bool| {
        let (mut world, mut cloud) = (world(&["eth0"]), Cloud::new(&[("eth0", "azure")], &[GOOD]));
        if others {
            buffers.told = Some(([10, 0, 0, 5], 2, true));
        }
        with_lease(&mut kernel(&mut world, &mut cloud), &mut buffers, None, &mut |_, _| Ok(())).unwrap();
        world.log.lines.iter().filter(|line| line.contains("lease of")).count()
    };
    assert_eq!([again(false), again(false), again(true), again(false)], [1, 0, 1, 0]);
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
        ask_now(session, &mut |body| {
            bytes += if let Body::Bytes(bytes) = body { bytes.len() } else { 0 };
            Ok(())
        })
    };
    let mut kernel = kernel(&mut second, &mut cloud);
    with_saved_lease(&mut kernel, &mut buffers, saved.as_ref().unwrap(), u64::MAX, &mut post).unwrap();
    assert_eq!(bytes, 7);
    assert_eq!(cloud.story, ["enP1s0 up", NEW, "enP1s0 down"]);
}
