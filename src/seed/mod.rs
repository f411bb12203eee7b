//! The seed: what the initrd hands to the real root, one value per file.
//!
//! It appears under `/run/preroot` by one rename and is never half there. Layout: `docs/seed-format.md`.
//! Each file is 0600 in a 0700 directory on tmpfs; values end with one newline.

use crate::error::{Errno, Result};
use crate::facts::{InstanceId, UserName};
use crate::format::cloud_config::FILE_PARTS;
use crate::format::text::{PathText, digits, join};
use crate::limits;
use crate::sys::{Dir, FileType, Owner};
use core::fmt::Write;

mod lease;
mod load;
mod network;
mod persist;
mod publish;

pub use load::{is_waiting, load, load_context, load_pre_provisioning, may_be_applied, wants_proxy_agent};
pub use persist::{INCLUDE_STAGING, keep_file, keep_words, persist, rebegin};
pub use publish::{Context, Verdict, add_failure, failure, note_failure, publish, publish_in_root};

use load::Reader;

/// The published seed below `/run/preroot`.
pub const SEED: &str = "seed";
/// The seed while it is written.
const STAGING: &str = "seed.tmp";
/// Below [`STATE`]: the same on the root.
const PENDING_STAGING: &str = "pending.tmp";
/// What `format` holds.
pub const FORMAT: &str = "1";
/// Our state directory below the root.
pub const STATE: &str = "var/lib/preroot";
/// Below the root: holds the instance id once everything was applied.
pub const PROVISIONED: &str = "var/lib/preroot/provisioned";
/// Below the root: as [`PROVISIONED`], where that is on a file system which the initrd does not see.
pub const PROVISIONED_HERE: &str = "etc/preroot.provisioned";
/// The platform was told that this VM is ready for an owner: the id of a VM of a pool.
pub const POOL: &str = "var/lib/preroot/pool";
/// Below the root: holds the instance id once the platform took our Ready.
pub const REPORTED: &str = "var/lib/preroot/reported";
/// Below the root: scripts of user data, a directory for each time they run.
pub const SCRIPTS: &str = "var/lib/preroot/scripts";
/// How names of user data's scripts begin where the image may have some, too (tools/cloud-config, places.rs).
pub const OF_USER_DATA: &str = "user-data.";
/// Of these directories each script runs once for a VM; what it runs again for is another text.
pub const RUN_ONCE: &[&str] = &["first", "vendor", "user", "per-instance"];
/// Below the root: a file for each script that ran: for which VM or boot, and its exit status.
pub const RAN: &str = "var/lib/preroot/ran";
/// Below the root: the administrator's name, for `deprovision --user`.
pub const USER: &str = "var/lib/preroot/user";
/// Below the root: entries of fstab are ours, and the swap file that one of them is for, as it stands there.
pub const FSTAB: &str = "var/lib/preroot/fstab";
/// Decoded customData (or userData) inside a seed.
pub const CUSTOM_DATA: &str = "custom-data";
/// User data of a medium inside a seed, as it came.
pub const USER_DATA: &str = "user-data";
/// network-config of a NoCloud medium inside a seed, as it came.
pub const NETWORK_CONFIG: &str = "network-config";

