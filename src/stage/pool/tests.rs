//! Does a VM of a pool wait for its owner, tell what it has to, and become theirs alone?

use super::{Move, OVER, Wait, run};
use crate::error::{Errno, Error, Kind, Result};
use crate::facts::{DeviceName, Fact, Facts, Hostname, InstanceId, PreProvisioning, Provenance, UserName};
use crate::format::rtnetlink::{LinkChange, State};
use crate::limits;
use crate::net::Buffers;
use crate::net::lease::{IMDS, Ipv4};
use crate::seed::{self, Context};
use crate::stage::fetch::tests::scratch;
use crate::sys::fake::{FakeDisk, World};
use crate::sys::{DriveStatus, Frames, LinkState, Links, Stream};
use std::boxed::Box;
use std::collections::VecDeque;
use std::format;
use std::string::String;
use std::vec::Vec;

const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";
const OWNERS: &str = include_str!("../../../tests/fixtures/ovf/sample-a-password/input.xml");
const OWNED: &str = include_str!("../../../tests/fixtures/imds/instance/input.json");
const POOLED: &str = include_str!("../../../tests/fixtures/imds/pool-vm/input.json");
const READY: &str = "POST /provisioning/health";
const DOCUMENT: &str = "GET /metadata/reprovisiondata?api-version=2019-06-01";
const INSTANCE: &str = "GET /metadata/instance?api-version=2021-08-01&extended=true";

