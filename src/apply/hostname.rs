//! /etc/hostname and the running kernel's host name.
//!
//! For a VM that was never named this is the platform's choice. After that a name that a person gave stays, as with
//! cloud-init's `update_hostname`: what was written last is noted with the VM it was for.

use super::replace::{self, Target};
use super::{Root, State, join, named, read};
use crate::error::Result;
use crate::facts::{Fact, Facts, Hostname, Provenance};
use crate::format::hosts::{Renaming, renaming};
use crate::format::openstack::hostname_of;
use crate::format::text::{PathText, split_once};
use crate::seed;

const FILE: &str = "etc/hostname";
const LIVE: &str = "proc/sys/kernel/hostname";
/// The VM, a blank, and the name it was given last.
const PREVIOUS: &str = "var/lib/preroot/previous-hostname";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(name) = &facts.hostname else { return Ok(State::Satisfied) };
    if root.config.preserve_hostname() || seed_says(root, seed::PRESERVE_HOST_NAME, b"true")? {
        return Ok(State::Foreign { why: "preserve_hostname: the image's own name stays" });
    }
    let asked_by = name.from.word();
    if root.is_switched_off && seed_says(root, seed::ASKED_BY, asked_by.as_bytes())? {
        return Ok(State::Foreign { why: super::SWITCHED_OFF });
    }
    let wanted = written(name);
    let what = plan(root, wanted)?;
    // Without /proc nobody can say; systemd reads the file by itself.
    let is_live = !root.is_live() || root.dir.stat(LIVE).is_err() || holds(root, LIVE, wanted)?;
    Ok(match what {
        Some(Renaming { notes: false, renames: false }) if is_live => State::Satisfied,
        Some(_) => State::Missing,
        None => State::Foreign { why: "somebody gave this VM another name since" },
    })
}

pub(super) fn seed_says(root: &mut Root<'_>, name: &str, word: &[u8]) -> Result<bool> {
    Ok(root.seed_file(name, &mut [0; 64])?.trim_ascii() == word)
}

fn holds(root: &mut Root<'_>, path: &str, wanted: &str) -> Result<bool> {
    let text = read(root.dir, path, object!(FILE), root.buffers.old)?;
    Ok(text.trim_ascii() == wanted.as_bytes())
}

/// What changes; `None`: the name is a person's.
fn plan(root: &mut Root<'_>, wanted: &str) -> Result<Option<Renaming>> {
    let is_written = holds(root, FILE, wanted)?;
    let mut buf = [0; 256];
    let previous =
        core::str::from_utf8(read(root.dir, PREVIOUS, object!(PREVIOUS), &mut buf)?).unwrap_or_default();
    let previous = split_once(previous.trim_ascii(), " ").filter(|(id, _)| *id == root.id.as_str());
    let Some((_, previous)) = previous else {
        return Ok(Some(Renaming { notes: true, renames: !is_written }));
    };
    // Cut off between the file and the note.
    if is_written {
        return Ok(Some(Renaming { notes: previous != wanted, renames: false }));
    }
    let system = read(root.dir, FILE, object!(FILE), root.buffers.old)?.trim_ascii();
    let system = core::str::from_utf8(system).unwrap_or("?");
    let what = renaming((!system.is_empty()).then_some(system), Some(previous), wanted);
    Ok(if what.renames { Some(what) } else { None })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(name) = &facts.hostname else { return Ok(()) };
    let name = written(name);
    if plan(root, name)?.is_none() {
        return Ok(());
    }
    write(root, FILE, &[name])?;
    seed::make_state_dir(root.dir).map_err(named(object!(PREVIOUS)))?;
    write(root, PREVIOUS, &[root.id.as_str(), " ", name])?;
    if root.is_live() { root.system.set_hostname(name) } else { Ok(()) }
}

fn write(root: &mut Root<'_>, path: &str, parts: &[&str]) -> Result<()> {
    let line: PathText = join(parts)?;
    let target = Target::root(path, object!(FILE), 0o644);
    replace::edit(root.dir, target, &mut root.buffers, &mut |_, out| out.put_all(&[line.as_bytes(), b"\n"]))
        .map(|_| ())
}

/// What becomes the host name: of a config drive's and NoCloud's the part before the first dot, as cloud-init's
/// `get_hostname` has it; Azure's stays whole, as with waagent.
pub(crate) fn written(name: &Fact<Hostname>) -> &str {
    match name.from {
        Provenance::ConfigDrive | Provenance::NoCloud | Provenance::Cmdline => name.value.short(),
        _ => name.value.as_str(),
    }
}

/// The full name, where the seed has one beside the host name; one that is none is a fault of who asked for it.
pub(super) fn full_name(root: &mut Root<'_>, hostname: &Hostname) -> Result<Hostname> {
    let mut buf = [0; 256];
    match core::str::from_utf8(root.seed_file(seed::FQDN, &mut buf)?).unwrap_or_default() {
        "" => Ok(hostname.clone()),
        name => Ok(match hostname_of(name) {
            Ok(name) => name.unwrap_or_else(|| hostname.clone()),
            Err(error) => {
                root.degrade(Err(error));
                hostname.clone()
            }
        }),
    }
}
