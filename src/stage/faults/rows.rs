//! Which faults are planted, and what must come of each?

mod lost;
mod machine;
mod network;
mod pool;

use super::{Blocked, Expect, Growth, Sim};
use crate::error::Errno;
use crate::format::media::image;
use crate::stage::fetch::from_medium::tests::medium_with;
use crate::sys::{Dir, DriveStatus};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec::Vec;

/// A fault.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) plant: Box<dyn Fn(&mut Sim)>,
    pub(super) expect: Expect,
    /// What the serial console must say as a warning, or worse.
    pub(super) said: Option<&'static str>,
    pub(super) blocked: Blocked,
    /// It is told Ready first as what it is in its pool.
    pub(super) is_pooled: bool,
    pub(super) growth: Growth,
}

type Plant = fn(&mut Sim);

pub(super) fn fixture(kind: &str, name: &str, file: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/{kind}/{name}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The reason that the fixture's expectation has; of several matches their number is not told.
fn reason(kind: &str, name: &str) -> String {
    let expected = String::from_utf8(fixture(kind, name, "expected")).unwrap();
    let reason = expected.lines().find_map(|line| line.strip_prefix("error = ")).unwrap();
    reason.split(" (").next().unwrap().into()
}

pub(super) fn http(status: &str, body: &str) -> &'static str {
    Box::leak(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_boxed_str())
}

pub(super) fn imds_says(sim: &mut Sim, name: &str) {
    let body = String::from_utf8(fixture("imds", name, "input.json")).unwrap();
    // The medium has none.
    let body = body.replace("\"hasCustomData\":true", "\"hasCustomData\":false");
    sim.cloud.answers = std::vec![http("200 OK", &body)];
}

pub(super) fn medium_says(sim: &mut Sim, name: &str) {
    sim.insert(medium_with(&fixture("ovf", name, "input.xml")));
}

fn imds(sim: &mut Sim, answer: &'static str) {
    sim.cloud.answers = std::vec![answer];
}

