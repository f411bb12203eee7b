//! The seed: what the initrd hands to the real root, one value per file.
//!
//! It appears under `/run/preroot` by one rename and is never half there. Layout: `docs/seed-format.md`.
//! Each file is 0600 in a 0700 directory on tmpfs; values end with one newline.

use crate::error::{Errno, Result};
use crate::facts::{
    DeviceName, Fact, Facts, Hostname, InstanceId, PasswordHash, PreProvisioning, Provenance, SshKey,
    SshKeys, UserName,
};
use crate::format::dhcp::{Lease, Route};
use crate::limits;
use crate::sys::{Dir, FileType, Owner};
use core::fmt::Write;

/// The published seed below `/run/preroot`.
pub const SEED: &str = "seed";
/// The seed while it is written.
const STAGING: &str = "seed.tmp";
/// Below [`STATE`]: the same on the root.
const PENDING_STAGING: &str = "pending.tmp";
/// What `format` holds.
pub const FORMAT: &str = "1";
/// Our state directory below the root.
pub const STATE: &str = "var/lib/preroot";
/// Below the root: holds the instance id once everything was applied.
pub const PROVISIONED: &str = "var/lib/preroot/provisioned";
/// Below the root: holds the instance id once the platform took our Ready.
pub const REPORTED: &str = "var/lib/preroot/reported";
/// Decoded customData (or userData) inside a seed.
pub const CUSTOM_DATA: &str = "custom-data";

/// Every file a seed may hold, so that it can be copied and removed without trusting a directory listing.
const NAMES: &[&str] = &[
    "format",
    "platform",
    "source",
    "instance-id",
    "hostname",
    "medium",
    "failure",
    "verdict",
    "user/name",
    "user/password-hash",
    "user/password-login",
    "user/authorized-keys",
    CUSTOM_DATA,
    "azure/has-custom-data",
    "azure/wants-guest-agent",
    "azure/wants-proxy-agent",
    "azure/pre-provisioning",
    "azure/has-os-profile",
    "lease/mac",
    "lease/address",
    "lease/router",
    "lease/routes",
    "wireserver/address",
];
const DIRECTORIES: &[&str] = &["user", "azure", "lease", "wireserver"];
/// In `verdict`: report it, apply nothing.
const FAIL: &str = "fail";
/// In `verdict`: apply it. Only this word allows that.
const PROVISION: &str = "provision";
const PRIVATE_DIR: Owner = Owner::root(0o700);
const PRIVATE_FILE: Owner = Owner::root(0o600);

type PathText = heapless::String<{ limits::PATH }>;
type Line = heapless::String<128>;

/// What a seed holds beside the facts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// The optical drive the medium was read from, to be ejected after the report.
    pub medium: Option<DeviceName>,
    /// The lease of the primary NIC: `report` speaks over it again before the OS has a network. Of it the
    /// seed keeps the interface's address, ours, the router, the routes and the wireserver.
    pub lease: Option<Lease>,
    /// What went wrong on the way ([`Error::reason`] text): a fault beside a usable seed, or why it is not usable.
    pub failure: Option<heapless::String<{ limits::REASON }>>,
    /// The seed must not be applied: [`Context::failure`] says why.
    pub is_fatal: bool,
}

/// A reason as the seed holds it, cut at its capacity.
#[must_use]
pub fn failure(reason: &str) -> Option<heapless::String<{ limits::REASON }>> {
    let mut text = heapless::String::new();
    let _ = reason.chars().try_for_each(|c| text.push(c));
    Some(text)
}

fn path(base: &str, name: &str) -> Result<PathText> {
    let mut text = PathText::new();
    let separator = if base.is_empty() { "" } else { "/" };
    write!(text, "{base}{separator}{name}").map_err(|_| too_many!("path", limits::PATH))?;
    Ok(text)
}

/// Path of `pending-<id>` below the root.
///
/// # Errors
/// `TooMany`, never with a valid id.
pub fn pending(id: &InstanceId) -> Result<PathText> {
    let mut text = path(STATE, "pending-")?;
    text.push_str(id.as_str()).map_err(|_| too_many!("path", limits::PATH))?;
    Ok(text)
}

