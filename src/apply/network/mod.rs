//! The network that the platform describes, in the files of what the image brings its interfaces up with. Only an image
//! can tell what that is: the files are looked for that its packages and its maker left.
//!
//! This module runs before network-pre.target, so whatever reads the files reads these. netplan's generator ran before
//! it; netplan is told to look again. What the image's own files say of the same links is set aside meanwhile.

mod cards;
mod files;

use super::replace::{self, Ownership, Target};
use super::{Object, PathText, Root, State, exists, join, named, next_name, read};
use crate::error::{Errno, Result};
use crate::facts::Facts;
use crate::facts::network::{MacAddr, Network};
use crate::format::network::{OURS, Plan, interfaces, put_resolv_conf, switch};
use crate::format::text::{Out, lines};
use crate::limits;
use crate::sys::{Dir, FileType, Owner};
use files::{FILES, Files, GiveWay, OTHERS};

/// What brings interfaces up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Software {
    Netplan,
    Networkd,
    NetworkManager,
    Ifupdown,
}

/// How it shows that the image uses it, the surest first: netplan writes for two of the others, a unit that is enabled
/// says more than one that is installed.
struct Trace {
    software: Software,
    /// Its word in the configuration.
    word: &'static str,
    /// Any of these is there.
    paths: &'static [&'static str],
    /// And this.
    also: &'static str,
}

const TRACES: &[Trace] = &[
    Trace { software: Software::Netplan, word: "netplan", paths: NETPLAN, also: "etc" },
    Trace {
        software: Software::Networkd,
        word: "networkd",
        paths: &[
            "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
            "usr/lib/systemd/system/multi-user.target.wants/systemd-networkd.service",
            "etc/systemd/system/dbus-org.freedesktop.network1.service",
        ],
        also: "etc/systemd",
    },
    Trace {
        software: Software::NetworkManager,
        word: "networkmanager",
        paths: &[
            "etc/systemd/system/multi-user.target.wants/NetworkManager.service",
            "usr/lib/systemd/system/multi-user.target.wants/NetworkManager.service",
            "etc/systemd/system/dbus-org.freedesktop.nm-dispatcher.service",
            "etc/runlevels/default/networkmanager",
        ],
        also: "etc/NetworkManager",
    },
    Trace {
        software: Software::Ifupdown,
        word: "ifupdown",
        // Red Hat's scripts have an ifup too, and no such directory.
        paths: IFUP,
        also: "etc/network",
    },
];
const IFUP: &[&str] = &["usr/sbin/ifup", "sbin/ifup", "usr/bin/ifup", "bin/ifup"];
const BUSYBOX: &[&str] = &["bin/busybox", "usr/bin/busybox"];
const NETPLAN: &[&str] = &["usr/sbin/netplan", "sbin/netplan"];
const INTERFACES: &str = "etc/network/interfaces";
const RESOLV_CONF: &str = "etc/resolv.conf";
const RESOLVCONF: &[&str] = &["/sbin/resolvconf", "/usr/sbin/resolvconf", "/usr/bin/resolvconf"];
const TAKE_BACK: GiveWay = |old, _, out| interfaces::take_back(old, out);
const CLOUD_CFG: &str = "etc/cloud/cloud.cfg";
const CLOUD_CFG_D: &str = "etc/cloud/cloud.cfg.d";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    if !facts.network.is_empty() {
        if let Some(why) = refusal(root) {
            return Ok(State::Foreign { why });
        }
        cards::wait(&facts.network, root);
        if choose(root)?.is_none() {
            return Ok(State::Foreign {
                why: "nothing is known that brings up this image's interfaces; Network.Config names it",
            });
        }
    }
    Ok(if settle(facts, root, false)? { State::Missing } else { State::Satisfied })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    settle(facts, root, true)?;
    if facts.network.is_empty() || choose(root)? != Some(Software::Netplan) || !root.is_live() {
        return Ok(());
    }
    let Some(netplan) = root.program(&["/usr/sbin/netplan", "/sbin/netplan"]) else { return Ok(()) };
    let refused = malformed!("netplan", "netplan refuses the configuration of this VM's network");
    super::run_of_image(root.system, root.path, &[netplan, "generate"], object!("netplan"), refused)
}

/// Tells of each network card that is asked for and not there.
pub(crate) fn missing(network: &Network, host: &mut dyn Dir, tell: &mut dyn FnMut(MacAddr)) {
    let plan = Plan::new(network, &mut |mac| cards::find(host, mac));
    let missing = network.positions().filter(|at| plan.is_missing(*at));
    missing.filter_map(|at| plan.card_mac(at)).for_each(tell);
}

