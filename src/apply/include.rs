//! Which documents do user data include? They are fetched once there is a network (`preroot include`): what is needed to
//! translate once more then is kept beside the scripts, and goes once that was done.

use super::write_files::{each, path_of};
use super::{Root, SeedPlace, State, exists, ignore_missing, join, named, person, split};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::text::{PathText, digits};
use crate::limits;
use crate::seed;
use crate::sys::{Dir, Owner};

/// A seed, below the root: who the VM is, and user data and vendor data as they came.
pub const PLACE: &str = "var/lib/preroot/include";
/// The documents that are wanted, a line each ([`crate::format::translation::Wanted`]); by its number a document is known.
pub const LIST: &str = "var/lib/preroot/include/include";
/// The default account of the image, or whom user data named as such.
pub(super) const DEFAULT_USER: &str = "var/lib/preroot/include/default-user";
/// The platform gave the administrator a password.
pub(super) const HAS_PASSWORD: &str = "var/lib/preroot/include/has-password";
/// Holds the documents.
pub const DOCUMENTS: &str = "var/lib/preroot/include/documents";
/// Below /run/preroot: what the documents add, while it is applied.
pub const ADDED: &str = "include/seed";
const WHAT: &str = "documents to be included";

/// How far a document is. Its file begins with its URL, and a line feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It is being fetched.
    Part,
    /// It was fetched.
    New,
    /// What it says was done.
    Old,
}

impl Stage {
    /// The file of document `n`.
    ///
    /// # Errors
    /// Never.
    #[inline(never)]
    pub fn file(self, n: usize) -> Result<PathText> {
        let word = match self {
            Self::Part => "part-",
            Self::New => "new-",
            Self::Old => "old-",
        };
        join(&[DOCUMENTS, "/", word, digits(n as u64, &mut [0; 20])])
    }
}

/// True while that is applied which the documents add.
pub(super) fn is_at_work(root: &Root<'_>) -> bool {
    root.seed == SeedPlace::Run(ADDED)
}

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    let is_asked =
        is_at_work(root) || !root.seed_file(seed::INCLUDE, &mut [0; 1]).is_ok_and(<[u8]>::is_empty);
    // Of an earlier try, which had other user data.
    let has_old = !is_at_work(root) && exists(root.dir, PLACE)?;
    Ok(if is_asked || has_old { State::Missing } else { State::Satisfied })
}

pub(super) fn apply(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    if is_at_work(root) {
        return run_again(root);
    }
    forget(root.dir)?;
    if root.seed_file(seed::INCLUDE, &mut [0; 1]).is_ok_and(<[u8]>::is_empty) {
        return Ok(());
    }
    let kept = match root.seed {
        SeedPlace::Run(base) => seed::keep_words(root.run, base, Some(root.dir), PLACE),
        SeedPlace::Root(base) => seed::keep_words(root.dir, base, None, PLACE),
    };
    let kept = kept.map_err(named(object!(WHAT))).and_then(|()| keep_who(facts, root));
    // Half of it could mean somebody else.
    if kept.is_err() { forget(root.dir).and(kept) } else { Ok(()) }
}

/// Who is meant, and what is known of the administrator.
fn keep_who(facts: &Facts, root: &mut Root<'_>) -> Result<()> {
    let told = named(object!(WHAT));
    if facts.password.is_some() {
        root.dir.create(HAS_PASSWORD, Owner::root(0o600), b"").map_err(&told)?;
    }
    if facts.user.is_some() {
        return Ok(());
    }
    // Who is meant where a document names nobody: what says so now is not said again. With a password it was made, and has
    // what comes with that.
    let (default, _) = person::default_user(facts, root)?;
    let name = join(&[PLACE, "/user/name"])?;
    let file = if facts.password.is_some() { &*name } else { DEFAULT_USER };
    root.dir.create(file, Owner::root(0o600), default.as_str().as_bytes()).map_err(told)
}

/// Everything of it goes.
///
/// # Errors
/// `Os`.
#[inline(never)]
pub fn forget(root: &mut dyn Dir) -> Result<()> {
    let told = named(object!(WHAT));
    // A cut may have left it.
    seed::remove(root, seed::INCLUDE_STAGING).map_err(&told)?;
    if !exists(root, PLACE)? {
        return Ok(());
    }
    // Without it there is nothing to be done.
    ignore_missing(root.remove(LIST)).map_err(&told)?;
    for n in 0..limits::INCLUDES {
        for stage in [Stage::Part, Stage::New, Stage::Old] {
            ignore_missing(root.remove(&stage.file(n)?)).map_err(&told)?;
        }
    }
    ignore_missing(root.remove_dir(DOCUMENTS)).map_err(&told)?;
    for file in [DEFAULT_USER, HAS_PASSWORD] {
        ignore_missing(root.remove(file)).map_err(&told)?;
    }
    seed::remove(root, PLACE).map_err(told)
}

/// A document that came in a later boot may change a script that ran: as it is now it has not.
fn run_again(root: &mut Root<'_>) -> Result<()> {
    each(root, &mut |root, file| {
        let Ok(path) = path_of(root, file) else { return Ok(()) };
        let place = path.strip_prefix(seed::SCRIPTS).map(split).unwrap_or_default();
        let (directory, name) = (place.0.trim_start_matches('/'), place.1);
        if !seed::RUN_ONCE.contains(&directory) {
            return Ok(());
        }
        let record = join(&[seed::RAN, "/", directory, ".", name])?;
        ignore_missing(root.dir.remove(&record)).map_err(named(object!("record of a script")))
    })
}
