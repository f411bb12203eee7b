//! Which device holds a config drive or a NoCloud medium? By the label of its file system, read by ourselves.
//!
//! Where a label may be believed is the machine's to say ([`Media`]): anybody can give a disk one.

use crate::error::{Error, Result};
use crate::facts::{DeviceName, Provenance};
use crate::format::ReadAt;
use crate::format::volume::{NONE_OF_ALL, SCRATCH_BYTES, Volume, is_of_device};
use crate::limits;
use crate::machine::{Media, Trusted};
use crate::order::sort_few;
use crate::sys::{Dir, Disks, DriveStatus};

/// What a label stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Medium {
    /// `config-2`.
    ConfigDrive,
    /// `cidata`.
    NoCloud,
}

impl Medium {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfigDrive => "config drive",
            Self::NoCloud => "NoCloud medium",
        }
    }

    /// Of the facts in its metadata.
    #[must_use]
    pub const fn provenance(self) -> Provenance {
        match self {
            Self::ConfigDrive => Provenance::ConfigDrive,
            Self::NoCloud => Provenance::NoCloud,
        }
    }

    /// What this label stands for. Case does not count: FAT keeps upper case only.
    #[must_use]
    pub fn of_label(label: &str) -> Option<Self> {
        let is = |name: &str| label.eq_ignore_ascii_case(name);
        let config_drive = is("config-2").then_some(Self::ConfigDrive);
        config_drive.or(is("cidata").then_some(Self::NoCloud))
    }

    /// What a volume is by its label, or by the one in FAT's boot sector: some writers set only that
    /// (canonical/cloud-init#3437).
    #[must_use]
    pub fn of_volume(volume: &Volume) -> Option<Self> {
        Self::of_label(volume.label()).or_else(|| Self::of_label(volume.boot_label()))
    }

    fn trusted(self, media: &Media) -> Trusted {
        match self {
            Self::ConfigDrive => media.config_drive,
            Self::NoCloud => media.nocloud,
        }
    }
}

/// A device whose label counts here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its kernel name.
    pub device: DeviceName,
    /// What its label says it is.
    pub medium: Medium,
    /// On which devices such a label counts.
    pub trusted: Trusted,
}

impl Candidate {
    /// Whoever runs the hypervisor put it there.
    #[must_use]
    pub fn is_optical(&self) -> bool {
        is_optical_name(self.device.as_str())
    }

    /// What is on it has to say whose it is.
    #[must_use]
    pub fn has_to_match(&self) -> bool {
        self.trusted == Trusted::Matching && !self.is_optical()
    }
}

/// What a look at all devices found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// The best of them.
    pub best: Option<Candidate>,
    /// An optical drive is not ready, or could not be read: it may hold a better one.
    pub fault: Option<Error>,
}

/// Devices that hold no medium, or take seconds to say so.
const OTHERS: [&str; 9] = ["loop", "ram", "zram", "dm-", "md", "nbd", "fd", "mtd", "pmem"];

type Names = heapless::Vec<DeviceName, { limits::BLOCK_DEVICES }>;

/// Reads the labels of all devices that may have one, but for those that were `tried`. The best counts: a config drive
/// before a NoCloud medium, an optical drive before a disk, then the kernel's order of names.
///
/// # Errors
/// `Os` when sysfs cannot be listed.
#[inline(never)]
pub fn look(host: &mut dyn Dir, disks: &mut dyn Disks, media: &Media, tried: &[DeviceName]) -> Result<Look> {
    let mut look = Look::default();
    let most = media.config_drive.max(media.nocloud);
    if most == Trusted::Nowhere {
        return Ok(look);
    }
    let mut last = None;
    loop {
        let names = next_names(host, most > Trusted::Optical, last.as_ref())?;
        for device in names.iter().filter(|name| !tried.contains(name)) {
            look.at(disks, media, device);
        }
        match names.last() {
            Some(name) if names.is_full() => last = Some(name.clone()),
            _ => return Ok(look),
        }
    }
}

impl Look {
    fn at(&mut self, disks: &mut dyn Disks, media: &Media, device: &DeviceName) {
        let is_optical = is_optical_name(device.as_str());
        match read_label(disks, device, is_optical) {
            Ok(Some(medium)) => {
                let trusted = medium.trusted(media);
                let is_allowed = trusted > Trusted::Optical || is_optical && trusted == Trusted::Optical;
                if is_allowed && self.best.as_ref().is_none_or(|best| medium < best.medium) {
                    self.best = Some(Candidate { device: device.clone(), medium, trusted });
                }
            }
            Ok(None) => {}
            Err(error) => self.fault = self.fault.or(Some(error)),
        }
    }
}

