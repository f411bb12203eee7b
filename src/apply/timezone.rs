//! The time zone, if the seed asks for one: /etc/localtime, and /etc/timezone where the image has it.

use super::replace::{self, Target};
use super::{PathText, Root, State, exists, ignore_missing, join, named, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::seed;
use crate::sys::{Dir, FileType};

const LINK: &str = "etc/localtime";
/// Beside it: a link is made, then renamed.
const STAGING: &str = "etc/.localtime.preroot";
const NAME: &str = "etc/timezone";
const ZONES: &str = "usr/share/zoneinfo/";

/// What the link says: relative, as systemd makes it, so that it is the same in a mounted image.
fn target(zone: &str) -> Result<PathText> {
    join(&["../", ZONES, zone])
}

/// A name below the zones, without a way out of there.
fn is_zone(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-/".contains(&byte);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(is_plain) && !text.split('/').any(str::is_empty)
}

fn zone<'b>(root: &mut Root<'_>, buf: &'b mut [u8; 256]) -> Result<Option<&'b str>> {
    let text = core::str::from_utf8(root.seed_file(seed::TIME_ZONE, buf)?).unwrap_or_default().trim_ascii();
    if text.is_empty() {
        return Ok(None);
    }
    if is_zone(text) { Ok(Some(text)) } else { Err(malformed!("time zone", "no name of a time zone", 0)) }
}

/// The image has it; `Europe` is a directory of zones, and `UTC` may be a link to another name.
fn is_known(dir: &mut dyn Dir, zone: &str) -> Result<bool> {
    match dir.stat(&join(&[ZONES, zone])?) {
        Ok(stat) => Ok(stat.file_type != FileType::Directory),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    let mut buf = [0; 256];
    let Some(zone) = zone(root, &mut buf)? else { return Ok(State::Satisfied) };
    if !is_known(root.dir, zone)? {
        return Ok(State::Foreign { why: "this image does not know that time zone" });
    }
    let mut link = [0; 256];
    let n = root.dir.read_link(LINK, &mut link).unwrap_or_default();
    let is_linked = link.get(..n) == Some(target(zone)?.as_bytes());
    let is_named = !exists(root.dir, NAME)?
        || read(root.dir, NAME, object!(NAME), root.buffers.old)?.trim_ascii() == zone.as_bytes();
    Ok(if is_linked && is_named { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    let mut buf = [0; 256];
    let Some(zone) = zone(root, &mut buf)? else { return Ok(()) };
    let dir = &mut *root.dir;
    let made = ignore_missing(dir.remove(STAGING))
        .and_then(|()| dir.make_symlink(STAGING, &target(zone)?))
        .and_then(|()| dir.rename(STAGING, LINK))
        .and_then(|()| dir.sync_dir("etc"));
    made.map_err(named(object!(LINK)))?;
    if !exists(root.dir, NAME)? {
        return Ok(());
    }
    replace::edit(root.dir, Target::existing(object!(NAME)), &mut root.buffers, &mut |_, out| {
        out.put_all(&[zone.as_bytes(), b"\n"])
    })
    .map(|_| ())
}
