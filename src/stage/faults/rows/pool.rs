//! VMs of a pool, which wait for an owner, and nobody has to tell them what for.

use super::{Rows, fixture, http, medium_says, no_medium, reason};
use crate::error::Errno;
use crate::format::rtnetlink::{LinkChange, State};
use crate::stage::faults::sim::Machine;
use crate::stage::faults::{Blocked, Expect, Sim};
use crate::sys::linux::Ended;
use std::format;
use std::string::String;
use std::vec::Vec;

const TOLD: &str = "the platform knows: Ready, in its pool";
const MOVED: &str = "moved to another network";
const AGAIN: &str = "not yet: ";
/// As IMDS has it, and the medium.
const RUNNING: (&str, &str) = ("Running", "pool-vm-running-by-type");
const SAVABLE: (&str, &str) = ("Savable", "sample-c-pool-vm");
const OS_DISK: (&str, &str) = ("PreprovisionedOSDisk", "pool-vm-os-disk");

fn document(name: &str) -> &'static str {
    http("200 OK", &String::from_utf8(fixture("ovf", name, "input.xml")).unwrap())
}

/// A VM of a pool whose owner comes as soon as it is told, unless something is planted.
fn pooled(sim: &mut Sim, (kind, medium): (&str, &str)) {
    medium_says(sim, medium);
    let body = String::from_utf8(fixture("imds", "pool-vm", "input.json")).unwrap();
    let body = body.replace("\"hasCustomData\":true", "\"hasCustomData\":false").replace("Savable", kind);
    sim.cloud.answers.insert(0, http("200 OK", &body));
    sim.cloud.document = std::vec![document("sample-a-password")];
    let change = |state| LinkChange { index: 2, state, carrier_changes: Some(1) };
    sim.world.system.link_changes =
        [Ok(Vec::new()), Ok([change(State::Gone)].into()), Ok([change(State::Up)].into())].into();
}

/// Its owner never comes.
fn in_vain(sim: &mut Sim) {
    sim.off_after_us = Some(900_000_000);
}

pub(super) fn pool(rows: &mut Rows) {
    let from = rows.0.len();
    for kind in [RUNNING, SAVABLE] {
        documents(rows, kind);
        instances(rows, kind);
        moves(rows, kind);
        room(rows, kind);
        lost(rows, kind);
    }
    let name = "pool: only the disk is kept";
    rows.add(name, Expect::Pooled, None, |sim| {
        pooled(sim, OS_DISK);
        in_vain(sim);
    });
    rows.add("pool: learnt only in the real root", Expect::Ready, Some("waiting for IMDS"), |sim| {
        pooled(sim, RUNNING);
        no_medium(sim);
        for _ in 0..20 {
            sim.cloud.answers.insert(0, http("503 Service Unavailable", ""));
        }
    });
    rows.add("pool: the wireserver is busy at first", Expect::Ready, None, |sim| {
        pooled(sim, RUNNING);
        sim.cloud.wire = std::vec![http("503 Service Unavailable", ""), http("200 OK", "")];
    });
    rows.are_pooled(from);
    let said = Some("may not have heard");
    rows.add("pool: frozen before the answer comes", Expect::Ready, said, |sim| {
        pooled(sim, SAVABLE);
        sim.cloud.wire = std::vec!["~", "~", http("200 OK", "")];
    });
    for (name, answer) in [("refuses", http("500 Internal Server Error", "")), ("says nothing", "~")] {
        let name = format!("pool: the wireserver {name} for ever");
        rows.add(name, Expect::Pooled, Some(AGAIN), move |sim| {
            pooled(sim, RUNNING);
            sim.cloud.wire = std::vec![answer];
            in_vain(sim);
        });
        rows.without_wire();
    }
}

