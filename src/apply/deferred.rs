//! Which files come after the packages? Those with `defer`, and those whose owner only a package brings: `apply` keeps them
//! beside the scripts, `preroot scripts` writes them once the packages are there, before any other script.

use super::write_files::{File, each};
use super::{Root, SeedPlace, below, ignore_missing, join, labels, named, read, split};
use crate::error::{Errno, Result};
use crate::format::cloud_config::FILE_PARTS;
use crate::format::text::digits;
use crate::limits;
use crate::seed;
use crate::sys::{Dir, Owner};

/// A seed of files alone, below the root.
pub const PLACE: &str = "var/lib/preroot/deferred";
/// Its files.
pub(super) const FILES: &str = "var/lib/preroot/deferred/files";
const WHAT: &str = "deferred file";

/// True while those are written that were kept.
pub(super) fn is_at_work(root: &Root<'_>) -> bool {
    root.seed == SeedPlace::Root(PLACE)
}

/// True when this file of the seed was kept whole, for this path, which came last. Of a name that a cut left there is no content.
pub(super) fn is_kept(root: &mut Root<'_>, name: &str, path: &str) -> Result<bool> {
    let mut buf = [0; limits::PATH];
    let kept = read(root.dir, &join(&[PLACE, "/", name, "/path"])?, object!(WHAT), &mut buf)?;
    Ok(kept.strip_prefix(b"/") == Some(path.as_bytes()))
}

/// Keeps a file of the seed. It counts once its path is there; what a cut left goes first.
#[inline(never)]
pub(super) fn keep(root: &mut Root<'_>, name: &str, path: &str) -> Result<()> {
    let told = named(object!(WHAT));
    forget(root.dir, name)?;
    let kept = match root.seed {
        SeedPlace::Run(base) => seed::keep_file(root.run, base, Some(root.dir), PLACE, name),
        SeedPlace::Root(base) => seed::keep_file(root.dir, base, None, PLACE, name),
    };
    kept.and_then(|()| root.dir.sync_all()).map_err(&told)?;
    let directory = below(PLACE, name)?;
    let path = join(&["/", path])?;
    match root.dir.make_dir(&directory, Owner::root(0o700)) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        outcome => outcome.map_err(&told)?,
    }
    let made = root.dir.create(&join(&[&directory, "/path"])?, Owner::root(0o600), path.as_bytes());
    made.and_then(|()| root.dir.sync_dir(&directory)).and_then(|()| root.dir.sync_dir(FILES)).map_err(told)
}

/// Writes all that were kept, each once; `tell` hears of each how it ended. `root.seed` is [`PLACE`].
///
/// # Errors
/// `Os` when one that was written cannot be forgotten.
#[inline(never)]
pub fn write(root: &mut Root<'_>, tell: &mut dyn FnMut(&str, Result<()>)) -> Result<()> {
    each(root, &mut |root, name| {
        let file = File::load(root, name);
        let path = file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
        let written = file.and_then(|file| file.settle(root)).and_then(|()| labels::of_file(root, &path));
        tell(&path, written);
        forget(root.dir, name)
    })?;
    forget_all(root.dir)
}

/// Whatever is left of them.
pub(super) fn forget_all(root: &mut dyn Dir) -> Result<()> {
    let told = named(object!(WHAT));
    for n in 0..limits::FILES as u64 {
        forget(root, &join(&["files/", digits(n, &mut [0; 20])])?)?;
    }
    [FILES, PLACE].iter().try_for_each(|path| ignore_missing(root.remove_dir(path))).map_err(told)
}

/// Its path first: without it there is no file.
fn forget(root: &mut dyn Dir, name: &str) -> Result<()> {
    let told = named(object!(WHAT));
    let directory = below(PLACE, name)?;
    for part in FILE_PARTS {
        ignore_missing(root.remove(&join(&[&directory, "/", part])?)).map_err(&told)?;
    }
    ignore_missing(root.remove_dir(&directory)).map_err(&told)?;
    let note = join(&[FILES, "/appended-", split(name).1])?;
    ignore_missing(root.remove(&note)).map_err(told)
}
