//! How long may a SCSI disk take to answer before the kernel gives it up? As the configuration says: a udev rule for
//! the disks that are there and those that come, and the attribute itself for images without udev.

use super::replace::{self, Ownership, Target};
use super::{Root, State, exists, named, next_name, read};
use crate::error::Result;
use crate::facts::Facts;
use crate::format::text::{Out, digits, join};
use crate::sys::{Dir, Owner};

const RULES: &str = "etc/udev/rules.d";
const FILE: &str = "etc/udev/rules.d/66-preroot-scsi-timeout.rules";
/// SCSI type 0 is a disk. Source for the attribute: waagent writes it to each /sys/block/sd*.
const BEFORE: &[u8] = b"# Written by preroot: OS.RootDeviceScsiTimeout.\n\
    ACTION!=\"remove\", SUBSYSTEM==\"scsi\", ENV{DEVTYPE}==\"scsi_device\", ATTR{type}==\"0\", ATTR{timeout}=\"";
const DISKS: &str = "sys/class/block";

pub(super) fn check(_: &Facts, root: &mut Root<'_>) -> Result<State> {
    if root.config.scsi_timeout_s().is_none() {
        return Ok(State::Satisfied);
    }
    if !exists(root.dir, RULES)? {
        return Ok(State::Foreign {
            why: "this image has no udev; `preroot resource-disk` sets it on each boot",
        });
    }
    let mut room = [0; 256];
    let wanted = content(root, &mut room)?;
    let is_there = read(root.dir, FILE, object!(FILE), root.buffers.old)? == wanted;
    Ok(if is_there { State::Satisfied } else { State::Missing })
}

pub(super) fn apply(_: &Facts, root: &mut Root<'_>) -> Result<()> {
    if root.config.scsi_timeout_s().is_none() {
        return Ok(());
    }
    let mut room = [0; 256];
    let wanted = content(root, &mut room)?;
    let target =
        Target { path: FILE, object: object!(FILE), ownership: Ownership::Force(Owner::root(0o644)) };
    replace::write(root.dir, target, wanted, &mut |_, _| Ok(())).map_err(named(object!(FILE)))
}

fn content<'r>(root: &Root<'_>, room: &'r mut [u8]) -> Result<&'r [u8]> {
    let seconds = u64::from(root.config.scsi_timeout_s().unwrap_or_default());
    let length = {
        let mut out = Out::new(too_many!("udev rule"), room);
        out.put(BEFORE)?;
        out.put_number(seconds)?;
        out.put(b"\"\n")?;
        out.as_bytes().len()
    };
    Ok(room.get(..length).unwrap_or_default())
}

/// Writes it to every SCSI disk of the running system. One that refuses, or is gone meanwhile, keeps the kernel's.
pub(crate) fn set(host: &mut dyn Dir, seconds: u32) {
    let mut last = super::PathText::new();
    while let Some(name) = next_name(host, DISKS, &last) {
        // A partition has no device of its own.
        if name.starts_with("sd")
            && let Ok(attribute) = join(&[DISKS, "/", &name, "/device/timeout"])
            && host.stat(&attribute).is_ok()
        {
            let _ = host.write_attribute(&attribute, digits(u64::from(seconds), &mut [0; 20]).as_bytes());
        }
        last = name;
    }
}
