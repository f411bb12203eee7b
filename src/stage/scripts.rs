//! `preroot scripts`: which scripts of the image, and of whoever made this VM, run in this boot, and how did they end?
//!
//! The directories are cloud-init's, with its order and meaning (cloudinit/config/cc_scripts_*.py): those below
//! /var/lib/cloud belong to the image, where no cloud-init runs them; those below /var/lib/preroot to this VM, and
//! deprovision takes them away. A script is marked before it starts: one that reboots the machine, or crashes it,
//! must not do so for ever.

use super::identity;
use crate::apply::data_disks::REMOTE;
use crate::apply::replace::{self, Target};
use crate::apply::{Buffers, Root, SeedPlace, boot_scripts, deferred, exists, next_name, object};
use crate::config;
use crate::error::{Errno, Error, Kind, Result};
use crate::event::{Level, Value};
use crate::facts::InstanceId;
use crate::format::config::Config;
use crate::format::text::{PathText, bare, digits, join, lines};
use crate::limits;
use crate::seed;
use crate::sys::{Dir, FileType, Kernel, Owner, Stat};

/// Who owns the scripts, where they are, and how often they run.
struct Place {
    directory: &'static str,
    /// Between this and the script's name stands a `.` in the name of its record.
    word: &'static str,
    when: When,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Once,
    Boot,
    Instance,
    /// As `Instance`, and marked when it has ended: to install packages once more does no harm, to miss them does.
    First,
    /// As `Instance`; what is no program is for a shell, as waagent ran customData.
    User,
}

const CLOUDS: &str = "var/lib/cloud/";

macro_rules! place {
    ($directory:literal, $word:literal, $when:ident) => {
        Place { directory: $directory, word: $word, when: When::$when }
    };
}
/// Source: config/cloud.cfg.tmpl, `cloud_final_modules`.
const PLACES: &[Place] = &[
    place!("var/lib/preroot/scripts/first", "first", First),
    place!("var/lib/preroot/scripts/vendor", "vendor", User),
    place!("var/lib/cloud/scripts/per-once", "cloud-per-once", Once),
    place!("var/lib/preroot/scripts/per-once", "per-once", Once),
    place!("var/lib/cloud/scripts/per-boot", "cloud-per-boot", Boot),
    place!("var/lib/preroot/scripts/per-boot", "per-boot", Boot),
    place!("var/lib/cloud/scripts/per-instance", "cloud-per-instance", Instance),
    place!("var/lib/preroot/scripts/per-instance", "per-instance", Instance),
    place!("var/lib/preroot/scripts/user", "user", User),
];
/// Those of `bootcmd` and boothooks, which come before the network.
pub(super) const BOOT: &str = boot_scripts::DIRECTORY;
const EARLY: &[Place] = &[Place { directory: BOOT, word: "boot", when: When::Boot }];

pub(super) const RECORDS: &str = seed::RAN;
/// Below /run/preroot: held by the process that runs them, and by nobody when that is gone.
const LOCK: &str = "scripts.lock";
const LOG: &str = "var/log/preroot-scripts.log";
const CONSOLE: &str = "dev/console";
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
/// How user data begins that is not for a shell. Source: cloud-init handlers/__init__.py, INCLUSION_TYPES_MAP.
const NO_SHELL: &[&[u8]] = &[
    b"#cloud-",
    b"#include",
    b"#part-handler",
    b"## template",
    b"Content-Type:",
    b"MIME-Version:",
    b"\x1f\x8b",
    b"{",
];
/// A console that takes nothing this many times in a row gets no more of this script.
const CONSOLE_TRIES: u32 = 50;
const CONSOLE_NAP_MS: u64 = 20;
/// No word of how the stage ended: it has not.
pub(super) const BUSY: Error = not_applicable!("another `preroot scripts` is at work");
/// In a record: what was begun and has not ended.
const STARTED: &str = "started";
/// Of a line, on the console.
const LINE: usize = 256;

