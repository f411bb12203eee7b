//! The machine's SSH host keys: this VM's own, made by the image's own ssh-keygen.
//!
//! Keys that came with the image, or were made for another VM, are replaced: whoever has root there could pose as this
//! one. They stay where the configuration says so (Provisioning.RegenerateSshHostKeyPair), and where another agent made
//! them for this VM: its people know them already. Which kinds are made user data say, or the configuration
//! (Provisioning.SshHostKeyPairType); where none of those can be made, all are: without a key sshd would not start.

use super::{PathText, Root, State, below, exists, join, named};
use crate::error::Result;
use crate::format::text::split_once;
use crate::seed;

const DIRECTORY: &str = "etc/ssh";
/// Names the VM the keys were made for.
const MADE_FOR: &str = "var/lib/preroot/host-keys";
/// cloud-init's word for the VM it provisioned; waagent's is in its directory.
const CLOUD_INIT: &str = "var/lib/cloud/data/instance-id";
const KEYGEN: &[&str] = &["/usr/bin/ssh-keygen", "/bin/ssh-keygen"];
/// Of keys that sshd takes everywhere.
const KINDS: &[&str; 3] = &["rsa", "ecdsa", "ed25519"];
/// The configuration's word for all kinds.
const ALL: &str = "auto";
type Name = heapless::String<64>;

pub(super) fn check(_: &crate::facts::Facts, root: &mut Root<'_>) -> Result<State> {
    if !exists(root.dir, DIRECTORY)? {
        return Ok(State::Foreign { why: "this image has no sshd" });
    }
    let keys = count_keys(root)?;
    let mut has_all = keys.whole > 0 && keys.empty.is_none();
    for kind in asked(root) {
        has_all = has_all && exists(root.dir, &file(kind)?)?;
    }
    if has_all && !are_replaced(root)? {
        return Ok(State::Satisfied);
    }
    match root.program(KEYGEN) {
        Some(_) => Ok(State::Missing),
        None => Ok(State::Foreign { why: "this image has no ssh-keygen; its sshd needs other host keys" }),
    }
}

pub(super) fn apply(_: &crate::facts::Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(keygen) = root.program(KEYGEN) else { return Ok(()) };
    if are_replaced(root)? {
        while let Some(name) = nth_file(root, 0, is_of_a_key)? {
            root.dir.remove(&below(DIRECTORY, &name)?).map_err(named(object!("SSH host key")))?;
        }
    }
    // A power cut leaves empty files, and older ssh-keygen takes those for keys.
    while let Some(name) = count_keys(root)?.empty {
        root.dir.remove(&below(DIRECTORY, &name)?).map_err(named(object!("SSH host key")))?;
    }
    let kinds = asked(root);
    let mut has_any = false;
    for kind in kinds.iter().copied() {
        // What refuses one kind is no reason to have no key.
        let made = if exists(root.dir, &file(kind)?)? { Ok(()) } else { make(root, keygen, kind) };
        has_any |= made.is_ok();
        root.degrade(made);
    }
    if !has_any {
        let kind = root.config.ssh_host_key_type();
        // Beside others one of its name may be there already, and ssh-keygen would ask.
        let is_alone = count_keys(root)?.whole == 0;
        make(root, keygen, if is_alone { kind } else { ALL })?;
    }
    // ssh-keygen does not sync what it writes.
    root.dir.sync_all().map_err(named(object!("SSH host keys")))?;
    seed::mark(root.dir, MADE_FOR, root.id).map_err(named(object!("SSH host keys")))
}

/// Makes a key of this kind, or those of all kinds that are missing.
fn make(root: &mut Root<'_>, keygen: &str, kind: &str) -> Result<()> {
    let file = join(&["/", &file(kind)?])?;
    let one = [keygen, "-q", "-N", "", "-t", kind, "-f", &file];
    let all = [keygen, "-A"];
    let argv = if kind == ALL { &all[..] } else { &one };
    let failed = malformed!("SSH host keys", "ssh-keygen failed");
    super::run_of_image(root.system, root.path, argv, object!("SSH host keys"), failed)
}

fn file(kind: &str) -> Result<PathText> {
    join(&[DIRECTORY, "/ssh_host_", kind, "_key"])
}

/// The kinds that user data ask for, of this VM's keys.
fn asked(root: &mut Root<'_>) -> heapless::Vec<&'static str, 3> {
    let mut text = [0; 64];
    let text = core::str::from_utf8(root.seed_file(seed::HOST_KEYS, &mut text).unwrap_or_default());
    let is_asked = |kind: &&&str| text.unwrap_or_default().lines().any(|line| line == **kind);
    KINDS.iter().filter(is_asked).copied().collect()
}

/// True when what is there is not this VM's, and is not meant to be shared.
#[inline(never)]
fn are_replaced(root: &mut Root<'_>) -> Result<bool> {
    let waagent = below(root.config.agent_directory().trim_matches('/'), "provisioned")?;
    let is_ours =
        [MADE_FOR, CLOUD_INIT, &waagent].iter().any(|file| seed::is_marked(root.dir, file, root.id));
    let config = root.config;
    let is_asked =
        config.regenerate_ssh_host_keys() || root.was_another_vms()? || exists(root.dir, MADE_FOR)?;
    Ok(is_asked && !is_ours && !config.keeps_ssh_host_keys())
}

struct Keys {
    whole: usize,
    empty: Option<Name>,
}

fn count_keys(root: &mut Root<'_>) -> Result<Keys> {
    let mut keys = Keys { whole: 0, empty: None };
    let mut n = 0;
    while let Some(name) = nth_file(root, n, is_key)? {
        n += 1;
        let stat = root.dir.stat(&below(DIRECTORY, &name)?).map_err(named(object!("SSH host key")))?;
        if stat.size == 0 {
            keys.empty = Some(name);
        } else {
            keys.whole += 1;
        }
    }
    Ok(keys)
}

fn is_key(name: &str) -> bool {
    name.starts_with("ssh_host_") && name.ends_with("_key")
}

/// The key, its public half, its certificate.
fn is_of_a_key(name: &str) -> bool {
    name.starts_with("ssh_host_") && split_once(name, "_key").is_some()
}

fn nth_file(root: &mut Root<'_>, n: usize, is_wanted: fn(&str) -> bool) -> Result<Option<Name>> {
    let (mut seen, mut found) = (0, None);
    root.dir
        .list(DIRECTORY, &mut |name, _| {
            if is_wanted(name) {
                found = if seen == n { Name::try_from(name).ok() } else { found.take() };
                seen += 1;
            }
            seen <= n
        })
        .map_err(named(object!(DIRECTORY)))?;
    Ok(found)
}