/// Starts an empty seed. A secret may only be put where it cannot reach a disk.
///
/// # Errors
/// `Unsupported` when `run` is not tmpfs or ramfs; `Os`.
pub fn begin(run: &mut dyn Dir) -> Result<()> {
    if !run.is_in_memory() {
        return Err(unsupported!("/run", "seed outside memory (tmpfs)"));
    }
    remove(run, STAGING)?;
    run.make_dir(STAGING, PRIVATE_DIR)?;
    for directory in DIRECTORIES {
        run.make_dir(&path(STAGING, directory)?, PRIVATE_DIR)?;
    }
    Ok(())
}

/// Drops the seed being written; what was published stays.
///
/// # Errors
/// `Os`.
pub fn abandon(run: &mut dyn Dir) -> Result<()> {
    remove(run, STAGING)
}

/// Appends decoded customData to the seed being written.
///
/// # Errors
/// `Os`.
pub fn spool_custom_data(run: &mut dyn Dir, chunk: &[u8]) -> Result<()> {
    let name = path(STAGING, CUSTOM_DATA)?;
    match run.append(&name, chunk) {
        Err(error) if error.is_not_found() => run.create_unsynced(&name, PRIVATE_FILE, chunk),
        outcome => outcome,
    }
}

/// Drops what was spooled: the source turned out to be unusable.
///
/// # Errors
/// `Os`.
pub fn forget_custom_data(run: &mut dyn Dir) -> Result<()> {
    ignore_missing(run.remove(&path(STAGING, CUSTOM_DATA)?))
}

/// Writes the values and makes them visible in one step. customData of an already published seed is kept
/// when nothing newer was spooled.
///
/// # Errors
/// `Os`; the old seed, if any, is untouched then.
pub fn publish(run: &mut dyn Dir, facts: &Facts, context: &Context) -> Result<()> {
    write_values(run, facts)?;
    write_context(run, context)?;
    let has_old = run.stat(SEED).is_ok();
    if !has_old {
        return run.rename(STAGING, SEED);
    }
    let spooled = run.stat(&path(STAGING, CUSTOM_DATA)?).is_ok();
    if !spooled && facts.custom_data.is_some() {
        copy_file(run, &path(SEED, CUSTOM_DATA)?, None, &path(STAGING, CUSTOM_DATA)?)?;
    }
    run.exchange(STAGING, SEED)?;
    remove(run, STAGING)
}

fn write_values(run: &mut dyn Dir, facts: &Facts) -> Result<()> {
    let mut source = heapless::String::<512>::new();
    let mut value = |name: &str, text: Option<&str>, from: Option<Provenance>| -> Result<()> {
        let Some(text) = text else { return Ok(()) };
        if let Some(from) = from {
            let full = too_many!("provenance", 512);
            writeln!(source, "{name} {}", from.word()).map_err(|_| full)?;
        }
        write_value(run, name, text)
    };
    macro_rules! fact {
        ($name:literal, $fact:expr, $text:expr) => {
            value($name, $fact.as_ref().map(|f| $text(&f.value)), $fact.as_ref().map(|f| f.from))?
        };
    }
    value("format", Some(FORMAT), None)?;
    value("platform", Some("azure"), None)?;
    fact!("instance-id", facts.instance_id, InstanceId::as_str);
    fact!("hostname", facts.hostname, Hostname::as_str);
    fact!("user/name", facts.user, UserName::as_str);
    fact!("user/password-hash", facts.password, PasswordHash::as_str);
    fact!("user/password-login", facts.password_login, truth);
    fact!("user/authorized-keys", facts.keys, SshKeys::as_str);
    fact!("azure/has-custom-data", facts.has_custom_data, truth);
    fact!("azure/wants-guest-agent", facts.wants_guest_agent, truth);
    fact!("azure/wants-proxy-agent", facts.wants_proxy_agent, truth);
    fact!("azure/pre-provisioning", facts.pre_provisioning, pre_provisioning_word);
    fact!("azure/has-os-profile", facts.has_os_profile, truth);
    if let Some(custom_data) = &facts.custom_data {
        let full = too_many!("provenance", 512);
        writeln!(source, "{CUSTOM_DATA} {}", custom_data.from.word()).map_err(|_| full)?;
    }
    write_value(run, "source", source.trim_end())
}

