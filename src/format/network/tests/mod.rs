//! What cloud-init's renderers made of the same networks, compared by meaning; and: a seed's form loses nothing.

use super::{Plan, ifupdown, netplan, network_manager, networkd, seed};
use crate::facts::network::{ALL, Network};
use crate::format::text::Out;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

mod cases;
mod meaning;
mod properties;

type Emit<'e> = &'e dyn Fn(&mut Out<'_>) -> crate::error::Result<()>;

pub(crate) fn text(emit: Emit<'_>) -> String {
    let mut buf = vec![0; 64 * 1024];
    let mut out = Out::new(too_many!("test"), &mut buf);
    emit(&mut out).unwrap();
    String::from_utf8(out.as_bytes().to_vec()).unwrap()
}

/// Files by path.
type Files = BTreeMap<String, String>;

/// All files for one software.
fn rendered(plan: &Plan<'_>, renderer: &str) -> Files {
    let mut files = Files::new();
    let mut add = |name: String, emit: Emit<'_>| _ = files.insert(name, text(emit));
    match renderer {
        "eni" => add("etc/network/interfaces".into(), &|out| ifupdown::put(plan, out)),
        "netplan" => add("etc/netplan/90-preroot.yaml".into(), &|out| netplan::put(plan, out)),
        _ => {
            for at in plan.network.positions() {
                let label = plan.label(at);
                match renderer {
                    "network_manager" => {
                        add(format!("{label}.nmconnection"), &|out| network_manager::put(plan, at, out))
                    }
                    _ => {
                        if networkd::has_netdev(plan, at) {
                            add(format!("{label}.netdev"), &|out| networkd::put_netdev(plan, at, out));
                        }
                        add(format!("{label}.network"), &|out| networkd::put_network(plan, at, out));
                    }
                }
            }
        }
    }
    files
}

fn seed_files(network: &Network) -> Vec<String> {
    let file = |at| {
        let mut text = String::new();
        seed::emit(network, at, &mut |line| {
            text.push_str(core::str::from_utf8(line).unwrap());
            Ok(())
        })
        .unwrap();
        text
    };
    network.positions().chain([ALL]).map(file).collect()
}

fn of_seed(files: &[String]) -> crate::error::Result<Network> {
    let mut network = Network::new();
    let (all, links) = files.split_last().unwrap();
    for (file, at) in links.iter().zip(0..) {
        seed::parse(file, at, &mut network)?;
    }
    seed::parse(all, ALL, &mut network)?;
    network.check().map(|()| network)
}
