//! /etc/hosts: the machine's own name resolves without a network (sudo and many daemons ask for it).

use super::replace::{self, Target};
use super::{Root, State, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::hosts::{add_own_name, resolves};

const FILE: &str = "etc/hosts";

pub(super) fn check(facts: &Facts, root: &mut Root<'_>) -> Result<State> {
    let Some(name) = &facts.hostname else { return Ok(State::Satisfied) };
    let text = read(root.dir, FILE, object!(FILE), root.buffers.old)?;
    let is_there = resolves(text, name.value.as_str(), name.value.short());
    Ok(if is_there { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let Some(name) = &facts.hostname else { return Ok(()) };
    let (name, short) = (name.value.as_str(), name.value.short());
    let target = Target::root(FILE, object!(FILE), 0o644);
    replace::edit(root.dir, target, &mut root.buffers, &mut |old, out| {
        if resolves(old, name, short) { out.put(old) } else { add_own_name(old, name, short, out) }
    })
    .map(|_| ())
}