/// Inside a seed: entries of `disk_setup`, a line each ([`crate::format::disk_setup::Disk`]).
pub const DISKS: &str = "storage/disks";
/// Inside a seed: entries of `fs_setup`, a line each ([`crate::format::disk_setup::FileSystem`]).
pub const FILE_SYSTEMS: &str = "storage/filesystems";
/// Inside a seed: entries of `mounts`, a line of fstab each.
pub const MOUNTS: &str = "storage/mounts";
/// Inside a seed: `mount_default_fields`, one such line.
pub const MOUNT_DEFAULTS: &str = "storage/mount-defaults";
/// Inside a seed: a swap file, its size or `auto`, and its largest size or `-`.
pub const SWAP: &str = "storage/swap";
/// Inside a seed: the full name, where `hostname` has no domain.
pub const FQDN: &str = "fqdn";
/// Inside a seed: `true` where the image's own host name is to stay.
pub const PRESERVE_HOST_NAME: &str = "preserve-hostname";
/// Inside a seed: how /etc/hosts is looked after ([`crate::format::hosts::Managing`]).
pub const MANAGE_HOSTS: &str = "hosts/manage";
/// Inside a seed: lines `server NAME`, `pool NAME`, `peer NAME`, `allow NETWORK`, and `client NAME`.
pub const NTP: &str = "ntp";
/// Inside a seed: a name below /usr/share/zoneinfo.
pub const TIME_ZONE: &str = "timezone";
/// Inside a seed: LANG.
pub const LOCALE: &str = "locale";
/// Inside a seed: lines `nameserver ADDRESS`, `search NAME`, `domain NAME`, `sortlist NETWORK`, `option TEXT`.
pub const RESOLV_CONF: &str = "resolv-conf";
/// Inside a seed: who asked, where somebody else than the platform did; what the image switches off does not count then.
pub const ASKED_BY: &str = "asked-by";
/// Inside a seed: vendor data that became entries in the initrd, as cloud-config for the translator.
pub const VENDOR_MAPPING: &str = "vendor-data/mapping";
/// Inside a seed: the medium's host name, where vendor data have another.
pub const MEDIUM_HOST_NAME: &str = "medium-hostname";
/// Inside a seed: which of the machines that were made together this is (meta_data.json, `launch_index`).
pub const LAUNCH_INDEX: &str = "launch-index";
/// Inside a seed: lines `GROUP MEMBER,MEMBER`.
pub const GROUPS: &str = "groups";
/// Inside a seed: kinds of SSH host keys, a line each: no others are made.
pub const HOST_KEYS: &str = "ssh-host-keys";
/// Inside a seed: user data were translated into its entries; `failed` where they could not be.
pub const TRANSLATED: &str = "translated";
/// Inside a seed: documents that user data include, where they may be fetched ([`crate::format::translation::Wanted`]).
pub const INCLUDE: &str = "include";
/// Inside a seed: the files of `write_files`, a directory each, by number.
pub const FILES: &str = "files";
macro_rules! users {
    ($($n:literal)*) => { [$(concat!("users/", $n)),*] };
}

macro_rules! vendor_data {
    ($($n:literal)*) => { [$(concat!("vendor-data/", $n)),*] };
}

/// Texts of vendor data inside a seed, in their order.
pub const VENDOR_DATA: &[&str; crate::limits::VENDOR_PARTS] =
    &vendor_data!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// Users besides the administrator, one file each.
pub const USERS: &[&str; crate::limits::USERS] = &users!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
);

macro_rules! links {
    ($($n:literal)*) => { [$(concat!("network/", $n)),*] };
}

/// The network's links, one file each ([`crate::format::network::seed`]).
pub const NETWORK: &[&str; crate::limits::NETWORK_LINKS] = &links!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
/// What is no link's own.
pub const NETWORK_ALL: &str = "network/all";

/// Every file that [`publish`] writes. With [`KEPT`], [`USERS`] and [`FILES`] they are all a seed may hold, so that it can
/// be copied and removed without trusting a directory listing.
const NAMES: &[&str] = &[
    "format",
    "platform",
    "source",
    "instance-id",
    "hostname",
    "medium",
    "failure",
    "verdict",
    "user/name",
    "user/password-hash",
    "user/password-login",
    "user/authorized-keys",
    "azure/has-custom-data",
    "azure/wants-guest-agent",
    "azure/wants-proxy-agent",
    "azure/pre-provisioning",
    "azure/has-os-profile",
    "lease/mac",
    "lease/address",
    "lease/router",
    "lease/routes",
    "lease/mtu",
    "lease/until",
    "wireserver/address",
];
/// Files that are there before [`publish`]; a later one keeps them.
pub(crate) const KEPT: &[&str] = &[
    CUSTOM_DATA,
    USER_DATA,
    NETWORK_CONFIG,
    DISKS,
    FILE_SYSTEMS,
    MOUNTS,
    MOUNT_DEFAULTS,
    SWAP,
    FQDN,
    PRESERVE_HOST_NAME,
    MANAGE_HOSTS,
    NTP,
    TIME_ZONE,
    LOCALE,
    RESOLV_CONF,
    ASKED_BY,
    VENDOR_MAPPING,
    MEDIUM_HOST_NAME,
    NETWORK_ALL,
    GROUPS,
    HOST_KEYS,
    LAUNCH_INDEX,
    TRANSLATED,
    INCLUDE,
];