/// Where the owner's document should be.
fn documents(rows: &mut Rows, kind: (&'static str, &'static str)) {
    let answers: [(&str, &'static str, bool); 9] = [
        ("404", http("404 Not Found", ""), false),
        ("410 with a pause", "HTTP/1.1 410 Gone\r\nRetry-After: 70\r\nContent-Length: 0\r\n\r\n", false),
        ("429", http("429 Too Many Requests", ""), false),
        ("500", http("500 Internal Server Error", ""), false),
        ("403", http("403 Forbidden", ""), true),
        ("silence", "~", true),
        ("noise", "garbage\r\n\r\n", true),
        ("half a head", "~HTTP/1.1 200 OK\r\nContent-", true),
        ("half a document", "~HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n<Environment", true),
    ];
    for (name, answer, is_said) in answers {
        let said = is_said.then_some(AGAIN);
        let name = format!("pool: {}, its document: {name}", kind.0);
        rows.add(format!("{name} at first"), Expect::Ready, said, move |sim| {
            pooled(sim, kind);
            (0..3).for_each(|_| sim.cloud.document.insert(0, answer));
        });
        rows.add(format!("{name} for ever"), Expect::Pooled, said, move |sim| {
            pooled(sim, kind);
            sim.cloud.document = std::vec![answer];
            in_vain(sim);
        });
    }
    for name in ["not-xml", "empty-file", "truncated", "bad-host-name", "two-host-names"] {
        let expect = Expect::Failed(reason("ovf", name));
        let row = format!("pool: {}, its document: {name}", kind.0);
        rows.add(row, expect, Some("this VM is not provisioned: "), move |sim| {
            pooled(sim, kind);
            sim.cloud.document = std::vec![document(name)];
        });
    }
}

/// What IMDS says once the document is there.
fn instances(rows: &mut Rows, kind: (&'static str, &'static str)) {
    let expect = Expect::Failed("invalid IMDS metadata for key=extended.compute.ppsType".into());
    rows.add(format!("pool: {}, IMDS speaks of it for ever", kind.0), expect, Some(AGAIN), move |sim| {
        pooled(sim, kind);
        sim.cloud.answers.truncate(1);
    });
    rows.add(
        format!("pool: {}, IMDS speaks of it a while", kind.0),
        Expect::Ready,
        Some(AGAIN),
        move |sim| {
            pooled(sim, kind);
            (0..9).for_each(|_| sim.cloud.answers.insert(0, sim.cloud.answers[0]));
        },
    );
    for (name, answer, reason) in [
        ("silence", "~", "read timeout querying IMDS"),
        ("403", http("403 Forbidden", ""), "http error 403 querying IMDS"),
    ] {
        let expect = Expect::Warned(reason.into());
        rows.add(format!("pool: {}, IMDS: {name} at last", kind.0), expect, Some("IMDS: "), move |sim| {
            pooled(sim, kind);
            sim.cloud.answers[1] = answer;
        });
    }
}

/// The way into the owner's network.
fn moves(rows: &mut Rows, kind: (&'static str, &'static str)) {
    rows.add(format!("pool: {}, it is never moved", kind.0), Expect::Pooled, None, move |sim| {
        pooled(sim, kind);
        sim.world.system.link_changes.clear();
        in_vain(sim);
    });
    for (name, errno) in [("lost", Errno::NOBUFS), ("not told", Errno::IO)] {
        let name = format!("pool: {}, changes of interfaces are {name}", kind.0);
        rows.add(name, Expect::Ready, None, move |sim| {
            pooled(sim, kind);
            sim.world.system.link_changes = [Err(os!("follow interfaces", errno))].into();
        });
    }
    let name = format!("pool: {}, no lease in the owner's network at first", kind.0);
    rows.add(name, Expect::Ready, Some(AGAIN), move |sim| {
        pooled(sim, kind);
        sim.when(MOVED, 0, |machine, _| machine.cloud.borrow_mut().is_silent = true);
        sim.when(AGAIN, 0, |machine, _| machine.cloud.borrow_mut().is_silent = false);
    });
}

/// Where what it learns is written.
fn room(rows: &mut Rows, kind: (&'static str, &'static str)) {
    let full = |machine: &Machine, is_full| machine.run.clone().set_full(is_full);
    let said = Some("no space left");
    rows.add(format!("pool: {}, /run is full a while", kind.0), Expect::Ready, said, move |sim| {
        pooled(sim, kind);
        sim.when(MOVED, 0, move |machine, _| full(machine, true));
        sim.when("IMDS: write", 3, move |machine, _| full(machine, false));
    });
    rows.blocked(Blocked { events: true, ..Blocked::default() });
    let expect = Expect::Failed("write".into());
    rows.add(format!("pool: {}, /run is full for ever", kind.0), expect, said, move |sim| {
        pooled(sim, kind);
        sim.when(MOVED, 0, move |machine, _| full(machine, true));
    });
    rows.blocked(Blocked { events: true, ..Blocked::default() });
    let said = Some("after a reboot the platform would be told again");
    rows.add(format!("pool: {}, it cannot be noted", kind.0), Expect::Ready, said, move |sim| {
        pooled(sim, kind);
        sim.when(TOLD, 0, |machine, _| machine.root.clone().set_read_only(true));
        sim.when(MOVED, 0, |machine, _| machine.root.clone().set_read_only(false));
    });
}

/// A bug of ours, the OOM killer, or a standstill: the unit begins again, where it was.
fn lost(rows: &mut Rows, kind: (&'static str, &'static str)) {
    for ended in [Ended::Exit(101), Ended::Signal(9), Ended::Deadline] {
        for (at, skip) in
            [("enter pool", 0), (TOLD, 0), (MOVED, 0), ("lease of", 2), ("IMDS answered after", 1)]
        {
            let name = format!("pool: {}, lost: {at}, {ended:?}", kind.0);
            rows.add(name, Expect::Ready, None, move |sim| {
                pooled(sim, kind);
                sim.when(at, skip, move |machine, turn| machine.die(turn, ended));
            });
            // It had told, and had not noted so.
            rows.blocked(Blocked { answers: at == TOLD, ..Blocked::default() });
        }
    }
}
