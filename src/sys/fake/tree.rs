//! A directory tree in memory, with inodes, symbolic links and a model of what survives a power cut.
//!
//! A name survives when its directory was synced after it was made, a file's content when it was synced.
//! [`FakeDir::power_on`] drops the rest (or keeps all names, as a journal that was flushed in time would).

use crate::error::{Errno, Result};
use crate::sys::linux::Ended;
use crate::sys::{DeviceNumber, Owner};
use std::borrow::ToOwned;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

mod dir;

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    File { content: Vec<u8>, synced: Option<Vec<u8>> },
    Directory,
    Symlink(String),
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    kind: Kind,
    owner: Owner,
    label: Option<String>,
    modified: i64,
}

/// The tree behind one or more [`FakeDir`]s.
#[derive(Default, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    changes: u64,
    reads: Cell<u64>,
    fail_at: Option<(u64, Errno)>,
    cut_at: Option<u64>,
    is_off: bool,
    is_read_only: bool,
    is_full: bool,
    ends_at: Option<(u64, Ended)>,
    locks: BTreeSet<String>,
    lock_waits: u32,
    mounts: BTreeMap<String, DeviceNumber>,
}

/// What a file system that is not mounted holds: names below its root, and their inodes in the tree it came from.
pub type Unmounted = Vec<(String, usize)>;

/// A view of a [`Tree`] from one of its directories.
#[derive(Clone, Default)]
pub struct FakeDir {
    tree: Rc<RefCell<Tree>>,
    base: String,
    refuse_symlinks: bool,
    /// Of what is below this directory nobody learns that it is there (0700, and we are not root).
    pub hidden: Option<&'static str>,
    /// Every append is refused so.
    pub appends: Option<Errno>,
    /// What `is_in_memory` answers.
    pub in_memory: bool,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn join(base: &str, name: &str) -> String {
    if base.is_empty() { name.to_owned() } else { std::format!("{base}/{name}") }
}

impl Tree {
    fn kind(&self, path: &str) -> Option<&Kind> {
        if path.is_empty() {
            return Some(&Kind::Directory);
        }
        self.live.get(path).map(|i| &self.nodes[*i].kind)
    }

    fn changing(&mut self) -> Result<()> {
        self.alive()?;
        if self.is_read_only {
            return Err(os!("change", Errno::ROFS));
        }
        self.changes += 1;
        if let Some((at, ended)) = self.ends_at
            && at == self.changes
        {
            std::panic::resume_unwind(std::boxed::Box::new(ended));
        }
        if self.cut_at == Some(self.changes) {
            self.is_off = true;
        }
        if let Some((at, errno)) = self.fail_at
            && at == self.changes
        {
            return Err(os!("injected", errno));
        }
        self.alive()
    }

    /// Of a name without content there is always room for one more.
    fn has_room(&self, bytes: usize) -> Result<()> {
        if self.is_full && bytes > 0 { Err(os!("write", Errno::NOSPC)) } else { Ok(()) }
    }

    fn alive(&self) -> Result<()> {
        if self.is_off { Err(os!("power is off", Errno::IO)) } else { Ok(()) }
    }

    fn insert(&mut self, path: String, kind: Kind, owner: Owner) -> Result<()> {
        if self.live.contains_key(&path) {
            return Err(os!("create", Errno::EXIST));
        }
        match self.kind(parent(&path)) {
            Some(Kind::Directory) => {}
            Some(_) => return Err(os!("create", Errno::NOTDIR)),
            None => return Err(os!("create", Errno::NOENT)),
        }
        self.nodes.push(Node { kind, owner, label: None, modified: 0 });
        self.live.insert(path, self.nodes.len() - 1);
        Ok(())
    }

    fn node_mut(&mut self, path: &str) -> Result<&mut Node> {
        let index = *self.live.get(path).ok_or(os!("open", Errno::NOENT))?;
        Ok(&mut self.nodes[index])
    }

    fn move_prefix(map: &mut BTreeMap<String, usize>, from: &str, to: &str) {
        let below = std::format!("{from}/");
        let keys: Vec<String> = map.keys().filter(|k| *k == from || k.starts_with(&below)).cloned().collect();
        for key in keys {
            if let Some(index) = map.remove(&key) {
                map.insert(std::format!("{to}{}", &key[from.len()..]), index);
            }
        }
    }

