//! What does `fetch --online` make of what medium, IMDS and lease say together? One kind of VM each; faults have their own
//! table.

use super::rows::{imds_says, medium_says};
use super::{FIRST_BOOT, Sim};
use crate::format::dhcp::tests::{foreign, stack_hub};
use crate::seed;
use crate::sys::{Dir as _, DriveStatus};
use std::string::String;
use std::vec::Vec;

impl Sim {
    /// The two halves of fetch; how the second ended.
    fn fetch(&mut self) -> u8 {
        self.stage(&["fetch", "--offline"], None, 60_000);
        self.world.run.put(FIRST_BOOT, "");
        self.stage(&["fetch", "--online"], None, 60_000)
    }

    fn value(&self, name: &str) -> Option<String> {
        self.world.run.text(&std::format!("seed/{name}")).map(|text| text.trim_end().into())
    }

    /// Requests to the wireserver, and what they say of this VM.
    fn told_all(&self) -> Vec<String> {
        (0..self.cloud.posts.len()).filter_map(|n| self.told(n)).map(|(_, text)| text).collect()
    }

    fn is_fatal(&mut self) -> bool {
        seed::load_context(&mut self.world.run, seed::SEED).unwrap().verdict == seed::Verdict::Fail
    }
}

fn without_medium() -> Sim {
    let mut sim = Sim::new();
    sim.world.disks.disks.get_mut("sr0").unwrap().status = Some(DriveStatus::NoDisc);
    sim
}

#[test]
fn a_vm_of_a_pool_waits_and_nobody_is_told() {
    for (medium, imds) in [("sample-c-pool-vm", "pool-vm"), ("sample-a-password", "pool-vm")] {
        let mut sim = Sim::new();
        medium_says(&mut sim, medium);
        imds_says(&mut sim, imds);
        assert_eq!(sim.fetch(), 0, "{:?}", sim.log.lines);
        assert_eq!(sim.value("azure/pre-provisioning").as_deref(), Some("savable"));
        assert!(sim.told_all().is_empty() && !sim.is_fatal());
    }
}

#[test]
fn a_specialised_disk_has_no_seed_and_nobody_is_told() {
    let mut sim = without_medium();
    imds_says(&mut sim, "specialised-disk");
    assert_eq!(sim.fetch(), 76, "{:?}", sim.log.lines);
    assert!(sim.world.run.stat(seed::SEED).is_err() && sim.told_all().is_empty());
}

#[test]
fn where_requests_are_to_be_signed_no_frame_leaves() {
    for medium in ["sample-b-keys", "proxy-agent-and-a-long-password"] {
        let mut sim = Sim::new();
        medium_says(&mut sim, medium);
        let code = sim.fetch();
        assert_eq!((sim.cloud.sent, sim.cloud.asked), (0, 0), "{medium}");
        assert_eq!((code, sim.is_fatal()), (0, false));
        // What the medium does not say is asked in the real root, once somebody signs.
        let verdict = if medium == "sample-b-keys" { "provision" } else { "wait" };
        assert_eq!(sim.value("verdict").as_deref(), Some(verdict));
    }
}

#[test]
fn a_user_whom_nobody_could_log_in_as_is_told_once() {
    let mut sim = without_medium();
    imds_says(&mut sim, "no-keys");
    assert_ne!(sim.fetch(), 0);
    assert!(sim.is_fatal());
    assert_eq!(sim.told_all(), ["neither SSH key nor password"]);
    // The report of the real root finds it told.
    sim.cloud.is_configured = true;
    sim.stage(&["report", "--early"], None, 60_000);
    assert_eq!(sim.told_all().len(), 1);
}

/// CVE-2024-6174: whoever answers for another VM does not choose who administers this one.
#[test]
fn another_vms_document_is_not_used() {
    let mut sim = Sim::new();
    imds_says(&mut sim, "other-vm");
    assert_eq!(sim.fetch(), 0, "the medium is enough");
    assert_eq!(sim.value("user/name").as_deref(), Some("opsadmin"), "the medium's");
    assert_eq!(sim.value("user/authorized-keys"), None);
    assert_eq!(sim.value("failure").as_deref(), Some("invalid IMDS metadata for key=compute.vmId"));
    let mut sim = without_medium();
    imds_says(&mut sim, "other-vm");
    assert_ne!(sim.fetch(), 0);
    assert_eq!(sim.value("user/name"), None);
    assert_eq!(sim.told_all(), ["invalid IMDS metadata for key=compute.vmId"]);
}

#[test]
fn a_fatal_verdict_that_the_wireserver_does_not_take_is_said_and_kept_for_the_real_root() {
    let mut sim = without_medium();
    imds_says(&mut sim, "no-keys");
    sim.cloud.wire = std::vec!["HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"];
    assert_ne!(sim.fetch(), 0);
    assert!(
        sim.troubles().any(|line| line.contains("the platform could not be told")),
        "{:?}",
        sim.log.lines
    );
    assert_eq!(sim.value("failure").as_deref(), Some("neither SSH key nor password"));
    sim.cloud.wire = std::vec!["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"];
    let before = sim.told_all().len();
    sim.stage(&["persist", "--root", "/sysroot"], None, 60_000);
    sim.stage(&["apply"], None, 300_000);
    sim.cloud.is_configured = true;
    sim.stage(&["report"], None, 60_000);
    assert_eq!(sim.told_all()[before..], ["neither SSH key nor password"], "{:?}", sim.log.lines);
}

#[test]
fn without_a_route_to_imds_a_good_medium_costs_no_time_and_leaves_no_warning() {
    let mut sim = Sim::new();
    medium_says(&mut sim, "stack-hub");
    sim.cloud.offer = stack_hub;
    let begin_us = sim.clock.now.get();
    assert_eq!(sim.fetch(), 0, "{:?}", sim.log.lines);
    assert!(sim.clock.now.get() - begin_us < 2_000_000, "{:?}", sim.log.lines);
    assert_eq!((sim.cloud.asked, sim.value("failure"), sim.troubles().count()), (0, None, 0));
    assert_eq!(sim.value("hostname").as_deref(), Some("hub-vm-01"));
}

#[test]
fn without_a_route_to_imds_it_is_asked_where_the_medium_is_not_enough() {
    let mut sim = without_medium();
    sim.cloud.offer = stack_hub;
    assert_eq!(sim.fetch(), 0, "{:?}", sim.log.lines);
    assert_eq!((sim.cloud.asked, sim.value("user/name").as_deref()), (1, Some("azureuser")));
}

#[test]
fn a_foreign_wireserver_is_not_in_the_seed() {
    let mut sim = Sim::new();
    sim.cloud.offer = foreign;
    assert_eq!(sim.fetch(), 0);
    assert_eq!(sim.value("wireserver/address"), None);
    assert!(sim.troubles().any(|line| line.contains("that is not Azure's")), "{:?}", sim.log.lines);
}
