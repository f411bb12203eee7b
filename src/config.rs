//! Which configuration files does this image have, and what do they settle together?
//!
//! `/etc/preroot.conf`, then `/etc/preroot.conf.d/*.conf` in the order of their names; later lines count more. Where
//! there is none of these, `/etc/waagent.conf`: an image made for waagent goes on as its maker wanted. Before all of them
//! what `/etc/cloud/cloud.cfg` and `/etc/cloud/cloud.cfg.d/*.cfg` say of the few things that are respected
//! ([`cloud_cfg`](crate::format::cloud_cfg)).

use crate::format::config::{Config, Fault, Place};
use crate::limits;
use crate::sys::Dir;

const FILE: &str = "etc/preroot.conf";
/// Directories of drop-ins, and how their names end.
const DROP_INS: (&str, &str) = ("etc/preroot.conf.d/", ".conf");
const CLOUDS: &str = "etc/cloud/cloud.cfg";
const CLOUD_DROP_INS: (&str, &str) = ("etc/cloud/cloud.cfg.d/", ".cfg");
/// For a drop-in's name.
const ROOM: usize = limits::PATH - CLOUD_DROP_INS.0.len();
const WAAGENTS: &str = "etc/waagent.conf";
/// Number of [`FILE`] or [`WAAGENTS`]; the drop-ins follow.
const FIRST: u16 = 1;
/// Number of [`CLOUDS`]; its drop-ins follow.
const FIRST_CLOUD: u16 = 0x8000;

/// A path of ours.
pub type PathText = heapless::String<{ limits::PATH }>;

/// Reads what there is. Each file must fit into `buf`. A file or line that does not count for a reason other than
/// its absence is told to `fault`, line 0 meaning all of it: no configuration may keep a VM from its boot.
pub fn load(dir: &mut dyn Dir, buf: &mut [u8], fault: &mut dyn FnMut(Place, Fault)) -> Config {
    let mut path = PathText::new();
    let has_ours = dir.stat(FILE).is_ok() || find(dir, false, FIRST.saturating_add(1), &mut path);
    let mut config = Config::new(!has_ours && dir.stat(WAAGENTS).is_ok());
    for file in FIRST_CLOUD..=u16::MAX {
        if !find(dir, false, file, &mut path) {
            break;
        }
        let n = dir.read(&path, buf).unwrap_or_default();
        config.read_cloud(file, buf.get(..n).unwrap_or_default());
    }
    for file in FIRST..FIRST_CLOUD {
        if !find(dir, config.is_waagents(), file, &mut path) {
            break;
        }
        match dir.read(&path, buf) {
            Ok(n) => config.read(file, buf.get(..n).unwrap_or_default(), fault),
            Err(error) if error.is_not_found() => {}
            Err(_) => fault(Place { file, line: 0 }, "cannot be read"),
        }
    }
    config
}

/// Where an enabled cloud-init shows: systemd's link in /etc, the distribution's own, OpenRC's.
const CLOUD_INIT: &[&str] = &[
    "etc/systemd/system/cloud-init.target.wants/cloud-init-local.service",
    "usr/lib/systemd/system/cloud-init.target.wants/cloud-init-local.service",
    "etc/runlevels/boot/cloud-init-local",
];
/// What starts it. A package that was removed and not purged leaves the link alone behind.
const CLOUD_INIT_UNITS: &[&str] = &[
    "usr/lib/systemd/system/cloud-init-local.service",
    "lib/systemd/system/cloud-init-local.service",
    "etc/init.d/cloud-init-local",
];
/// A person, or `persist`, does not want it.
pub const NO_CLOUD_INIT: &str = "etc/cloud/cloud-init.disabled";
/// Any of these, and it does nothing all the same: disabled, its unit masked or another's, and its own
/// generator's word for "disabled on the command line, or no platform of mine".
const STOPPERS: &[&str] =
    &[NO_CLOUD_INIT, "etc/systemd/system/cloud-init-local.service", "run/cloud-init/disabled"];

/// How the command begins that preroot has for images without cloud-init (packaging/cloud-init).
const SHIM: &[u8] = b"#!/bin/sh\n# preroot";