/// Why nothing is written, whatever the platform says.
fn refusal(root: &mut Root<'_>) -> Option<&'static str> {
    match root.config.network() {
        "disabled" => return Some("Network.Config=disabled"),
        "auto" => {}
        _ => return None,
    }
    let is_said = |dir: &mut dyn Dir, path: &str, buf: &mut [u8], is: fn(&[u8]) -> bool| {
        dir.read(path, buf).is_ok_and(|n| buf.get(..n).is_some_and(is))
    };
    if is_said(root.host, "proc/cmdline", root.buffers.old, switch::is_disabled_by) {
        return Some("network-config=disabled on the kernel's command line");
    }
    let mut is_disabled = is_said(root.dir, CLOUD_CFG, root.buffers.old, switch::is_disabled);
    let mut last = PathText::new();
    while let Some(name) = next_name(root.dir, CLOUD_CFG_D, &last) {
        if let (true, Ok(path)) = (name.ends_with(".cfg"), super::below(CLOUD_CFG_D, &name)) {
            is_disabled |= is_said(root.dir, &path, root.buffers.old, switch::is_disabled);
        }
        last = name;
    }
    is_disabled.then_some("cloud-init's configuration has the network disabled")
}

fn choose(root: &mut Root<'_>) -> Result<Option<Software>> {
    let word = root.config.network();
    for trace in TRACES {
        let has_one = || -> Result<bool> {
            let mut is_there = false;
            for path in trace.paths {
                is_there |= exists(root.dir, path)?;
            }
            Ok(is_there && exists(root.dir, trace.also)?)
        };
        if trace.word == word || (word == "auto" && { has_one }()?) {
            return Ok(Some(trace.software));
        }
    }
    Ok(None)
}

/// Brings every file to what it shall be, or only looks. True when something was, or is, another.
#[inline(never)]
fn settle(facts: &Facts, root: &mut Root<'_>, acts: bool) -> Result<bool> {
    let network = &facts.network;
    let software = if network.is_empty() { None } else { choose(root)? };
    let mut plan = cards::plan(network, root.host);
    plan.is_busybox = software == Some(Software::Ifupdown) && is_busybox(root.dir);
    let mut differs = false;
    for files in FILES {
        let is_used = software.is_some_and(|software| files.readers.contains(&software));
        if is_used {
            for at in network.positions().filter(|at| (files.has)(&plan, *at)) {
                let path = join(&[files.directory, &files.name(&plan, at)?])?;
                let target = Target {
                    path: &path,
                    object: files.object,
                    ownership: Ownership::Force(Owner::root(files.mode)),
                };
                differs |= put(root, target, acts, &mut |out| (files.put)(&plan, at, out))?;
            }
        }
        differs |= drop_others(root.dir, files, &plan, is_used, acts)?;
    }
    differs |= make_way(root, &plan, software, acts)?;
    differs |= settle_resolv_conf(root, network, software, acts)?;
    Ok(differs)
}

/// True where the image's ifup is busybox: a link to it, or the same file under another name.
fn is_busybox(dir: &mut dyn Dir) -> bool {
    let Some((path, stat)) = IFUP.iter().find_map(|path| Some((path, dir.stat(path).ok()?))) else {
        return false;
    };
    let mut buf = [0; limits::PATH];
    let target = dir.read_link(path, &mut buf).ok().and_then(|n| buf.get(..n)).unwrap_or_default();
    let is_it = |path: &&str| dir.stat(path).is_ok_and(|other| other == stat);
    target.windows(7).any(|part| part == b"busybox")
        || stat.file_type == FileType::File && BUSYBOX.iter().any(is_it)
}

/// Writes a file, or only looks whether it is as it shall be.
fn put(
    root: &mut Root<'_>,
    target: Target<'_>,
    acts: bool,
    emit: &mut dyn FnMut(&mut Out<'_>) -> Result<()>,
) -> Result<bool> {
    let old = read(root.dir, target.path, target.object, root.buffers.old)?;
    let mut out = Out::new(target.object.full, root.buffers.new);
    emit(&mut out)?;
    if old == out.as_bytes() {
        return Ok(false);
    }
    if acts {
        let directory = super::split(target.path).0;
        match root.dir.make_dir(directory, Owner::root(0o755)) {
            Err(error) if error.errno() != Some(Errno::EXIST) => return Err(named(target.object)(error)),
            _ => {}
        }
        replace::write(root.dir, target, out.as_bytes(), &mut |_, _| Ok(()))?;
    }
    Ok(true)
}

/// Files of ours for links that are no more, or for other software: another VM's, or of another configuration.
fn drop_others(dir: &mut dyn Dir, files: &Files, plan: &Plan<'_>, is_used: bool, acts: bool) -> Result<bool> {
    let mut differs = false;
    let mut last = PathText::new();
    while let Some(name) = next_name(dir, files.directory, &last) {
        let is_ours = name.starts_with(files.prefix) && name.ends_with(files.suffix);
        let mut wanted = plan.network.positions().filter(|at| is_used && (files.has)(plan, *at));
        let is_wanted = wanted.any(|at| files.name(plan, at).is_ok_and(|wanted| wanted == name));
        if is_ours && !is_wanted {
            differs = true;
            if acts {
                let path = join(&[files.directory, &name])?;
                dir.remove(&path)
                    .and_then(|()| dir.sync_dir(files.directory))
                    .map_err(named(files.object))?;
            }
        }
        last = name;
    }
    Ok(differs)
}

/// The image's own files say nothing of our interfaces, and /etc/network/interfaces reads our file; or each says again
/// what it said.
fn make_way(root: &mut Root<'_>, plan: &Plan<'_>, software: Option<Software>, acts: bool) -> Result<bool> {
    let give_way = |reader, way| if software == Some(reader) { way } else { TAKE_BACK };
    let mut differs = false;
    if software == Some(Software::Ifupdown) || exists(root.dir, INTERFACES)? {
        let way = give_way(Software::Ifupdown, interfaces::give_way);
        differs |= rewrite(root, plan, INTERFACES, object!(INTERFACES), way, acts)?;
    }
    for others in OTHERS {
        let mut last = PathText::new();
        while let Some(name) = next_name(root.dir, others.directory, &last) {
            let path = join(&[others.directory, &name])?;
            let is_file = root.dir.stat(&path).is_ok_and(|stat| stat.file_type == FileType::File);
            if is_file && name.as_str() != others.ours && name.ends_with(others.suffix) {
                let way = give_way(others.reader, others.give_way);
                differs |= rewrite(root, plan, &path, others.object, way, acts)?;
            }
            last = name;
        }
    }
    Ok(differs)
}

fn rewrite(
    root: &mut Root<'_>,
    plan: &Plan<'_>,
    path: &str,
    object: &'static Object,
    way: GiveWay,
    acts: bool,
) -> Result<bool> {
    let old = read(root.dir, path, object, root.buffers.old)?;
    let mut out = Out::new(object.full, root.buffers.new);
    way(old, plan, &mut out)?;
    if old == out.as_bytes() {
        return Ok(false);
    }
    if acts {
        let target = Target::root(path, object, 0o644);
        replace::write(root.dir, target, out.as_bytes(), &mut |_, _| Ok(()))?;
    }
    Ok(true)
}

/// Ours where nobody else writes it: it names no server, is no link to somebody's, and there is no resolvconf; ifupdown
/// and networkd tell servers to others only. Ours that nobody wants any more goes.
fn settle_resolv_conf(
    root: &mut Root<'_>,
    network: &Network,
    software: Option<Software>,
    acts: bool,
) -> Result<bool> {
    if root.dir.stat(RESOLV_CONF).is_ok_and(|stat| stat.file_type != FileType::File) {
        return Ok(false);
    }
    let has_resolvconf = root.program(RESOLVCONF).is_some();
    let text = read(root.dir, RESOLV_CONF, object!(RESOLV_CONF), root.buffers.old)?;
    let is_ours = text.starts_with(OURS);
    let has_server = lines(text).any(|line| line.starts_with(b"nameserver"));
    let is_silent = matches!(software, Some(Software::Networkd | Software::Ifupdown));
    if is_silent && !network.dns.is_empty() && !has_resolvconf && (is_ours || !has_server) {
        let target = Target::root(RESOLV_CONF, object!(RESOLV_CONF), 0o644);
        return put(root, target, acts, &mut |out| put_resolv_conf(network, out));
    }
    if is_ours && acts {
        let gone = root.dir.remove(RESOLV_CONF).and_then(|()| root.dir.sync_dir("etc"));
        gone.map_err(named(object!(RESOLV_CONF)))?;
    }
    Ok(is_ours)
}

#[cfg(test)]
mod tests;
