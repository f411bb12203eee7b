//! What the kernel answers about such a tree: each operation, its failures, and when the power goes.

use super::{FakeDir, Kind, Node, Tree, parent};
use crate::error::{Errno, Result};
use crate::sys::{DeviceNumber, Dir, FileType, Owner, Stat, Symlinks};
use std::string::String;
use std::vec::Vec;

impl Dir for FakeDir {
    fn read(&mut self, path: &str, buf: &mut [u8]) -> Result<usize> {
        let n = self.read_at(path, 0, buf)?;
        let mut more = [0; 1];
        match self.read_at(path, n as u64, &mut more)? {
            0 => Ok(n),
            _ => Err(too_many!("file", buf.len())),
        }
    }

    fn read_at(&mut self, path: &str, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let full = self.resolve(path, true)?;
        let tree = self.tree.borrow();
        tree.reads.set(tree.reads.get() + 1);
        match tree.kind(&full) {
            Some(Kind::File { content, .. }) => {
                let from = content.get(offset as usize..).unwrap_or_default();
                let n = from.len().min(buf.len());
                buf[..n].copy_from_slice(&from[..n]);
                Ok(n)
            }
            Some(_) => Err(os!("read", Errno::ISDIR)),
            None => Err(os!("read", Errno::NOENT)),
        }
    }