fn write_context(run: &mut dyn Dir, context: &Context) -> Result<()> {
    if let Some(medium) = &context.medium {
        write_value(run, "medium", medium.as_str())?;
    }
    if let Some(failure) = &context.failure {
        write_value(run, "failure", failure)?;
    }
    write_value(run, "verdict", if context.is_fatal { FAIL } else { PROVISION })?;
    let Some(lease) = &context.lease else { return Ok(()) };
    write_lease(run, lease)
}

fn write_lease(run: &mut dyn Dir, lease: &Lease) -> Result<()> {
    let mut text = heapless::String::<{ 48 * limits::ROUTES }>::new();
    let full = |_| too_many!("lease value", 48 * limits::ROUTES);
    let [a, b, c, d, e, f] = lease.mac;
    write!(text, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}").map_err(full)?;
    write_value(run, "lease/mac", &text)?;
    text.clear();
    write!(text, "{}/{}", Quad(lease.address), lease.prefix).map_err(full)?;
    write_value(run, "lease/address", &text)?;
    if let Some(router) = lease.router {
        text.clear();
        write!(text, "{}", Quad(router)).map_err(full)?;
        write_value(run, "lease/router", &text)?;
    }
    text.clear();
    for route in &lease.routes {
        writeln!(text, "{}/{} {}", Quad(route.network), route.prefix, Quad(route.gateway)).map_err(full)?;
    }
    write_value(run, "lease/routes", &text)?;
    let Some(wireserver) = lease.wireserver else { return Ok(()) };
    text.clear();
    write!(text, "{}", Quad(wireserver)).map_err(full)?;
    write_value(run, "wireserver/address", &text)
}

fn write_value(run: &mut dyn Dir, name: &str, text: &str) -> Result<()> {
    let name = path(STAGING, name)?;
    run.create_unsynced(&name, PRIVATE_FILE, text.as_bytes())?;
    if text.ends_with('\n') { Ok(()) } else { run.append(&name, b"\n") }
}

fn truth(value: &bool) -> &'static str {
    if *value { "true" } else { "false" }
}

fn pre_provisioning_word(value: &PreProvisioning) -> &'static str {
    match value {
        PreProvisioning::None => "none",
        PreProvisioning::Running => "running",
        PreProvisioning::Savable => "savable",
        PreProvisioning::OsDisk => "os-disk",
        PreProvisioning::Unknown => "unknown",
    }
}

struct Quad([u8; 4]);

impl core::fmt::Display for Quad {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a}.{b}.{c}.{d}")
    }
}

/// Refuses a seed that is not ours to trust: root-owned, 0700, of a known format.
///
/// # Errors
/// `Os(NOENT)` when there is none, `Unsupported` or `Malformed` when it must not be used.
pub fn verify(dir: &mut dyn Dir, base: &str) -> Result<()> {
    let stat = dir.stat(base)?;
    if stat.file_type != FileType::Directory {
        return Err(malformed!("seed", "seed is not a directory", 0));
    }
    if stat.uid != 0 || stat.mode & 0o077 != 0 {
        return Err(malformed!("seed", "seed is not root's alone", 0));
    }
    let mut buf = [0; 8];
    match read_value(dir, base, "format", &mut buf)? {
        Some(FORMAT) => Ok(()),
        _ => Err(unsupported!("seed", "unknown seed format")),
    }
}

