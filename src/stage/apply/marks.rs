//! How far did apply come with this VM, and what goes once it is done, or given up? A mark for each module, a count of boots.

use super::PathText;
use crate::apply::{Module, ignore_missing, next_name, old_scripts};
use crate::error::{Errno, Result};
use crate::facts::InstanceId;
use crate::format::text::join;
use crate::seed;
use crate::sys::{Dir, Kernel, Owner};

#[inline(never)]
pub(super) fn state_path(prefix: &str, id: &InstanceId) -> Result<PathText> {
    join(&[seed::STATE, "/", prefix, id.as_str()])
}

pub(super) fn mark_path(marks: &str, module: &Module) -> Result<PathText> {
    join(&[marks, "/", module.name])
}

/// Before the modules of a provisioned VM have another turn: those that would undo what others have changed since, or do
/// it twice. Where user data are still to be translated they have not had their first.
pub(in crate::stage) fn keep_done(kernel: &mut Kernel<'_>, id: &InstanceId) {
    const ONCE: &[&str] =
        &["old_scripts", "boot_scripts", "data_disks", "write_files", "custom_data", "include"];
    let is_translated =
        join(&[seed::SEED, "/", seed::TRANSLATED]).is_ok_and(|path| kernel.run.stat(&path).is_ok());
    let Ok(marks) = seed::marks(id) else { return };
    // A cut may have left some of the first turn.
    let _ = remove_marks(kernel.root, &marks);
    for name in ONCE.iter().filter(|_| is_translated) {
        if let Ok(mark) = join(&[&marks, "/", name]) {
            mark_done(kernel.root, &marks, &mark);
        }
    }
}

/// Not synced: what the mark speaks of is, and a lost mark only means looking again.
pub(super) fn mark_done(root: &mut dyn Dir, marks: &str, mark: &str) {
    let _ = root.make_dir(marks, Owner::root(0o700));
    let _ = root.create_unsynced(mark, Owner::root(0o600), b"");
}

/// What served the way to the mark, of this VM and of those that the image was before.
#[inline(never)]
pub(super) fn sweep(root: &mut dyn Dir, id: &InstanceId) -> Result<()> {
    let (mut last, mut swept) = (PathText::new(), Ok(()));
    while let Some(name) = next_name(root, seed::STATE, &last) {
        let path = join(&[seed::STATE, "/", &name])?;
        // One that cannot go keeps no other.
        swept = swept.and(match name.split_once('-') {
            Some(("marks", _)) => remove_marks(root, &path),
            Some(("boots", _)) => ignore_missing(root.remove(&path)),
            // This VM's is dropped once the platform was told.
            Some(("pending" | "failed", other)) if other != id.as_str() => seed::remove(root, &path),
            _ => Ok(()),
        });
        last = name;
    }
    swept.and(root.sync_dir(seed::STATE))
}

/// Those of the modules, and the notes of what a module did once.
fn remove_marks(root: &mut dyn Dir, marks: &str) -> Result<()> {
    while let Some(name) = next_name(root, marks, "") {
        root.remove(&join(&[marks, "/", &name])?)?;
    }
    ignore_missing(root.remove_dir(marks))
}

pub(super) fn set_aside(root: &mut dyn Dir, pending: &str, id: &InstanceId) -> Result<()> {
    seed::remove_secrets(root, pending)?;
    old_scripts::forget_all(root, id)?;
    let failed = state_path("failed-", id)?;
    seed::remove(root, &failed)?;
    match root.rename(pending, &failed) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        outcome => outcome.and_then(|()| root.sync_dir(seed::STATE)),
    }
}