/// True when cloud-init's own program is installed.
pub fn is_cloud_init_there(dir: &mut dyn Dir) -> bool {
    ["usr/bin/cloud-init", "usr/local/bin/cloud-init"].iter().any(|path| {
        let mut head = [0; SHIM.len()];
        let n = dir.read_at(path, 0, &mut head);
        // A link is not read, and none of ours.
        dir.stat(path).is_ok() && !n.is_ok_and(|n| head.get(..n) == Some(SHIM))
    })
}

/// True when cloud-init is enabled in this system. In doubt it is not: two agents are better than none.
pub fn has_cloud_init(dir: &mut dyn Dir) -> bool {
    let mut is_there = |path: &&str| dir.stat(path).is_ok();
    [CLOUD_INIT, CLOUD_INIT_UNITS].iter().all(|paths| paths.iter().any(&mut is_there))
        && !STOPPERS.iter().any(&mut is_there)
}

/// True when preroot provisions this system, as far as can be seen now.
pub fn is_ours(dir: &mut dyn Dir, config: &Config) -> bool {
    match config.agent() {
        "auto" => !has_cloud_init(dir),
        agent => agent == "preroot",
    }
}

/// Puts the path of the file that a [`Place`] counts into `path`, without a leading `/`. False when there is none.
pub fn find(dir: &mut dyn Dir, is_waagents: bool, file: u16, path: &mut PathText) -> bool {
    path.clear();
    let (first, main, drop_ins) = match file {
        FIRST_CLOUD.. => (FIRST_CLOUD, CLOUDS, Some(CLOUD_DROP_INS)),
        _ if is_waagents => (FIRST, WAAGENTS, None),
        _ => (FIRST, FILE, Some(DROP_INS)),
    };
    if file <= first {
        return path.push_str(main).is_ok();
    }
    let Some(drop_ins) = drop_ins else { return false };
    (first..file).all(|_| next_drop_in(dir, drop_ins, path))
}