/// Loads a seed (published or pending) into `facts`; every value is validated again.
/// `buf` must hold [`limits::SSH_KEYS`] bytes.
///
/// # Errors
/// `Malformed` naming the value; what was loaded before stays in `facts`.
pub fn load(dir: &mut dyn Dir, base: &str, buf: &mut [u8], facts: &mut Facts) -> Result<()> {
    let mut source_buf = [0; 512];
    let source = read_value(dir, base, "source", &mut source_buf)?.unwrap_or_default();
    let from = |name: &str| provenance(source, name);
    macro_rules! fact {
        ($field:ident, $name:literal, $parse:expr) => {
            facts.$field = match read_value(dir, base, $name, buf)? {
                Some(text) => Some(Fact { value: $parse(text)?, from: from($name) }),
                None => None,
            }
        };
    }
    fact!(instance_id, "instance-id", InstanceId::parse);
    fact!(hostname, "hostname", Hostname::parse);
    fact!(user, "user/name", UserName::parse);
    fact!(password, "user/password-hash", PasswordHash::parse);
    fact!(password_login, "user/password-login", parse_truth);
    fact!(has_custom_data, "azure/has-custom-data", parse_truth);
    fact!(wants_guest_agent, "azure/wants-guest-agent", parse_truth);
    fact!(wants_proxy_agent, "azure/wants-proxy-agent", parse_truth);
    fact!(pre_provisioning, "azure/pre-provisioning", parse_pre_provisioning);
    fact!(has_os_profile, "azure/has-os-profile", parse_truth);
    load_keys(dir, base, buf, facts, from("user/authorized-keys"))?;
    facts.custom_data = match dir.stat(&path(base, CUSTOM_DATA)?) {
        Ok(stat) => Some(Fact { value: stat.size, from: from(CUSTOM_DATA) }),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    Ok(())
}

fn load_keys(
    dir: &mut dyn Dir,
    base: &str,
    buf: &mut [u8],
    facts: &mut Facts,
    from: Provenance,
) -> Result<()> {
    let Some(text) = read_value(dir, base, "user/authorized-keys", buf)? else {
        facts.keys = None;
        return Ok(());
    };
    // Filled in place: 32 KiB do not belong on the stack.
    let keys = &mut facts.keys.get_or_insert_with(|| Fact { value: SshKeys::new(), from }).value;
    keys.clear();
    for line in text.lines() {
        keys.push(SshKey::parse(line)?)?;
    }
    Ok(())
}

/// Loads what a seed holds beside the facts; unreadable parts are left out.
///
/// # Errors
/// `Os`.
pub fn load_context(dir: &mut dyn Dir, base: &str) -> Result<Context> {
    let mut buf = [0; limits::REASON + 1];
    let medium = read_value(dir, base, "medium", &mut buf)?.and_then(|text| DeviceName::parse(text).ok());
    let failure =
        read_value(dir, base, "failure", &mut buf)?.and_then(|text| heapless::String::try_from(text).ok());
    let is_fatal = read_value(dir, base, "verdict", &mut buf)? != Some(PROVISION);
    Ok(Context { medium, failure, is_fatal, lease: load_lease(dir, base)? })
}

fn load_lease(dir: &mut dyn Dir, base: &str) -> Result<Option<Lease>> {
    let mut buf = [0; 48 * limits::ROUTES];
    let mac = read_value(dir, base, "lease/mac", &mut buf)?.and_then(parse_mac);
    let address = read_value(dir, base, "lease/address", &mut buf)?.and_then(parse_cidr);
    let (Some(mac), Some((address, prefix))) = (mac, address) else { return Ok(None) };
    let router = read_value(dir, base, "lease/router", &mut buf)?.and_then(parse_quad);
    let wireserver = read_value(dir, base, "wireserver/address", &mut buf)?.and_then(parse_quad);
    let lines = read_value(dir, base, "lease/routes", &mut buf)?.unwrap_or_default().lines();
    let routes = lines.filter_map(parse_route).take(limits::ROUTES).collect();
    let (dns, server) = (heapless::Vec::new(), [0; 4]);
    let (mtu, lease_s, hostname) = (None, None, None);
    Ok(Some(Lease { mac, address, prefix, router, server, dns, routes, wireserver, mtu, lease_s, hostname }))
}

/// Copies the published seed to `pending-<id>` on the mounted root; the rename is the commit.
///
/// # Errors
/// `Os`; a half-written copy is never taken for a whole one.
pub fn persist(run: &mut dyn Dir, root: &mut dyn Dir, id: &InstanceId) -> Result<()> {
    let target = pending(id)?;
    let staging = path(STATE, PENDING_STAGING)?;
    make_state_dir(root)?;
    remove(root, &staging)?;
    root.make_dir(&staging, PRIVATE_DIR)?;
    for directory in DIRECTORIES {
        root.make_dir(&path(&staging, directory)?, PRIVATE_DIR)?;
    }
    for name in NAMES {
        match copy_file(run, &path(SEED, name)?, Some(root), &path(&staging, name)?) {
            Err(error) if error.is_not_found() => {}
            outcome => outcome?,
        }
    }
    // Everything is on the disk before the name that makes it count.
    root.sync_all()?;
    remove(root, &target)?;
    root.rename(&staging, &target)?;
    root.sync_dir(STATE)
}

/// Makes `/var/lib/preroot` (0700) and what is missing above it.
///
/// # Errors
/// `Os`.
pub fn make_state_dir(root: &mut dyn Dir) -> Result<()> {
    for (directory, mode) in [("var", 0o755), ("var/lib", 0o755), (STATE, 0o700)] {
        match root.make_dir(directory, Owner::root(mode)) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            outcome => outcome?,
        }
    }
    root.sync_dir("var/lib")
}