/// Entries that the translator of user data may put, beside [`USERS`] and [`FILES`]. The first two are facts.
const TRANSLATIONS: &[&str] = &[
    "hostname",
    "user/password-login",
    DISKS,
    FILE_SYSTEMS,
    MOUNTS,
    MOUNT_DEFAULTS,
    SWAP,
    FQDN,
    PRESERVE_HOST_NAME,
    MANAGE_HOSTS,
    NTP,
    TIME_ZONE,
    LOCALE,
    RESOLV_CONF,
    GROUPS,
    HOST_KEYS,
];

/// Drops what vendor data became in the initrd, in the seed being written: somebody reads them again, or they are not
/// wanted. Files that the medium brought along are counted from the end, and stay. False where there was nothing.
///
/// # Errors
/// `Os`.
#[inline(never)]
pub fn forget_vendor_data(run: &mut dyn Dir) -> Result<bool> {
    let word = crate::facts::Provenance::VendorData.word().as_bytes();
    let mut asked_by = [0; 64];
    if spooled(run, ASKED_BY).is_none() {
        return Ok(false);
    }
    let n = read_spooled(run, ASKED_BY, 0, &mut asked_by)?;
    if asked_by.get(..n) != Some(word) {
        return Ok(false);
    }
    // The first two are facts.
    let others = TRANSLATIONS.get(2..).unwrap_or_default();
    others.iter().chain(USERS).try_for_each(|name| forget_spooled(run, name))?;
    each_file(run, STAGING, &mut |run, file| {
        let n = file.strip_prefix("files/").and_then(|n| crate::format::text::number(n.as_bytes()));
        if n.is_some_and(|n| n as usize >= limits::FILES.saturating_sub(limits::INJECTED_FILES)) {
            return Ok(());
        }
        FILE_PARTS.iter().try_for_each(|part| forget_spooled(run, &path(file, part)?))
    })?;
    Ok(true)
}

/// True for an entry that the translator of user data may put.
#[must_use]
pub fn is_translation(name: &str) -> bool {
    let is_file = || {
        let mut parts = name.strip_prefix("files/")?.split('/');
        let number = crate::format::text::number(parts.next()?.as_bytes())?;
        let is_part = FILE_PARTS.contains(&parts.next()?) && parts.next().is_none();
        // As it is written here: `01` would be another file.
        let whole = join(&["files/", digits(number.into(), &mut [0; 20]), "/"]).ok()?;
        Some(is_part && (number as usize) < limits::FILES && name.starts_with(whole.as_str()))
    };
    TRANSLATIONS.contains(&name) || USERS.contains(&name) || is_file() == Some(true)
}

const DIRECTORIES: &[&str] =
    &["user", "users", "azure", "lease", "wireserver", "storage", "hosts", "vendor-data", "network", FILES];

/// Each file of [`FILES`] that has a directory.
fn each_file(
    dir: &mut dyn Dir,
    base: &str,
    each: &mut dyn FnMut(&mut dyn Dir, &str) -> Result<()>,
) -> Result<()> {
    // Every one is looked for: a power cut may have taken any of them.
    for n in 0..limits::FILES as u64 {
        let name = join(&[FILES, "/", digits(n, &mut [0; 20])])?;
        if dir.stat(&path(base, &name)?).is_ok() {
            each(dir, &name)?;
        }
    }
    Ok(())
}

/// Every name a seed may have; files of [`FILES`] only where their directory is.
#[inline(never)]
fn each_name(
    dir: &mut dyn Dir,
    base: &str,
    each: &mut dyn FnMut(&mut dyn Dir, &str) -> Result<()>,
) -> Result<()> {
    NAMES
        .iter()
        .chain(KEPT)
        .chain(NETWORK)
        .chain(USERS)
        .chain(VENDOR_DATA)
        .try_for_each(|name| each(dir, name))?;
    each_file(dir, base, &mut |dir, file| {
        FILE_PARTS.iter().try_for_each(|part| each(dir, &path(file, part)?))
    })
}

const PRIVATE_DIR: Owner = Owner::root(0o700);
const PRIVATE_FILE: Owner = Owner::root(0o600);

type Line = heapless::String<128>;

fn path(base: &str, name: &str) -> Result<PathText> {
    join(&[base, if base.is_empty() { "" } else { "/" }, name])
}

/// Path of `pending-<id>` below the root.
///
/// # Errors
/// `TooMany`, never with a valid id.
pub fn pending(id: &InstanceId) -> Result<PathText> {
    join(&[STATE, "/pending-", id.as_str()])
}