/// Makes of a drop-in's path the one whose name comes next, in the order of bytes; of "" the first.
fn next_drop_in(dir: &mut dyn Dir, (directory, end): (&str, &str), path: &mut PathText) -> bool {
    let mut next = PathText::new();
    let last = path.get(directory.len()..).unwrap_or_default();
    // No directory is no drop-in.
    let _ = dir.list(directory, &mut |name, _| {
        let is_one = name.ends_with(end) && !name.starts_with('.') && name.len() < ROOM;
        if is_one && name > last && (next.is_empty() || name < next.as_str()) {
            next.clear();
            let _ = next.push_str(name);
        }
        true
    });
    path.clear();
    let is_one = !next.is_empty();
    is_one && path.push_str(directory).is_ok() && path.push_str(&next).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{CLOUD_INIT, CLOUD_INIT_UNITS, PathText, STOPPERS, find, has_cloud_init, load};
    use crate::format::config::Config;
    use crate::sys::fake::FakeDir;
    use std::string::{String, ToString};
    use std::vec::Vec;

    /// The settings, and the faults as `FILE:LINE`.
    fn loaded(dir: &mut FakeDir) -> (Config, Vec<String>) {
        let mut told = Vec::new();
        let config = load(dir, &mut [0; 256], &mut |place, _| told.push(place));
        let mut path = PathText::new();
        let mut named = Vec::new();
        for place in told {
            assert!(find(dir, config.is_waagents(), place.file, &mut path));
            named.push(std::format!("{path}:{}", place.line));
        }
        (config, named)
    }

    #[test]
    fn cloud_cfg_counts_less_than_a_file_of_ours_and_the_last_of_its_drop_ins_most() {
        let mut dir = FakeDir::default();
        dir.put("etc/cloud/cloud.cfg", "preserve_hostname: true\ncloud_init_modules:\n - ntp\n");
        dir.put("etc/cloud/cloud.cfg.d/05_a.cfg", "preserve_hostname: false\n");
        dir.put(
            "etc/cloud/cloud.cfg.d/10_b.cfg",
            "x: y\npreserve_hostname: true\nsystem_info:\n  default_user:\n    name: ubuntu\n",
        );
        dir.put("etc/cloud/cloud.cfg.d/99.cfg.dpkg-old", "preserve_hostname: false\n");
        let (config, faults) = loaded(&mut dir);
        assert!(config.preserve_hostname() && faults.is_empty());
        assert_eq!(config.default_user(), "ubuntu");
        assert!(config.cloud_lacks("timezone") && !config.cloud_lacks("ntp"));
        let at = |config: &Config, name| {
            let n = crate::format::config::KEYS.iter().position(|key| key.name == name).unwrap();
            config.setting(n).place.unwrap()
        };
        let mut path = PathText::new();
        let place = at(&config, "Provisioning.PreserveHostname");
        assert!(find(&mut dir, false, place.file, &mut path));
        assert_eq!((&*path, place.line), ("etc/cloud/cloud.cfg.d/10_b.cfg", 2));
        dir.put("etc/preroot.conf", "Provisioning.PreserveHostname=n\nProvisioning.DefaultUser=ops\n");
        let (config, _) = loaded(&mut dir);
        assert!(!config.preserve_hostname());
        assert_eq!((config.default_user(), at(&config, "Provisioning.DefaultUser").line), ("ops", 2));
    }

    #[test]
    fn waagents_file_counts_only_where_there_is_none_of_ours() {
        let mut dir = FakeDir::default();
        assert!(!loaded(&mut dir).0.is_waagents());
        dir.put("etc/waagent.conf", "ResourceDisk.Format=n\nExtensions.Enabled=y\n");
        let (config, faults) = loaded(&mut dir);
        assert!(config.is_waagents() && !config.resource_disk_format() && faults.is_empty());
        for path in ["etc/preroot.conf", "etc/preroot.conf.d/10-disk.conf"] {
            let mut both = FakeDir::default();
            both.put("etc/waagent.conf", "ResourceDisk.Format=n\n").put(path, "");
            let (config, _) = loaded(&mut both);
            assert!(!config.is_waagents() && config.resource_disk_format(), "{path}");
        }
    }

    #[test]
    fn cloud_init_counts_where_it_is_enabled_and_nobody_said_no() {
        assert!(!has_cloud_init(&mut FakeDir::default()));
        for path in CLOUD_INIT {
            let mut dir = FakeDir::default();
            dir.put_symlink(path, "/lib/systemd/system/cloud-init-local.service");
            assert!(!has_cloud_init(&mut dir), "{path}: removed and not purged");
            for unit in CLOUD_INIT_UNITS {
                let mut dir = FakeDir::default();
                dir.put_symlink(path, "/x").put(unit, "");
                assert!(has_cloud_init(&mut dir), "{path} {unit}");
                for no in STOPPERS {
                    let mut dir = FakeDir::default();
                    dir.put_symlink(path, "/x").put(unit, "").put(no, "");
                    assert!(!has_cloud_init(&mut dir), "{no}");
                }
            }
        }
    }

    #[test]
    fn drop_ins_count_in_the_order_of_their_names() {
        let mut dir = FakeDir::default();
        dir.put("etc/preroot.conf", "ResourceDisk.SwapSizeMB=1\nx=1\n")
            .put("etc/preroot.conf.d/9.conf", "ResourceDisk.SwapSizeMB=9\n")
            .put("etc/preroot.conf.d/10.conf", "ResourceDisk.SwapSizeMB=10\nno\n")
            .put("etc/preroot.conf.d/99.conf.rpmsave", "ResourceDisk.SwapSizeMB=99\n")
            .put("etc/preroot.conf.d/.hidden.conf", "ResourceDisk.SwapSizeMB=98\n");
        let (config, faults) = loaded(&mut dir);
        assert_eq!(config.resource_disk_swap_size_mb(), 9);
        assert_eq!(faults, ["etc/preroot.conf:2", "etc/preroot.conf.d/10.conf:2"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_and_the_others_count() {
        let mut dir = FakeDir::default();
        dir.put_dir("etc/preroot.conf")
            .put("etc/preroot.conf.d/1.conf", "#".repeat(257))
            .put("etc/preroot.conf.d/2.conf", "ResourceDisk.EnableSwap=y\n");
        let (config, faults) = loaded(&mut dir);
        assert!(config.resource_disk_swap());
        assert_eq!(faults, ["etc/preroot.conf:0".to_string(), "etc/preroot.conf.d/1.conf:0".to_string()]);
    }
}
