//! Which disk is the resource disk, and may it be formatted?
//!
//! Azure's temporary disk comes back empty after a move of the VM, on any boot, and other disks stand beside it
//! that are somebody's. So nothing is believed of names or order: the place says that a disk is temporary, its
//! bytes say that it is fresh, and only both together allow a file system to be made. Agents that asked for less
//! have formatted data disks (WALinuxAgent#900).

mod observe;

use crate::format::root_arg::DeviceName;

pub use observe::{LABEL, TemporaryDisks, identity, is_blank, observe};

/// What its place in the machine says of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nothing: it may be anybody's.
    Lasting,
    /// Where the platform attaches the resource disk, and nothing else: the second disk of Gen1's IDE, LUN 1 of
    /// Gen2's first SCSI controller.
    Resource,
    /// A local NVMe disk by its model and its own identify text; there may be several.
    LocalNvme,
}

/// What is on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// The platform's NTFS without any file but the platform's own.
    Untouched,
    /// No partition, zeros in its first and last MiB.
    Blank,
    /// A file system that we could mount.
    FileSystem {
        /// It has our label.
        is_ours: bool,
    },
    /// It is a member of an array of our making, which local NVMe disks are joined to.
    Member,
    /// Nothing that we recognise, or it is damaged.
    Unknown,
    /// Somebody's.
    Foreign {
        /// What it is.
        why: &'static str,
    },
}

/// All that counts of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskFacts {
    /// The disk.
    pub name: DeviceName,
    /// The device to be formatted or mounted: its partition, or the disk itself.
    pub target: DeviceName,
    /// Where it is.
    pub place: Place,
    /// What is on the target.
    pub contents: Contents,
    /// Nobody uses it or a part of it.
    pub is_free: bool,
    /// We proved it fresh on an earlier boot and began to format it, and that did not end: our note names this
    /// very disk.
    pub was_begun: bool,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice<'d> {
    /// Make a file system on this one's target.
    Format(&'d DiskFacts),
    /// Mount this one's.
    Mount(&'d DiskFacts),
    /// Assemble the array of the members, and look again.
    Assemble,
    /// Nothing.
    Nothing {
        /// Why.
        why: &'static str,
    },
}

/// Decides. A resource disk goes before local NVMe disks, which then are the administrator's own.
#[must_use]
pub fn choose(disks: &[DiskFacts]) -> Choice<'_> {
    let mut resource = disks.iter().filter(|disk| disk.place == Place::Resource);
    match (resource.next(), resource.next()) {
        (Some(disk), None) => return decide(disk),
        (Some(_), Some(_)) => return Choice::Nothing { why: "two disks in the place of the resource disk" },
        (None, _) => {}
    }
    // The one that we made before, else what that is made of, else the first that is blank, else why the last is none.
    let mut choice = Choice::Nothing { why: "this machine has no temporary disk" };
    let was_begun = was_one_begun(disks);
    for disk in disks.iter().filter(|disk| disk.place == Place::LocalNvme) {
        match (decide(disk), choice) {
            (mount @ Choice::Mount(_), _) => return mount,
            (Choice::Assemble, _) if was_begun => {}
            (Choice::Assemble, _) => choice = Choice::Assemble,
            (_, Choice::Format(_) | Choice::Assemble) => {}
            (decision, _) => choice = decision,
        }
    }
    match choice {
        // Its making did not come to its end: nothing is on it yet.
        Choice::Nothing { .. } if was_begun => joined(disks).next().map_or(choice, Choice::Format),
        choice => choice,
    }
}

/// The local disks that are formatted as one, where the image can join them: all that are blank, and members of an array
/// whose making did not come to its end.
pub fn joined(disks: &[DiskFacts]) -> impl Iterator<Item = &DiskFacts> {
    let was_begun = was_one_begun(disks);
    disks.iter().filter(move |disk| {
        let is_empty = disk.contents == Contents::Blank || disk.contents == Contents::Member && was_begun;
        disk.place == Place::LocalNvme && disk.is_free && is_empty
    })
}

/// Our note names one of the local disks: of an array of our making nothing is in use yet.
fn was_one_begun(disks: &[DiskFacts]) -> bool {
    disks.iter().any(|disk| disk.was_begun && disk.place == Place::LocalNvme)
}

fn decide(disk: &DiskFacts) -> Choice<'_> {
    let is_resource = disk.place == Place::Resource;
    match disk.contents {
        _ if disk.place == Place::Lasting => Choice::Nothing { why: "no temporary disk" },
        _ if !disk.is_free => Choice::Nothing { why: "the temporary disk is in use" },
        Contents::Foreign { why } => Choice::Nothing { why },
        Contents::Untouched if is_resource => Choice::Format(disk),
        Contents::Blank if !is_resource => Choice::Format(disk),
        Contents::Member if is_resource => Choice::Nothing { why: "a member of a RAID array (md)" },
        Contents::Member => Choice::Assemble,
        Contents::FileSystem { is_ours } if is_resource || is_ours => Choice::Mount(disk),
        Contents::FileSystem { .. } => Choice::Nothing { why: "a local disk with somebody's file system" },
        _ if disk.was_begun => Choice::Format(disk),
        _ => Choice::Nothing { why: "the temporary disk holds nothing we recognise, and is not as it came" },
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod machine;