    fn create(&mut self, path: &str, owner: Owner, content: &[u8]) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        // Two steps, as on a disk: the name first, then its content.
        tree.changing()?;
        tree.has_room(content.len())?;
        tree.insert(full.clone(), Kind::File { content: Vec::new(), synced: None }, owner)?;
        tree.changing()?;
        tree.node_mut(&full)?.kind = Kind::File { content: content.to_vec(), synced: Some(content.to_vec()) };
        Ok(())
    }

    fn create_unsynced(&mut self, path: &str, owner: Owner, content: &[u8]) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        tree.has_room(content.len())?;
        tree.insert(full, Kind::File { content: content.to_vec(), synced: None }, owner)
    }

    fn append(&mut self, path: &str, more: &[u8]) -> Result<()> {
        if let Some(errno) = self.appends {
            return Err(os!("append", errno));
        }
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        tree.has_room(more.len())?;
        match &mut tree.node_mut(&full)?.kind {
            Kind::File { content, .. } => content.extend_from_slice(more),
            _ => return Err(os!("append", Errno::LOOP)),
        }
        Ok(())
    }

    fn write_at(&mut self, path: &str, offset: u64, new: &[u8]) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        tree.has_room(new.len())?;
        match &mut tree.node_mut(&full)?.kind {
            Kind::File { content, .. } => {
                let end = offset as usize + new.len();
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(new);
                Ok(())
            }
            _ => Err(os!("write into file", Errno::LOOP)),
        }
    }

    fn set_size(&mut self, path: &str, size: u64) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        match &mut tree.node_mut(&full)?.kind {
            Kind::File { content, .. } => content.resize(size as usize, 0),
            _ => return Err(os!("cut file", Errno::LOOP)),
        }
        Ok(())
    }

    fn write_attribute(&mut self, path: &str, new: &[u8]) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        match &mut tree.node_mut(&full)?.kind {
            Kind::File { content, .. } => *content = new.to_vec(),
            _ => return Err(os!("write", Errno::ISDIR)),
        }
        Ok(())
    }

    fn make_dir(&mut self, path: &str, owner: Owner) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        tree.insert(full, Kind::Directory, owner)
    }

    fn make_symlink(&mut self, path: &str, target: &str) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        tree.insert(full, Kind::Symlink(target.to_owned()), Owner::root(0o777))
    }

    fn read_link(&mut self, path: &str, buf: &mut [u8]) -> Result<usize> {
        let full = self.resolve(path, false)?;
        let tree = self.tree.borrow();
        match tree.kind(&full) {
            Some(Kind::Symlink(target)) => {
                let n = target.len().min(buf.len());
                buf[..n].copy_from_slice(&target.as_bytes()[..n]);
                Ok(n)
            }
            Some(_) => Err(os!("readlink", Errno::INVAL)),
            None => Err(os!("readlink", Errno::NOENT)),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.resolve(from, false)?, self.resolve(to, false)?);
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        if !tree.live.contains_key(&from) {
            return Err(os!("rename", Errno::NOENT));
        }
        let below = std::format!("{to}/");
        if tree.live.keys().any(|k| k.starts_with(&below)) {
            return Err(os!("rename", Errno::NOTEMPTY));
        }
        tree.live.remove(&to);
        Tree::move_prefix(&mut tree.live, &from, &to);
        Ok(())
    }

    fn exchange(&mut self, a: &str, b: &str) -> Result<()> {
        let (a, b) = (self.resolve(a, false)?, self.resolve(b, false)?);
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        if !tree.live.contains_key(&a) || !tree.live.contains_key(&b) {
            return Err(os!("rename", Errno::NOENT));
        }
        Tree::move_prefix(&mut tree.live, &a, "\u{0}aside");
        Tree::move_prefix(&mut tree.live, &b, &a);
        Tree::move_prefix(&mut tree.live, "\u{0}aside", &b);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        match tree.kind(&full) {
            Some(Kind::Directory) => Err(os!("remove", Errno::ISDIR)),
            None => Err(os!("remove", Errno::NOENT)),
            Some(_) => {
                tree.live.remove(&full);
                Ok(())
            }
        }
    }

    fn remove_dir(&mut self, path: &str) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        let below = std::format!("{full}/");
        match tree.kind(&full) {
            None => Err(os!("rmdir", Errno::NOENT)),
            Some(Kind::Directory) if tree.live.keys().any(|k| k.starts_with(&below)) => {
                Err(os!("rmdir", Errno::NOTEMPTY))
            }
            Some(Kind::Directory) => {
                tree.live.remove(&full);
                Ok(())
            }
            Some(_) => Err(os!("rmdir", Errno::NOTDIR)),
        }
    }

    fn stat(&mut self, path: &str) -> Result<Stat> {
        let full = self.resolve(path, false)?;
        if self.hidden.is_some_and(|hidden| full.starts_with(hidden)) {
            return Err(os!("stat", Errno::ACCES));
        }
        let tree = self.tree.borrow();
        let root = Node { kind: Kind::Directory, owner: Owner::root(0o755), label: None, modified: 0 };
        let node = match tree.live.get(&full) {
            Some(index) => &tree.nodes[*index],
            None if full.is_empty() || full == self.base => &root,
            None => return Err(os!("stat", Errno::NOENT)),
        };
        let (file_type, size) = match &node.kind {
            Kind::File { content, .. } => (FileType::File, content.len() as u64),
            Kind::Directory => (FileType::Directory, 0),
            Kind::Symlink(target) => (FileType::Symlink, target.len() as u64),
        };
        let Owner { mode, uid, gid } = node.owner;
        let is_on = |mount: &str| full == mount || full.starts_with(&std::format!("{mount}/"));
        let device = tree.mounts.iter().rfind(|(mount, _)| is_on(mount));
        let device = device.map(|(_, device)| *device).unwrap_or_default();
        Ok(Stat {
            file_type,
            mode,
            uid,
            gid,
            size,
            device,
            node: DeviceNumber::default(),
            modified: node.modified,
        })
    }

    fn set_owner(&mut self, path: &str, owner: Owner) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        tree.node_mut(&full)?.owner = owner;
        Ok(())
    }

    /// Names are UTF-8 in this tree.
    fn rename_unreadable(&mut self, _: &str) -> Result<u32> {
        Ok(0)
    }

    fn list(&mut self, path: &str, each: &mut dyn FnMut(&str, FileType) -> bool) -> Result<()> {
        let full = self.resolve(path, true)?;
        let entries: Vec<(String, FileType)> = {
            let tree = self.tree.borrow();
            match tree.kind(&full) {
                Some(Kind::Directory) => {}
                Some(_) => return Err(os!("list", Errno::NOTDIR)),
                None if full == self.base => {}
                None => return Err(os!("list", Errno::NOENT)),
            }
            let file_type = |i: &usize| match tree.nodes[*i].kind {
                Kind::File { .. } => FileType::File,
                Kind::Directory => FileType::Directory,
                Kind::Symlink(_) => FileType::Symlink,
            };
            let below = if full.is_empty() { String::new() } else { std::format!("{full}/") };
            (tree.live.iter())
                .filter(|(k, _)| parent(k) == full && !k.is_empty())
                .map(|(k, i)| (k[below.len()..].to_owned(), file_type(i)))
                .collect()
        };
        for (name, file_type) in entries {
            if !each(&name, file_type) {
                break;
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        path: &str,
        symlinks: Symlinks,
        work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>,
    ) -> Result<()> {
        let base = self.resolve(path, symlinks == Symlinks::Inside)?;
        match self.tree.borrow().kind(&base) {
            Some(Kind::Directory) => {}
            Some(Kind::Symlink(_)) => return Err(os!("open", Errno::LOOP)),
            Some(_) => return Err(os!("open", Errno::NOTDIR)),
            None if base == self.base => {}
            None => return Err(os!("open", Errno::NOENT)),
        }
        work(&mut Self { base, refuse_symlinks: symlinks != Symlinks::Inside, ..self.clone() })
    }

    fn lock(
        &mut self,
        path: &str,
        timeout_ms: u64,
        work: &mut dyn FnMut(&mut dyn Dir) -> Result<()>,
    ) -> Result<()> {
        let full = self.resolve(path, false)?;
        {
            let mut tree = self.tree.borrow_mut();
            if tree.locks.contains(&full) {
                tree.lock_waits += 1;
                return Err(deadline!("lock held by another program", timeout_ms));
            }
            if !tree.live.contains_key(&full) {
                tree.changing()?;
                let kind = Kind::File { content: Vec::new(), synced: Some(Vec::new()) };
                tree.insert(full.clone(), kind, Owner::root(0o600))?;
            }
            tree.locks.insert(full.clone());
        }
        let outcome = work(self);
        self.tree.borrow_mut().locks.remove(&full);
        outcome
    }

    fn copy_label(&mut self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.resolve(from, false)?, self.resolve(to, false)?);
        let mut tree = self.tree.borrow_mut();
        let label = tree.node_mut(&from)?.label.clone();
        if label.is_some() {
            tree.changing()?;
            tree.node_mut(&to)?.label = label;
        }
        Ok(())
    }

    fn sync_dir(&mut self, path: &str) -> Result<()> {
        let full = self.resolve(path, false)?;
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        tree.sync_names(&full);
        Ok(())
    }

    fn sync_all(&mut self) -> Result<()> {
        let mut tree = self.tree.borrow_mut();
        tree.changing()?;
        tree.durable = tree.live.clone();
        for node in &mut tree.nodes {
            if let Kind::File { content, synced } = &mut node.kind {
                *synced = Some(content.clone());
            }
        }
        Ok(())
    }

    fn is_in_memory(&mut self) -> bool {
        self.in_memory
    }
}