/// Runs what is due, unless somebody else is at it: what is begun in `first` would be begun once more. `bytes` holds lines on
/// their way to the console.
///
/// # Errors
/// `NotApplicable` on a machine that is not ours or not provisioned, or where another is at work; `Malformed` when a
/// script failed, after all the others had their turn.
#[inline(never)]
pub(super) fn run(
    kernel: &mut Kernel<'_>,
    bytes: &mut [u8],
    root_path: &str,
    is_dry_run: bool,
) -> Result<()> {
    kernel.log.enter("scripts");
    if is_dry_run {
        return run_due(kernel, bytes, root_path, true);
    }
    let Kernel { clock, log, host, root, run, disks, links, system } = kernel;
    let mut is_alone = false;
    let outcome = run.lock(LOCK, 0, &mut |run| {
        is_alone = true;
        let mut kernel = Kernel {
            clock: &mut **clock,
            log: &mut **log,
            host: &mut **host,
            root: &mut **root,
            run,
            disks: &mut **disks,
            links: &mut **links,
            system: &mut **system,
        };
        run_due(&mut kernel, bytes, root_path, false)
    });
    match outcome {
        Err(error) if !is_alone && error.is(Kind::Deadline) => {
            kernel.say(Level::Info, "nothing is run: another `preroot scripts` is at work", &[]);
            Err(BUSY)
        }
        outcome => outcome,
    }
}

#[inline(never)]
fn run_due(kernel: &mut Kernel<'_>, bytes: &mut [u8], root_path: &str, is_dry_run: bool) -> Result<()> {
    let id = identity::observe(kernel).vm_id.ok_or(not_applicable!("not a platform of ours"))?;
    if !seed::is_marked(kernel.root, seed::PROVISIONED, &id) {
        return Err(not_applicable!("this VM is not provisioned"));
    }
    let has_cloud_init = config::is_cloud_init_there(kernel.root);
    let config = config::load(kernel.root, bytes, &mut |_, _| {});
    // Then apply left alone what an image brings of the VM that it was made of.
    let is_ours = matches!(config.agent(), "auto" | "preroot");
    let mut story =
        Story { kernel, bytes, root_path, is_dry_run, is_ours, until_us: u64::MAX, id: &id, failed: 0 };
    let places = || {
        PLACES.iter().filter(|place| match place.when {
            When::First | When::User => is_ours,
            _ => !(has_cloud_init && place.directory.starts_with(CLOUDS)),
        })
    };
    let installed = story.run_all(places().filter(|place| place.when == When::First));
    if is_ours && let Err(error) = story.write_deferred(&config) {
        story.kernel.say(Level::Error, "deferred files: {}", &[Value::Why(error)]);
    }
    story.mount_remote();
    story.run_all(places().filter(|place| place.when != When::First)).and(installed)
}

/// Runs what comes before the network in each boot and has not run in it, until then by the clock.
///
/// # Errors
/// `Malformed` when a script failed.
pub(super) fn run_early(
    kernel: &mut Kernel<'_>,
    bytes: &mut [u8],
    root_path: &str,
    id: &InstanceId,
    until_us: u64,
) -> Result<()> {
    let mut story =
        Story { kernel, bytes, root_path, is_dry_run: false, is_ours: true, until_us, id, failed: 0 };
    story.run_all(EARLY.iter())
}

struct Story<'s, 'k> {
    kernel: &'s mut Kernel<'k>,
    bytes: &'s mut [u8],
    root_path: &'s str,
    is_dry_run: bool,
    /// What an image brings of the VM that it was made of is gone; else it is left alone.
    is_ours: bool,
    /// All of them have to end by then.
    until_us: u64,
    id: &'s InstanceId,
    failed: u32,
}