/// Removes a seed, its secrets first. Missing files are fine.
///
/// # Errors
/// `Os`.
pub fn remove(dir: &mut dyn Dir, base: &str) -> Result<()> {
    if dir.stat(base).is_err_and(|error| error.is_not_found()) {
        return Ok(());
    }
    for name in NAMES {
        ignore_missing(dir.remove(&path(base, name)?))?;
    }
    for directory in DIRECTORIES {
        ignore_missing(dir.remove_dir(&path(base, directory)?))?;
    }
    ignore_missing(dir.remove(&path(base, "boots")?))?;
    ignore_missing(dir.remove_dir(base))
}

/// Drops every seed of this VM and what a stage that was stopped in the middle left of one.
///
/// # Errors
/// `Os`: the first; the others had their turn.
pub fn forget(run: &mut dyn Dir, root: &mut dyn Dir, id: &InstanceId) -> Result<()> {
    let kept = pending(id).and_then(|pending| remove(root, &pending));
    let half_kept = path(STATE, PENDING_STAGING).and_then(|staging| remove(root, &staging));
    remove(run, SEED).and(remove(run, STAGING)).and(kept).and(half_kept)
}

/// True when `file` below the root holds this VM's id, in either byte order.
#[must_use]
pub fn is_marked(root: &mut dyn Dir, file: &str, id: &InstanceId) -> bool {
    let mut buf = [0; 128];
    let Ok(n) = root.read(file, &mut buf) else { return false };
    let text = buf.get(..n).and_then(|bytes| core::str::from_utf8(bytes).ok());
    text.and_then(|text| InstanceId::parse(text).ok()).is_some_and(|marked| marked.is_same_vm(id))
}

/// Writes this VM's id to `file` below the root (`PROVISIONED` or `REPORTED`): whole or not at all.
///
/// # Errors
/// `Os`.
pub fn mark(root: &mut dyn Dir, file: &str, id: &InstanceId) -> Result<()> {
    make_state_dir(root)?;
    let staging = path(STATE, "mark.tmp")?;
    ignore_missing(root.remove(&staging))?;
    let mut line = Line::new();
    writeln!(line, "{}", id.as_str()).map_err(|_| too_many!("instance id", 128))?;
    root.create(&staging, Owner::root(0o644), line.as_bytes())?;
    root.rename(&staging, file)?;
    root.sync_dir(STATE)
}

fn copy_file(from: &mut dyn Dir, source: &str, to: Option<&mut dyn Dir>, target: &str) -> Result<()> {
    let mut buf = [0; 2048];
    let mut offset = 0;
    let mut n = from.read_at(source, offset, &mut buf)?;
    let mut other = to;
    // `create` first even for an empty file: it must exist.
    let mut is_first = true;
    loop {
        let chunk = buf.get(..n).unwrap_or_default();
        let to: &mut dyn Dir = match &mut other {
            Some(to) => *to,
            None => from,
        };
        if is_first {
            to.create_unsynced(target, PRIVATE_FILE, chunk)?;
        } else {
            to.append(target, chunk)?;
        }
        is_first = false;
        offset = offset.saturating_add(n as u64);
        if n < buf.len() {
            return Ok(());
        }
        n = from.read_at(source, offset, &mut buf)?;
    }
}

fn ignore_missing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

fn read_value<'b>(dir: &mut dyn Dir, base: &str, name: &str, buf: &'b mut [u8]) -> Result<Option<&'b str>> {
    let n = match dir.read(&path(base, name)?, buf) {
        Ok(n) => n,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = core::str::from_utf8(buf.get(..n).unwrap_or_default());
    text.map(|text| Some(text.trim_end_matches('\n'))).map_err(|_| malformed!("seed", "not UTF-8", 0))
}

fn provenance(source: &str, name: &str) -> Provenance {
    let word =
        source.lines().filter_map(|line| line.split_once(' ')).find(|(n, _)| *n == name).map(|(_, w)| w);
    word.and_then(Provenance::of_word).unwrap_or(Provenance::OvfMedium)
}

