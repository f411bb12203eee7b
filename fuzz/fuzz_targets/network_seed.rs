//! network/N of a seed: what is read comes back the same once written, and /etc/network/interfaces makes room once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preroot::error::{Result, Rule};
use preroot::facts::network::{ALL, Network};
use preroot::format::network::{Plan, interfaces, seed, switch};
use preroot::format::text::Out;

static FULL: Rule = Rule::new(b"ttest\0");

fn read(files: &[&str]) -> Result<Box<Network>> {
    let mut network = Box::new(Network::new());
    let (all, links) = files.split_last().unwrap();
    for (file, at) in links.iter().zip(0..) {
        seed::parse(file, at, &mut network)?;
    }
    seed::parse(all, ALL, &mut network)?;
    network.check().map(|()| network)
}

fn written(emit: &dyn Fn(&mut Out<'_>) -> Result<()>) -> Option<Vec<u8>> {
    let mut buf = vec![0; 64 * 1024];
    let mut out = Out::new(&FULL, &mut buf);
    emit(&mut out).ok()?;
    Some(out.as_bytes().to_vec())
}

fuzz_target!(|text: &str| {
    let _ = (switch::is_disabled(text.as_bytes()), switch::is_disabled_by(text.as_bytes()));
    let files: Vec<_> = text.split("---\n").collect();
    let Ok(network) = read(&files) else { return };
    let mut again = Vec::new();
    for at in network.positions().chain([ALL]) {
        let mut file = String::new();
        seed::emit(&network, at, &mut |line| {
            file.push_str(core::str::from_utf8(line).unwrap());
            Ok(())
        })
        .unwrap();
        again.push(file);
    }
    let again: Vec<_> = again.iter().map(String::as_str).collect();
    assert_eq!(read(&again), Ok(network.clone()));
    let plan = Plan::new(&network, &mut |_| None);
    let Some(once) = written(&|out| interfaces::give_way(text.as_bytes(), &plan, out)) else { return };
    if let Some(twice) = written(&|out| interfaces::give_way(&once, &plan, out)) {
        assert_eq!(once, twice);
    }
});