impl Story<'_, '_> {
    #[inline(never)]
    fn run_all<'p>(&mut self, places: impl Iterator<Item = &'p Place>) -> Result<()> {
        let mut boot = [0; 64];
        let length = self.kernel.host.read(BOOT_ID, &mut boot).unwrap_or_default();
        let boot = boot.get(..length).and_then(|text| core::str::from_utf8(text).ok());
        let boot = InstanceId::parse(boot.unwrap_or("unknown"))?;
        for place in places {
            self.run_place(place, if place.when == When::Boot { &boot } else { self.id });
        }
        match self.failed {
            0 => Ok(()),
            _ => Err(malformed!("scripts", "a script failed", 0)),
        }
    }

    /// Files of `write_files` that waited for the packages.
    #[inline(never)]
    fn write_deferred(&mut self, config: &Config) -> Result<()> {
        if self.is_dry_run || !exists(self.kernel.root, deferred::PLACE)? {
            return Ok(());
        }
        let Kernel { root, run, host, disks, system, clock, log, .. } = &mut *self.kernel;
        let wall_s = clock.wall_s();
        let mut root = Root {
            dir: &mut **root,
            run: &mut **run,
            host: &mut **host,
            disks: &mut **disks,
            system: &mut **system,
            clock: &mut **clock,
            until_us: u64::MAX,
            is_switched_off: false,
            is_last_try: false,
            partly: None,
            path: self.root_path,
            seed: SeedPlace::Root(deferred::PLACE),
            config,
            id: self.id,
            wall_s,
            buffers: Buffers::halves_of(self.bytes),
        };
        let failed = &mut self.failed;
        deferred::write(&mut root, &mut |path, written| match written {
            Ok(()) => log.say(Level::Info, "/{}: written", &[Value::Name(path)]),
            Err(error) => {
                *failed = failed.saturating_add(1);
                log.say(Level::Error, "/{}: not written: {}", &[Value::Name(path), Value::Why(error)]);
            }
        })
    }

    /// File systems of other machines, which `mounts` asked for in this boot; later boots have their own way by fstab.
    #[inline(never)]
    fn mount_remote(&mut self) {
        const MOUNT: &str =
            "if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi; exec timeout 300 mount -a";
        if self.is_dry_run || self.kernel.run.remove(REMOTE).is_err() {
            return;
        }
        let outcome = self.follow(&["/bin/sh", "-c", MOUNT], "mount -a");
        let values = match outcome {
            Ok(0) => return self.kernel.say(Level::Info, "file systems of other machines: mounted", &[]),
            Ok(code) => [Value::Number(u64::try_from(code).unwrap_or_default())],
            Err(error) => [Value::Why(error)],
        };
        self.failed = self.failed.saturating_add(1);
        self.kernel.say(Level::Error, "file systems of other machines: mount -a ended with {}", &values);
    }

    fn run_place(&mut self, place: &Place, key: &InstanceId) {
        let mut last = PathText::new();
        let is_roots =
            |stat: Stat| stat.file_type == FileType::Directory && stat.uid == 0 && stat.mode & 0o022 == 0;
        match self.kernel.root.stat(place.directory) {
            Ok(stat) if !is_roots(stat) => {
                let values = [Value::Text(place.directory)];
                let text = "/{}: others than root may change it; nothing in it is run";
                self.kernel.say(Level::Error, text, &values);
                self.failed = self.failed.saturating_add(1);
                return;
            }
            _ => {}
        }
        while let Some(name) = next_name(self.kernel.root, place.directory, &last) {
            if self.is_ours || place.directory.starts_with(CLOUDS) || !name.starts_with(seed::OF_USER_DATA) {
                self.run_one(place, &name, key);
            }
            last = name;
        }
    }

    fn run_one(&mut self, place: &Place, name: &str, key: &InstanceId) {
        let words = [Value::Text(place.word), Value::Name(name)];
        match self.try_one(place, name, key) {
            Ok(None) => {}
            Ok(Some(0)) => self.kernel.say(Level::Info, "{}/{}: done", &words),
            Ok(Some(code)) => {
                self.failed = self.failed.saturating_add(1);
                let code = Value::Number(u64::try_from(code).unwrap_or_default());
                self.kernel.say(Level::Error, "{}/{}: ended with {}", &[words[0], words[1], code]);
            }
            Err(error) => {
                self.failed = self.failed.saturating_add(1);
                self.kernel.say(Level::Error, "{}/{}: {}", &[words[0], words[1], Value::Why(error)]);
            }
        }
    }

    /// The exit status; `None` where there was nothing to run.
    fn try_one(&mut self, place: &Place, name: &str, key: &InstanceId) -> Result<Option<i32>> {
        let path = join(&[place.directory, "/", name])?;
        let record = join(&[RECORDS, "/", place.word, ".", name])?;
        if self.kernel.clock.now_us() >= self.until_us {
            return Err(deadline!("scripts before the network", limits::BOOT_SCRIPTS_MS));
        }
        if !is_script(self.kernel.root, &path)? || has_run(self.kernel.root, &record, place.when, key)? {
            return Ok(None);
        }
        let has_shell = place.when == When::User && !is_program(self.kernel.root, &path)?;
        if self.is_dry_run {
            self.kernel.say(
                Level::Info,
                "{}/{}: would be run",
                &[Value::Text(place.word), Value::Name(name)],
            );
            return Ok(None);
        }
        note(self.kernel.root, &record, key, STARTED)?;
        let (absolute, id) = (join(&["/", &path])?, join(&["INSTANCE_ID=", self.id.as_str()])?);
        // As cloud-init runs boothooks and bootcmd.
        let argv = match place.directory {
            boot_scripts::DIRECTORY => ["/usr/bin/env", &*id, &*absolute],
            _ if has_shell => ["", "/bin/sh", &*absolute],
            _ => ["", "", &*absolute],
        };
        let words = argv.iter().position(|word| !word.is_empty()).and_then(|first| argv.get(first..));
        let outcome = self.follow(words.unwrap_or_default(), name);
        let mut buf = [0; 20];
        let word = match &outcome {
            Ok(code) => digits(u64::try_from(*code).unwrap_or_default(), &mut buf),
            Err(error) if error.is(Kind::Deadline) => "stopped",
            Err(_) => "failed",
        };
        note(self.kernel.root, &record, key, word).and(outcome.map(Some))
    }

    /// Runs it; what it writes goes to the log, and from there to the console.
    fn follow(&mut self, argv: &[&str], name: &str) -> Result<i32> {
        let Kernel { root, host, clock, system, .. } = &mut *self.kernel;
        let limit_ms = limits::SCRIPT_MS.min(self.until_us.saturating_sub(clock.now_us()) / 1000);
        let log = join(&[self.root_path.trim_end_matches('/'), "/", LOG])?;
        let from = open_log(&mut **root, name);
        let log = if from.is_some() { &*log } else { "/dev/null" };
        let mut tail = Tail {
            root: &mut **root,
            console: &mut **host,
            name,
            at: from.unwrap_or_default(),
            is_stuck: false,
            bytes: self.bytes,
        };
        let mut beat = || tail.pass_on(&mut |ms| clock.sleep_ms(ms), false);
        let outcome = system.run_logged(self.root_path, argv, log, limit_ms, &mut beat);
        tail.pass_on(&mut |ms| clock.sleep_ms(ms), true);
        outcome
    }
}

