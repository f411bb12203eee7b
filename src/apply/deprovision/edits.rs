//! Which lines of a file are one machine's? Each function writes the file as a fresh image would have it.

use super::Context;
use crate::apply::root_password;
use crate::error::Result;
use crate::format::fstab::is_swap_of;
use crate::format::network::interfaces::take_back;
use crate::format::passwd;
use crate::format::person::is_doas_rule;
use crate::format::text::{Out, lines, words};

/// What waagent leaves; preroot, like it, writes the next VM's over it.
const HOSTNAME: &[u8] = b"localhost.localdomain\n";

type Line<'l> = &'l [u8];

fn without(old: &[u8], out: &mut Out<'_>, is_machines: &dyn Fn(Line<'_>) -> bool) -> Result<()> {
    lines(old).filter(|line| !is_machines(line)).try_for_each(|line| out.put(line))
}

fn has(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// Nothing else is lost: the file is one name.
pub(super) fn hostname(_: &Context<'_>, _: &[u8], out: &mut Out<'_>) -> Result<()> {
    out.put(HOSTNAME)
}

/// The address that stands for a machine's own name, as Debian's installer, cloud-init and preroot write it.
pub(super) fn hosts(_: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    without(old, out, &|line| words(line).next() == Some(b"127.0.1.1"))
}

/// A name written out. waagent writes `localhost.localdomain` there instead, which the next VM would send: preroot
/// has no need of the line.
pub(super) fn dhclient(_: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    without(old, out, &|line| line.starts_with(b"send host-name \""))
}

/// What the image says of its interfaces counts again.
pub(super) fn interfaces(_: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    take_back(old, out)
}

pub(super) fn root_password(_: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    root_password::lock(old, out)
}

/// cloud-init marks its lines.
pub(super) fn fstab(_: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    without(old, out, &|line| has(line, b"comment=cloudconfig"))
}

/// Our own, where there is no cloud-init: every line with that mark is, since we put ours in the place of all of them.
pub(super) fn our_fstab(context: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    without(old, out, &|line| has(line, b"comment=cloudconfig") || is_swap_of(line, context.swap_line()))
}

/// waagent has one file for all administrators.
pub(super) fn sudoers(context: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    without(old, out, &|line| words(line).next() == Some(context.user.as_bytes()))
}

/// Rules that name the administrator.
pub(super) fn doas(context: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    without(old, out, &|line| {
        core::str::from_utf8(line).is_ok_and(|line| is_doas_rule(line.trim(), context.user))
    })
}

pub(super) fn groups(context: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    passwd::leave(old, context.user, context.drops_group, out)
}

pub(super) fn account(context: &Context<'_>, old: &[u8], out: &mut Out<'_>) -> Result<()> {
    passwd::remove(old, context.user, out)
}
