//! Does the host read what it is to, and is the device given back with nothing lost?

use super::{OPEN, STOP, To, hand_over, run, slice, stop};
use crate::cli::Command;
use crate::error::Kind;
use crate::event::Level;
use crate::facts::InstanceId;
use crate::format::kvp::VALUE_LIMIT;
use crate::report::kvp;
use crate::report::pool::{Pools, tests::all};
use crate::sys::Dir;
use crate::sys::fake::{FakeKvp, Question, World};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec::Vec;

const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";
const CHANNEL: &str = "sys/bus/vmbus/devices/242ff919-07db-4180-9c2e-b86cb68c8c55";

/// An Azure VM whose host offers a data exchange.
pub(in crate::stage) fn offer(world: &mut World) {
    world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    world.host.put("sys/class/dmi/id/product_uuid", format!("{ID}\n"));
    world.host.put_dir("sys/firmware/efi");
    world.host.put("sys/bus/vmbus/devices/another/class_id", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}\n");
    world.host.put(&format!("{CHANNEL}/class_id"), "{a9a0f4e7-5a45-4d96-b827-8a841e8c03e6}\n");
    world.host.put(&format!("{CHANNEL}/state"), "3\n");
    world.system.kvp = Some(FakeKvp::default());
}

fn azure() -> World {
    let mut world = World::new();
    offer(&mut world);
    world
}

fn kvp_of(world: &mut World) -> &mut FakeKvp {
    world.system.kvp.as_mut().unwrap()
}