fn parse_truth(text: &str) -> Result<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(malformed!("seed", "neither true nor false", 0)),
    }
}

fn parse_pre_provisioning(text: &str) -> Result<PreProvisioning> {
    Ok(match text {
        "none" => PreProvisioning::None,
        "running" => PreProvisioning::Running,
        "savable" => PreProvisioning::Savable,
        "os-disk" => PreProvisioning::OsDisk,
        _ => PreProvisioning::Unknown,
    })
}

fn parse_quad(text: &str) -> Option<[u8; 4]> {
    let mut parts = text.split('.');
    let quad = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let quad = [quad[0].parse().ok()?, quad[1].parse().ok()?, quad[2].parse().ok()?, quad[3].parse().ok()?];
    parts.next().is_none().then_some(quad)
}

fn parse_cidr(text: &str) -> Option<([u8; 4], u8)> {
    let (address, prefix) = text.split_once('/')?;
    Some((parse_quad(address)?, prefix.parse().ok().filter(|p| *p <= 32)?))
}

fn parse_route(line: &str) -> Option<Route> {
    let (destination, gateway) = line.split_once(' ')?;
    let ((network, prefix), gateway) = (parse_cidr(destination)?, parse_quad(gateway)?);
    Some(Route { network, prefix, gateway })
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::{
        Context, Lease, Route, SEED, begin, is_marked, load, load_context, mark, pending, persist, publish,
    };
    use crate::facts::{
        DeviceName, Fact, Facts, Hostname, InstanceId, PasswordHash, Provenance, SshKey, SshKeys, UserName,
    };
    use crate::limits;
    use crate::sys::fake::FakeDir;
    use std::boxed::Box;
    use std::vec;

    fn fact<T>(value: T, from: Provenance) -> Option<Fact<T>> {
        Some(Fact { value, from })
    }

    fn sample() -> (Box<Facts>, Context) {
        let mut keys = SshKeys::new();
        keys.push(SshKey::parse("ssh-ed25519 AAAAC3Nz a@b").unwrap()).unwrap();
        let facts = Facts {
            instance_id: fact(
                InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap(),
                Provenance::Dmi,
            ),
            hostname: fact(Hostname::parse("edge").unwrap(), Provenance::Imds),
            user: fact(UserName::parse("ops").unwrap(), Provenance::OvfMedium),
            password: fact(PasswordHash::parse("$6$a$b").unwrap(), Provenance::OvfMedium),
            password_login: fact(false, Provenance::Imds),
            keys: fact(keys, Provenance::Imds),
            ..Facts::default()
        };
        let route = |network, prefix| Route { network, prefix, gateway: [10, 0, 0, 1] };
        let lease = Lease {
            mac: [0, 13, 58, 1, 2, 255],
            address: [10, 0, 0, 4],
            prefix: 24,
            router: Some([10, 0, 0, 1]),
            server: [0; 4],
            dns: heapless::Vec::new(),
            routes: [route([0; 4], 0), route([168, 63, 129, 16], 32)].into_iter().collect(),
            wireserver: Some([168, 63, 129, 16]),
            mtu: None,
            lease_s: None,
            hostname: None,
        };
        let medium = Some(DeviceName::parse("sr0").unwrap());
        (Box::new(facts), Context { medium, lease: Some(lease), ..Context::default() })
    }

    fn run() -> FakeDir {
        let mut run = FakeDir::default();
        run.in_memory = true;
        run
    }

    fn loaded(dir: &mut FakeDir, base: &str) -> Box<Facts> {
        let mut facts = Box::new(Facts::default());
        super::verify(dir, base).unwrap();
        load(dir, base, &mut vec![0; limits::SSH_KEYS], &mut facts).unwrap();
        facts
    }

    #[test]
    fn what_is_published_is_loaded_with_its_provenance() {
        let (facts, context) = sample();
        let mut run = run();
        begin(&mut run).unwrap();
        super::spool_custom_data(&mut run, b"#!/bin/sh\n").unwrap();
        super::spool_custom_data(&mut run, b"true\n").unwrap();
        publish(&mut run, &facts, &context).unwrap();
        let back = loaded(&mut run, SEED);
        assert_eq!(back.hostname, facts.hostname);
        assert_eq!(back.keys, facts.keys);
        assert_eq!(back.password_login, facts.password_login);
        assert_eq!(back.custom_data.as_ref().unwrap().value, 15);
        assert_eq!(back.password.as_ref().unwrap().from, Provenance::OvfMedium);
        assert_eq!(load_context(&mut run, SEED).unwrap(), context);
        assert_eq!(run.text("seed/hostname").unwrap(), "edge\n");
        assert_eq!(run.owner("seed").unwrap().mode, 0o700);
        assert_eq!(run.owner("seed/user/password-hash").unwrap().mode, 0o600);
    }

    #[test]
    fn a_second_publish_replaces_in_one_step_and_keeps_custom_data() {
        let (mut facts, context) = sample();
        let mut run = run();
        begin(&mut run).unwrap();
        super::spool_custom_data(&mut run, b"data").unwrap();
        publish(&mut run, &facts, &context).unwrap();
        facts.custom_data = fact(4, Provenance::OvfMedium);
        facts.hostname = fact(Hostname::parse("two").unwrap(), Provenance::Imds);
        begin(&mut run).unwrap();
        publish(&mut run, &facts, &context).unwrap();
        assert_eq!(run.text("seed/hostname").unwrap(), "two\n");
        assert_eq!(run.text("seed/custom-data").unwrap(), "data");
        assert!(run.dump().keys().all(|k| !k.starts_with("seed.tmp")));
    }

    #[test]
    fn a_secret_is_not_put_on_a_disk() {
        let mut run = FakeDir::default();
        assert!(begin(&mut run).is_err());
        assert!(run.dump().is_empty());
    }

    #[test]
    fn seed_is_whole_or_absent_at_every_power_cut() {
        let (facts, context) = sample();
        let id = facts.instance_id.as_ref().unwrap().value.clone();
        let pending = pending(&id).unwrap();
        let mut run = run();
        begin(&mut run).unwrap();
        super::spool_custom_data(&mut run, &[b'x'; 5000]).unwrap();
        publish(&mut run, &facts, &context).unwrap();
        let mut uncut = FakeDir::default();
        persist(&mut run, &mut uncut, &id).unwrap();
        let (whole, changes) = (uncut.dump(), uncut.changes());
        let mut cuts = 0;
        for n in 1..=changes {
            for keep_names in [false, true] {
                let mut root = FakeDir::default();
                root.cut_power_at(n);
                assert!(persist(&mut run, &mut root, &id).is_err() || n == changes);
                root.power_on(keep_names);
                if root.owner(&pending).is_some() {
                    assert_eq!(
                        *loaded(&mut root, &pending).hostname.as_ref().unwrap(),
                        *facts.hostname.as_ref().unwrap()
                    );
                    assert!(loaded(&mut root, &pending).keys.is_some(), "cut at {n}");
                    assert_eq!(
                        loaded(&mut root, &pending).custom_data.as_ref().unwrap().value,
                        5000,
                        "cut at {n}"
                    );
                }
                persist(&mut run, &mut root, &id).unwrap();
                assert_eq!(root.dump(), whole, "cut at {n}");
                cuts += 1;
            }
        }
        assert!(cuts >= 50, "{cuts}");
    }

    #[test]
    fn a_mark_is_of_one_vm_in_either_spelling() {
        let mut root = FakeDir::default();
        let id = InstanceId::parse("91267c52-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap();
        mark(&mut root, super::PROVISIONED, &id).unwrap();
        assert!(is_marked(&mut root, super::PROVISIONED, &id));
        assert!(is_marked(&mut root, super::PROVISIONED, &id.swapped().unwrap()));
        assert!(!is_marked(&mut root, super::PROVISIONED, &InstanceId::parse("i-1").unwrap()));
        assert!(!is_marked(&mut root, super::REPORTED, &id));
    }

    #[test]
    fn a_seed_that_others_can_read_is_refused() {
        let (facts, context) = sample();
        let mut run = run();
        begin(&mut run).unwrap();
        publish(&mut run, &facts, &context).unwrap();
        use crate::sys::{Dir, Owner};
        run.set_owner(SEED, Owner::root(0o755)).unwrap();
        assert!(super::verify(&mut run, SEED).is_err());
        run.set_owner(SEED, Owner { mode: 0o700, uid: 1000, gid: 0 }).unwrap();
        assert!(super::verify(&mut run, SEED).is_err());
    }
}
