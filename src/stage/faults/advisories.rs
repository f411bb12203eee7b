//! Does what went wrong in others' agents (CVE numbers in `docs/testing.md`) go right in a whole boot?

use super::rows::{fixture, http, imds_says, medium_says};
use super::sim::Machine;
use super::{Sim, format};
use crate::stage::fetch::from_medium::tests::medium_with;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

/// In two words, so that none is found by chance.
const CANARY: &str = "c4n4ry-S3cret";
/// The same, in base64.
const FOLDED: &str = "YzRuNHJ5LVMzY3JldA==";

/// Everything that somebody else could read of it: console, KVP, what left the machine.
fn told(machine: &Machine) -> String {
    let mut text = format!("{:?} {:?}", machine.seen.borrow().lines, machine.records());
    for asked in &machine.cloud.borrow().requests {
        text.push_str(&asked.text);
    }
    text
}

fn has_canary(text: &str) -> bool {
    text.contains(CANARY) || text.contains(FOLDED.trim_end_matches('='))
}

/// Files and directories below /run/preroot and the root that the boot made or changed, as mode and what they are.
fn made(machine: &Machine, before: &[String]) -> Vec<(String, u32, String)> {
    let nodes = machine.run.dump().into_iter().chain(machine.root.dump());
    let mut made = Vec::new();
    for (path, node) in nodes {
        let (mode, rest) = node.split_once(' ').unwrap();
        if !rest.contains(" -> ") && !before.contains(&format!("{path} {node}")) {
            made.push((path, u32::from_str_radix(mode, 8).unwrap(), rest.into()));
        }
    }
    made
}

/// CVE-2019-0816: an agent made every certificate of the goal state a key of the administrator's.
#[test]
fn certificates_of_the_fabric_are_nobodys_keys() {
    let goal = String::from_utf8(fixture("azure-goalstate", ".", "bom-crlf.xml")).unwrap();
    let url = "<Certificates>http://168.63.129.16:80/machine/c/i?comp=certificates</Certificates>";
    let goal = goal.replace("<ConfigName>", &(url.repeat(5) + "<ConfigName>"));
    let mut sim = Sim::new();
    sim.cloud.wire = std::vec![http("404 Not Found", ""), http("200 OK", &goal), http("200 OK", "")];
    let machine = sim.switch_on();
    machine.boot();
    let dump = machine.root.dump();
    let lists: Vec<_> = dump.iter().filter(|(path, _)| path.ends_with("/authorized_keys")).collect();
    let [(_, keys)] = lists[..] else { panic!("{lists:?}") };
    assert_eq!(keys.matches("ssh-ed25519 ").count(), 1, "{keys}");
    assert_eq!(keys.lines().count(), 1, "{keys}");
    let asked = &machine.cloud.borrow().requests;
    assert!(asked.iter().any(|asked| asked.text.contains("comp=goalstate")), "{asked:?}");
    assert!(asked.iter().all(|asked| !asked.text.contains("certificates")), "{asked:?}");
}