/// The next devices worth reading after `last`, as many as are held at once, the optical ones first.
#[inline(never)]
fn next_names(host: &mut dyn Dir, wants_disks: bool, last: Option<&DeviceName>) -> Result<Names> {
    let mut names = Names::new();
    let listed = host.list("sys/class/block", &mut |name, _| {
        let is_one =
            is_optical_name(name) || wants_disks && !OTHERS.iter().any(|other| name.starts_with(other));
        let Some(name) = DeviceName::parse(name).ok().filter(|_| is_one) else { return true };
        if last.is_some_and(|last| order(&name) <= order(last)) {
            return true;
        }
        if let Err(name) = names.push(name) {
            // One that comes later waits for the next turn.
            if let Some(latest) = names.iter_mut().max_by(|a, b| order(a).cmp(&order(b)))
                && order(&name) < order(latest)
            {
                *latest = name;
            }
        }
        true
    });
    listed.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })?;
    sort_few(&mut names, &|a, b| order(a) < order(b));
    Ok(names)
}

fn order(name: &DeviceName) -> (bool, usize, &str) {
    (!is_optical_name(name.as_str()), name.as_str().len(), name.as_str())
}

fn is_optical_name(name: &str) -> bool {
    name.strip_prefix("sr").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// What a device is by its label; `None` for one that is no medium.
fn read_label(disks: &mut dyn Disks, name: &DeviceName, is_optical: bool) -> Result<Option<Medium>> {
    if is_optical {
        match disks.drive_status(name.as_str()) {
            Ok(DriveStatus::NoDisc | DriveStatus::TrayOpen) => return Ok(None),
            Ok(DriveStatus::NotReady) => return Err(deadline!("optical drive not ready", 0)),
            // What cannot tell, or not be asked, is read: that answers it too.
            _ => {}
        }
    }
    let mut medium = None;
    let opened = disks.open_read(name.as_str(), &mut |device| {
        medium = open(device)?.as_ref().and_then(Medium::of_volume);
        Ok(())
    });
    match opened {
        Ok(()) => Ok(medium),
        // What is unreadable on a disk is another's business; a drive may be spinning up.
        Err(error) if is_optical && is_of_device(error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The volume on a device; `None` where there is none.
///
/// # Errors
/// What is wrong with it; `Os` of the device.
#[inline(never)]
pub fn open(device: &mut dyn ReadAt) -> Result<Option<Volume>> {
    match Volume::open(device, &mut [0; SCRATCH_BYTES]) {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if error == NONE_OF_ALL => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, look};
    use crate::format::media::image;
    use crate::machine::{Expected, Media, Trusted};
    use crate::sys::DriveStatus;
    use crate::sys::fake::{FakeDisk, World};

    const ANYWHERE: Media =
        Media { config_drive: Trusted::Anywhere, nocloud: Trusted::Nowhere, expected: Expected::Surely };

    fn put(world: &mut World, device: &str, medium: &str, status: Option<DriveStatus>) {
        let bytes = if medium.is_empty() { std::vec![0; 4096] } else { image(medium) };
        world.disks.disks.insert(device.into(), FakeDisk { status, ..FakeDisk::new(bytes) });
        world.host.put_symlink(&std::format!("sys/class/block/{device}"), "../x");
    }

    fn looked(world: &mut World) -> Look {
        look(&mut world.host, &mut world.disks, &ANYWHERE, &[]).unwrap()
    }

    #[test]
    fn no_number_of_disks_hides_the_drive() {
        let mut world = World::new();
        for n in 0..200 {
            put(&mut world, &std::format!("sd{n:03}"), "", None);
        }
        put(&mut world, "sdzzz1", "config-drive-fat", None);
        assert_eq!(looked(&mut world).best.unwrap().device.as_str(), "sdzzz1");
        assert_eq!(world.disks.opened.len(), 201);
        put(&mut world, "sr0", "config-drive-iso", Some(DriveStatus::DiscOk));
        assert_eq!(looked(&mut world).best.unwrap().device.as_str(), "sr0");
    }

    #[test]
    fn what_has_no_file_system_is_no_fault_but_a_drive_that_is_not_ready_is() {
        let mut world = World::new();
        put(&mut world, "sr0", "", Some(DriveStatus::DiscOk));
        assert_eq!(looked(&mut world), Look::default());
        put(&mut world, "sr0", "", Some(DriveStatus::NotReady));
        assert!(looked(&mut world).fault.is_some());
    }
}
