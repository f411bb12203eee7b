//! Whose /etc/machine-id does an image bring? A copy's must not stay: DHCP clients, D-Bus and the journal tell machines
//! apart by it.
//!
//! It is emptied before init starts, which then makes one: an empty file and a missing one mean that, and only a missing
//! one, or `uninitialized`, that this is a first boot, with all of its presets (machine-id(5)). So what the image's maker
//! left open stays open. No other init reads it.

use super::replace::{self, Target};
use super::{exists, ignore_missing, named};
use crate::error::Result;
use crate::facts::InstanceId;
use crate::seed;
use crate::sys::{Dir, FileType};

const FILE: &str = "etc/machine-id";
/// D-Bus's own copy; where it is a file, systemd's tmpfiles.d makes a link of it once it is gone.
const COPY: &str = "var/lib/dbus/machine-id";
const SYSTEMD: &[&str] = &["usr/lib/systemd/systemd", "lib/systemd/systemd"];
/// Names the VM that /etc/machine-id was emptied for, or left to.
const MADE_FOR: &str = "var/lib/preroot/machine-id";
/// Whoever provisioned this VM before us has let it have the machine-id it has.
const OTHERS: &[&str] = &["var/lib/cloud/data/instance-id", "var/lib/waagent/provisioned"];
/// 32 hexadecimal digits.
const DIGITS: usize = 32;

/// Empties it where it is another machine's; true when that was done.
///
/// # Errors
/// `Os`, `TooMany`.
pub fn renew(root: &mut dyn Dir, id: &InstanceId) -> Result<bool> {
    let has_systemd = SYSTEMD.iter().any(|path| root.stat(path).is_ok());
    let is_ours = [MADE_FOR].iter().chain(OTHERS).any(|file| seed::is_marked(root, file, id));
    if !has_systemd || is_ours {
        return Ok(false);
    }
    let mut text = [0; 128];
    let n = root.read(FILE, &mut text).unwrap_or_default();
    let text = text.get(..n).unwrap_or_default().trim_ascii();
    let is_one = text.len() == DIGITS && text.iter().all(u8::is_ascii_hexdigit);
    if is_one {
        replace::write(root, Target::existing(object!(FILE)), b"", &mut |_, _| Ok(()))?;
        let is_file = exists(root, COPY)? && root.stat(COPY)?.file_type == FileType::File;
        if is_file {
            ignore_missing(root.remove(COPY)).map_err(named(object!(COPY)))?;
        }
    }
    seed::mark(root, MADE_FOR, id).map_err(named(object!(FILE)))?;
    Ok(is_one)
}

#[cfg(test)]
mod tests {
    use super::renew;
    use crate::facts::InstanceId;
    use crate::sys::Owner;
    use crate::sys::fake::FakeDir;

    const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";
    const IMAGES: &str = "0123456789abcdef0123456789abcdef\n";

    fn image(machine_id: Option<&str>) -> FakeDir {
        let mut root = FakeDir::default();
        root.put("usr/lib/systemd/systemd", "").put_dir("var/lib");
        if let Some(text) = machine_id {
            root.put_owned("etc/machine-id", Owner::root(0o444), text);
        }
        root
    }

    fn id() -> InstanceId {
        InstanceId::parse(ID).unwrap()
    }

    #[test]
    fn a_copys_machine_id_is_emptied_once() {
        let mut root = image(Some(IMAGES));
        root.put("var/lib/dbus/machine-id", IMAGES);
        assert!(renew(&mut root, &id()).unwrap());
        assert_eq!(root.text("etc/machine-id").unwrap(), "");
        assert_eq!(root.owner("etc/machine-id").unwrap(), Owner::root(0o444));
        assert!(root.text("var/lib/dbus/machine-id").is_none());
        // systemd has made one, and the next boot comes before everything was applied.
        root.put("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
        assert!(!renew(&mut root, &id()).unwrap());
        // A copy of this one.
        assert!(
            renew(&mut root, &InstanceId::parse("00000000-9f02-4cfe-b1f4-a4da7ebac2cf").unwrap()).unwrap()
        );
    }

    #[test]
    fn what_the_images_maker_left_open_stays_so() {
        for text in [None, Some(""), Some("uninitialized\n")] {
            let mut root = image(text);
            assert!(!renew(&mut root, &id()).unwrap());
            assert_eq!(root.text("etc/machine-id").as_deref(), text);
            // What systemd makes in this boot is this VM's.
            root.put("etc/machine-id", IMAGES);
            assert!(!renew(&mut root, &id()).unwrap());
        }
    }

    #[test]
    fn a_machine_that_another_agent_provisioned_keeps_its_own() {
        for (path, text) in [("var/lib/cloud/data/instance-id", ID), ("var/lib/waagent/provisioned", ID)] {
            let mut root = image(Some(IMAGES));
            root.put(path, text);
            assert!(!renew(&mut root, &id()).unwrap(), "{path}");
        }
        let mut other_init = image(Some(IMAGES));
        crate::sys::Dir::remove(&mut other_init, "usr/lib/systemd/systemd").unwrap();
        assert!(!renew(&mut other_init, &id()).unwrap());
        assert_eq!(other_init.text("etc/machine-id").unwrap(), IMAGES);
    }

    #[test]
    fn at_every_power_cut_there_is_an_id_or_none() {
        let mut uncut = image(Some(IMAGES));
        uncut.power_on(true);
        let before = uncut.changes();
        renew(&mut uncut, &id()).unwrap();
        for n in 1..=uncut.changes() - before {
            let mut root = image(Some(IMAGES));
            root.power_on(true);
            root.cut_power_at(n);
            assert!(renew(&mut root, &id()).is_err());
            root.power_on(false);
            assert!(["", IMAGES].contains(&root.text("etc/machine-id").unwrap().as_str()), "cut at {n}");
            renew(&mut root, &id()).unwrap();
            assert_eq!(root.dump(), uncut.dump(), "cut at {n}");
        }
    }
}