/// CVE-2021-3429, CVE-2022-2084: passwords and hashes in logs, or in the complaint about a document.
#[test]
fn a_secret_in_a_broken_document_is_never_said() {
    let medium = String::from_utf8(fixture("ovf", "sample-a-password", "input.xml")).unwrap();
    let password = "P@ss w0rd&lt;&amp;&gt;\"é";
    let with = |value: &str| medium.replace(password, value);
    let custom = format!("<UserPassword>{CANARY}</UserPassword><CustomData>{FOLDED}</CustomData>");
    let whole = with(CANARY).replace(&format!("<UserPassword>{CANARY}</UserPassword>"), &custom);
    let mut media = std::vec![
        whole.clone(),
        with(&format!("{CANARY}&bad;")),
        with(&format!("{CANARY}&#10;root:x")),
        with(&CANARY.repeat(200)),
        with(&format!("<x>{CANARY}</x>")),
        whole.replace(FOLDED, &format!("{FOLDED}*{CANARY}")),
        whole.replace("<CustomData>", "<CustomData>!"),
        whole.replace("opsadmin", &format!("{CANARY}:0:0")),
        whole.replace("edge-vm-01", &format!("{CANARY} {CANARY}")),
        whole.replace("<?xml", &format!("<!DOCTYPE x [<!ENTITY y '{CANARY}'>]><?xml")),
        whole.replace("</UserPassword>", &format!("</UserPassword><UserPassword>{CANARY}</UserPassword>")),
    ];
    media.extend((1..12).map(|part| whole[..whole.len() * part / 12].into()));
    let instance = String::from_utf8(fixture("imds", "instance", "input.json")).unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ737noxRZzNn1DPgm2l/H8c4XEOKkjnu6ozI2mIuO/V";
    let with = |from: &str, to: &str| {
        assert!(instance.contains(from), "{from}");
        instance.replace(from, to)
    };
    let mut documents = std::vec![
        with("\"computerName\"", &format!("\"adminPassword\":\"{CANARY}\",\"computerName\"")),
        with("\"adminUsername\":\"azureuser\"", &format!("\"adminUsername\": \"{CANARY}:x\"")),
        with("\"adminUsername\":\"azureuser\"", &format!("\"adminUsername\":[\"{CANARY}\"]")),
        with(key, &format!("-----BEGIN PRIVATE KEY----- {CANARY}")),
        with(key, &format!("{CANARY} {FOLDED}")),
        with("\"userData\":\"", &format!("\"userData\":\"{FOLDED}*{CANARY}")),
        with("\"userData\":\"", &format!("\"userData\":{{\"{CANARY}\": 1}}, \"x\": \"")),
        with("\"compute\"", &format!("\"{CANARY}\": \"{CANARY}\\u12\", \"compute\"")),
    ];
    let canaried = with("\"userData\":\"", &format!("\"userData\":\"{FOLDED}"));
    documents.extend((1..8).map(|part| canaried[..canaried.len() * part / 8].into()));
    let cases = media.iter().map(|medium| (medium.as_str(), instance.as_str()));
    let cases = cases.chain(documents.iter().map(|document| (medium.as_str(), document.as_str())));
    for (medium, document) in cases {
        let mut sim = Sim::new();
        sim.insert(medium_with(medium.as_bytes()));
        sim.cloud.answers = std::vec![http("200 OK", document)];
        let machine = sim.switch_on();
        machine.boot();
        let told = told(&machine);
        assert!(!has_canary(&told), "{told}\n{medium}\n{document}");
        for (path, mode, node) in made(&machine, &[]) {
            assert!(!has_canary(&node) || mode & 0o077 == 0, "{path} {mode:o}");
        }
    }
}

/// CVE-2023-1786, CVE-2024-11584: seeds and sockets that anybody may read, or write.
#[test]
fn nobody_else_reads_a_secret_or_writes_anything_at_any_time() {
    let mut sim = Sim::new();
    medium_says(&mut sim, "sample-a-password");
    imds_says(&mut sim, "instance");
    let before: Rc<Vec<String>> =
        Rc::new(sim.world.root.dump().iter().map(|(path, node)| format!("{path} {node}")).collect());
    let look = {
        let before = Rc::clone(&before);
        move |machine: &Machine| {
            let made = made(machine, &before);
            for (path, mode, node) in &made {
                assert_eq!(mode & 0o022, 0, "{path} {mode:o}");
                assert!(!node.contains("$6$") || mode & 0o077 == 0, "{path} {mode:o}");
            }
            made.len()
        }
    };
    let early = look.clone();
    sim.at_switch_root = Some(Rc::new(move |machine, _| assert!(early(machine) > 10)));
    let machine = sim.switch_on();
    machine.boot();
    assert!(look(&machine) > 10);
    assert_eq!(machine.told().0.len(), 1, "{:?}", machine.told());
}
