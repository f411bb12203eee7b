//! Which network does preroot read in an instance document of IMDS, as netplan has it? tests/oracle/imds_network.py makes
//! the documents, starts this, and compares with what cloud-init makes of them.
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use preroot::facts::Facts;
use preroot::facts::network::{LinkName, MacAddr, Network};
use preroot::format::network::{Plan, netplan};
use preroot::format::text::Out;
use preroot::source::azure_imds::ImdsReader;
use std::path::Path;

static FULL: preroot::error::Rule = preroot::error::Rule::new(b"ttest\0");

fn text(network: &Network) -> String {
    let mut name = |mac: MacAddr| {
        let at =
            network.positions().find(|at| network.link(*at).is_some_and(|link| link.mac == Some(mac)))?;
        LinkName::parse(&format!("eth{at}")).ok()
    };
    let mut plan = Plan::new(network, &mut name);
    network.positions().for_each(|at| plan.set_synthetic(at));
    let mut buf = vec![0; 64 * 1024];
    let mut out = Out::new(&FULL, &mut buf);
    netplan::put(&plan, &mut out).unwrap();
    String::from_utf8(out.as_bytes().to_vec()).unwrap()
}

#[test]
#[ignore = "tests/oracle/imds_network.py runs it"]
fn every_document_becomes_a_file_of_netplan() {
    let directory = std::env::var("PREROOT_IMDS_CASES").unwrap();
    let directory = Path::new(&directory);
    let primaries = std::fs::read_to_string(directory.join("primaries")).unwrap();
    let (mut reader, mut facts) = (Box::new(ImdsReader::new()), Box::new(Facts::new()));
    for (n, primary) in primaries.lines().enumerate() {
        let document = std::fs::read(directory.join(format!("{n}.json"))).unwrap();
        reader.reset();
        *facts = Facts::new();
        reader.push(&document, &mut |_| Ok(())).unwrap();
        let learned = reader.finish(&mut facts, MacAddr::parse(primary).ok().map(|mac| mac.0)).unwrap();
        let fault = learned.fault.map(|error| format!("# {}\n", error.reason())).unwrap_or_default();
        std::fs::write(directory.join(format!("{n}.yaml")), fault + &text(&facts.network)).unwrap();
    }
}
