//! Files the seed asks for, as cloud-config's `write_files` means them, whole or as they were.
//!
//! After the accounts, so that owners exist. What is to come later, or has an owner that packages will bring, is kept for
//! the last stage ([`deferred`]). A file that does not fit into a buffer is written piece by piece beside its place. Links on the way lead where they do inside the root as long as every
//! directory is root's; below one that is not, no link is followed. A link in the file's own place is refused. Every file
//! has its turn; the number in the first failure counts them from 1.

use super::account::{GROUP, PASSWD};
use super::replace::{self, Ownership, Target};
use super::{PathText, Root, SeedPlace, State, below, deferred, exists, include, join, named, read, split};
use crate::error::{Errno, Error, Result, Rule};
use crate::facts::Facts;
use crate::format::base64::{Decoder, base64_rules};
use crate::format::passwd::{UserRepr, find};
use crate::format::text::{Out, digits, number, split_once};
use crate::limits;
use crate::seed;
use crate::sys::{Dir, FileType, Owner, Symlinks};

const WHAT: &str = "write_files";
const NOWHERE: &Rule = malformed!(WHAT, "no path of a file");
const NOBODY: &Rule = malformed!(WHAT, "this image has no such owner of a file");
const LARGE: &Rule = unsupported!(rule WHAT, "too large for a directory that is not root's alone");

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    check_below(root, "")
}

/// Whether those are there whose paths begin so.
pub(super) fn check_below(root: &mut Root<'_>, start: &str) -> Result<State> {
    let mut state = State::Satisfied;
    each(root, &mut |root, file| {
        if !is_below(root, file, start) {
            return Ok(());
        }
        // apply says what is wrong with it.
        let is_there = File::load(root, file).and_then(|file| match file.is_late() {
            true => deferred::is_kept(root, file.name, &file.path),
            false => file.is_there(root),
        });
        if is_there != Ok(true) {
            state = State::Missing;
        }
        Ok(())
    })?;
    Ok(state)
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    // The seed has all of them until this has ended: what an earlier try kept may be of other user data.
    if exists(root.dir, deferred::PLACE)? && !include::is_at_work(root) {
        deferred::forget_all(root.dir)?;
    }
    apply_below(root, "")
}

/// Writes those whose paths begin so.
pub(super) fn apply_below(root: &mut Root<'_>, start: &str) -> Result<()> {
    let mut first = Ok(());
    each(root, &mut |root, name| {
        if !is_below(root, name, start) {
            return Ok(());
        }
        let written = File::load(root, name).and_then(|file| match file.is_late() {
            true => deferred::keep(root, file.name, &file.path),
            false => file.settle(root),
        });
        first = first.and(written);
        Ok(())
    })?;
    first
}

/// Among all of them is also what has no path that can be used.
fn is_below(root: &mut Root<'_>, name: &str, start: &str) -> bool {
    start.is_empty() || path_of(root, name).is_ok_and(|path| path.starts_with(start))
}

/// Calls `work` with `files/N` of every file of the seed.
pub(super) fn each(
    root: &mut Root<'_>,
    work: &mut dyn FnMut(&mut Root<'_>, &str) -> Result<()>,
) -> Result<()> {
    let (dir, base) = place(root);
    if !exists(dir, &below(base, seed::FILES)?)? {
        return Ok(());
    }
    for n in 0..limits::FILES as u64 {
        let name = join(&[seed::FILES, "/", digits(n, &mut [0; 20])])?;
        let (dir, base) = place(root);
        if exists(dir, &below(base, &join(&[&name, "/path"])?)?)? {
            work(root, &name)?;
        }
    }
    Ok(())
}

fn place<'r>(root: &'r mut Root<'_>) -> (&'r mut dyn Dir, &'r str) {
    match root.seed {
        SeedPlace::Run(base) => (&mut *root.run, base),
        SeedPlace::Root(base) => (&mut *root.dir, base),
    }
}