/// Makes the log if it is missing, says in it whose output follows, and returns where that begins; `None`: the script
/// runs without one.
fn open_log(root: &mut dyn Dir, name: &str) -> Option<u64> {
    // Whatever is missing or refused shows in the last line.
    let _ = root.make_dir("var/log", Owner::root(0o755));
    let _ = root.create_unsynced(LOG, Owner::root(0o600), b"");
    let _ = [b"preroot: ", name.as_bytes(), b"\n"].iter().try_for_each(|text| root.append(LOG, text));
    root.stat(LOG).ok().filter(|stat| stat.file_type == FileType::File).map(|stat| stat.size)
}

/// The way of a log's new lines to the console.
struct Tail<'t> {
    root: &'t mut dyn Dir,
    console: &'t mut dyn Dir,
    name: &'t str,
    at: u64,
    /// It took nothing for too long: this script's lines are in the log only.
    is_stuck: bool,
    bytes: &'t mut [u8],
}

impl Tail<'_> {
    /// Passes on whole lines, the last one as it is when `is_last`.
    fn pass_on(&mut self, nap: &mut dyn FnMut(u64), is_last: bool) {
        loop {
            let n = self.root.read_at(LOG, self.at, self.bytes).unwrap_or_default();
            let new = self.bytes.get(..n).unwrap_or_default();
            let whole = new.iter().rposition(|byte| *byte == b'\n').map(|at| at.saturating_add(1));
            let taken = whole.unwrap_or(if is_last || n == self.bytes.len() { n } else { 0 });
            if taken == 0 {
                return;
            }
            for line in lines(new.get(..taken).unwrap_or_default()) {
                self.is_stuck = self.is_stuck || !print_line(self.console, self.name, bare(line), nap);
            }
            self.at = self.at.saturating_add(taken as u64);
        }
    }
}