/// Path of `marks-<id>` below the root: what apply has done for this VM so far, while it is not done.
///
/// # Errors
/// `TooMany`, never with a valid id.
pub fn marks(id: &InstanceId) -> Result<PathText> {
    join(&[STATE, "/marks-", id.as_str()])
}

/// Makes the directory of [`marks`], and what is missing above it.
///
/// # Errors
/// `Os`.
pub fn make_marks(root: &mut dyn Dir, id: &InstanceId) -> Result<()> {
    make_state_dir(root)?;
    match root.make_dir(&marks(id)?, PRIVATE_DIR) {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        outcome => outcome,
    }
}

/// Starts an empty seed. A secret may only be put where it cannot reach a disk.
///
/// # Errors
/// `Unsupported` when `run` is not tmpfs or ramfs; `Os`.
pub fn begin(run: &mut dyn Dir) -> Result<()> {
    if !run.is_in_memory() {
        return Err(unsupported!("/run", "seed outside memory (tmpfs)"));
    }
    remove(run, STAGING)?;
    run.make_dir(STAGING, PRIVATE_DIR)?;
    for directory in DIRECTORIES {
        run.make_dir(&path(STAGING, directory)?, PRIVATE_DIR)?;
    }
    Ok(())
}

/// Drops the seed being written; what was published stays.
///
/// # Errors
/// `Os`.
pub fn abandon(run: &mut dyn Dir) -> Result<()> {
    remove(run, STAGING)
}

/// Appends to a value of the seed being written, one that [`publish`] does not write: of any length, in any pieces.
///
/// # Errors
/// `Os`; a name that no seed may have is `NOENT`.
pub fn spool(run: &mut dyn Dir, name: &str, chunk: &[u8]) -> Result<()> {
    let target = path(STAGING, name)?;
    match run.append(&target, chunk) {
        Err(error) if error.is_not_found() => {}
        outcome => return outcome,
    }
    make_parent(run, STAGING, name)?;
    run.create_unsynced(&target, PRIVATE_FILE, chunk)
}

/// The directory of a file of [`FILES`]; the others are there.
fn make_parent(dir: &mut dyn Dir, base: &str, name: &str) -> Result<()> {
    let Some((parent, _)) = name.rsplit_once('/').filter(|(parent, _)| parent.contains('/')) else {
        return Ok(());
    };
    match dir.make_dir(&path(base, parent)?, PRIVATE_DIR) {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        outcome => outcome,
    }
}

/// Drops what was spooled of a value: it turned out to be unusable.
///
/// # Errors
/// `Os`.
pub fn forget_spooled(run: &mut dyn Dir, name: &str) -> Result<()> {
    ignore_missing(run.remove(&path(STAGING, name)?))
}

/// Bytes of a value of the seed being written; `None` where it has no file.
pub fn spooled(run: &mut dyn Dir, name: &str) -> Option<u64> {
    let path = path(STAGING, name).ok()?;
    run.stat(&path).ok().filter(|stat| stat.file_type == FileType::File).map(|stat| stat.size)
}

/// Reads on in a value of the seed being written.
///
/// # Errors
/// `Os`.
pub fn read_spooled(run: &mut dyn Dir, name: &str, from: u64, buf: &mut [u8]) -> Result<usize> {
    run.read_at(&path(STAGING, name)?, from, buf)
}

/// Refuses a seed that is not ours to trust: root-owned, 0700, of a known format.
///
/// # Errors
/// `Os(NOENT)` when there is none, `Unsupported` or `Malformed` when it must not be used.
pub fn verify(dir: &mut dyn Dir, base: &str) -> Result<()> {
    let stat = dir.stat(base)?;
    if stat.file_type != FileType::Directory {
        return Err(malformed!("seed", "seed is not a directory", 0));
    }
    if stat.uid != 0 || stat.mode & 0o077 != 0 {
        return Err(malformed!("seed", "seed is not root's alone", 0));
    }
    match Reader::new(dir, base, &mut [0; 8]).text("format")? {
        Some(FORMAT) => Ok(()),
        _ => Err(unsupported!("seed", "unknown seed format")),
    }
}

/// Makes `/var/lib/preroot` (0700) and what is missing above it.
///
/// # Errors
/// `Os`.
pub fn make_state_dir(root: &mut dyn Dir) -> Result<()> {
    for (directory, mode) in [("var", 0o755), ("var/lib", 0o755), (STATE, 0o700)] {
        match root.make_dir(directory, Owner::root(mode)) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            outcome => outcome?,
        }
    }
    root.sync_dir("var/lib")
}

