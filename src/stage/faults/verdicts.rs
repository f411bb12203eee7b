//! What does `fetch --online` make of what medium, IMDS and lease say together? One kind of VM each; faults have their own
//! table.

use super::Sim;
use super::rows::{imds_says, medium_says};
use super::sim::Machine;
use crate::format::dhcp::tests::{foreign, stack_hub};
use crate::seed;
use crate::stage::persist::FIRST_BOOT;
use crate::sys::{Dir as _, DriveStatus};
use std::string::String;
use std::vec::Vec;

impl Machine {
    /// The two halves of fetch; how the second ended.
    fn fetch(&self) -> u8 {
        self.stage(&["fetch", "--offline"]);
        self.run.clone().put(FIRST_BOOT, "");
        self.stage(&["fetch", "--online"])
    }

    fn value(&self, name: &str) -> Option<String> {
        self.run.text(&std::format!("seed/{name}")).map(|text| text.trim_end().into())
    }

    /// What the wireserver took.
    fn told_all(&self) -> Vec<String> {
        self.told().0.into_iter().map(|(_, text)| text).collect()
    }

    fn is_fatal(&self) -> bool {
        seed::load_context(&mut self.run.clone(), seed::SEED).unwrap().verdict == seed::Verdict::Fail
    }

    fn said(&self) -> String {
        std::format!("{:?}", self.seen.borrow().lines)
    }

    fn says(&self, text: &str) -> bool {
        self.troubles().iter().any(|(_, line)| line.contains(text))
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
        let sim = sim.switch_on();
        assert_eq!(sim.fetch(), 0, "{}", sim.said());
        assert_eq!(sim.value("azure/pre-provisioning").as_deref(), Some("savable"));
        assert!(sim.told_all().is_empty() && !sim.is_fatal());
    }
}

#[test]
fn a_specialised_disk_has_no_seed_and_nobody_is_told() {
    let mut sim = without_medium();
    imds_says(&mut sim, "specialised-disk");
    let sim = sim.switch_on();
    assert_eq!(sim.fetch(), 76, "{}", sim.said());
    assert!(sim.run.clone().stat(seed::SEED).is_err() && sim.told_all().is_empty());
}

#[test]
fn where_requests_are_to_be_signed_no_frame_leaves() {
    for medium in ["sample-b-keys", "proxy-agent-and-a-long-password"] {
        let mut sim = Sim::new();
        medium_says(&mut sim, medium);
        let sim = sim.switch_on();
        let code = sim.fetch();
        assert_eq!((sim.cloud.borrow().sent, sim.cloud.borrow().asked), (0, 0), "{medium}");
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
    let sim = sim.switch_on();
    assert_ne!(sim.fetch(), 0);
    assert!(sim.is_fatal());
    assert_eq!(sim.told_all(), ["neither SSH key nor password"]);
    // The report of the real root finds it told.
    sim.cloud.borrow_mut().is_configured = true;
    sim.stage(&["report", "--early"]);
    assert_eq!(sim.told_all().len(), 1);
}

/// CVE-2024-6174: whoever answers for another VM does not choose who administers this one.
#[test]
fn another_vms_document_is_not_used() {
    let mut sim = Sim::new();
    imds_says(&mut sim, "other-vm");
    let sim = sim.switch_on();
    assert_eq!(sim.fetch(), 0, "the medium is enough");
    assert_eq!(sim.value("user/name").as_deref(), Some("opsadmin"), "the medium's");
    assert_eq!(sim.value("user/authorized-keys"), None);
    assert_eq!(sim.value("failure").as_deref(), Some("invalid IMDS metadata for key=compute.vmId"));
    let mut sim = without_medium();
    imds_says(&mut sim, "other-vm");
    let sim = sim.switch_on();
    assert_ne!(sim.fetch(), 0);
    assert_eq!(sim.value("user/name"), None);
    assert_eq!(sim.told_all(), ["invalid IMDS metadata for key=compute.vmId"]);
}

#[test]
fn a_fatal_verdict_that_the_wireserver_does_not_take_is_said_and_kept_for_the_real_root() {
    let mut sim = without_medium();
    imds_says(&mut sim, "no-keys");
    sim.cloud.wire = std::vec!["HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"];
    let sim = sim.switch_on();
    assert_ne!(sim.fetch(), 0);
    assert!(sim.says("the platform could not be told"), "{:?}", sim.said());
    assert_eq!(sim.value("failure").as_deref(), Some("neither SSH key nor password"));
    sim.cloud.borrow_mut().wire = std::vec!["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"];
    let before = sim.told_all().len();
    sim.stage(&["persist", "--root", "/sysroot"]);
    sim.is_switched.set(true);
    sim.root.clone().set_read_only(false);
    sim.stage(&["apply"]);
    sim.cloud.borrow_mut().is_configured = true;
    sim.stage(&["report"]);
    assert_eq!(sim.told_all()[before..], ["neither SSH key nor password"], "{}", sim.said());
}

#[test]
fn without_a_route_to_imds_a_good_medium_costs_no_time_and_leaves_no_warning() {
    let mut sim = Sim::new();
    medium_says(&mut sim, "stack-hub");
    sim.cloud.offer = stack_hub;
    let sim = sim.switch_on();
    let begin_us = sim.now.get();
    assert_eq!(sim.fetch(), 0, "{}", sim.said());
    assert!(sim.now.get() - begin_us < 2_000_000, "{}", sim.said());
    assert_eq!((sim.cloud.borrow().asked, sim.value("failure"), sim.troubles().len()), (0, None, 0));
    assert_eq!(sim.value("hostname").as_deref(), Some("hub-vm-01"));
}

#[test]
fn without_a_route_to_imds_it_is_asked_where_the_medium_is_not_enough() {
    let mut sim = without_medium();
    sim.cloud.offer = stack_hub;
    let sim = sim.switch_on();
    assert_eq!(sim.fetch(), 0, "{}", sim.said());
    assert_eq!((sim.cloud.borrow().asked, sim.value("user/name").as_deref()), (1, Some("azureuser")));
}

#[test]
fn a_foreign_wireserver_is_not_in_the_seed() {
    let mut sim = Sim::new();
    sim.cloud.offer = foreign;
    let sim = sim.switch_on();
    assert_eq!(sim.fetch(), 0);
    assert_eq!(sim.value("wireserver/address"), None);
    assert!(sim.says("that is not Azure's"), "{}", sim.said());
}
