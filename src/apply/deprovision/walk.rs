//! Which paths of a tree does a row of the table mean, and how is one taken away?

use super::table::{Action, Group, LAST, TABLE};
use super::{Context, Edit, Found, Purpose};
use crate::apply::replace::{self, Ownership, Target};
use crate::apply::{Buffers, Object, PathText, join, split};
use crate::error::{Errno, Error, Result};
use crate::format::passwd;
use crate::format::text::Out;
use crate::sys::{Dir, FileType, Stat, Symlinks};

/// Bytes of names taken from a directory at a time; each level of directories has its own.
const NAMES: usize = 1024;
/// A path as it is told; longer ones lose their end.
const SHOWN: usize = 1024;
/// A directory of waagent's configuration with fewer names in it could be anybody's.
const NAMES_OF_A_STATE_DIRECTORY: usize = 3;
const FILE: &Object = object!("file of the image");
type Visit<'v> = &'v mut dyn FnMut(&mut Walk<'_>, &mut dyn Dir, &str, &mut [u8]);

/// One pass over the table.
pub(super) struct Walk<'w> {
    context: &'w Context<'w>,
    purpose: Purpose,
    tell: &'w mut dyn FnMut(&Found<'_>),
    group: &'static Group,
    path: heapless::String<SHOWN>,
    /// Directories we are in below a path of the table.
    depth: usize,
    failure: Option<Error>,
    ends_at_failure: bool,
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        context: &'w Context<'w>,
        purpose: Purpose,
        tell: &'w mut dyn FnMut(&Found<'_>),
    ) -> Self {
        let group = const { &Group { why: "", when: |_| false, action: Action::Remove, paths: "" } };
        Self {
            context,
            purpose,
            tell,
            group,
            path: heapless::String::new(),
            depth: 0,
            failure: None,
            ends_at_failure: false,
        }
    }

    /// Every row that counts.
    pub(super) fn all(&mut self, dir: &mut dyn Dir, bytes: &mut [u8]) -> Result<()> {
        for group in TABLE {
            self.rows(dir, group, bytes);
        }
        let before = self.failure.take();
        self.ends_at_failure = self.purpose == Purpose::Act;
        for group in LAST {
            // What the rows before took away is to be gone for good.
            self.sync(dir);
            self.rows(dir, group, bytes);
        }
        self.sync(dir);
        before.or(self.failure).map_or(Ok(()), Err)
    }

    fn sync(&mut self, dir: &mut dyn Dir) {
        if self.purpose == Purpose::Act
            && let Err(error) = dir.sync_all()
        {
            self.failed(error);
        }
    }

    fn rows(&mut self, dir: &mut dyn Dir, group: &'static Group, bytes: &mut [u8]) {
        if !(group.when)(self.context) {
            return;
        }
        self.group = group;
        if let Action::RemoveHome = group.action {
            self.home(dir, bytes);
        }
        let mut base = "";
        for word in group.paths.split(' ').filter(|word| !word.is_empty()) {
            if self.ends_at_failure && self.failure.is_some() {
                return;
            }
            if word.ends_with('/') {
                base = word.trim_start_matches('/');
                continue;
            }
            match self.expand(base, word) {
                Ok(pattern) => self.descend(dir, &pattern, Symlinks::Inside, bytes),
                Err(error) => self.failed(error),
            }
        }
    }

    fn expand(&self, base: &str, word: &str) -> Result<PathText> {
        let (directory, rest) = match word.split_at_checked(2) {
            Some(("%A", rest)) => (self.context.config.agent_directory(), rest),
            Some(("%K", _)) => return join(&[self.context.keys.as_deref().unwrap_or_default()]),
            Some(("%S", _)) => return Ok(self.context.swap_file()),
            Some(("%L", rest)) => (self.context.config.extension_log_directory(), rest),
            _ => return join(&[base, word]),
        };
        let names = directory.split('/').filter(|name| !matches!(*name, "" | ".")).count();
        if names < NAMES_OF_A_STATE_DIRECTORY || directory.contains(['*', '@']) {
            return Err(unsupported!(
                "Lib.Dir or Extension.LogDir",
                "a directory so near the root is not emptied"
            ));
        }
        join(&[directory.trim_matches('/'), rest])
    }

    /// Follows the names of a pattern. Up to the first `*` or `@` links lead where they do inside the root; behind
    /// it users may have made them, and none is followed.
    fn descend(&mut self, dir: &mut dyn Dir, pattern: &str, symlinks: Symlinks, buf: &mut [u8]) {
        let wild = pattern.find(['*', '@']).unwrap_or(pattern.len());
        let (plain, rest) = pattern.split_at_checked(wild).unwrap_or((pattern, ""));
        let (directory, _) = split(plain);
        if !directory.is_empty() {
            let rest = pattern.get(directory.len().saturating_add(1)..).unwrap_or_default();
            return self.inside(dir, directory, symlinks, buf, &mut |walk, dir, _, buf| {
                walk.descend(dir, rest, symlinks, buf);
            });
        }
        match (rest.is_empty(), pattern.split_once('/')) {
            (true, _) => self.reach(dir, pattern, buf),
            (false, None) => {
                self.each(dir, pattern, buf, &mut |walk, dir, name, buf| walk.reach(dir, name, buf))
            }
            (false, Some((wanted, rest))) => self.each(dir, wanted, buf, &mut |walk, dir, name, buf| {
                walk.inside(dir, name, Symlinks::Refuse, buf, &mut |walk, dir, _, buf| {
                    walk.descend(dir, rest, Symlinks::Refuse, buf);
                });
            }),
        }
    }

    /// Works in a directory; one that is missing, a file or a link that is not followed has nothing in it.
    fn inside(
        &mut self,
        dir: &mut dyn Dir,
        path: &str,
        symlinks: Symlinks,
        buf: &mut [u8],
        visit: Visit<'_>,
    ) {
        let end = self.path.len();
        self.push(path);
        let entered = dir.enter(path, symlinks, &mut |dir| {
            visit(self, dir, "", buf);
            Ok(())
        });
        if let Err(error) = entered
            && !error.is_not_found()
            && error.errno() != Some(Errno::LOOP)
        {
            self.failed(error);
        }
        self.path.truncate(end);
    }

    /// Every name in a directory that is `wanted`, in the directory's order.
    fn each(&mut self, dir: &mut dyn Dir, wanted: &str, buf: &mut [u8], visit: Visit<'_>) {
        let Some((names, rest)) = buf.split_at_mut_checked(NAMES) else {
            return self.failed(too_many!("directories inside directories", NAMES));
        };
        let mut passed = 0;
        loop {
            let user = self.context.user;
            let listed = names_from(dir, passed, names, &|name| is_meant(wanted, name, user));
            let (length, is_end) = match listed {
                Ok(listed) => listed,
                Err(error) => return self.failed(error),
            };
            let some = names.get(..length).unwrap_or_default();
            for name in some.split(|byte| *byte == 0).filter_map(|name| core::str::from_utf8(name).ok()) {
                if !name.is_empty() {
                    visit(self, dir, name, rest);
                    passed = passed.saturating_add(usize::from(dir.stat(name).is_ok()));
                }
            }
            if is_end {
                return;
            }
        }
    }

    /// A path of the table, or below one.
    fn reach(&mut self, dir: &mut dyn Dir, name: &str, buf: &mut [u8]) {
        if name.is_empty() {
            // A directory's own name for itself: the root is no row of the table.
            return;
        }
        let stat = match dir.stat(name) {
            Ok(stat) => stat,
            Err(error) if error.is_not_found() => return,
            Err(error) => return self.failed(error),
        };
        let end = self.path.len();
        self.push(name);
        let is_file = stat.file_type == FileType::File;
        let outcome = match self.group.action {
            Action::Remove | Action::RemoveHome => self.remove(dir, name, stat, buf),
            Action::RemoveFile if is_file => self.remove(dir, name, stat, buf),
            Action::RemoveFiles if stat.file_type == FileType::Directory => self.below(dir, name, stat, buf),
            Action::RemoveFiles if stat.size > 0 => self.remove(dir, name, stat, buf),
            Action::Empty if !is_file || stat.size > 0 => self.replace(dir, name, b""),
            Action::Edit(edit) => self.edit(dir, name, edit, buf),
            Action::RemoveFile | Action::RemoveFiles | Action::Empty => Ok(()),
        };
        if let Err(error) = outcome {
            self.failed(error);
        }
        self.path.truncate(end);
    }

    fn remove(&mut self, dir: &mut dyn Dir, name: &str, stat: Stat, buf: &mut [u8]) -> Result<()> {
        let is_directory = stat.file_type == FileType::Directory;
        if is_directory && self.purpose != Purpose::Overview {
            self.below(dir, name, stat, buf)?;
        }
        self.told();
        match (self.purpose, is_directory) {
            (Purpose::Act, true) => match dir.remove_dir(name) {
                // Names that are not UTF-8 are in no list; with others they go like everything else.
                Err(error) if error.errno() == Some(Errno::NOTEMPTY) && dir.rename_unreadable(name)? > 0 => {
                    self.below(dir, name, stat, buf)?;
                    dir.remove_dir(name)
                }
                outcome => outcome,
            },
            (Purpose::Act, false) => dir.remove(name),
            _ => Ok(()),
        }
    }

    /// Everything in a directory, links not followed.
    fn below(&mut self, dir: &mut dyn Dir, name: &str, stat: Stat, buf: &mut [u8]) -> Result<()> {
        let mounted = unsupported!("directory", "another file system is mounted there");
        if dir.stat("")?.device != stat.device {
            return Err(mounted);
        }
        let depth = self.depth;
        self.depth = depth.saturating_add(1);
        let entered = dir.enter(name, Symlinks::RefuseMounts, &mut |inner| {
            self.each(inner, "*", buf, &mut |walk, dir, name, buf| walk.reach(dir, name, buf));
            Ok(())
        });
        self.depth = depth;
        match entered {
            Err(error) if error.errno() == Some(Errno::XDEV) => Err(mounted),
            entered => entered,
        }
    }

    fn replace(&mut self, dir: &mut dyn Dir, name: &str, content: &[u8]) -> Result<()> {
        self.told();
        if self.purpose != Purpose::Act {
            return Ok(());
        }
        let target = Target { path: name, object: FILE, ownership: Ownership::Keep };
        replace::write(dir, target, content, &mut |_, _| Ok(()))
    }

    fn edit(&mut self, dir: &mut dyn Dir, name: &str, edit: Edit, buf: &mut [u8]) -> Result<()> {
        let Buffers { old, new, .. } = Buffers::halves_of(buf);
        let length = dir.read(name, old)?;
        let old = old.get(..length).unwrap_or_default();
        let mut out = Out::new(too_many!("file of the image"), new);
        edit(self.context, old, &mut out)?;
        if out.as_bytes() == old { Ok(()) } else { self.replace(dir, name, out.as_bytes()) }
    }

    /// As userdel -r: a directory that is the user's own.
    fn home(&mut self, dir: &mut dyn Dir, buf: &mut [u8]) {
        let context = self.context;
        let Some(account) = &context.account else { return };
        let (parent, name) = split(&account.home);
        if parent.is_empty() {
            return self
                .failed(unsupported!("home directory", "so near the root it is not the user's alone"));
        }
        let length = dir.read("etc/passwd", buf).unwrap_or_default();
        if passwd::lives_in(buf.get(..length).unwrap_or_default(), &account.home, context.user) {
            return self.failed(unsupported!("home directory", "another account lives there"));
        }
        self.inside(dir, parent, Symlinks::Inside, buf, &mut |walk, dir, _, buf| match dir.stat(name) {
            Ok(stat) if stat.uid != account.uid => {
                walk.failed(unsupported!("home directory", "belongs to somebody else"));
            }
            _ => walk.reach(dir, name, buf),
        });
    }

    fn push(&mut self, name: &str) {
        let separator = if self.path.is_empty() { "" } else { "/" };
        // What does not fit is not shown: the path is for people.
        let _ = [separator, name].iter().try_for_each(|part| self.path.push_str(part));
    }

    /// A path that is to change.
    fn told(&mut self) {
        let is_named = match self.purpose {
            Purpose::Overview => self.depth == 0 || matches!(self.group.action, Action::RemoveFiles),
            Purpose::List => true,
            Purpose::Act => false,
        };
        if is_named {
            (self.tell)(&Found { group: self.group, path: &self.path, failure: None });
        }
    }

    fn failed(&mut self, error: Error) {
        self.failure = self.failure.or(Some(error));
        (self.tell)(&Found { group: self.group, path: &self.path, failure: Some(error) });
    }
}