/// Removes a seed, its secrets first. Missing files are fine.
///
/// # Errors
/// `Os`.
pub fn remove(dir: &mut dyn Dir, base: &str) -> Result<()> {
    if dir.stat(base).is_err_and(|error| error.is_not_found()) {
        return Ok(());
    }
    each_name(dir, base, &mut |dir, name| ignore_missing(dir.remove(&path(base, name)?)))?;
    each_file(dir, base, &mut |dir, file| ignore_missing(dir.remove_dir(&path(base, file)?)))?;
    for directory in DIRECTORIES {
        ignore_missing(dir.remove_dir(&path(base, directory)?))?;
    }
    ignore_missing(dir.remove(&path(base, "boots")?))?;
    ignore_missing(dir.remove_dir(base))
}

/// Removes what may be secret in a seed.
///
/// # Errors
/// `Os`.
pub fn remove_secrets(dir: &mut dyn Dir, base: &str) -> Result<()> {
    each_name(dir, base, &mut |dir, name| {
        const SECRETS: &[&str] = &[
            "user/password-hash",
            CUSTOM_DATA,
            USER_DATA,
            NETWORK_CONFIG,
            VENDOR_MAPPING,
            INCLUDE,
            MOUNTS,
            MOUNT_DEFAULTS,
        ];
        let is_secret = SECRETS.contains(&name) || USERS.contains(&name) || VENDOR_DATA.contains(&name);
        if !is_secret && !name.ends_with("/content") {
            return Ok(());
        }
        ignore_missing(dir.remove(&path(base, name)?))
    })
}

/// True when a copy that never became a seed, or a seed, of this VM is on the root.
#[must_use]
pub fn is_kept(root: &mut dyn Dir, id: &InstanceId) -> bool {
    let mut is_there = |path: Result<PathText>| path.is_ok_and(|path| root.stat(&path).is_ok());
    is_there(pending(id)) || is_there(path(STATE, PENDING_STAGING))
}

/// Drops every seed of this VM and what a stage that was stopped in the middle left of one.
///
/// # Errors
/// `Os`: the first; the others had their turn.
pub fn forget(run: &mut dyn Dir, root: &mut dyn Dir, id: &InstanceId) -> Result<()> {
    let kept = pending(id).and_then(|pending| remove(root, &pending));
    let half_kept = path(STATE, PENDING_STAGING).and_then(|staging| remove(root, &staging));
    remove(run, SEED).and(remove(run, STAGING)).and(kept).and(half_kept)
}

/// True when `file` below the root holds this VM's id, in either byte order.
#[must_use]
pub fn is_marked(root: &mut dyn Dir, file: &str, id: &InstanceId) -> bool {
    let mut buf = [0; 128];
    let Ok(n) = root.read(file, &mut buf) else { return false };
    let text =
        buf.get(..n).and_then(|bytes| core::str::from_utf8(bytes).ok()).and_then(|text| text.lines().next());
    text.and_then(|text| InstanceId::parse(text).ok()).is_some_and(|marked| marked.is_same_vm(id))
}

/// Writes this VM's id to `file` below the root (`PROVISIONED` or `REPORTED`): whole or not at all.
///
/// # Errors
/// `Os`.
pub fn mark(root: &mut dyn Dir, file: &str, id: &InstanceId) -> Result<()> {
    keep_line(root, file, id.as_str())
}

/// Drops such a mark. One that is not there is fine.
///
/// # Errors
/// `Os`.
pub fn unmark(root: &mut dyn Dir, file: &str) -> Result<()> {
    match root.remove(file) {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome.and_then(|()| root.sync_dir(STATE)),
    }
}

/// Writes who the administrator is, for [`USER`]: whole or not at all.
///
/// # Errors
/// `Os`.
pub fn keep_user(root: &mut dyn Dir, user: &UserName) -> Result<()> {
    keep_line(root, USER, user.as_str())
}

fn keep_line(root: &mut dyn Dir, file: &str, text: &str) -> Result<()> {
    make_state_dir(root)?;
    let staging = path(STATE, "mark.tmp")?;
    ignore_missing(root.remove(&staging))?;
    let mut line = Line::new();
    writeln!(line, "{text}").map_err(|_| too_many!("line of a mark", 128))?;
    root.create(&staging, Owner::root(0o644), line.as_bytes())?;
    root.rename(&staging, file)?;
    root.sync_dir(STATE)
}

fn ignore_missing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
