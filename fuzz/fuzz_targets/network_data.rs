//! network_data.json: no cut changes the outcome, references lead somewhere, and what is written has no line too many.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::{Error, Rule};
use preroot::facts::network::{LinkName, Network};
use preroot::format::network::{Plan, ifupdown, netplan, network_manager, networkd};
use preroot::format::network_data::NetworkDataReader;
use preroot::format::text::Out;

static FULL: Rule = Rule::new(b"ttest\0");

fn read(document: &[u8], step: usize) -> Result<(Box<Network>, usize), Error> {
    let (mut reader, mut network) = (NetworkDataReader::new(), Box::new(Network::new()));
    let pushed = document.chunks(step).try_for_each(|chunk| reader.push(chunk, &mut network));
    let outcome = pushed.and_then(|()| reader.finish(&mut network));
    assert!(outcome.is_ok() || network.is_empty());
    Ok((network, outcome?.first.len()))
}

/// Each file is UTF-8 and each line one of those that we write.
fn look(emit: &dyn Fn(&mut Out<'_>) -> preroot::error::Result<()>, is_ours: fn(&str) -> bool) {
    let mut buf = vec![0; 64 * 1024];
    let mut out = Out::new(&FULL, &mut buf);
    if emit(&mut out).is_err() {
        return;
    }
    let text = core::str::from_utf8(out.as_bytes()).unwrap();
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#') || is_ours(line)), "{text}");
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, 1));
    assert_eq!(whole, read(data, 7));
    let Ok((network, _)) = whole else { return };
    network.check().unwrap();
    for is_there in [true, false] {
        let plan = Plan::new(&network, &mut |mac| {
            LinkName::parse(&format!("eth{}", mac.0[5])).ok().filter(|_| is_there)
        });
        let is_ini = |line: &str| line.contains('=') || (line.starts_with('[') && line.ends_with(']'));
        for at in network.positions() {
            look(&|out| networkd::put_network(&plan, at, out), is_ini);
            look(&|out| networkd::put_netdev(&plan, at, out), is_ini);
            look(&|out| networkd::put_link(&plan, at, out), is_ini);
            look(&|out| network_manager::put(&plan, at, out), is_ini);
        }
        let is_stanza = |line: &str| ["auto ", "iface ", "    "].iter().any(|start| line.starts_with(start));
        look(&|out| ifupdown::put(&plan, out), is_stanza);
        look(&|out| netplan::put(&plan, out), |line| line == "network:" || line.starts_with("  "));
    }
});
