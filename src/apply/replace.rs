//! How is a file changed so that a power cut leaves the old one or the new one, never half of either?
//!
//! A temporary file in the same directory, made with O_EXCL, gets owner, mode and SELinux label, is synced,
//! renamed over the old one, and the directory is synced.

use super::{Buffers, Object, PathText, join, named, split};
use crate::error::{Errno, Result};
use crate::format::text::Out;
use crate::sys::{Dir, FileType, Owner};

/// Whose the new file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ownership {
    /// As the old file, which must exist.
    Keep,
    /// As the old file, else this.
    KeepOr(Owner),
    /// This, whatever the old file had.
    Force(Owner),
}

/// A file to be replaced.
#[derive(Clone, Copy, Debug)]
pub struct Target<'p> {
    /// Relative to the directory.
    pub path: &'p str,
    /// What it is in errors.
    pub object: &'static Object,
    /// Owner and mode.
    pub ownership: Ownership,
}

/// Looks at a temporary file before it counts.
pub type Inspect<'a> = &'a mut dyn FnMut(&mut dyn Dir, &str) -> Result<()>;

impl<'p> Target<'p> {
    /// A file of the system that must be there: the object's name is its path.
    #[must_use]
    pub const fn existing(object: &'static Object) -> Target<'static> {
        Target { path: object.name, object, ownership: Ownership::Keep }
    }

    /// A file of root's that is made if it is missing.
    #[must_use]
    pub const fn root(path: &'p str, object: &'static Object, mode: u32) -> Self {
        Self { path, object, ownership: Ownership::KeepOr(Owner::root(mode)) }
    }
}

/// Rewrites a file: `edit` gets what is there (nothing, if the file may be missing) and writes what shall be.
/// Returns false, touching nothing, when that is the same.
///
/// # Errors
/// `TooMany` when a buffer is too small; `Unsupported` for a symbolic link or no regular file; `Os`. The old
/// file is untouched then.
pub fn edit(
    dir: &mut dyn Dir,
    target: Target<'_>,
    buffers: &mut Buffers<'_>,
    edit: &mut dyn FnMut(&[u8], &mut Out<'_>) -> Result<()>,
) -> Result<bool> {
    let n = match dir.read(target.path, buffers.old) {
        Err(error) if error.is_not_found() && target.ownership != Ownership::Keep => None,
        outcome => Some(outcome.map_err(named(target.object))?),
    };
    let old = buffers.old.get(..n.unwrap_or_default()).unwrap_or_default();
    let mut out = Out::new(target.object.full, buffers.new);
    edit(old, &mut out)?;
    if n.is_some() && out.as_bytes() == old {
        return Ok(false);
    }
    write(dir, target, out.as_bytes(), &mut |_, _| Ok(())).map(|()| true)
}

/// Replaces a file, or makes it. `inspect` sees the complete temporary file first; if it refuses, nothing
/// has changed.
///
/// # Errors
/// As [`edit`], and what `inspect` returns.
pub fn write(dir: &mut dyn Dir, target: Target<'_>, content: &[u8], inspect: Inspect<'_>) -> Result<()> {
    let mut temporary = Temporary::begin(dir, target)?;
    let written = temporary.put(dir, content);
    temporary.end(dir, written, inspect)
}

/// A file that is written piece by piece beside its place.
pub struct Temporary<'p> {
    target: Target<'p>,
    path: PathText,
    owner: Owner,
    has_old: bool,
    pieces: u32,
}

impl<'p> Temporary<'p> {
    /// Nothing is written yet; what a power cut left is gone.
    ///
    /// # Errors
    /// As [`edit`].
    pub fn begin(dir: &mut dyn Dir, target: Target<'p>) -> Result<Self> {
        let old = old_owner(dir, target)?;
        let owner = match (target.ownership, old) {
            (Ownership::Keep | Ownership::KeepOr(_), Some(owner)) => owner,
            (Ownership::KeepOr(owner) | Ownership::Force(owner), _) => owner,
            (Ownership::Keep, None) => return Err(target.object.refused.refused(Errno::NOENT)),
        };
        let path = temporary_name(target.path)?;
        // Removing follows no link.
        super::ignore_missing(dir.remove(&path)).map_err(named(target.object))?;
        Ok(Self { target, path, owner, has_old: old.is_some(), pieces: 0 })
    }

    /// The next piece. The first is synced by itself, with more of them the file system is, at the end.
    ///
    /// # Errors
    /// `Os`.
    pub fn put(&mut self, dir: &mut dyn Dir, piece: &[u8]) -> Result<()> {
        let put = match self.pieces {
            0 => dir.create(&self.path, self.owner, piece),
            _ => dir.append(&self.path, piece),
        };
        self.pieces = self.pieces.saturating_add(1);
        put.map_err(named(self.target.object))
    }

    /// It takes its place, if it was written and `inspect` has nothing against it; else it goes.
    ///
    /// # Errors
    /// What kept it from being written, `inspect`'s, `Os`.
    pub fn end(mut self, dir: &mut dyn Dir, written: Result<()>, inspect: Inspect<'_>) -> Result<()> {
        let outcome = written.and_then(|()| self.commit(dir, inspect));
        if outcome.is_err() {
            // Only the first failure says why.
            let _ = dir.remove(&self.path);
        }
        outcome
    }

