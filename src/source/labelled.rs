//! Which device holds a config drive or a NoCloud medium? By the label of its file system, read by ourselves.
//!
//! Where a label may be believed is the machine's to say ([`Media`]): anybody can give a disk one.

use crate::error::{Error, Result};
use crate::facts::{DeviceName, Provenance};
use crate::format::ReadAt;
use crate::format::volume::{NO_FILE_SYSTEM, SCRATCH_BYTES, Volume, is_of_device};
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

/// What a look at all devices found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// This device has it.
    Found(DeviceName, Medium),
    /// A drive is not ready, or a device could not be read: it may be the one.
    NotYet(Error),
    /// No device has one.
    Nothing,
}

/// Devices that hold no medium, or take seconds to say so.
const OTHERS: [&str; 9] = ["loop", "ram", "zram", "dm-", "md", "nbd", "fd", "mtd", "pmem"];

type Names = heapless::Vec<DeviceName, { limits::BLOCK_DEVICES }>;

/// Reads the labels of all devices that may have one. The best counts: a config drive before a NoCloud medium, an
/// optical drive before a disk, then the kernel's order of names.
///
/// # Errors
/// `Os` when sysfs cannot be listed.
#[inline(never)]
pub fn look(host: &mut dyn Dir, disks: &mut dyn Disks, media: &Media) -> Result<Look> {
    let trusted = media.config_drive.max(media.nocloud);
    if trusted == Trusted::Nowhere {
        return Ok(Look::Nothing);
    }
    let names = names(host, trusted)?;
    let (mut best, mut fault) = (None, None);
    for name in &names {
        let is_optical = is_optical(name);
        match read_label(disks, name, is_optical) {
            Ok(Some(medium)) => {
                let is_allowed = match medium.trusted(media) {
                    Trusted::Nowhere => false,
                    Trusted::Optical => is_optical,
                    Trusted::Anywhere => true,
                };
                if is_allowed && best.as_ref().is_none_or(|(_, other)| medium < *other) {
                    best = Some((name.clone(), medium));
                }
            }
            Ok(None) => {}
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    Ok(match (best, fault) {
        (Some((name, medium)), _) => Look::Found(name, medium),
        (None, Some(error)) => Look::NotYet(error),
        (None, None) => Look::Nothing,
    })
}

/// Devices worth reading, the optical ones first.
fn names(host: &mut dyn Dir, trusted: Trusted) -> Result<Names> {
    let mut names = Names::new();
    let listed = host.list("sys/class/block", &mut |name, _| {
        let is_one = is_optical_name(name)
            || trusted == Trusted::Anywhere && !OTHERS.iter().any(|other| name.starts_with(other));
        if let (true, Ok(name)) = (is_one, DeviceName::parse(name)) {
            // More than that are a storage server's, and not the medium of this machine.
            let _ = names.push(name);
        }
        true
    });
    listed.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })?;
    sort_few(&mut names, &|a, b| order(a) < order(b));
    Ok(names)
}

fn order(name: &DeviceName) -> (bool, usize, &str) {
    (!is_optical(name), name.as_str().len(), name.as_str())
}

fn is_optical(name: &DeviceName) -> bool {
    is_optical_name(name.as_str())
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
        Err(error) if error == NO_FILE_SYSTEM => Ok(None),
        Err(error) => Err(error),
    }
}
