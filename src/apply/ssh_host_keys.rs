//! The machine's SSH host keys: made by the image's own ssh-keygen if there are none.
//!
//! Keys that are there stay: an image that brings them wants them, and a generalised one has none. Only those
//! of another VM that preroot provisioned are replaced: whoever has root there could pose as this one.

use super::{Root, State, below, exists, named};
use crate::error::Result;
use crate::format::text::split_once;

const DIRECTORY: &str = "etc/ssh";
const KEYGEN: &[&str] = &["/usr/bin/ssh-keygen", "/bin/ssh-keygen"];
type Name = heapless::String<64>;

pub(super) fn check(_: &crate::facts::Facts, root: &mut Root<'_>) -> Result<State> {
    if !exists(root.dir, DIRECTORY)? {
        return Ok(State::Foreign { why: "this image has no sshd" });
    }
    let keys = count_keys(root)?;
    if keys.whole > 0 && keys.empty.is_none() && !root.was_another_vms()? {
        return Ok(State::Satisfied);
    }
    match root.program(KEYGEN) {
        Some(_) => Ok(State::Missing),
        None => Ok(State::Foreign { why: "this image has no ssh-keygen; its sshd needs other host keys" }),
    }
}

pub(super) fn apply(_: &crate::facts::Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(keygen) = root.program(KEYGEN) else { return Ok(()) };
    if root.was_another_vms()? {
        while let Some(name) = nth_file(root, 0, is_of_a_key)? {
            root.dir.remove(&below(DIRECTORY, &name)?).map_err(named(object!("SSH host key")))?;
        }
    }
    // A power cut leaves empty files, and older ssh-keygen takes those for keys.
    while let Some(name) = count_keys(root)?.empty {
        root.dir.remove(&below(DIRECTORY, &name)?).map_err(named(object!("SSH host key")))?;
    }
    super::run_of_image(
        root.system,
        root.path,
        &[keygen, "-A"],
        object!("SSH host keys"),
        malformed!("SSH host keys", "ssh-keygen -A failed"),
    )?;
    // ssh-keygen does not sync what it writes.
    root.dir.sync_all().map_err(named(object!("SSH host keys")))
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
