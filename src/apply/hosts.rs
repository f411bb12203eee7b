//! /etc/hosts: the machine's own name resolves without a network (sudo and many daemons ask for it), the whole file is
//! ours, or it is left alone: as cloud-init's `manage_etc_hosts`.

use super::hostname::full_name;
use super::replace::{self, Target};
use super::{Root, State, read};
use crate::error::Result;
use crate::facts::{Facts, Hostname};
use crate::format::hosts::{Managing, add_own_name, emit_whole, family, resolves};
use crate::format::text::{Out, lines};
use crate::seed;
use crate::sys::Dir;

const FILE: &str = "etc/hosts";

/// The image's word, if it says one; else the seed's.
fn managing(root: &mut Root<'_>) -> Result<Managing> {
    let mut buf = [0; 64];
    let asked = if root.is_switched_off || root.config.decides_etc_hosts() {
        ""
    } else {
        core::str::from_utf8(root.seed_file(seed::MANAGE_HOSTS, &mut buf)?).unwrap_or_default().trim_ascii()
    };
    let word = if asked.is_empty() { root.config.manage_etc_hosts() } else { asked };
    Managing::of_word(word).ok_or(malformed!("seed", "hosts/manage", 0))
}

/// The letter of the image's family of distributions.
fn family_of(root: &mut Root<'_>) -> Result<char> {
    let text = read(root.dir, "etc/os-release", object!("etc/os-release"), root.buffers.old)?;
    Ok(family(id_in(text)))
}

/// The image's distribution, as os-release(5) has it; empty where that cannot be read.
pub(crate) fn distribution<'b>(root: &mut dyn Dir, buf: &'b mut [u8]) -> &'b str {
    id_in(read(root, "etc/os-release", object!("etc/os-release"), buf).unwrap_or_default())
}

fn id_in(text: &[u8]) -> &str {
    let id = lines(text).find_map(|line| line.strip_prefix(b"ID=")).unwrap_or_default();
    core::str::from_utf8(id).unwrap_or_default().trim_ascii().trim_matches(['"', '\''])
}

/// How the file is to be.
struct How {
    managing: Managing,
    family: char,
    name: Hostname,
    short: Hostname,
}

fn how(facts: &Facts, root: &mut Root<'_>) -> Result<Option<How>> {
    let Some(hostname) = &facts.hostname else { return Ok(None) };
    Ok(Some(How {
        managing: managing(root)?,
        family: family_of(root)?,
        name: full_name(root, &hostname.value)?,
        short: Hostname::parse(hostname.value.short())?,
    }))
}

impl How {
    fn put(&self, old: &[u8], out: &mut Out<'_>) -> Result<()> {
        let (name, short) = (self.name.as_str(), self.short.as_str());
        match self.managing {
            Managing::Whole => emit_whole(self.family, name, short, out),
            Managing::Line if !resolves(old, name, short) => add_own_name(old, name, short, out),
            Managing::Line | Managing::Nothing => out.put(old),
        }
    }
}

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(how) = how(facts, root)? else { return Ok(State::Satisfied) };
    let old = read(root.dir, FILE, object!(FILE), root.buffers.old)?;
    let mut new = Out::new(object!(FILE).full, root.buffers.new);
    how.put(old, &mut new)?;
    Ok(if old == new.as_bytes() { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(how) = how(facts, root)? else { return Ok(()) };
    let target = Target::root(FILE, object!(FILE), 0o644);
    replace::edit(root.dir, target, &mut root.buffers, &mut |old, out| how.put(old, out)).map(|_| ())
}