/// Where a file of the seed is to be, relative; absolute paths only, `..` and `.` taken out of them as they are written.
pub(super) fn path_of(root: &mut Root<'_>, name: &str) -> Result<PathText> {
    let mut buf = [0; limits::PATH];
    let text = root.seed_file(&join(&[name, "/path"])?, &mut buf)?;
    let text =
        core::str::from_utf8(text).ok().and_then(|text| text.strip_prefix('/')).ok_or(NOWHERE.at(0))?;
    let mut path = PathText::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => path.truncate(path.rfind('/').unwrap_or_default()),
            part => path = below(&path, part)?,
        }
    }
    if path.is_empty() || text.ends_with('/') { Err(NOWHERE.at(0)) } else { Ok(path) }
}

/// A file to be.
pub(super) struct File<'n> {
    /// In the seed.
    name: &'n str,
    /// In failures.
    number: u64,
    pub(super) path: PathText,
    /// Nobody's while this image has no such owner.
    owner: Option<Owner>,
    is_appended: bool,
    is_base64: bool,
    is_deferred: bool,
}

impl<'n> File<'n> {
    #[inline(never)]
    pub(super) fn load(root: &mut Root<'_>, name: &'n str) -> Result<Self> {
        let number = number(split(name).1.as_bytes()).map_or(0, |n| u64::from(n) + 1);
        let told = |error: Error| if error.errno().is_none() { NOWHERE.at(number) } else { error };
        let path = path_of(root, name).map_err(told)?;
        let mut buf = [0; 128];
        let part = |part: &str| join(&[name, "/", part]);
        let is_appended = !root.seed_file(&part("append")?, &mut buf)?.is_empty();
        let is_base64 = !root.seed_file(&part("encoding")?, &mut buf)?.is_empty();
        let is_deferred = !root.seed_file(&part("defer")?, &mut buf)?.is_empty();
        let mode = core::str::from_utf8(root.seed_file(&part("mode")?, &mut buf)?).unwrap_or_default();
        let mode = u32::from_str_radix(mode.trim_ascii(), 8).unwrap_or(0o644) & 0o7777;
        let owner = core::str::from_utf8(root.seed_file(&part("owner")?, &mut buf)?).unwrap_or_default();
        let owner = owner_of(root, owner.trim_ascii(), mode)?;
        Ok(Self { name, number, path, owner, is_appended, is_base64, is_deferred })
    }

    /// To be written in the last stage.
    fn is_late(&self) -> bool {
        self.is_deferred || self.owner.is_none()
    }

    fn owner(&self) -> Result<Owner> {
        self.owner.ok_or(NOBODY.at(self.number))
    }

    /// Writes it, if it is not there.
    pub(super) fn settle(&self, root: &mut Root<'_>) -> Result<()> {
        if self.is_there(root)? { Ok(()) } else { self.write(root) }
    }

    /// Of a file that is added to: how long it was before, as a note says, which is on the disk before the file changes.
    fn note(&self, root: &Root<'_>) -> Result<PathText> {
        let place =
            if deferred::is_at_work(root) { join(&[deferred::FILES])? } else { seed::marks(root.id)? };
        join(&[&place, "/appended-", split(self.name).1])
    }

    fn noted(&self, root: &mut Root<'_>) -> Result<Option<u64>> {
        let mut text = [0; 20];
        let note = self.note(root)?;
        let text = read(root.dir, &note, object!("note of write_files"), &mut text)?;
        Ok(core::str::from_utf8(text).ok().and_then(|text| text.parse().ok()))
    }

    fn take_note(&self, root: &mut Root<'_>) -> Result<()> {
        let size = root.dir.stat(&self.path).map_or(0, |stat| stat.size);
        if !deferred::is_at_work(root) {
            seed::make_marks(root.dir, root.id).map_err(named(object!("note of write_files")))?;
        }
        let note = self.note(root)?;
        let target = Target::root(&note, object!("note of write_files"), 0o600);
        replace::write(root.dir, target, digits(size, &mut [0; 20]).as_bytes(), &mut |_, _| Ok(()))
    }