fn wire(sim: &mut Sim, answers: &[&'static str]) {
    sim.cloud.wire = answers.to_vec();
}

fn no_medium(sim: &mut Sim) {
    drive_says(sim, DriveStatus::NoDisc);
}

fn drive_says(sim: &mut Sim, status: DriveStatus) {
    sim.world.disks.disks.get_mut("sr0").unwrap().status = Some(status);
}

/// IMDS refuses for good, and there is no medium.
fn nothing_usable(sim: &mut Sim) {
    no_medium(sim);
    imds(sim, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
}

struct Rows(Vec<Row>);

impl Rows {
    fn add(
        &mut self,
        name: impl Into<String>,
        expect: Expect,
        said: Option<&'static str>,
        plant: impl Fn(&mut Sim) + 'static,
    ) {
        let blocked = Blocked::default();
        let growth = Growth::Now;
        let name = name.into();
        self.0.push(Row { name, plant: Box::new(plant), expect, said, blocked, is_pooled: false, growth });
    }

    /// Of the last one: KVP is no way.
    fn without_kvp(&mut self) {
        self.0.last_mut().unwrap().blocked.kvp = true;
    }

    /// Of the last one: the wireserver never takes anything.
    fn without_wire(&mut self) {
        self.0.last_mut().unwrap().blocked.wire = true;
    }

    /// Of the last one: the initrd has no way to the wireserver that lasts.
    fn wire_is_late(&mut self) {
        self.0.last_mut().unwrap().blocked.early_wire = true;
    }

    /// Of the last one: how the network is, and memory.
    fn blocked(&mut self, blocked: Blocked) {
        self.0.last_mut().unwrap().blocked = blocked;
    }

    /// Of those from there on.
    fn are_pooled(&mut self, from: usize) {
        self.0[from..].iter_mut().for_each(|row| row.is_pooled = true);
    }

    fn grows(&mut self, growth: Growth) {
        self.0.last_mut().unwrap().growth = growth;
    }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Rows(Vec::new());
    rows.add("no fault", Expect::Ready, None, |_| {});
    media(&mut rows);
    documents(&mut rows);
    metadata(&mut rows);
    network::network(&mut rows);
    reports(&mut rows);
    data_exchange(&mut rows);
    machine::drivers(&mut rows);
    machine::disks(&mut rows);
    root(&mut rows);
    machine::surroundings(&mut rows);
    lost::stages(&mut rows);
    lost::in_the_middle(&mut rows);
    two_at_once(&mut rows);
    pool::pool(&mut rows);
    rows.0
}

/// Each twice: IMDS has all that is needed, and IMDS has nothing.
fn media(rows: &mut Rows) {
    const UNREADABLE: &str = "provisioning medium unreadable";
    let broken: [(&str, Plant); 3] = [
        ("a sector that cannot be read", broken_medium),
        ("a medium without its end", |sim| {
            let bytes = &mut sim.world.disks.disks.get_mut("sr0").unwrap().bytes;
            let end = bytes.windows(5).position(|window| window == b"<?xml").unwrap();
            bytes.truncate(end);
        }),
        ("a drive that is never ready", |sim| drive_says(sim, DriveStatus::NotReady)),
    ];
    let absent: [(&str, Plant); 6] = [
        ("an empty drive", no_medium),
        ("an open tray", |sim| drive_says(sim, DriveStatus::TrayOpen)),
        ("no drive", |sim| {
            sim.world.host.remove("sys/class/block/sr0/size").unwrap();
            sim.world.host.remove_dir("sys/class/block/sr0").unwrap();
        }),
        ("no volume where one should be", |sim| {
            let bytes = &mut sim.world.disks.disks.get_mut("sr0").unwrap().bytes;
            bytes[16 * 2048..24 * 2048].fill(0xa5);
            bytes[256 * 2048..257 * 2048].fill(0xa5);
        }),
        ("a medium of NTFS", |sim| sim.insert(image("ntfs-fresh"))),
        ("a medium of zeros", |sim| sim.insert(std::vec![0; 1 << 20])),
    ];
    let slow = broken.map(|(name, plant)| (name, plant, name != "a medium without its end"));
    for (name, plant, is_slow) in slow {
        let late_ms = if is_slow { 60_000 } else { 1_000 };
        let said = Some("fetch: ");
        let warned = |reason: &str| Expect::Warned(reason.into());
        rows.add(format!("medium: {name}"), warned(UNREADABLE), said, move |sim| {
            plant(sim);
            sim.mount_ms = late_ms;
        });
        let fatal = Expect::Fatal(UNREADABLE.into());
        rows.add(format!("medium: {name}, IMDS: 403"), fatal, said, move |sim| {
            imds(sim, http("403 Forbidden", ""));
            plant(sim);
            sim.mount_ms = late_ms;
        });
        if is_slow {
            // `persist` does not wait for all of the time that a medium may take.
            rows.add(format!("medium: {name}, an early root"), warned(UNREADABLE), said, plant);
            let failed = Expect::Failed(UNREADABLE.into());
            rows.add(format!("medium: {name}, an early root, IMDS: 403"), failed, said, move |sim| {
                imds(sim, http("403 Forbidden", ""));
                plant(sim);
            });
        }
    }
    for (name, plant) in absent {
        rows.add(format!("medium: {name}"), Expect::Ready, None, plant);
        let expect = Expect::Fatal("http error 403 querying IMDS".into());
        rows.add(format!("medium: {name}, IMDS: 403"), expect, Some("IMDS: "), move |sim| {
            imds(sim, http("403 Forbidden", ""));
            plant(sim);
        });
    }
}

/// ovf-env.xml: the fixtures that are refused.
fn documents(rows: &mut Rows) {
    for name in [
        "bad-host-name",
        "bad-user-name",
        "custom-data-not-base64",
        "custom-data-without-padding",
        "document-type",
        "empty-file",
        "host-name-not-a-direct-child",
        "nested-too-deep",
        "no-configuration-set",
        "no-host-name",
        "no-platform-settings-section",
        "not-utf-8",
        "not-xml",
        "password-of-73-characters",
        "password-of-756-characters",
        "two-host-names",
        "two-key-values",
        "two-provisioning-sections",
        "unknown-entity",
        "wrong-namespace-on-platform-settings",
    ] {
        let reason = reason("ovf", name);
        let said = Some("ovf-env.xml cannot be used");
        rows.add(format!("ovf-env.xml: {name}"), Expect::Warned(reason.clone()), said, |sim| {
            medium_says(sim, name)
        });
        rows.add(format!("ovf-env.xml: {name}, IMDS: 403"), Expect::Fatal(reason), said, |sim| {
            imds(sim, http("403 Forbidden", ""));
            medium_says(sim, name);
        });
    }
    let expect = Expect::Fatal("unsupported pps_type".into());
    rows.add("ovf-env.xml: a pool of a kind nobody knows", expect, Some("not provisioned"), |sim| {
        medium_says(sim, "pool-vm-of-unknown-type");
    });
}

/// IMDS, each twice: beside a good medium, and alone.
fn metadata(rows: &mut Rows) {
    let mut add = |name: &str, reason: &str, heals: bool, plant: Box<dyn Fn(&mut Sim)>| {
        let plant = std::rc::Rc::new(plant);
        let again = std::rc::Rc::clone(&plant);
        let said = Some("IMDS: ");
        rows.add(format!("IMDS: {name}"), Expect::Warned(reason.into()), said, move |sim| plant(sim));
        let expect = if heals { Expect::Waited(reason.into()) } else { Expect::Fatal(reason.into()) };
        rows.add(format!("IMDS: {name}, no medium"), expect, said, move |sim| {
            no_medium(sim);
            again(sim);
        });
    };
    for (status, reason) in [
        ("400 Bad Request", "http error 400 querying IMDS"),
        ("401 Unauthorized", "http error 403 querying IMDS"),
        ("403 Forbidden", "http error 403 querying IMDS"),
        ("404 Not Found", "http error 404 querying IMDS"),
        ("410 Gone", "http error 410 querying IMDS"),
        ("418 I'm a teapot", "http error querying IMDS"),
        ("429 Too Many Requests", "http error 429 querying IMDS"),
        ("500 Internal Server Error", "http error 5xx querying IMDS"),
        ("503 Service Unavailable", "http error 5xx querying IMDS"),
    ] {
        let answer = http(status, "");
        let heals = ["404", "410", "429", "500", "503"].iter().any(|code| status.starts_with(code));
        add(status, reason, heals, Box::new(move |sim| imds(sim, answer)));
    }
    for name in [
        "an-array",
        "empty",
        "error-reply",
        "html-of-a-proxy",
        "other-vm",
        "truncated",
        "truncated-before-the-last-brace",
        "two-documents",
    ] {
        add(name, &reason("imds", name), false, Box::new(move |sim| imds_says(sim, name)));
    }
    for (name, answer) in [
        ("silence behind the request", "~"),
        ("half a head", "~HTTP/1.1 200 OK\r\nContent-"),
        ("half a body", "~HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"compute\":"),
    ] {
        add(name, "read timeout querying IMDS", true, Box::new(move |sim| imds(sim, answer)));
    }
    rows.add(
        "IMDS: no keys, no medium",
        Expect::Fatal("neither SSH key nor password".into()),
        Some("neither SSH"),
        |sim| {
            no_medium(sim);
            imds_says(sim, "no-keys");
        },
    );
    let lost = Expect::Warned("failure to read customData while hasCustomData=true".into());
    rows.add("IMDS: customData that the medium has not", lost, None, |sim| {
        let body = String::from_utf8(fixture("imds", "instance", "input.json")).unwrap();
        sim.cloud.answers = std::vec![http("200 OK", &body)];
    });
    for (name, answer, times) in [
        ("429 for a while", http("429 Too Many Requests", ""), 40),
        ("410 with a minute's pause", "HTTP/1.1 410 Gone\r\nRetry-After: 70\r\nContent-Length: 0\r\n\r\n", 3),
        ("silence at first", "~", 6),
    ] {
        rows.add(format!("IMDS: {name}, no medium"), Expect::Ready, Some("waiting for IMDS"), move |sim| {
            no_medium(sim);
            let good = sim.cloud.answers.remove(0);
            sim.cloud.answers = std::iter::repeat_n(answer, times).chain([good]).collect();
        });
    }
    rows.add("IMDS: a key that is none", Expect::Ready, Some("keys are not used"), |sim| {
        imds_says(sim, "one-key-is-a-certificate");
    });
}

/// The wireserver, told Ready and told a failure.
fn reports(rows: &mut Rows) {
    const GOAL: &str = include_str!("../../../tests/fixtures/azure-goalstate/bom-crlf.xml");
    const FATAL: &str = "http error 403 querying IMDS";
    let ok = http("200 OK", "");
    let goal = http("200 OK", GOAL);
    let mends: [(&str, Vec<&'static str>); 4] = [
        ("refuses JSON", std::vec![http("404 Not Found", ""), goal, ok]),
        ("does not know JSON", std::vec![http("405 Method Not Allowed", ""), goal, ok]),
        ("is busy at first", std::vec![http("503 Service Unavailable", ""), ok]),
        ("answers with noise at first", std::vec!["garbage\r\n\r\n", goal, ok]),
    ];
    for (name, answers) in mends {
        let again = answers.clone();
        rows.add(format!("wireserver {name}"), Expect::Ready, None, move |sim| wire(sim, &answers));
        let expect = Expect::Fatal(FATAL.into());
        rows.add(format!("wireserver {name}, a failure"), expect, Some("IMDS: "), move |sim| {
            nothing_usable(sim);
            wire(sim, &again);
        });
        if name == "is busy at first" {
            rows.wire_is_late();
        }
    }
    for (name, answer) in [
        ("refuses everything", http("401 Unauthorized", "")),
        ("fails for ever", http("500 Internal Server Error", "")),
        ("answers with noise for ever", "garbage\r\n\r\n"),
        ("says nothing", "~"),
        ("says half", "~HTTP/1.1 200 OK\r\nContent-Le"),
    ] {
        let said = Some("report: failed: ");
        rows.add(format!("wireserver {name}"), Expect::Ready, said, move |sim| wire(sim, &[answer]));
        rows.without_wire();
        let expect = Expect::Fatal(FATAL.into());
        rows.add(format!("wireserver {name}, a failure"), expect, said, move |sim| {
            nothing_usable(sim);
            wire(sim, &[answer]);
        });
        rows.without_wire();
    }
}

/// KVP's own: everything else must be told all the same.
fn data_exchange(rows: &mut Rows) {
    const CHANNEL: &str = "sys/bus/vmbus/devices/242ff919-07db-4180-9c2e-b86cb68c8c55";
    let faults: [(&str, bool, Plant); 6] = [
        ("not offered", true, |sim| _ = sim.world.host.put(&format!("{CHANNEL}/class_id"), "{another}\n")),
        ("no device", true, |sim| sim.world.system.kvp = None),
        ("somebody else has it", true, |sim| sim.world.system.kvp.as_mut().unwrap().is_busy = true),
        ("a channel that is not opened", true, |sim| {
            _ = sim.world.host.put(&format!("{CHANNEL}/state"), "1\n")
        }),
        ("a driver that takes a question back", false, |sim| {
            sim.world.system.kvp.as_mut().unwrap().fail_at = Some(2);
        }),
        ("a pool of an earlier life", false, |sim| {
            let old = crate::format::kvp::record("PROVISIONING_REPORT", "result=of another life").unwrap();
            sim.world.root.put("var/lib/hyperv/.kvp_pool_1", old);
        }),
    ];
    for (name, is_blocked, plant) in faults {
        rows.add(format!("KVP: {name}"), Expect::Ready, None, plant);
        let expect = Expect::Fatal("http error 403 querying IMDS".into());
        rows.add(format!("KVP: {name}, a failure"), expect, Some("IMDS: "), move |sim| {
            nothing_usable(sim);
            plant(sim);
        });
        if is_blocked {
            rows.without_kvp();
        }
    }
}

/// The root cannot be written, or is not what it should be.
fn root(rows: &mut Rows) {
    for n in [1, 5, 20] {
        rows.add(
            format!("root: change {n} of persist fails"),
            Expect::Ready,
            Some("persist: failed"),
            move |sim| {
                sim.world.root.fail_at(n, Errno::NOSPC);
            },
        );
    }
    let broken: [(&str, &str, Plant); 3] = [
        ("no /etc/passwd", "users: ", |sim| sim.world.root.remove("etc/passwd").unwrap()),
        ("a link for /home", "users: ", |sim| {
            sim.world.root.remove_dir("home").unwrap();
            sim.world.root.put("home", "no directory");
        }),
        ("an account of the image's own", "users: ", |sim| {
            sim.world.root.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nazureuser:x:1:1::/:/bin/sh\n");
        }),
    ];
    for (name, reason, plant) in broken {
        rows.add(format!("root: {name}"), Expect::Failed(reason.into()), Some("apply: "), plant);
    }
}

fn two_at_once(rows: &mut Rows) {
    let two = |rows: &mut Rows, name: &str, expect, said, plant: Plant| {
        rows.add(format!("two: {name}"), expect, said, plant);
    };
    two(
        rows,
        "a medium that cannot be read, a wireserver that is slow",
        Expect::Warned("provisioning medium unreadable".into()),
        Some("fetch: "),
        |sim| {
            broken_medium(sim);
            sim.mount_ms = 60_000;
            wire(sim, &["~", http("503 Service Unavailable", ""), "garbage\r\n\r\n", http("200 OK", "")]);
        },
    );
    two(
        rows,
        "a medium that cannot be read, a wireserver without JSON, each seventh frame lost",
        Expect::Fatal("provisioning medium unreadable".into()),
        Some("fetch: "),
        |sim| {
            const GOAL: &str = include_str!("../../../tests/fixtures/azure-goalstate/bom-crlf.xml");
            broken_medium(sim);
            sim.mount_ms = 60_000;
            imds(sim, http("403 Forbidden", ""));
            wire(sim, &[http("404 Not Found", ""), http("200 OK", GOAL), http("200 OK", "")]);
            sim.cloud.mangle =
                Some(|n, frame| if n.is_multiple_of(7) { Vec::new() } else { std::vec![frame] });
        },
    );
    two(rows, "no KVP, no wireserver at first", Expect::Ready, None, |sim| {
        sim.world.system.kvp = None;
        wire(sim, &["~", "~", http("200 OK", "")]);
    });
    two(
        rows,
        "a full root in persist, a panic in the early report",
        Expect::Ready,
        Some("persist: failed"),
        |sim| {
            sim.when("enter persist", 0, |machine, _| machine.root.clone().fail_at(3, Errno::NOSPC));
            sim.lose("enter report", crate::sys::linux::Ended::Exit(101));
        },
    );
    two(
        rows,
        "IMDS of another VM, an account of the image's own",
        Expect::Failed("users: ".into()),
        Some("apply: "),
        |sim| {
            imds_says(sim, "other-vm");
            sim.world.root.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nopsadmin:x:1:1::/:/bin/sh\n");
        },
    );
}

fn broken_medium(sim: &mut Sim) {
    let disk = sim.world.disks.disks.get_mut("sr0").unwrap();
    disk.broken_at = disk.bytes.windows(9).position(|window| window == b"<wa:Versi").map(|at| at as u64);
    assert!(disk.broken_at.is_some());
}
