//! Which servers does this image's NTP client ask? Those the seed names, where the client looks for them.
//!
//! No restart: apply runs before the daemons start. No client is installed: without one, that is said.

use super::replace::{self, Ownership, Target};
use super::{PathText, Root, State, exists, home, join, named, read, split};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::ntp::{CLIENTS, Client, Kind, Wanted, directory, edit, emit};
use crate::format::text::Out;
use crate::seed;
use crate::sys::Owner;

const WHAT: &str = "NTP";
/// Bytes of the entry.
const ENTRY: usize = 2048;

/// Where the lines go.
struct Place {
    kind: Kind,
    path: PathText,
    /// A file of ours, beside the image's.
    is_drop_in: bool,
}

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    let mut entry = [0; ENTRY];
    let text = entry_text(root, &mut entry)?;
    let wanted = Wanted::parse(text)?;
    if wanted.is_empty() {
        return Ok(State::Satisfied);
    }
    let Some(place) = place(root, &wanted)? else {
        return Ok(State::Foreign { why: "this image has no NTP client, or not the one that is asked for" });
    };
    let old = read(root.dir, &place.path, object!(WHAT), root.buffers.old)?;
    let mut new = Out::new(object!(WHAT).full, root.buffers.new);
    place.put(old, &wanted, &mut new)?;
    Ok(if old == new.as_bytes() { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    let mut entry = [0; ENTRY];
    let text = entry_text(root, &mut entry)?;
    let wanted = Wanted::parse(text)?;
    let Some(place) = place(root, &wanted)? else { return Ok(()) };
    let directory = split(&place.path).0;
    if place.is_drop_in && !exists(root.dir, directory)? {
        home::make_parents(root.dir, directory)?;
        root.dir.sync_dir(split(directory).0).map_err(named(object!(WHAT)))?;
    }
    let ownership = Ownership::KeepOr(Owner::root(0o644));
    let target = Target { path: &place.path, object: object!(WHAT), ownership };
    replace::edit(root.dir, target, &mut root.buffers, &mut |old, out| place.put(old, &wanted, out))
        .map(|_| ())
}

impl Place {
    fn put(&self, old: &[u8], wanted: &Wanted<'_>, out: &mut Out<'_>) -> Result<()> {
        if self.is_drop_in { emit(self.kind, wanted, out) } else { edit(self.kind, old, wanted, out) }
    }
}

fn entry_text<'b>(root: &mut Root<'_>, buf: &'b mut [u8; ENTRY]) -> Result<&'b str> {
    let text = root.seed_file(seed::NTP, buf)?;
    core::str::from_utf8(text).map_err(|_| malformed!("seed", "not UTF-8", 0))
}

/// The client that is asked for, or the first that is installed.
fn place(root: &mut Root<'_>, wanted: &Wanted<'_>) -> Result<Option<Place>> {
    let named = wanted.client();
    for client in CLIENTS.iter().filter(|client| named.is_none_or(|name| name == client.name)) {
        if root.program(client.programs).is_none() {
            continue;
        }
        if let Some(place) = place_of(root, client, wanted)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

#[inline(never)]
fn place_of(root: &mut Root<'_>, client: &Client, wanted: &Wanted<'_>) -> Result<Option<Place>> {
    let kind = client.kind;
    for file in client.files {
        if kind == Kind::Timesyncd {
            return Ok(Some(Place { kind, path: join(&[file])?, is_drop_in: true }));
        }
        if !exists(root.dir, file)? {
            continue;
        }
        if kind == Kind::Chrony {
            let conf = read(root.dir, file, object!(WHAT), root.buffers.old)?;
            // A file of servers may have nothing else.
            let of_sources = directory(conf, "sourcedir").filter(|_| !wanted.allows());
            let own = match (directory(conf, "confdir"), of_sources) {
                (Some(directory), _) => Some(join(&[directory, "/preroot.conf"])?),
                (None, Some(directory)) => Some(join(&[directory, "/preroot.sources"])?),
                (None, None) => None,
            };
            if let Some(path) = own {
                return Ok(Some(Place { kind, path, is_drop_in: true }));
            }
        }
        return Ok(Some(Place { kind, path: join(&[file])?, is_drop_in: false }));
    }
    Ok(None)
}
