//! Which file has this path? The walk that is the same in every file system.

use super::{Entry, FileKind, is_of_device};
use crate::error::{Errno, Error, Result};
use crate::format::ReadAt;
use crate::format::file::File;
use core::ops::ControlFlow;

/// Refused for every file system alike: what a link points to may be outside.
const SYMLINK: Error = unsupported!("medium", "symbolic link");

/// A file or directory as its directory names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    pub(crate) kind: FileKind,
    /// Where it is described, as the file system counts.
    pub(crate) at: u64,
    pub(crate) size_bytes: u64,
}

/// Is given each name; may end the walk.
pub(crate) type Each<'e> = &'e mut dyn FnMut(&str, Node) -> Result<ControlFlow<()>>;

/// A hierarchy of directories.
pub(crate) trait Tree {
    fn root(&self) -> Node;

    /// True if a file that is called `have` is meant by `wanted`.
    fn is_name(&self, have: &str, wanted: &str) -> bool;

    /// The node with the kind and the size that its directory may not tell.
    fn stat(&self, _device: &mut dyn ReadAt, node: Node, _scratch: &mut [u8]) -> Result<Node> {
        Ok(node)
    }

    /// Goes through the names of a directory, in its order; in `detail`: kind and size are as `stat` has them.
    fn each(
        &self,
        device: &mut dyn ReadAt,
        directory: Node,
        detail: bool,
        scratch: &mut [u8],
        each: Each<'_>,
    ) -> Result<()>;

    /// Where the bytes of a regular file are.
    fn file(&self, device: &mut dyn ReadAt, node: Node, scratch: &mut [u8]) -> Result<File>;
}

/// Finds what has this path from the root (`a/b`).
#[inline(never)]
pub(super) fn walk(tree: &dyn Tree, device: &mut dyn ReadAt, path: &str, scratch: &mut [u8]) -> Result<Node> {
    let mut found = tree.stat(device, tree.root(), scratch)?;
    for wanted in path.split('/').filter(|name| !name.is_empty()) {
        let mut child = None;
        expect_directory(found)?;
        tree.each(device, found, false, scratch, &mut |name, node| {
            if !tree.is_name(name, wanted) {
                return Ok(ControlFlow::Continue(()));
            }
            child = Some(node);
            Ok(ControlFlow::Break(()))
        })?;
        found = tree.stat(device, child.ok_or(os!("find file", Errno::NOENT))?, scratch)?;
    }
    Ok(found)
}

fn expect_directory(node: Node) -> Result<()> {
    match node.kind {
        FileKind::Directory => Ok(()),
        FileKind::Symlink => Err(SYMLINK),
        _ => Err(os!("find file", Errno::NOTDIR)),
    }
}

/// Finds a regular file by its path.
pub(crate) fn find(tree: &dyn Tree, device: &mut dyn ReadAt, path: &str, scratch: &mut [u8]) -> Result<File> {
    let node = walk(tree, device, path, scratch)?;
    match node.kind {
        FileKind::File => tree.file(device, node, scratch),
        FileKind::Directory => Err(os!("find file", Errno::ISDIR)),
        FileKind::Symlink => Err(SYMLINK),
        FileKind::Other => Err(unsupported!("medium", "not a regular file")),
    }
}

/// Lists a directory by its path.
#[inline(never)]
pub(super) fn list(
    tree: &dyn Tree,
    device: &mut dyn ReadAt,
    path: &str,
    scratch: &mut [u8],
    each: &mut dyn FnMut(&Entry<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let directory = walk(tree, device, path, scratch)?;
    expect_directory(directory)?;
    tree.each(device, directory, true, scratch, &mut |name, node| {
        // No path means these, whatever a directory may call so.
        if matches!(name, "" | "." | "..") {
            return Ok(ControlFlow::Continue(()));
        }
        each(&Entry { name, kind: node.kind, size_bytes: node.size_bytes })
    })
}

/// Tries one tree after the other until one knows; if none does, the first has said best why.
pub(crate) fn in_turn<T>(
    trees: [Option<&dyn Tree>; 2],
    look: &mut dyn FnMut(&dyn Tree) -> Result<T>,
) -> Result<T> {
    let mut failure = None;
    for tree in trees.into_iter().flatten() {
        match look(tree) {
            Ok(found) => return Ok(found),
            Err(error) if is_of_device(error) => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or(os!("find file", Errno::NOENT)))
}
