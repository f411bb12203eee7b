//! Is the platform told the right thing, once, in the right order, whatever it answers?

use super::super::{apply, pool};
use super::{TOLD, run};
use crate::cli::Command;
use crate::error::{Errno, Error, Kind, Result};
use crate::facts::{DeviceName, Fact, Facts, InstanceId, Provenance};
use crate::limits;
use crate::net::lease::IMDS;
use crate::report::health::Reason;
use crate::seed::{self, Context};
use crate::stage::fetch::tests::scratch;
use crate::sys::fake::{FakeDisk, World};
use crate::sys::{DriveStatus, Frames, LinkState, Links, Stream};
use std::boxed::Box;
use std::collections::VecDeque;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

const POOL: &str = "var/lib/hyperv/.kvp_pool_1";
const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";
const GOAL: &str = include_str!("../../../tests/fixtures/azure-goalstate/bom-crlf.xml");

/// A wireserver behind the kernel's sockets: one answer per connection, the last one for ever.
struct Wire {
    /// Status and body; 0: connection refused.
    answers: VecDeque<(u16, &'static str)>,
    /// The same of IMDS.
    imds: (u16, &'static str),
    requests: Vec<String>,
}

impl Wire {
    fn new(answers: &[(u16, &'static str)]) -> Self {
        Self { answers: answers.iter().copied().collect(), imds: (403, ""), requests: Vec::new() }
    }

    /// Request lines.
    fn asked(&self) -> Vec<&str> {
        self.requests.iter().map(|r| r.split(" HTTP").next().unwrap()).collect()
    }
}

impl Frames for Wire {}

impl Links for Wire {
    fn state(&mut self, _: &str) -> Result<LinkState> {
        Ok(LinkState { is_up: true, has_carrier: true, has_address: true })
    }
    fn set_up(&mut self, _: &str, _: bool) -> Result<()> {
        Err(os!("the kernel's network is used: no link is touched", Errno::INVAL))
    }
    fn connect(
        &mut self,
        address: [u8; 4],
        _: u16,
        _: u64,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<()>,
    ) -> Result<()> {
        let (status, body) = match self.answers.len() {
            _ if address == IMDS => self.imds,
            1 => self.answers[0],
            _ => self.answers.pop_front().unwrap(),
        };
        if status == 0 {
            self.requests.push("refused HTTP".into());
            return Err(os!("connect", Errno::CONNREFUSED));
        }
        let reply =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        let mut stream = Reply { request: Vec::new(), reply: reply.into() };
        let outcome = work(&mut stream);
        self.requests.push(String::from_utf8(stream.request).unwrap());
        outcome
    }
}

struct Reply {
    request: Vec<u8>,
    reply: VecDeque<u8>,
}

impl Stream for Reply {
    fn send(&mut self, bytes: &[u8], _: u64) -> Result<usize> {
        self.request.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn receive(&mut self, bytes: &mut [u8], _: u64) -> Result<usize> {
        let length = self.reply.len().min(bytes.len()).min(100);
        bytes[..length].fill_with(|| self.reply.pop_front().unwrap());
        Ok(length)
    }
}

fn id() -> InstanceId {
    InstanceId::parse(ID).unwrap()
}

/// An Azure VM whose seed says this, with a medium in sr0.
fn azure(context: Context) -> World {
    let mut world = World::new();
    world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    world.host.put("sys/class/dmi/id/product_uuid", format!("{ID}\n"));
    world.host.put_dir("sys/firmware/efi");
    let mut drive = FakeDisk::new(vec![]);
    drive.status = Some(DriveStatus::DiscOk);
    world.disks.disks.insert("sr0".into(), drive);
    seed::begin(&mut world.run).unwrap();
    let medium = Some(DeviceName::parse("sr0").unwrap());
    seed::publish(&mut world.run, &Facts::new(), &Context { medium, ..context }).unwrap();
    seed::persist(&mut world.run, &mut world.root, &id()).unwrap();
    world
}

fn provisioned() -> World {
    let mut world = azure(Context::default());
    seed::mark(&mut world.root, seed::PROVISIONED, &id()).unwrap();
    world
}

fn late() -> Command {
    crate::cli::parse(&mut [Some("report")].into_iter()).unwrap()
}

fn report(world: &mut World, wire: &mut Wire, command: &Command) -> Result<()> {
    let mut kernel = world.kernel();
    kernel.links = wire;
    run(&mut kernel, &mut scratch(), command)
}

fn record(world: &World) -> Option<String> {
    let text = world.root.text(POOL)?;
    Some(text[512..].trim_end_matches('\0').into())
}

fn is_not_applicable(outcome: Result<()>) -> bool {
    matches!(outcome, Err(error) if error.is(Kind::NotApplicable))
}

#[test]
fn ready_is_told_once_and_leaves_nothing_behind() {
    let mut world = provisioned();
    let mut wire = Wire::new(&[(200, "")]);
    report(&mut world, &mut wire, &late()).unwrap();
    assert_eq!(wire.asked(), ["POST /provisioning/health"]);
    assert!(wire.requests[0].ends_with("\r\n\r\n{\"state\":\"Ready\"}"));
    assert!(record(&world).unwrap().starts_with("result=success|agent=preroot/"));
    assert_eq!(world.disks.ejected, ["sr0"]);
    assert_eq!(world.root.text(seed::REPORTED).unwrap().trim(), ID);
    assert!(world.run.owner(seed::SEED).is_none());
    assert!(world.root.owner(&seed::pending(&id()).unwrap()).is_none());

    assert!(is_not_applicable(report(&mut world, &mut wire, &late())));
    let failed = Command { failed: Some("later"), ..late() };
    assert!(is_not_applicable(report(&mut world, &mut wire, &failed)));
    assert_eq!(wire.requests.len(), 1);
}

#[test]
fn a_platform_without_json_is_told_in_xml() {
    let mut world = provisioned();
    let mut wire = Wire::new(&[(405, ""), (200, GOAL), (200, "")]);
    report(&mut world, &mut wire, &late()).unwrap();
    let asked = ["POST /provisioning/health", "GET /machine/?comp=goalstate", "POST /machine?comp=health"];
    assert_eq!(wire.asked(), asked);
    assert!(wire.requests[2].contains("<InstanceId>11112222-3333-4444-5555-666677778888._edge-vm-01</"));
    assert!(world.clock.sleeps.iter().all(|ms| *ms == 0));
}

#[test]
fn silence_then_trouble_then_good_is_ready_in_the_end() {
    let mut world = provisioned();
    let mut wire = Wire::new(&[(0, ""), (500, ""), (404, ""), (200, "not XML"), (200, GOAL), (200, "")]);
    report(&mut world, &mut wire, &late()).unwrap();
    assert!(world.root.text(seed::REPORTED).is_some());
    assert!(world.log.lines.iter().any(|line| line.contains("connection refused")));
    assert!(world.log.lines.iter().any(|line| line.contains("status 500")));
}

#[test]
fn a_dead_wireserver_costs_twenty_minutes_and_keeps_the_seed() {
    let mut world = provisioned();
    world.clock.tick_us = 100;
    assert!(report(&mut world, &mut Wire::new(&[(0, "")]), &late()).is_err());
    let slept: u64 = world.clock.sleeps.iter().sum();
    assert!((limits::REPORT_LATE_MS - 20_000..=limits::REPORT_LATE_MS).contains(&slept), "{slept}");
    assert!(world.log.lines.len() < 10, "{:?}", world.log.lines);
    assert!(world.root.text(seed::REPORTED).is_none());
    assert!(world.run.owner(seed::SEED).is_some());
}

#[test]
fn whatever_is_answered_it_is_asked_for_twenty_minutes() {
    for status in [401, 302, 418] {
        let mut world = provisioned();
        let mut wire = Wire::new(&[(status, "")]);
        assert_eq!(
            report(&mut world, &mut wire, &late()).unwrap_err().reason(),
            "http error from wireserver"
        );
        let minutes = world.clock.us / 60_000_000;
        assert!((19..=20).contains(&minutes), "{minutes}");
        assert!((60..400).contains(&wire.requests.len()), "{}", wire.requests.len());
    }
}

#[test]
fn a_request_to_stop_ends_the_waiting() {
    let mut world = provisioned();
    world.clock.cancelled = true;
    assert!(report(&mut world, &mut Wire::new(&[(0, "")]), &late()).is_err());
    assert!(world.clock.sleeps.is_empty());
}

#[test]
fn a_failed_unit_is_told_in_safe_words_once_and_keeps_medium_and_seed() {
    let mut world = provisioned();
    let mut wire = Wire::new(&[(200, "")]);
    let command = Command { failed: Some("preroot-apply: \x1b[2J<a & b> | \"c\"\n"), ..late() };
    report(&mut world, &mut wire, &command).unwrap();
    let reason = "reason=preroot-apply: ?[2J<a & b> / ";
    assert!(wire.requests[0].contains("\"subStatus\":\"ProvisioningFailed\""));
    assert!(wire.requests[0].contains(reason) && wire.requests[0].contains("\\\"c\\\""));
    assert!(record(&world).unwrap().contains(reason));
    assert!(world.disks.ejected.is_empty() && world.run.owner(seed::SEED).is_some());
    assert!(world.root.text(seed::REPORTED).is_none());
    assert!(world.run.text(TOLD).is_some());
    assert!(is_not_applicable(report(&mut world, &mut wire, &command)));
    assert_eq!(wire.requests.len(), 1);
    // What was repaired may still become ready.
    report(&mut world, &mut wire, &late()).unwrap();
    assert!(wire.requests[1].contains("{\"state\":\"Ready\"}"));
}

#[test]
fn a_fatal_verdict_of_the_initrd_is_told_late_if_not_before() {
    let context =
        Context { failure: Some(failure("no dhcp")), verdict: seed::Verdict::Fail, ..Context::default() };
    let mut world = azure(context);
    let mut wire = Wire::new(&[(200, "")]);
    report(&mut world, &mut wire, &late()).unwrap();
    assert!(wire.requests[0].contains("result=error|reason=no dhcp|agent="));
    assert!(wire.requests[0].contains("|vm_id=91267c52-9f02-4cfe-b1f4-a4da7ebac2cf|"));
}

fn failure<T: for<'a> TryFrom<&'a str>>(text: &str) -> T {
    T::try_from(text).ok().unwrap()
}

#[test]
fn a_fault_beside_success_goes_to_kvp_only() {
    let mut world = azure(Context { failure: Some(failure("bad medium")), ..Context::default() });
    seed::mark(&mut world.root, seed::PROVISIONED, &id()).unwrap();
    let mut wire = Wire::new(&[(200, "")]);
    report(&mut world, &mut wire, &late()).unwrap();
    assert!(wire.requests[0].ends_with("{\"state\":\"Ready\"}"));
    assert!(record(&world).unwrap().starts_with("result=success|warning=bad medium|agent="));
}

#[test]
fn an_apply_that_never_finished_is_a_failure_but_not_yet_an_early_one() {
    let mut world = azure(Context::default());
    let mut wire = Wire::new(&[(200, "")]);
    assert!(is_not_applicable(report(&mut world, &mut wire, &Command { early: true, ..late() })));
    assert!(wire.requests.is_empty());
    report(&mut world, &mut wire, &late()).unwrap();
    assert!(wire.requests[0].contains("reason=apply did not finish|"));
}

#[test]
fn a_failed_apply_is_told_early_too_and_where_its_seed_was_refused() {
    let mut world = azure(Context::default());
    world.run.put(crate::stage::apply::FAILURE, "sudo: visudo refuses the rule");
    let mut wire = Wire::new(&[(200, "")]);
    report(&mut world, &mut wire, &Command { early: true, dry_run: true, ..late() }).unwrap();
    seed::remove(&mut world.run, seed::SEED).unwrap();
    seed::remove(&mut world.root, &seed::pending(&id()).unwrap()).unwrap();
    report(&mut world, &mut wire, &late()).unwrap();
    assert!(wire.requests[0].contains("reason=sudo: visudo refuses the rule|"));
}

#[test]
fn half_a_seed_of_a_stage_that_was_stopped_is_dropped_too() {
    let mut world = provisioned();
    let half = ["seed.tmp/user/password-hash", "var/lib/preroot/pending.tmp/custom-data"];
    world.run.put(half[0], "canary");
    world.root.put(half[1], "canary");
    report(&mut world, &mut Wire::new(&[(200, "")]), &late()).unwrap();
    assert!(world.run.text(half[0]).is_none() && world.root.text(half[1]).is_none());
}

#[test]
fn nothing_is_sent_where_nothing_is_ours() {
    let mut wire = Wire::new(&[(200, "")]);
    let mut elsewhere = World::new();
    assert!(is_not_applicable(report(&mut elsewhere, &mut wire, &late())));
    let mut specialised = azure(Context::default());
    seed::remove(&mut specialised.run, seed::SEED).unwrap();
    seed::remove(&mut specialised.root, &seed::pending(&id()).unwrap()).unwrap();
    assert!(is_not_applicable(report(&mut specialised, &mut wire, &late())));
    // A captured image carries another VM's marks.
    let other = InstanceId::parse("00840e55-9be2-d441-a716-446655440000").unwrap();
    seed::mark(&mut specialised.root, seed::PROVISIONED, &other).unwrap();
    assert!(is_not_applicable(report(&mut specialised, &mut wire, &late())));
    assert!(wire.requests.is_empty());
    assert!(specialised.root.text(POOL).is_none());
}

#[test]
fn an_early_report_that_fails_is_left_to_the_late_one() {
    let mut world = provisioned();
    let mut wire = Wire::new(&[(0, "")]);
    let error = report(&mut world, &mut wire, &Command { early: true, ..late() }).unwrap_err();
    assert_eq!((error, error.exit_code()), (Error::NEED_NETWORK, 75));
    assert!(world.clock.sleeps.iter().sum::<u64>() <= limits::REPORT_EARLY_MS);
    assert!(world.root.text(seed::REPORTED).is_none());
}

#[test]
fn a_seed_of_an_earlier_boot_is_enough() {
    let mut world = provisioned();
    seed::remove(&mut world.run, seed::SEED).unwrap();
    report(&mut world, &mut Wire::new(&[(200, "")]), &late()).unwrap();
    assert_eq!(world.disks.ejected, ["sr0"]);
    assert!(world.root.owner(&seed::pending(&id()).unwrap()).is_none());
}

#[test]
fn what_cannot_be_done_is_said_and_the_report_goes_on() {
    let mut world = provisioned();
    world.disks.disks.clear();
    world.root.put("var/lib/hyperv", "a file where the directory should be");
    report(&mut world, &mut Wire::new(&[(200, "")]), &late()).unwrap();
    for text in ["the medium stays in sr0", "no KVP record for the host"] {
        assert!(world.log.lines.iter().any(|line| line.contains(text)), "{:?}", world.log.lines);
    }
}

#[test]
fn a_dry_run_says_what_it_would_do() {
    let mut world = provisioned();
    let (root, run) = (world.root.dump(), world.run.dump());
    let mut wire = Wire::new(&[(200, "")]);
    report(&mut world, &mut wire, &Command { dry_run: true, ..late() }).unwrap();
    assert!(wire.requests.is_empty() && world.disks.ejected.is_empty());
    assert_eq!((world.root.dump(), world.run.dump()), (root, run));
    assert!(world.log.lines[0].contains("would write the KVP record"));
}

/// At every cut: the next boot reports again, or has the mark; and in the end no secret is left.
#[test]
fn ready_is_reported_at_least_once_and_secrets_go_at_every_power_cut() {
    let mut probe = provisioned();
    let before = probe.root.changes();
    report(&mut probe, &mut Wire::new(&[(200, "")]), &late()).unwrap();
    for cut in 1..=probe.root.changes() - before {
        let mut world = provisioned();
        let mut wire = Wire::new(&[(200, "")]);
        world.root.cut_power_at(cut);
        let _ = report(&mut world, &mut wire, &late());
        world.root.power_on(cut % 2 == 0);
        seed::remove(&mut world.run, seed::SEED).unwrap();
        let _ = report(&mut world, &mut wire, &late());
        assert!((1..=2).contains(&wire.requests.len()), "cut {cut}");
        assert!(seed::is_marked(&mut world.root, seed::REPORTED, &id()), "cut {cut}");
        assert!(world.root.owner(&seed::pending(&id()).unwrap()).is_none(), "cut {cut}");
    }
}

#[test]
fn a_reason_read_back_from_the_seed_stays_the_same() {
    let reason = Reason::of("error parsing ovf-env.xml: a < b");
    assert_eq!(Reason::of(reason.as_str()), reason);
}

#[test]
fn where_requests_are_to_be_signed_nothing_is_sent_before_the_agent_runs() {
    const AGENT: &str = "/usr/bin/azure-proxy-agent";
    for (agent, ready, reason) in [
        (Some(Ok(0)), 1, ""),
        (Some(Ok(1)), 0, "azure-proxy-agent status failure"),
        (Some(Err(deadline!("program", 1))), 0, "azure-proxy-agent status failure: no answer"),
        (None, 0, "azure-proxy-agent not found"),
    ] {
        let mut world = provisioned();
        world.run.put("seed/azure/wants-proxy-agent", "true\n");
        world.system.acts = Some(Box::new(move |argv| match agent {
            Some(outcome) if argv[0] == AGENT => outcome,
            _ => Err(os!("run program", Errno::NOENT)),
        }));
        let mut wire = Wire::new(&[(200, "")]);
        let early = Command { early: true, ..late() };
        assert!(is_not_applicable(report(&mut world, &mut wire, &early)));
        assert!(wire.requests.is_empty() && world.system.runs.is_empty());
        report(&mut world, &mut wire, &late()).unwrap();
        let is_ready = wire.requests.pop().unwrap().ends_with("{\"state\":\"Ready\"}");
        assert_eq!((wire.requests.len(), is_ready), (ready, ready == 1), "IMDS is asked once somebody signs");
        assert_eq!(record(&world).unwrap().contains(&format!("|reason={reason}|")), ready == 0);
        if agent == Some(Ok(0)) {
            assert!(world.system.runs.contains(&format!("{AGENT} --status --wait 120")));
        }
    }
}

/// A medium without a key by value; IMDS, which has it, may be asked only where somebody signs.
fn unsigned() -> World {
    let mut facts = apply::tests::facts();
    (facts.password, facts.keys) = (None, None);
    facts.wants_proxy_agent = Some(Fact { value: true, from: Provenance::OvfMedium });
    let medium = Some(DeviceName::parse("sr0").unwrap());
    let context = Context { verdict: seed::Verdict::Wait, medium, ..Context::default() };
    let mut world = apply::tests::world(&facts, &context, false);
    let drive = FakeDisk { status: Some(DriveStatus::DiscOk), ..FakeDisk::new(vec![]) };
    world.disks.disks.insert("sr0".into(), drive);
    world.clock.tick_us = 1000;
    world
}

#[test]
fn what_only_a_signed_imds_knows_is_applied_before_ready() {
    const OWNED: &str = include_str!("../../../tests/fixtures/imds/instance/input.json");
    for (agent, imds, ready, reason) in [
        (true, (200, OWNED), true, ""),
        (true, (403, ""), false, "neither SSH key nor password"),
        (true, (429, ""), false, "neither SSH key nor password"),
        (false, (200, OWNED), false, "azure-proxy-agent not found"),
    ] {
        let mut world = unsigned();
        world.system.acts =
            Some(Box::new(move |argv| match argv[0].contains("azure-proxy-agent") && agent {
                true => Ok(0),
                false => Err(os!("run program", Errno::NOENT)),
            }));
        let mut wire = Wire::new(&[(200, "")]);
        wire.imds = imds;
        assert!(is_not_applicable(report(&mut world, &mut wire, &Command { early: true, ..late() })));
        assert!(is_not_applicable(pool::run(&mut world.kernel(), &mut scratch(), false)));
        assert!(wire.requests.is_empty() && world.system.runs.is_empty());
        report(&mut world, &mut wire, &late()).unwrap();
        let told = wire.requests.pop().unwrap();
        assert_eq!(told.ends_with("{\"state\":\"Ready\"}"), ready, "{told} {:?}", world.log.lines);
        assert!(told.contains(&format!("reason={reason}|")) || ready, "{told}");
        assert_eq!(wire.requests.is_empty(), !agent, "IMDS is asked once somebody signs");
        assert_eq!(seed::is_marked(&mut world.root, seed::PROVISIONED, &id()), ready);
        let keys: Vec<_> =
            world.root.dump().into_keys().filter(|path| path.ends_with("authorized_keys")).collect();
        assert_eq!(keys.len(), usize::from(ready), "{keys:?}");
    }
}

#[test]
fn an_agent_that_is_missing_hides_no_other_reason() {
    let mut world = azure(Context::default());
    world.run.put("seed/azure/wants-proxy-agent", "true\n");
    let failed = Command { failed: Some("sshd does not start"), ..late() };
    report(&mut world, &mut Wire::new(&[(200, "")]), &failed).unwrap();
    assert!(record(&world).unwrap().contains("|reason=sshd does not start|"));
}