    fn remove_prefix(map: &mut BTreeMap<String, usize>, path: &str) {
        let below = std::format!("{path}/");
        map.retain(|k, _| k != path && !k.starts_with(&below));
    }

    fn sync_names(&mut self, directory: &str) {
        let gone: Vec<String> = (self.durable.keys())
            .filter(|k| parent(k) == directory && self.live.get(*k) != self.durable.get(*k))
            .cloned()
            .collect();
        let came: Vec<(String, usize)> = (self.live.iter())
            .filter(|(k, i)| parent(k) == directory && self.durable.get(*k) != Some(i))
            .map(|(k, i)| (k.clone(), *i))
            .collect();
        let mut aside = BTreeMap::new();
        for path in gone {
            let below = std::format!("{path}/");
            aside.extend(
                self.durable
                    .iter()
                    .filter(|(k, _)| **k == path || k.starts_with(&below))
                    .map(|(k, i)| (k.clone(), *i)),
            );
            Self::remove_prefix(&mut self.durable, &path);
        }
        for (path, index) in came {
            let old =
                aside.iter().chain(self.durable.iter()).find(|(_, i)| **i == index).map(|(k, _)| k.clone());
            if let Some(old) = old {
                let below = std::format!("{old}/");
                let children: Vec<(String, usize)> = (aside.iter().chain(self.durable.iter()))
                    .filter(|(k, _)| k.starts_with(&below))
                    .map(|(k, i)| (std::format!("{path}{}", &k[old.len()..]), *i))
                    .collect();
                self.durable.extend(children);
            }
            self.durable.insert(path, index);
        }
    }
}

impl FakeDir {
    /// Another view, from a directory of this one.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        Self { base: join(&self.base, path), ..self.clone() }
    }

    /// Makes a file with everything above it, durable at once: the state before the test.
    pub fn put(&mut self, path: &str, content: impl AsRef<[u8]>) -> &mut Self {
        self.put_owned(path, Owner::root(0o644), content)
    }

    /// As [`FakeDir::put`], with owner and mode.
    pub fn put_owned(&mut self, path: &str, owner: Owner, content: impl AsRef<[u8]>) -> &mut Self {
        self.put_dir(parent(path));
        let content = content.as_ref().to_vec();
        self.put_node(path, Kind::File { synced: Some(content.clone()), content }, owner)
    }

    /// Makes a directory with everything above it.
    pub fn put_dir(&mut self, path: &str) -> &mut Self {
        let mut at = String::new();
        for name in path.split('/').filter(|n| !n.is_empty()) {
            at = join(&at, name);
            let full = join(&self.base, &at);
            if !self.tree.borrow().live.contains_key(&full) {
                self.put_node(&at, Kind::Directory, Owner::root(0o755));
            }
        }
        self
    }

