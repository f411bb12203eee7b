//! Rules of doas, for whoever the seed has some: lines of /etc/doas.conf, added once.

use super::replace::{self, Target};
use super::{Root, State, person, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::person::{Person, is_doas_rule};
use crate::format::text::{bare, lines};

const FILE: &str = "etc/doas.conf";
const DOAS: &[&str] = &["/usr/bin/doas", "/bin/doas"];

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    person::check(facts, root, look)
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    person::apply(facts, root, look, act)
}

fn look(person: &Person<'_>, root: &mut Root<'_>) -> Result<State> {
    if person.doas().next().is_none() {
        return Ok(State::Satisfied);
    }
    if root.program(DOAS).is_none() {
        return Ok(State::Foreign { why: "this image has no doas" });
    }
    let text = read(root.dir, FILE, object!(FILE), root.buffers.old)?;
    Ok(if person.doas().all(|rule| has(text, rule)) { State::Satisfied } else { State::Missing })
}

fn has(text: &[u8], rule: &str) -> bool {
    lines(text).any(|line| bare(line).trim_ascii() == rule.trim().as_bytes())
}

/// All rules or none: half of them could permit what the other half denies.
fn act(person: &Person<'_>, root: &mut Root<'_>) -> Result<()> {
    if !person.doas().all(|rule| is_doas_rule(rule, person.name.as_str())) {
        return Err(malformed!(FILE, "rule of doas", 0));
    }
    replace::edit(root.dir, Target::root(FILE, object!(FILE), 0o440), &mut root.buffers, &mut |old, out| {
        out.put(old)?;
        out.end_line()?;
        person
            .doas()
            .filter(|rule| !has(old, rule))
            .try_for_each(|rule| out.put_all(&[rule.trim().as_bytes(), b"\n"]))
    })
    .map(|_| ())
}