/// The platform behind the kernel's sockets; each service answers in turn, the last answer for ever. Status 0: reset.
struct Platform {
    health: VecDeque<(u16, &'static str)>,
    document: VecDeque<(u16, &'static str)>,
    instance: VecDeque<(u16, &'static str)>,
    requests: Vec<String>,
    on_document: Box<dyn FnMut()>,
}

impl Platform {
    fn new(document: &[(u16, &'static str)], instance: &[(u16, &'static str)]) -> Self {
        Self {
            health: [(200, "")].into(),
            document: document.iter().copied().collect(),
            instance: instance.iter().copied().collect(),
            requests: Vec::new(),
            on_document: Box::new(|| {}),
        }
    }

    /// Request lines, each run of the same once.
    fn asked(&self) -> Vec<&str> {
        let mut asked: Vec<_> = self.requests.iter().map(|r| r.split(" HTTP").next().unwrap()).collect();
        asked.dedup();
        asked
    }

    fn told(&self) -> usize {
        self.requests.iter().filter(|request| request.starts_with(READY)).count()
    }
}

impl Frames for Platform {}

impl Links for Platform {
    fn state(&mut self, _: &str) -> Result<LinkState> {
        Ok(LinkState { is_up: true, has_carrier: true, has_address: true })
    }
    fn set_up(&mut self, _: &str, _: bool) -> Result<()> {
        Err(os!("the kernel's network is used: no link is touched", Errno::INVAL))
    }
    fn connect(
        &mut self,
        address: Ipv4,
        _: u16,
        _: u64,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<()>,
    ) -> Result<()> {
        let mut stream = Exchange {
            platform: self,
            address,
            request: Vec::new(),
            reply: VecDeque::new(),
            is_answered: false,
        };
        let outcome = work(&mut stream);
        let request = String::from_utf8(stream.request).unwrap();
        self.requests.push(request);
        outcome
    }
}

struct Exchange<'p> {
    platform: &'p mut Platform,
    address: Ipv4,
    request: Vec<u8>,
    reply: VecDeque<u8>,
    is_answered: bool,
}

impl Stream for Exchange<'_> {
    fn send(&mut self, bytes: &[u8], _: u64) -> Result<usize> {
        self.request.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn receive(&mut self, bytes: &mut [u8], _: u64) -> Result<usize> {
        if !core::mem::replace(&mut self.is_answered, true) {
            let is_for_document = self.request.windows(15).any(|window| window == b"reprovisiondata");
            if is_for_document {
                (self.platform.on_document)();
            }
            let answers = match (self.address == IMDS, is_for_document) {
                (false, _) => &mut self.platform.health,
                (true, true) => &mut self.platform.document,
                (true, false) => &mut self.platform.instance,
            };
            let (status, body) =
                if answers.len() > 1 { answers.pop_front().unwrap() } else { *answers.front().unwrap() };
            if status == 0 {
                return Err(os!("receive", Errno::CONNRESET));
            }
            self.reply = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
                .into();
        }
        let length = self.reply.len().min(bytes.len()).min(1000);
        bytes[..length].fill_with(|| self.reply.pop_front().unwrap());
        Ok(length)
    }
}

fn id() -> InstanceId {
    InstanceId::parse(ID).unwrap()
}

fn fact<T>(value: T) -> Option<Fact<T>> {
    Some(Fact { value, from: Provenance::OvfMedium })
}

/// After switch-root; there is no seed.
fn machine() -> World {
    let mut world = World::new();
    world.clock.tick_us = 1000;
    world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    world.host.put("sys/class/dmi/id/product_uuid", format!("{ID}\n"));
    world.host.put_dir("sys/firmware/efi");
    for (attribute, value) in
        [("type", "1\n"), ("flags", "0x1003\n"), ("address", "00:0d:3a:12:34:56\n"), ("ifindex", "2\n")]
    {
        world.host.put(&format!("sys/class/net/eth0/{attribute}"), value);
    }
    world.host.put_symlink("sys/class/net/eth0/device/driver", "../../../bus/vmbus/drivers/hv_netvsc");
    world.root.put_dir("var/lib");
    let drive = FakeDisk { status: Some(DriveStatus::DiscOk), ..FakeDisk::new(Vec::new()) };
    world.disks.disks.insert("sr0".into(), drive);
    world
}

/// The initrd's IMDS did not answer well, and there was no medium.
fn unanswered() -> World {
    let mut world = machine();
    let facts = Facts { instance_id: fact(id()), ..Facts::new() };
    seed::begin(&mut world.run).unwrap();
    let context = Context { verdict: seed::Verdict::Wait, ..Context::default() };
    seed::publish(&mut world.run, &facts, &context).unwrap();
    // The initrd's fetch was stopped, so that the boot could go on.
    world.run.put(crate::sys::CANCEL, "");
    world
}

/// What the medium said is a placeholder.
fn pooled(kind: PreProvisioning) -> World {
    let mut world = machine();
    let facts = Facts {
        instance_id: fact(id()),
        hostname: fact(Hostname::parse("pool-7f3a9c").unwrap()),
        user: fact(UserName::parse("pooluser").unwrap()),
        pre_provisioning: fact(kind),
        ..Facts::new()
    };
    seed::begin(&mut world.run).unwrap();
    let context = Context { medium: Some(DeviceName::parse("sr0").unwrap()), ..Context::default() };
    seed::publish(&mut world.run, &facts, &context).unwrap();
    world
}

fn change(index: u32, state: State) -> LinkChange {
    LinkChange { index, state, carrier_changes: Some(1) }
}

/// The interface leaves and arrives, each seen by a look of its own, after one that sees nothing.
fn moves(world: &mut World) {
    let states = [Vec::new(), [State::Gone].into(), [State::Up].into()];
    world.system.link_changes =
        states.into_iter().map(|states| Ok(states.into_iter().map(|s| change(2, s)).collect())).collect();
}

fn wait(world: &mut World, platform: &mut Platform) -> Result<()> {
    let mut kernel = world.kernel();
    kernel.links = platform;
    run(&mut kernel, &mut scratch(), false)
}

/// Whose seed this is.
fn owner(world: &mut World) -> (String, String) {
    let (mut facts, mut bytes) = (Box::new(Facts::new()), std::vec![0; limits::SSH_KEYS]);
    seed::verify(&mut world.run, seed::SEED).unwrap();
    seed::load(&mut world.run, seed::SEED, &mut bytes, &mut facts).unwrap();
    let name = facts.hostname.map_or(String::new(), |name| name.value.as_str().into());
    (name, facts.user.map_or(String::new(), |user| user.value.as_str().into()))
}

fn is_waiting(world: &mut World) -> bool {
    super::is_waiting(&mut world.kernel(), &id())
}

#[test]
fn it_tells_moves_and_becomes_its_owners() {
    for kind in [PreProvisioning::Running, PreProvisioning::Savable] {
        let mut world = pooled(kind);
        moves(&mut world);
        assert!(is_waiting(&mut world));
        let mut platform = Platform::new(&[(404, ""), (404, ""), (200, OWNERS)], &[(200, OWNED)]);
        wait(&mut world, &mut platform).unwrap();
        assert_eq!(platform.asked(), [READY, DOCUMENT, INSTANCE], "{kind:?}");
        assert_eq!(platform.requests.len(), 5);
        assert_eq!(world.disks.ejected, ["sr0"]);
        assert_eq!(owner(&mut world), ("edge-vm-01".into(), "azureuser".into()));
        assert!(world.root.text(seed::POOL).is_some_and(|text| text.trim() == ID));
        assert!(!is_waiting(&mut world) && world.run.text(OVER).is_some());
        let dump = format!("{:?} {:?}", world.run.dump(), world.root.dump());
        assert!(!dump.contains("pooluser") && !dump.contains("pool-7f3a9c"), "{dump}");
    }
}

#[test]
fn after_a_reboot_it_is_not_told_again() {
    let mut world = pooled(PreProvisioning::None);
    seed::mark(&mut world.root, seed::POOL, &id()).unwrap();
    assert!(is_waiting(&mut world));
    let mut platform = Platform::new(&[(200, OWNERS)], &[(200, OWNED)]);
    wait(&mut world, &mut platform).unwrap();
    assert_eq!(platform.asked(), [DOCUMENT, INSTANCE]);
    assert_eq!(owner(&mut world).1, "azureuser");
    // Provisioned, but not reported yet: there is nothing to wait for.
    let mut world = pooled(PreProvisioning::None);
    seed::mark(&mut world.root, seed::POOL, &id()).unwrap();
    seed::mark(&mut world.root, seed::PROVISIONED, &id()).unwrap();
    assert!(!is_waiting(&mut world));
    assert!(wait(&mut world, &mut platform).unwrap_err().is(Kind::NotApplicable));
}

#[test]
fn a_vm_of_no_pool_waits_for_nobody() {
    for kind in [PreProvisioning::None, PreProvisioning::Unknown] {
        let mut world = pooled(kind);
        assert!(!is_waiting(&mut world));
        let mut platform = Platform::new(&[(200, OWNERS)], &[(200, OWNED)]);
        assert!(wait(&mut world, &mut platform).unwrap_err().is(Kind::NotApplicable));
        assert!(platform.requests.is_empty());
    }
}

#[test]
fn a_placeholder_is_nobodys_whatever_is_noted() {
    for kind in [PreProvisioning::Running, PreProvisioning::Savable, PreProvisioning::OsDisk] {
        let mut world = pooled(kind);
        // As where the owner's seed could not be written.
        world.run.put(OVER, "");
        assert!(is_waiting(&mut world), "{kind:?}");
        seed::mark(&mut world.root, seed::POOL, &id()).unwrap();
        assert!(is_waiting(&mut world), "{kind:?}");
    }
}

#[test]
fn a_frozen_vm_does_not_hear_the_answer_and_a_running_one_asks_until_it_does() {
    let mut world = pooled(PreProvisioning::Savable);
    moves(&mut world);
    let mut platform = Platform::new(&[(200, OWNERS)], &[(200, OWNED)]);
    platform.health = [(0, "")].into();
    wait(&mut world, &mut platform).unwrap();
    assert_eq!(owner(&mut world).1, "azureuser");

    let mut world = pooled(PreProvisioning::Running);
    moves(&mut world);
    let mut platform = Platform::new(&[(200, OWNERS)], &[(200, OWNED)]);
    platform.health = [(0, ""), (0, ""), (500, ""), (200, "")].into();
    wait(&mut world, &mut platform).unwrap();
    assert_eq!(owner(&mut world).1, "azureuser");
    assert!(platform.told() >= 2);
}

#[test]
fn a_disk_for_the_pool_waits_to_be_switched_off() {
    let mut world = pooled(PreProvisioning::OsDisk);
    world.clock.cancelled_from_us = Some(3_600_000_000);
    let mut platform = Platform::new(&[(200, OWNERS)], &[(200, OWNED)]);
    assert_eq!(wait(&mut world, &mut platform), Err(Error::STOPPED));
    assert_eq!(platform.asked(), [READY]);
    assert!(world.root.text(seed::POOL).is_none() && world.run.text(OVER).is_none());
}

#[test]
fn what_the_kernel_lost_may_have_been_the_move() {
    let mut world = pooled(PreProvisioning::Running);
    world.system.link_changes = [Err(os!("follow interfaces", Errno::NOBUFS))].into();
    let mut platform = Platform::new(&[(404, ""), (200, OWNERS)], &[(200, OWNED)]);
    wait(&mut world, &mut platform).unwrap();
    assert_eq!(owner(&mut world).1, "azureuser");
}

#[test]
fn a_move_is_the_way_there_and_back_of_the_interface_that_was_told_over() {
    let is_over = |wait, index, changes: &[(u32, State)]| {
        let mut moving = Move::new(wait, index, Some(1));
        changes.iter().position(|(index, state)| moving.is_over(change(*index, *state)))
    };
    use State::{Down, Gone, Unknown, Up};
    let switch = Wait::Switch;
    assert_eq!(
        is_over(switch, Some(2), &[(2, Up), (3, Down), (3, Up), (2, Down), (2, Unknown), (2, Up)]),
        Some(5)
    );
    assert_eq!(is_over(switch, Some(2), &[(2, Gone), (4, Down), (4, Up)]), Some(2));
    assert_eq!(is_over(switch, None, &[(7, Down), (7, Up)]), Some(1));
    // It was away for less than the second in which the kernel looks.
    let mut moving = Move::new(switch, Some(2), Some(1));
    assert!(!moving.is_over(LinkChange { carrier_changes: Some(9), ..change(3, Up) }));
    assert!(!moving.is_over(change(2, Up)));
    assert!(moving.is_over(LinkChange { carrier_changes: Some(3), ..change(2, Up) }));
    // A virtual function comes and goes beside the synthetic interface, with the same address.
    assert_eq!(is_over(Wait::Card, Some(2), &[(3, Gone), (3, Up), (2, Down), (2, Gone), (4, Down)]), Some(4));
    assert_eq!(is_over(Wait::Card, Some(2), &[(2, Down), (2, Up), (3, Gone), (5, Unknown)]), None);
}

#[test]
fn what_is_not_there_yet_is_asked_for_five_minutes_and_then_told() {
    for (document, instance, reason) in [
        (&[(200, OWNERS)][..], POOLED, "invalid IMDS metadata for key=extended.compute.ppsType"),
        (&[(200, "<Environment/>")], OWNED, "ovf-env.xml"),
    ] {
        let mut world = pooled(PreProvisioning::None);
        seed::mark(&mut world.root, seed::POOL, &id()).unwrap();
        let mut platform = Platform::new(document, &[(200, instance)]);
        wait(&mut world, &mut platform).unwrap_err();
        let waited_s = world.clock.us / 1_000_000;
        assert!((300..340).contains(&waited_s), "{waited_s}");
        let told = platform.requests.iter().find(|request| request.starts_with(READY)).unwrap();
        assert!(told.contains("NotReady"), "{told}");
        let context = seed::load_context(&mut world.run, seed::SEED).unwrap();
        assert_eq!(context.verdict, seed::Verdict::Fail);
        let failure = context.failure.unwrap();
        assert!(told.contains(failure.as_str()), "{told} {failure}");
        assert!(reason == "ovf-env.xml" || failure.as_str() == reason, "{failure}");
        // Nothing is waited for now: apply sees a seed that must not be used, report what to tell.
        assert!(!is_waiting(&mut world));
    }
}

/// Whenever the time ends in a try, and whatever of it the full /run refuses.
#[test]
fn a_run_that_stays_full_is_told_once() {
    for tick_us in [1_000, 700_000] {
        for is_read_only in [false, true] {
            let mut world = pooled(PreProvisioning::None);
            seed::mark(&mut world.root, seed::POOL, &id()).unwrap();
            world.clock.tick_us = tick_us;
            let (mut run, mut seen) = (world.run.clone(), 0);
            let mut platform = Platform::new(&[(200, OWNERS)], &[(200, OWNED)]);
            platform.on_document = Box::new(move || {
                // The document of the first try is seen.
                seen += 1;
                if seen == 1 && is_read_only { run.set_read_only(true) } else { run.set_full(true) }
            });
            assert!(wait(&mut world, &mut platform).is_err(), "{tick_us}");
            let is_fatal = |request: &&String| request.starts_with(READY) && request.contains("NotReady");
            let told = platform.requests.iter().filter(is_fatal).count();
            assert_eq!(told, 1, "{tick_us} {is_read_only}: {:?}", world.log.lines);
        }
    }
}

#[test]
fn an_imds_that_is_late_or_silent_costs_time_and_not_the_owner() {
    let mut world = pooled(PreProvisioning::None);
    seed::mark(&mut world.root, seed::POOL, &id()).unwrap();
    let mut platform = Platform::new(&[(200, OWNERS)], &[(0, ""), (200, POOLED), (200, OWNED)]);
    wait(&mut world, &mut platform).unwrap();
    assert_eq!(owner(&mut world).0, "edge-vm-01");

    let mut world = pooled(PreProvisioning::None);
    seed::mark(&mut world.root, seed::POOL, &id()).unwrap();
    let mut platform = Platform::new(&[(200, OWNERS)], &[(0, "")]);
    wait(&mut world, &mut platform).unwrap();
    assert!(seed::may_be_applied(&mut world.run, seed::SEED));
    assert_eq!(owner(&mut world).1, "opsadmin", "as the document alone has it");
}

/// What IMDS says of a VM of a pool, with names, a key and data that are nobody's.
fn of_the_pool() -> &'static str {
    let text = POOLED.replace("azureuser", "pooluser").replace("edge-vm-01", "pool-7f3a9c");
    let text =
        text.replace("AAAAC3NzaC1lZDI1NTE5AAAAIJ737noxRZzNn1DPgm2l/H8c4XEOKkjnu6ozI2mIuO/V", POOLS_KEY);
    assert!(text.contains(POOLS_KEY));
    Box::leak(text.replace("I2Nsb3VkLWNvbmZpZwo=", "IyEvYmluL3Bvb2wK").into_boxed_str())
}

const POOLS_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIHBvb2xwb29scG9vbHBvb2xwb29scG9vbHBvb2xwb29s";

/// An owner with neither keys nor user data.
fn bare_owner() -> &'static str {
    let mut document: serde_json::Value = serde_json::from_str(OWNED).unwrap();
    document["compute"]["publicKeys"] = serde_json::json!([]);
    document["compute"]["userData"] = "".into();
    Box::leak(document.to_string().into_boxed_str())
}