/// Fills `names` with the wanted names behind the first `passed`, a NUL after each; says how many bytes they are and
/// whether there are no more.
fn names_from(
    dir: &mut dyn Dir,
    passed: usize,
    names: &mut [u8],
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<(usize, bool)> {
    let mut out = Out::new(too_many!("names"), names);
    let (mut seen, mut is_end) = (0usize, true);
    dir.list("", &mut |name, _| {
        if is_wanted(name) {
            seen = seen.saturating_add(1);
            is_end = seen <= passed || out.put_all(&[name.as_bytes(), b"\0"]).is_ok();
        }
        is_end
    })?;
    Ok((out.as_bytes().len(), is_end))
}

/// True when a name of a pattern means this name of a directory.
fn is_meant(wanted: &str, name: &str, user: &str) -> bool {
    if wanted == "@" { name == user } else { is_like(wanted, name) }
}

/// `*` stands for any text.
fn is_like(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| is_like(tail, rest)))
}

#[cfg(test)]
mod tests {
    use super::{is_like, is_meant};
    use proptest::prelude::{prop_assert, proptest};

    #[test]
    fn a_star_is_any_text() {
        for (pattern, name) in [
            ("ssh_host_*key*", "ssh_host_rsa_key.pub"),
            ("*", ".hidden"),
            ("a*", "a"),
            ("*.lease", "x.lease"),
        ] {
            assert!(is_like(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("ssh_host_*key*", "ssh_host_rsa"), (".*_history", "_history"), ("a", "ab")] {
            assert!(!is_like(pattern, name), "{pattern} {name}");
        }
        assert!(is_meant("@", "ops", "ops") && !is_meant("@", "@", "ops"));
    }

    proptest! {
        #[test]
        fn what_is_put_for_the_stars_is_found(parts in proptest::collection::vec("[a-c]{0,4}", 1..4), fill in "[a-c]{0,4}") {
            prop_assert!(is_like(&parts.join("*"), &parts.join(fill.as_str())));
        }
    }
}
