//! Which name servers does this image ask? Those the seed names: in /etc/resolv.conf, or, where that is a link into
//! systemd-resolved's directory, in a file of ours for it. Another program's link stays that program's.

use super::replace::{self, Ownership, Target};
use super::{Root, State, exists, home, named, read, split};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::resolv_conf::{Wanted, emit, emit_resolved};
use crate::format::text::Out;
use crate::seed;
use crate::sys::{FileType, Owner};

const FILE: &str = "etc/resolv.conf";
const DROP_IN: &str = "etc/systemd/resolved.conf.d/preroot.conf";
/// In the target of the link to resolved's files (stub-resolv.conf, resolv.conf).
const RESOLVED: &[u8] = b"/systemd/resolve/";
const ENTRY: usize = 2048;

/// Where the name servers go; `None`: another program's link is there.
fn place(root: &mut Root<'_>) -> Result<Option<&'static str>> {
    let is_link = root.dir.stat(FILE).is_ok_and(|stat| stat.file_type == FileType::Symlink);
    if !is_link {
        return Ok(Some(FILE));
    }
    let mut target = [0; 256];
    let n = root.dir.read_link(FILE, &mut target).map_err(named(object!(FILE)))?;
    let target = target.get(..n).unwrap_or_default();
    Ok(target.windows(RESOLVED.len()).any(|part| part == RESOLVED).then_some(DROP_IN))
}

fn put(path: &str, wanted: &Wanted<'_>, out: &mut Out<'_>) -> Result<()> {
    if path == FILE { emit(wanted, out) } else { emit_resolved(wanted, out) }
}

fn entry<'b>(root: &mut Root<'_>, buf: &'b mut [u8; ENTRY]) -> Result<Wanted<'b>> {
    let text = core::str::from_utf8(root.seed_file(seed::RESOLV_CONF, buf)?);
    Wanted::parse(text.map_err(|_| malformed!("seed", "not UTF-8", 0))?)
}

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    let mut buf = [0; ENTRY];
    let wanted = entry(root, &mut buf)?;
    if wanted.is_empty() {
        return Ok(State::Satisfied);
    }
    let Some(path) = place(root)? else {
        return Ok(State::Foreign { why: "another program makes /etc/resolv.conf, a link" });
    };
    let old = read(root.dir, path, object!(FILE), root.buffers.old)?;
    let mut new = Out::new(object!(FILE).full, root.buffers.new);
    put(path, &wanted, &mut new)?;
    Ok(if old == new.as_bytes() { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    let mut buf = [0; ENTRY];
    let wanted = entry(root, &mut buf)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(path) = place(root)? else { return Ok(()) };
    let directory = split(path).0;
    if !exists(root.dir, directory)? {
        home::make_parents(root.dir, directory)?;
        root.dir.sync_dir(split(directory).0).map_err(named(object!(FILE)))?;
    }
    let ownership = Ownership::KeepOr(Owner::root(0o644));
    let target = Target { path, object: object!(FILE), ownership };
    replace::edit(root.dir, target, &mut root.buffers, &mut |_, out| put(path, &wanted, out)).map(|_| ())
}