fn command(words: &[&'static str]) -> Command {
    crate::cli::parse(&mut words.iter().map(|word| Some(*word))).unwrap()
}

/// Serves the initrd's records until `stop` is wished for, after this many waits.
fn serve_early(world: &mut World, waits: usize) -> crate::error::Result<()> {
    let (mut run_dir, mut count) = (world.run.clone(), 0);
    kvp_of(world).on_wait = Some(Box::new(move || {
        count += 1;
        if count == waits {
            run_dir.put(STOP, "");
        }
    }));
    run(&mut world.kernel(), &mut [0; 8192], &command(&["kvp", "--early"]))
}

#[test]
fn questions_are_answered_as_the_daemon_answers() {
    const NONE: (u32, String, String) = (0x8007_0103, String::new(), String::new());
    const REFUSED: (u32, String, String) = (0x8000_4005, String::new(), String::new());
    let text = |key: &str, value: &str| (0, String::from(key), String::from(value));
    let mut world = azure();
    world.host.put("proc/sys/kernel/hostname", "edge\n");
    Pools::in_memory(&mut world.run).set(1, b"a\0", b"1\0").unwrap();
    let questions = [
        (Question::next(1, 0), Some(text("a", "1"))),
        (Question::next(1, 1), Some(NONE)),
        (Question::next(1, u32::MAX), Some(NONE)),
        (Question::set(3, "VirtualMachineName", "vm"), None),
        (Question::next(3, 0), Some(text("VirtualMachineName", "vm"))),
        (Question::delete(3, "VirtualMachineName"), None),
        (Question::delete(3, "VirtualMachineName"), Some(NONE)),
        (Question::next(2, 0), Some(text("FullyQualifiedDomainName", "edge"))),
        (Question::next(2, 1), Some(text("IntegrationServicesVersion", "3.1"))),
        (Question::next(2, 4), Some(text("OSBuildNumber", "6.1.0-test"))),
        (Question::next(2, 8), Some(text("OSVersion", "6.1.0"))),
        (Question::next(2, 10), Some(NONE)),
        (Question::next(9, 0), Some(NONE)),
        (Question::bare(4), Some(REFUSED)),
        (Question::bare(5), Some(REFUSED)),
    ];
    kvp_of(&mut world).questions = questions.iter().map(|(question, _)| question.clone()).collect();
    serve_early(&mut world, 3).unwrap();
    let answers = &kvp_of(&mut world).answers;
    assert_eq!(answers.len(), questions.len());
    for ((question, wanted), answer) in questions.iter().zip(answers) {
        assert!(answer.0 == 0 || wanted.is_some(), "{question:?}");
        assert!(wanted.as_ref().is_none_or(|wanted| wanted == answer), "{question:?} {answer:?}");
    }
}

#[test]
fn a_boot_without_trouble_does_not_touch_the_device() {
    let mut world = azure();
    world.clock.cancelled_from_us = Some(60_000_000);
    run(&mut world.kernel(), &mut [0; 8192], &command(&["kvp", "--early"])).unwrap();
    assert!(kvp_of(&mut world).opened == 0 && world.log.lines.is_empty());
    assert!(world.clock.sleeps.iter().all(|ms| *ms <= 250));
}

#[test]
fn where_somebody_else_answers_or_nobody_asks_nothing_is_done() {
    let is_nothing = |world: &mut World| {
        let outcome = run(&mut world.kernel(), &mut [0; 8192], &command(&["kvp"]));
        outcome.unwrap_err().is(Kind::NotApplicable)
    };
    let mut world = azure();
    kvp_of(&mut world).is_busy = true;
    assert!(is_nothing(&mut world));
    let mut world = azure();
    world.host.put(&format!("{CHANNEL}/class_id"), "{another}\n");
    assert!(is_nothing(&mut world) && kvp_of(&mut world).opened == 0);
    let mut world = azure();
    world.host.put("sys/class/dmi/id/chassis_asset_tag", "of another cloud\n");
    assert!(is_nothing(&mut world) && kvp_of(&mut world).opened == 0);
}

/// A daemon that registers before hv_utils has opened the channel has crashed kernels.
#[test]
fn the_device_is_not_opened_before_the_channel_is() {
    let mut world = azure();
    world.host.put(&format!("{CHANNEL}/state"), "1\n");
    let error = run(&mut world.kernel(), &mut [0; 8192], &command(&["kvp"])).unwrap_err();
    assert!(error.is(Kind::Deadline) && kvp_of(&mut world).opened == 0);
    assert!((5_000_000..5_200_000).contains(&world.clock.us));
}

/// hv_vmbus makes its devices on its own time, and hv_utils may be loaded by hand in an emergency shell.
#[test]
fn in_the_initrd_the_channel_may_come_at_any_time() {
    let mut world = azure();
    let state = format!("{CHANNEL}/state");
    world.host.put(&state, "1\n");
    Pools::in_memory(&mut world.run).set(1, b"a\0", b"1\0").unwrap();
    let mut host = world.host.clone();
    world.clock.on_sleep = Some(Box::new(move |us| {
        if us > 60_000_000 {
            host.put(&state, "3\n");
        }
    }));
    serve_early(&mut world, 3).unwrap();
    assert_eq!(kvp_of(&mut world).opened, 1);
}

/// Nobody but `persist` ends it in an initrd without systemd: in the real root it would keep the device from the daemon.
#[test]
fn the_initrds_server_ends_where_persist_is_lost_or_never_ran() {
    let mut world = azure();
    let lost = Ok(crate::sys::linux::Ended::Deadline);
    crate::stage::say_lost(&mut world.kernel(), &mut [0; 8192], &command(&["persist"]), lost);
    assert!(world.run.stat(STOP).is_ok());
    let mut world = azure();
    super::end_early(&mut world.kernel());
    assert!(world.run.stat(STOP).is_ok());
}

/// Time is set some time after the start; what other agents wrote by then is of this boot.
#[test]
fn a_clock_that_is_set_makes_no_record_old() {
    let mut world = azure();
    hand_over(&mut world.kernel()).unwrap();
    Pools::of_root(&mut world.root).set(1, b"another agent's\0", b"1\0").unwrap();
    world.clock.wall += 1_000_000;
    hand_over(&mut world.kernel()).unwrap();
    assert_eq!(all(&mut Pools::of_root(&mut world.root), 1).len(), 1);
}

#[test]
fn errors_long_ago_count_no_more() {
    let mut world = azure();
    kvp_of(&mut world).fail_every = Some(3);
    kvp_of(&mut world).rounds = 20;
    world.clock.tick_us = 10_000;
    world.clock.cancelled_from_us = Some(60_000_000);
    run(&mut world.kernel(), &mut [0; 8192], &command(&["kvp"])).unwrap();
    assert!(kvp_of(&mut world).opened > 10, "{}", kvp_of(&mut world).opened);
}

#[test]
fn a_driver_that_takes_a_question_back_is_opened_anew() {
    let mut world = azure();
    Pools::of_root(&mut world.root).set(1, b"a\0", b"1\0").unwrap();
    kvp_of(&mut world).fail_at = Some(3);
    kvp_of(&mut world).rounds = 2;
    world.clock.tick_us = 10_000;
    world.clock.cancelled_from_us = Some(2_000_000);
    run(&mut world.kernel(), &mut [0; 8192], &command(&["kvp"])).unwrap();
    let kvp = kvp_of(&mut world);
    assert_eq!((kvp.opened, kvp.answers.iter().filter(|answer| answer.0 == 0x8000_4005).count()), (2, 1));
    assert_eq!(
        kvp.seen,
        [[(String::from("a"), String::from("1"))], [(String::from("a"), String::from("1"))]]
    );
}

#[test]
fn a_pool_that_cannot_be_read_costs_its_answers_and_is_said_once() {
    let mut world = azure();
    world.root.put_symlink("var/lib/hyperv/.kvp_pool_1", "/etc/shadow");
    kvp_of(&mut world).questions = [Question::next(1, 0), Question::next(1, 0), Question::next(0, 0)].into();
    world.clock.tick_us = 10_000;
    world.clock.cancelled_from_us = Some(500_000);
    let mut commands = command(&["kvp"]);
    commands.root = "/";
    let _ = run(&mut world.kernel(), &mut [0; 8192], &commands);
    assert!(kvp_of(&mut world).answers.is_empty(), "hand_over says it first");
}

/// What was answered is in a pool, and what is asked while nobody has the device waits in the channel; with a kernel that
/// lets it fail instead, the host knows.
#[test]
fn a_thousand_hand_overs_to_the_daemon_lose_no_record() {
    let mut refused = 0;
    for turn in 0..1000usize {
        let mut world = azure();
        kvp_of(&mut world).is_old = turn % 2 == 1;
        let key = format!("report {turn}\0");
        Pools::in_memory(&mut world.run).set(1, key.as_bytes(), b"x\0").unwrap();
        // The host sets something at any moment: before the initrd answers, after that, and once the daemon is there.
        let facts: Vec<Question> =
            (0..6).map(|n| Question::set(3, &format!("fact {turn} {n}"), "y")).collect();
        let (early, late) = (turn % 4, 3 + turn % 3);
        facts[..early].iter().for_each(|fact| kvp_of(&mut world).ask(fact.clone()));
        serve_early(&mut world, 1 + turn % 3).unwrap();
        assert!(world.run.stat(OPEN).is_err() && kvp_of(&mut world).opened == 1);
        facts[early..late].iter().for_each(|fact| kvp_of(&mut world).ask(fact.clone()));
        let kernel = &mut world.kernel();
        stop(kernel);
        hand_over(kernel).unwrap();
        kvp_of(&mut world).questions.extend(facts[late..].iter().cloned());
        world.clock.tick_us = 10_000;
        world.clock.cancelled_from_us = Some(world.clock.us + 500_000);
        run(&mut world.kernel(), &mut [0; 8192], &command(&["kvp"])).unwrap();
        let answers = &kvp_of(&mut world).answers;
        assert_eq!(answers.len(), facts.len());
        let failed = answers.iter().filter(|answer| answer.0 != 0).count();
        assert_eq!(failed, if turn % 2 == 1 { late - early } else { 0 }, "turn {turn}");
        refused += failed;
        for (pool, count) in [(1, 1), (3, facts.len() - failed)] {
            let records = all(&mut Pools::of_root(&mut world.root), pool);
            assert_eq!(records.len(), count, "turn {turn}");
        }
    }
    std::println!("kvp: 1000 hand-overs, {refused} refusals, all of them by old kernels");
}

#[test]
fn what_happened_is_cut_into_values_at_lines() {
    let mut world = World::new();
    let lines: Vec<String> =
        (0..100).map(|n| format!("{}000 {} fetch: line {n} {}\n", n * 7, 6 - n % 4, "x".repeat(n))).collect();
    world.run.put("timeline", lines.concat());
    let mut window = [0; 4096];
    let mut text = kvp::Value::new();
    let mut all_of = |level| {
        let count = slice(&mut world.run, &mut window, level, u8::MAX, &mut text);
        let mut joined = String::new();
        for number in 0..count {
            text.clear();
            slice(&mut world.run, &mut window, level, number, &mut text);
            assert!(text.len() <= VALUE_LIMIT && text.ends_with('\n'));
            joined.push_str(&text);
        }
        joined
    };
    let everything = all_of(Level::Info);
    assert_eq!(everything.lines().count(), 100);
    assert!(everything.starts_with("0 6 fetch: line 0 \n7 5 fetch: line 1 x\n"));
    assert_eq!(all_of(Level::Warning).lines().count(), 50);
}

#[test]
fn the_events_are_under_numbered_keys_and_only_while_there_are_so_many() {
    let mut world = World::new();
    let id = InstanceId::parse(ID).unwrap();
    let mut tell = |lines: usize| {
        world.run.put("timeline", "1000 6 fetch: something rather long happened here\n".repeat(lines));
        To { run: &mut world.run.clone(), root: None }.tell_events(Some(&id), &mut [0; 4096]).unwrap();
        all(&mut Pools::in_memory(&mut world.run), 1)
    };
    let records = tell(50);
    assert_eq!(records.len(), 3);
    assert_eq!(records[2].0, format!("preroot-{}|{ID}|timeline|2", env!("CARGO_PKG_VERSION")));
    assert_eq!(tell(1).len(), 1);
    // Too much: nothing but warnings, and here are none.
    assert!(tell(1000).is_empty());
}