/// Without what would move a terminal's cursor or change its colours. False when the console takes nothing.
fn print_line(console: &mut dyn Dir, name: &str, line: &[u8], nap: &mut dyn FnMut(u64)) -> bool {
    let mut text = heapless::Vec::<u8, { LINE + limits::PATH + 4 }>::new();
    let parts = [name.as_bytes(), b": ", line.get(..LINE).unwrap_or(line)];
    for byte in parts.iter().copied().flatten() {
        let _ = text.push(if byte.is_ascii_control() && *byte != b'\t' { b'?' } else { *byte });
    }
    let _ = text.extend_from_slice(b"\r\n");
    for _ in 0..CONSOLE_TRIES {
        match console.append(CONSOLE, &text) {
            Err(error) if error.errno() == Some(Errno::AGAIN) => nap(CONSOLE_NAP_MS),
            _ => return true,
        }
    }
    false
}

/// A file that may be executed, or a link, which only root can have put here.
fn is_script(root: &mut dyn Dir, path: &str) -> Result<bool> {
    let stat = root.stat(path)?;
    match stat.file_type {
        FileType::Symlink => Ok(true),
        FileType::File if stat.mode & 0o111 == 0 => Err(unsupported!("script", "not executable")),
        FileType::File if stat.uid != 0 || stat.mode & 0o022 != 0 => {
            Err(unsupported!("script", "others than root may change it"))
        }
        other => Ok(other == FileType::File),
    }
}

/// True for what the kernel runs by itself, false for what a shell can read.
fn is_program(root: &mut dyn Dir, path: &str) -> Result<bool> {
    let mut head = [0; 16];
    let n = root.read_at(path, 0, &mut head)?;
    let head = head.get(..n).unwrap_or_default();
    if NO_SHELL.iter().any(|start| head.starts_with(start)) {
        return Err(unsupported!("script", "customData is no script: it is kept, not run"));
    }
    Ok(head.starts_with(b"#!") || head.starts_with(b"\x7fELF"))
}

/// Whether it ran, or began to, in this boot, on this VM, or ever.
fn has_run(root: &mut dyn Dir, record: &str, when: When, key: &InstanceId) -> Result<bool> {
    let mut text = [0; 128];
    Ok(match when {
        When::Once => exists(root, record)?,
        When::First
            if root.read(record, &mut text).is_ok_and(|n| {
                text.get(..n).unwrap_or_default().trim_ascii_end().ends_with(STARTED.as_bytes())
            }) =>
        {
            false
        }
        _ => seed::is_marked(root, record, key),
    })
}

/// Two lines: for which VM or boot, and what became of it.
fn note(root: &mut dyn Dir, record: &str, key: &InstanceId, word: &str) -> Result<()> {
    match root.make_dir(RECORDS, Owner::root(0o700)) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        outcome => outcome.and_then(|()| root.sync_dir(seed::STATE))?,
    }
    let text = join(&[key.as_str(), "\n", word, "\n"])?;
    let target = Target::root(record, object!("record of a script"), 0o600);
    replace::write(root, target, text.as_bytes(), &mut |_, _| Ok(()))
}

#[cfg(test)]
mod tests;