#[test]
fn nothing_of_the_pool_is_the_owners_whatever_imds_said_before() {
    let story: [&[(u16, &'static str)]; 3] = [
        &[(200, of_the_pool()), (200, OWNED)],
        &[(200, of_the_pool()), (200, bare_owner())],
        &[(200, of_the_pool()), (0, "")],
    ];
    for instance in story {
        let mut world = pooled(PreProvisioning::Running);
        moves(&mut world);
        world.run.put("seed/custom-data", "#!/bin/pool\n");
        let mut platform = Platform::new(&[(200, OWNERS)], instance);
        wait(&mut world, &mut platform).unwrap();
        let dump = format!("{:?} {:?}", world.run.dump(), world.root.dump());
        for word in ["pooluser", "pool-7f3a9c", POOLS_KEY, "#!/bin/pool"] {
            assert!(!dump.contains(word), "{word} after {}", instance.len());
        }
        assert!(["azureuser", "opsadmin"].contains(&owner(&mut world).1.as_str()));
    }
}

#[test]
fn a_full_run_costs_a_try_and_not_the_owner() {
    for n in 0..40 {
        let mut world = pooled(PreProvisioning::None);
        seed::mark(&mut world.root, seed::POOL, &id()).unwrap();
        world.run.fail_at(n, Errno::NOSPC);
        let mut platform = Platform::new(&[(200, OWNERS)], &[(200, OWNED)]);
        let _ = wait(&mut world, &mut platform);
        assert!(seed::may_be_applied(&mut world.run, seed::SEED), "{n}: {:?}", world.log.lines);
        assert_eq!(owner(&mut world).1, "azureuser", "{n}");
    }
}

#[test]
fn a_power_cut_anywhere_ends_with_the_owner_too() {
    let story = |cut: Option<(u64, bool)>| {
        let mut world = pooled(PreProvisioning::Running);
        moves(&mut world);
        let mut platform = Platform::new(&[(404, ""), (200, OWNERS)], &[(200, OWNED)]);
        let before = world.root.changes();
        if let Some((n, keep_names)) = cut {
            world.root.cut_power_at(n);
            let _ = wait(&mut world, &mut platform);
            world.root.power_on(keep_names);
            // In the next boot the medium is gone, and IMDS speaks of the pool.
            let next = pooled(PreProvisioning::Running);
            world = World { root: world.root, ..next };
            moves(&mut world);
        }
        wait(&mut world, &mut platform).unwrap();
        assert_eq!(owner(&mut world).1, "azureuser");
        (platform.told(), world.root.changes() - before)
    };
    let (told, changes) = story(None);
    assert_eq!(told, 1);
    for n in 1..=changes {
        for keep_names in [false, true] {
            let (told, _) = story(Some((n, keep_names)));
            assert!((1..=2).contains(&told), "{told} at {n}");
        }
    }
}

#[test]
fn imds_that_answers_later_says_who_this_is() {
    for (first, at_least_s) in [((429, ""), 35), ((0, ""), 35), ((503, ""), 35)] {
        let mut world = unanswered();
        assert!(is_waiting(&mut world));
        let mut platform = Platform::new(&[], &[(200, OWNED)]);
        for _ in 0..40 {
            platform.instance.push_front(first);
        }
        wait(&mut world, &mut platform).unwrap();
        assert_eq!(owner(&mut world), ("edge-vm-01".into(), "azureuser".into()));
        assert!(seed::may_be_applied(&mut world.run, seed::SEED) && !is_waiting(&mut world));
        assert_eq!(platform.asked(), [INSTANCE, READY, INSTANCE]);
        let told = platform.requests.iter().find(|request| request.starts_with(READY)).unwrap();
        assert!(told.contains(r#""subStatus":"Provisioning""#) && platform.told() == 1, "{told}");
        assert!(world.clock.us / 1_000_000 >= at_least_s && world.disks.ejected.is_empty());
        let context = seed::load_context(&mut world.run, seed::SEED).unwrap();
        let lost = context.failure.unwrap();
        assert_eq!(lost.as_str(), "failure to read customData while hasCustomData=true");
    }
}

#[test]
fn imds_that_never_answers_is_a_failure_after_five_minutes_or_as_long_as_somebody_wants() {
    for (line, from_s, to_s) in
        [("ro", 294, 301), ("ro rd.preroot.imds=20", 14, 21), ("rd.preroot.imds=x", 294, 301)]
    {
        let mut world = unanswered();
        world.host.put("proc/cmdline", line);
        let mut platform = Platform::new(&[], &[(410, "")]);
        let begin_s = world.clock.us / 1_000_000;
        wait(&mut world, &mut platform).unwrap_err();
        let waited_s = world.clock.us / 1_000_000 - begin_s;
        assert!((from_s..=to_s).contains(&waited_s), "{line}: {waited_s}");
        let context = seed::load_context(&mut world.run, seed::SEED).unwrap();
        assert_eq!(context.verdict, seed::Verdict::Fail);
        assert_eq!(context.failure.unwrap().as_str(), "http error 410 querying IMDS");
        let lines = world.log.lines.iter().filter(|line| line.contains("waiting for IMDS")).count() as u64;
        // At once, once it is known why, and then less and less often.
        let (from, to) = if waited_s > 100 { (4, 7) } else { (1, 2) };
        assert!((from..=to).contains(&lines), "{line}: {lines}");
        assert!(!is_waiting(&mut world));
    }
}

#[test]
fn what_no_minute_mends_is_not_waited_for() {
    for (status, body) in [(403, ""), (404, ""), (200, "{}"), (200, "no JSON")] {
        let mut world = unanswered();
        let mut platform = Platform::new(&[], &[(429, ""), (status, body)]);
        wait(&mut world, &mut platform).unwrap_err();
        assert_eq!(world.clock.us / 1_000_000 > 60, status == 404, "{status}");
    }
}

#[test]
fn who_waited_for_imds_may_be_of_a_pool() {
    let mut world = unanswered();
    moves(&mut world);
    let mut platform = Platform::new(&[(404, ""), (200, OWNERS)], &[(500, ""), (200, POOLED), (200, OWNED)]);
    wait(&mut world, &mut platform).unwrap();
    assert_eq!(platform.asked(), [INSTANCE, READY, DOCUMENT, INSTANCE]);
    assert_eq!(owner(&mut world), ("edge-vm-01".into(), "azureuser".into()));
}

#[test]
fn a_seed_of_an_earlier_boot_needs_no_imds() {
    let mut world = unanswered();
    let facts =
        Facts { instance_id: fact(id()), user: fact(UserName::parse("kept").unwrap()), ..Facts::new() };
    let mut run = World::new().run;
    seed::begin(&mut run).unwrap();
    seed::publish(&mut run, &facts, &Context::default()).unwrap();
    assert!(seed::persist(&mut run, &mut world.root, &id()).unwrap());
    assert!(!is_waiting(&mut world), "its copy is on the root");
    assert!(seed::persist(&mut world.run, &mut world.root, &id()).unwrap(), "and comes back into memory");
    assert_eq!(owner(&mut world).1, "kept");
}

#[test]
fn a_stop_while_it_waits_leaves_what_was_there() {
    let mut world = unanswered();
    world.clock.cancelled_from_us = Some(40_000_000);
    let mut platform = Platform::new(&[], &[(429, "")]);
    assert_eq!(wait(&mut world, &mut platform), Err(Error::STOPPED));
    assert!(is_waiting(&mut world) && world.run.owner("seed.tmp").is_none());
}

#[test]
fn nothing_of_a_document_stays_in_the_buffers() {
    let mut buffers = Box::new(Buffers::new());
    buffers.tcp_rx.fill(7);
    buffers.frame_rx.fill(7);
    buffers.head.fill(7);
    buffers.wipe();
    let all = [&buffers.tcp_rx[..], &buffers.frame_rx, &buffers.head, &buffers.frame_tx];
    assert!(all.iter().all(|buffer| buffer.iter().all(|byte| *byte == 0)));
}