    /// Makes a symbolic link with everything above it.
    pub fn put_symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.put_dir(parent(path));
        self.put_node(path, Kind::Symlink(target.to_owned()), Owner::root(0o777))
    }

    fn put_node(&mut self, path: &str, kind: Kind, owner: Owner) -> &mut Self {
        let full = join(&self.base, path);
        let mut tree = self.tree.borrow_mut();
        tree.nodes.push(Node { kind, owner, label: None, modified: 0 });
        let index = tree.nodes.len() - 1;
        tree.live.insert(full.clone(), index);
        tree.durable.insert(full, index);
        drop(tree);
        self
    }

    /// Content of a file as text, for assertions.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let tree = self.tree.borrow();
        match tree.kind(&join(&self.base, path)) {
            Some(Kind::File { content, .. }) => Some(String::from_utf8_lossy(content).into_owned()),
            _ => None,
        }
    }

    /// Owner and mode, for assertions.
    #[must_use]
    pub fn owner(&self, path: &str) -> Option<Owner> {
        let tree = self.tree.borrow();
        tree.live.get(&join(&self.base, path)).map(|i| tree.nodes[*i].owner)
    }

    /// Gives a file a SELinux label.
    pub fn set_label(&mut self, path: &str, label: &str) {
        let full = join(&self.base, path);
        if let Ok(node) = self.tree.borrow_mut().node_mut(&full) {
            node.label = Some(label.to_owned());
        }
    }

    /// The SELinux label of a file.
    #[must_use]
    pub fn label(&self, path: &str) -> Option<String> {
        let tree = self.tree.borrow();
        tree.live.get(&join(&self.base, path)).and_then(|i| tree.nodes[*i].label.clone())
    }

    /// All paths with owner and content, for comparing whole trees.
    #[must_use]
    pub fn dump(&self) -> BTreeMap<String, String> {
        let tree = self.tree.borrow();
        let describe = |i: &usize| {
            let node = &tree.nodes[*i];
            let Owner { mode, uid, gid } = node.owner;
            let body = match &node.kind {
                Kind::File { content, .. } => std::format!("file {}", String::from_utf8_lossy(content)),
                Kind::Directory => "dir".to_owned(),
                Kind::Symlink(target) => std::format!("-> {target}"),
            };
            std::format!("{mode:o} {uid}:{gid} {body}")
        };
        tree.live.iter().map(|(path, i)| (path.clone(), describe(i))).collect()
    }

    /// Changes made so far; the n-th change is the one `cut_power_at(n)` prevents.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.tree.borrow().changes
    }

    /// Looks into files so far, at some place of theirs.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.tree.borrow().reads.get()
    }

    /// From the n-th change (counted from 1, from now) on nothing works any more; 0 is now.
    pub fn cut_power_at(&mut self, n: u64) {
        let mut tree = self.tree.borrow_mut();
        tree.is_off |= n == 0;
        tree.cut_at = Some(tree.changes + n);
    }

    /// The n-th change from now fails with `errno`, once.
    pub fn fail_at(&mut self, n: u64, errno: Errno) {
        let mut tree = self.tree.borrow_mut();
        tree.fail_at = Some((tree.changes + n, errno));
    }

    /// Whoever makes the n-th change from now ends instead, as said.
    pub fn end_at(&mut self, n: u64, ended: Ended) {
        let mut tree = self.tree.borrow_mut();
        tree.ends_at = Some((tree.changes + n, ended));
    }

    /// Nothing can be changed any more, or again.
    pub fn set_read_only(&mut self, is_read_only: bool) {
        self.tree.borrow_mut().is_read_only = is_read_only;
    }

    /// Nothing can be written any more, or again.
    pub fn set_full(&mut self, is_full: bool) {
        self.tree.borrow_mut().is_full = is_full;
    }

    /// Mounts a file system over the directory `path`, whose number is `device` from now on.
    pub fn mount(&mut self, path: &str, device: DeviceNumber, files: Unmounted) {
        let full = join(&self.base, path);
        let mut tree = self.tree.borrow_mut();
        for (name, index) in files {
            let name = join(&full, &name);
            tree.live.insert(name.clone(), index);
            tree.durable.insert(name, index);
        }
        tree.mounts.insert(full, device);
    }

    /// Takes it away again, with what it holds.
    pub fn unmount(&mut self, path: &str) -> Unmounted {
        let full = join(&self.base, path);
        let mut tree = self.tree.borrow_mut();
        tree.mounts.remove(&full);
        let below = std::format!("{full}/");
        let files: Unmounted = (tree.live.iter())
            .filter_map(|(name, index)| Some((name.strip_prefix(&below)?.to_owned(), *index)))
            .collect();
        tree.live.retain(|name, _| !name.starts_with(&below));
        tree.durable.retain(|name, _| !name.starts_with(&below));
        files
    }

    /// How often somebody waited in vain for a lock.
    pub fn lock_waits(&self) -> u32 {
        self.tree.borrow().lock_waits
    }

    /// Somebody else takes the lock file and keeps it.
    pub fn hold_lock(&mut self, path: &str) {
        self.tree.borrow_mut().locks.insert(join(&self.base, path));
    }

    /// Power is back: unsynced content is lost, and unsynced names too unless `keep_names`.
    pub fn power_on(&mut self, keep_names: bool) {
        let mut tree = self.tree.borrow_mut();
        tree.is_off = false;
        tree.cut_at = None;
        tree.fail_at = None;
        if keep_names {
            tree.durable = tree.live.clone();
        } else {
            tree.live = tree.durable.clone();
        }
        // A name is reached through its directory: without that it is lost too.
        let live = core::mem::take(&mut tree.live);
        for (path, index) in live {
            let above = parent(&path);
            if above.is_empty() || tree.live.contains_key(above) {
                tree.live.insert(path, index);
            }
        }
        tree.durable = tree.live.clone();
        for node in &mut tree.nodes {
            if let Kind::File { content, synced } = &mut node.kind {
                *content = synced.clone().unwrap_or_default();
            }
        }
    }

    /// Resolves the directories of `path`, and its last component too when `follow_last`.
    fn resolve(&self, path: &str, follow_last: bool) -> Result<String> {
        let tree = self.tree.borrow();
        tree.alive()?;
        if path.starts_with('/') {
            return Err(os!("absolute path", Errno::INVAL));
        }
        let mut names: Vec<String> =
            path.split('/').filter(|n| !n.is_empty()).rev().map(ToOwned::to_owned).collect();
        let mut at = self.base.clone();
        let mut links = 0;
        while let Some(name) = names.pop() {
            match name.as_str() {
                "." => continue,
                ".." if self.refuse_symlinks => return Err(os!("resolve", Errno(18))),
                ".." => {
                    if at.len() > self.base.len() {
                        at = parent(&at).to_owned();
                    }
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &name);
            match tree.kind(&next) {
                Some(Kind::Symlink(target)) if !names.is_empty() || follow_last => {
                    links += 1;
                    if self.refuse_symlinks || links > 40 {
                        return Err(os!("resolve", Errno::LOOP));
                    }
                    if target.starts_with('/') {
                        at = self.base.clone();
                    }
                    names.extend(target.split('/').filter(|n| !n.is_empty()).rev().map(ToOwned::to_owned));
                }
                Some(Kind::Directory) => at = next,
                None if !names.is_empty() => return Err(os!("resolve", Errno::NOENT)),
                Some(_) if !names.is_empty() => return Err(os!("resolve", Errno::NOTDIR)),
                _ => at = next,
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::FakeDir;
    use crate::sys::{Dir, Owner, Symlinks};

    #[test]
    fn an_unsynced_rename_is_undone_by_a_power_cut() {
        let mut dir = FakeDir::default();
        dir.put("etc/hostname", "old\n");
        dir.create("etc/.new", Owner::root(0o644), b"new\n").unwrap();
        dir.rename("etc/.new", "etc/hostname").unwrap();
        dir.power_on(false);
        assert_eq!(dir.text("etc/hostname").unwrap(), "old\n");
        assert!(dir.text("etc/.new").is_none());
    }

    #[test]
    fn a_synced_directory_rename_keeps_its_children() {
        let mut dir = FakeDir::default();
        dir.put_dir("var");
        dir.make_dir("var/tmp", Owner::root(0o700)).unwrap();
        dir.create("var/tmp/a", Owner::root(0o600), b"1").unwrap();
        dir.sync_dir("var/tmp").unwrap();
        dir.sync_dir("var").unwrap();
        dir.rename("var/tmp", "var/done").unwrap();
        dir.sync_dir("var").unwrap();
        dir.power_on(false);
        assert_eq!(dir.text("var/done/a").unwrap(), "1");
        assert!(dir.text("var/tmp/a").is_none());
    }

    #[test]
    fn a_lock_is_given_back_and_not_taken_twice() {
        let mut dir = FakeDir::default();
        for _ in 0..2 {
            dir.lock("l", 10, &mut |dir| {
                assert!(dir.lock("l", 10, &mut |_| Ok(())).is_err());
                Ok(())
            })
            .unwrap();
        }
        dir.hold_lock("l");
        assert!(dir.lock("l", 10, &mut |_| Ok(())).is_err());
    }

    #[test]
    fn links_stay_inside_and_can_be_refused() {
        let mut dir = FakeDir::default();
        dir.put("var/home/u/file", "x").put_symlink("home", "/var/home").put_symlink("evil", "../../etc");
        let mut buf = [0; 8];
        assert_eq!(dir.read("home/u/file", &mut buf).unwrap(), 1);
        assert!(dir.enter("home", Symlinks::Refuse, &mut |_| Ok(())).is_err());
        dir.enter("home/u", Symlinks::Refuse, &mut |home| {
            assert!(home.stat("../u/file").is_err());
            home.read("file", &mut [0; 8]).map(|_| ())
        })
        .unwrap();
    }
}