    /// True when what is there is what shall be; of a file that is added to, what it was added to.
    #[inline(never)]
    fn is_there(&self, root: &mut Root<'_>) -> Result<bool> {
        let owner = self.owner()?;
        let stat = match root.dir.stat(&self.path) {
            Err(error) if error.is_not_found() => return Ok(false),
            outcome => outcome.map_err(named(object!(WHAT)))?,
        };
        let has_owner = (stat.mode, stat.uid, stat.gid) == (owner.mode, owner.uid, owner.gid);
        let is_it = stat.file_type == FileType::File
            && (self.is_appended || (has_owner && stat.size == self.length(root)?));
        let start = if self.is_appended { self.noted(root)? } else { Some(0) };
        let Some(mut at) = start.filter(|_| is_it) else { return Ok(false) };
        let mut content = Content::of(self);
        while let Some(n) = content.next(root)? {
            let mut rest = root.buffers.new.get(..n).unwrap_or_default();
            while !rest.is_empty() {
                let mut there = [0; 1024];
                let n = rest.len().min(there.len());
                let (some, behind) = rest.split_at_checked(n).unwrap_or((rest, &[]));
                let got = root.dir.read_at(&self.path, at, there.get_mut(..n).unwrap_or_default());
                if there.get(..got.map_err(named(object!(WHAT)))?) != Some(some) {
                    return Ok(false);
                }
                (at, rest) = (at.saturating_add(n as u64), behind);
            }
        }
        Ok(true)
    }

    /// Bytes of the content, decoded.
    fn length(&self, root: &mut Root<'_>) -> Result<u64> {
        let (mut content, mut length) = (Content::of(self), 0u64);
        while let Some(n) = content.next(root)? {
            length = length.saturating_add(n as u64);
        }
        Ok(length)
    }

    #[inline(never)]
    fn write(&self, root: &mut Root<'_>) -> Result<()> {
        let owner = self.owner()?;
        // By then there are users and daemons at work, and what they may write is theirs as well.
        // By then users and daemons are at work.
        let others = if deferred::is_at_work(root) || include::is_at_work(root) { 0o022 } else { 0 };
        let end = make_parents(root.dir, split(&self.path).0, owner, others)?;
        if self.is_appended {
            self.take_note(root)?;
        }
        match end {
            None => self.write_in_pieces(root, owner),
            Some(end) => self.write_guarded(root, end, owner),
        }
    }

    fn write_in_pieces(&self, root: &mut Root<'_>, owner: Owner) -> Result<()> {
        let mut temporary = replace::Temporary::begin(root.dir, target(&self.path, owner))?;
        let written = self.pump(root, &mut temporary);
        temporary.end(root.dir, written, &mut |_, _| Ok(()))
    }

    /// What was there, if it stays, and the content.
    fn pump(&self, root: &mut Root<'_>, temporary: &mut replace::Temporary<'_>) -> Result<()> {
        let (mut at, mut is_more) = (0u64, self.is_appended);
        while is_more {
            let n = match root.dir.read_at(&self.path, at, root.buffers.new) {
                Err(error) if error.is_not_found() => 0,
                outcome => outcome.map_err(named(object!(WHAT)))?,
            };
            is_more = n > 0;
            if is_more {
                temporary.put(root.dir, root.buffers.new.get(..n).unwrap_or_default())?;
            }
            at = at.saturating_add(n as u64);
        }
        let mut content = Content::of(self);
        while let Some(n) = content.next(root)? {
            temporary.put(root.dir, root.buffers.new.get(..n).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Below a directory that somebody else may change: the file has to fit, and no link is followed.
    fn write_guarded(&self, root: &mut Root<'_>, end: usize, owner: Owner) -> Result<()> {
        let base = self.path.get(..end).unwrap_or_default();
        let rest = self.path.get(end..).unwrap_or_default().trim_start_matches('/');
        let mut content = Content::of(self);
        let mut whole = content.next(root)?.unwrap_or_default();
        if !content.is_end {
            return Err(LARGE.at(0));
        }
        if self.is_appended {
            let (new, mut old) = (&mut *root.buffers.new, 0);
            let place = new.get_mut(whole..).unwrap_or_default();
            root.dir.enter(base, Symlinks::Refuse, &mut |dir| {
                old = match dir.read(rest, place) {
                    Err(error) if error.is_not_found() => 0,
                    outcome => outcome?,
                };
                Ok(())
            })?;
            let end = whole.saturating_add(old);
            new.get_mut(..end).unwrap_or_default().rotate_left(whole);
            whole = end;
        }
        let text = root.buffers.new.get(..whole).unwrap_or_default();
        root.dir.enter(base, Symlinks::Refuse, &mut |dir| {
            make_parents(dir, split(rest).0, owner, 0)?;
            replace::write(dir, target(rest, owner), text, &mut |_, _| Ok(()))
        })
    }
}

fn target(path: &str, owner: Owner) -> Target<'_> {
    Target { path, object: object!(WHAT), ownership: Ownership::Force(owner) }
}

/// The content of a file in the seed, a buffer at a time.
struct Content<'n> {
    name: &'n str,
    at: u64,
    decoder: Option<Decoder>,
    is_end: bool,
}

impl<'n> Content<'n> {
    fn of(file: &File<'n>) -> Self {
        // A file is as large as the seed has it: what fits into memory.
        let decoder = || Decoder::new(base64_rules!(WHAT), usize::MAX);
        Self { name: file.name, at: 0, decoder: file.is_base64.then(decoder), is_end: false }
    }