    fn commit(&mut self, dir: &mut dyn Dir, inspect: Inspect<'_>) -> Result<()> {
        let (target, told) = (self.target, named(self.target.object));
        match self.pieces {
            0 => self.put(dir, b"")?,
            1 => {}
            _ => dir.sync_all().map_err(&told)?,
        }
        if self.has_old {
            dir.copy_label(target.path, &self.path).map_err(&told)?;
        }
        inspect(dir, &self.path)?;
        dir.rename(&self.path, target.path).map_err(&told)?;
        dir.sync_dir(split(target.path).0).map_err(&told)
    }
}

fn old_owner(dir: &mut dyn Dir, target: Target<'_>) -> Result<Option<Owner>> {
    let stat = match dir.stat(target.path) {
        Err(error) if error.is_not_found() => return Ok(None),
        outcome => outcome.map_err(named(target.object))?,
    };
    match stat.file_type {
        FileType::File => Ok(Some(Owner { mode: stat.mode, uid: stat.uid, gid: stat.gid })),
        FileType::Symlink => Err(target.object.linked.at(0)),
        _ => Err(target.object.special.at(0)),
    }
}

/// `.NAME.preroot` beside the file: the dot keeps it out of sudoers.d, sshd_config.d and the like.
fn temporary_name(path: &str) -> Result<PathText> {
    let (directory, name) = split(path);
    super::below(directory, &join(&[".", name, ".preroot"])?)
}

#[cfg(test)]
mod tests {
    use super::{Ownership, Target, edit, write};
    use crate::apply::Buffers;
    use crate::error::{Errno, Kind};
    use crate::sys::Owner;
    use crate::sys::fake::FakeDir;

    const TARGET: Target<'static> = Target::existing(object!("etc/group"));

    fn append(dir: &mut FakeDir, target: Target<'_>, room: usize) -> crate::error::Result<bool> {
        let mut bytes = std::vec![0; room];
        edit(dir, target, &mut Buffers::halves_of(&mut bytes), &mut |old, out| {
            out.put(old)?;
            if old.ends_with(b"new\n") { Ok(()) } else { out.put(b"new\n") }
        })
    }

    fn world() -> FakeDir {
        let mut dir = FakeDir::default();
        dir.put_owned("etc/group", Owner { mode: 0o640, uid: 0, gid: 42 }, "old\n");
        dir.set_label("etc/group", "system_u:object_r:passwd_file_t:s0");
        dir
    }

    #[test]
    fn owner_mode_and_label_are_kept() {
        let mut dir = world();
        assert!(append(&mut dir, TARGET, 64).unwrap());
        assert_eq!(dir.text("etc/group").unwrap(), "old\nnew\n");
        assert_eq!(dir.owner("etc/group").unwrap(), Owner { mode: 0o640, uid: 0, gid: 42 });
        assert_eq!(dir.label("etc/group").unwrap(), "system_u:object_r:passwd_file_t:s0");
        let changes = dir.changes();
        assert!(!append(&mut dir, TARGET, 64).unwrap());
        assert_eq!(dir.changes(), changes, "same content: nothing is written");
    }

    #[test]
    fn the_old_file_or_the_new_one_at_every_power_cut_and_failure() {
        let mut uncut = world();
        append(&mut uncut, TARGET, 64).unwrap();
        for n in 1..=uncut.changes() {
            for keep_names in [false, true] {
                let mut dir = world();
                dir.cut_power_at(n);
                assert!(append(&mut dir, TARGET, 64).is_err());
                dir.power_on(keep_names);
                let text = dir.text("etc/group").unwrap();
                assert!(["old\n", "old\nnew\n"].contains(&text.as_str()), "cut at {n}: {text:?}");
                append(&mut dir, TARGET, 64).unwrap();
                assert_eq!(dir.dump(), uncut.dump(), "cut at {n}");
            }
            let mut dir = world();
            dir.fail_at(n, Errno::NOSPC);
            assert!(append(&mut dir, TARGET, 64).is_err());
            assert!(dir.text("etc/.group.preroot").is_none(), "failure at {n}");
        }
    }

    #[test]
    fn a_file_that_does_not_fit_is_not_cut() {
        let mut dir = world();
        for room in [6, 14] {
            let error = append(&mut dir, TARGET, room).unwrap_err();
            assert_eq!((error.kind(), error.what()), (Kind::TooMany, "etc/group"));
        }
        assert_eq!(dir.text("etc/group").unwrap(), "old\n");
    }

    #[test]
    fn a_link_is_not_replaced_and_a_missing_file_only_if_allowed() {
        let mut dir = world();
        dir.put_symlink("etc/gshadow", "group");
        assert!(append(&mut dir, Target::existing(object!("etc/gshadow")), 64).is_err());
        assert!(append(&mut dir, Target::existing(object!("etc/none")), 64).is_err());
        assert!(append(&mut dir, Target::root("etc/none", object!("etc/none"), 0o600), 64).unwrap());
        assert_eq!(dir.owner("etc/none").unwrap(), Owner::root(0o600));
    }

    #[test]
    fn what_inspection_refuses_never_counts() {
        let mut dir = world();
        let target = Target { ownership: Ownership::Force(Owner::root(0o440)), ..TARGET };
        let refuse = malformed!("x", "y", 0);
        let mut inspect = |dir: &mut dyn crate::sys::Dir, path: &str| {
            assert_eq!(dir.stat(path).unwrap().mode, 0o440);
            Err(refuse)
        };
        assert_eq!(write(&mut dir, target, b"bad", &mut inspect), Err(refuse));
        assert_eq!(dir.text("etc/group").unwrap(), "old\n");
        assert!(dir.text("etc/.group.preroot").is_none());
    }
}