    /// The next bytes, into the buffer for new files; `None` behind the last.
    #[inline(never)]
    fn next(&mut self, root: &mut Root<'_>) -> Result<Option<usize>> {
        if self.is_end {
            return Ok(None);
        }
        let path = join(&[self.name, "/content"])?;
        let (dir, base) = match root.seed {
            SeedPlace::Run(base) => (&mut *root.run, base),
            SeedPlace::Root(base) => (&mut *root.dir, base),
        };
        let n = match dir.read_at(&below(base, &path)?, self.at, root.buffers.old) {
            Err(error) if error.is_not_found() => 0,
            outcome => outcome.map_err(named(object!("seed")))?,
        };
        self.at = self.at.saturating_add(n as u64);
        self.is_end = n < root.buffers.old.len();
        let text = root.buffers.old.get(..n).unwrap_or_default();
        let mut out = Out::new(object!(WHAT).full, root.buffers.new);
        match &mut self.decoder {
            None => out.put(text)?,
            Some(decoder) => {
                decoder.push(text, &mut |bytes| out.put(bytes))?;
                if self.is_end {
                    decoder.finish(&mut |bytes| out.put(bytes))?;
                }
            }
        }
        Ok(Some(out.as_bytes().len()))
    }
}

/// Makes what is missing above a file, its owner's. Says where the first directory ends that is not root's, or has one of
/// these bits of a mode.
fn make_parents(dir: &mut dyn Dir, parent: &str, owner: Owner, others: u32) -> Result<Option<usize>> {
    let ends = parent.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at);
    for end in ends.chain([parent.len()]).filter(|end| *end > 0) {
        let above = parent.get(..end).unwrap_or_default();
        match dir.make_dir(above, Owner { mode: 0o755, ..owner }) {
            Ok(()) => dir.sync_dir(split(above).0).map_err(named(object!(WHAT)))?,
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            outcome => outcome.map_err(named(object!(WHAT)))?,
        }
        let mut is_others = false;
        dir.enter(above, Symlinks::Inside, &mut |above| {
            let stat = above.stat("")?;
            is_others = stat.uid != 0 || stat.mode & others != 0;
            Ok(())
        })
        .map_err(named(object!(WHAT)))?;
        if is_others {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// `USER` or `USER:GROUP` of this image; without a group it is root's.
fn owner_of(root: &mut Root<'_>, text: &str, mode: u32) -> Result<Option<Owner>> {
    let (user, group) = split_once(text, ":").unwrap_or((text, ""));
    let mut owner = Owner::root(mode);
    if !user.is_empty() && user != "root" {
        let passwd = read(root.dir, PASSWD, object!(PASSWD), root.buffers.old)?;
        let Some(line) = find(passwd, user) else { return Ok(None) };
        owner.uid = UserRepr::parse(line)?.uid;
    }
    if !group.is_empty() && group != "root" {
        let groups = read(root.dir, GROUP, object!(GROUP), root.buffers.old)?;
        let Some(gid) = find(groups, group).and_then(|line| line.id()) else { return Ok(None) };
        owner.gid = gid;
    }
    Ok(Some(owner))
}
