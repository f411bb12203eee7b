//! `preroot include`: what is in the documents that user data include, once there is a network, and what do they add?
//!
//! The image's curl fetches them, as nobody, over http and https alone; the translator says what they add, and the modules
//! of apply do it. URLs may be secrets: they reach curl over its standard input, and no message. What could not be had is
//! tried again in the next boots (docs/cloud-config.md).

use super::marks::sweep;
use super::translation::PROGRAMS;
use super::{Story, configuration};
use crate::apply::include::{ADDED, DOCUMENTS, LIST, PLACE, Stage, forget};
use crate::apply::replace::{self, Target};
use crate::apply::{MODULES, SeedPlace, exists, object};
use crate::cli::Command;
use crate::config;
use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::facts::{Facts, InstanceId};
use crate::format::text::{bare, digits, join, lines, number};
use crate::format::translation::Wanted;
use crate::limits;
use crate::net::Buffers;
use crate::seed;
use crate::stage::identity;
use crate::sys::{Dir, Kernel, Owner, Symlinks, Talk};

const WHAT: &str = "include";
const CURL: &[&str] = &["usr/bin/curl", "bin/curl", "usr/local/bin/curl"];
/// Below /run/preroot: what stands there for /run/preroot while a seed is made.
const RUN: &str = "include";
/// There, in the place of the seed while the next is made: what the round before said.
const BEFORE: &str = "seed-before";
/// Below [`PLACE`]: boots that tried.
const BOOTS: &str = "var/lib/preroot/include/boots";
/// Modules that know nothing of user data, or would do again what was done once.
const OTHERS: &[&str] = &[
    "old_scripts",
    "root_password",
    "ssh_host_keys",
    "persistent_net",
    "network",
    "scsi_timeout",
    "custom_data",
    "waagent",
];
/// What curl reads before the URL. It heeds no file of a user's, and goes nowhere but where the first word sends it, over http
/// and https.
const ORDERS: &str = "proto = \"=http,https\"\nproto-redir = \"=http,https\"\nlocation\nmax-redirs = 5\ngloboff\n\
                      fail\nsilent\nconnect-timeout = 10\nmax-time = 55\nmax-filesize = 16777216\nurl = \"";

/// Fetches what is wanted, and applies what it adds.
///
/// # Errors
/// `NotApplicable` where nothing is to be included; `Unsupported` where not all could be had; `Malformed` where the translator
/// or a module failed.
#[inline(never)]
pub(in crate::stage) fn run(
    kernel: &mut Kernel<'_>,
    facts: &mut Facts,
    bytes: &mut [u8],
    net: &mut Buffers,
    command: &Command,
) -> Result<()> {
    kernel.log.enter(WHAT);
    let id = identity::observe(kernel).vm_id.ok_or(not_applicable!("not a platform of ours"))?;
    if !seed::is_marked(kernel.root, seed::PROVISIONED, &id) {
        return Err(not_applicable!("this VM is not provisioned"));
    }
    if !exists(kernel.root, LIST)? {
        // What a cut left has user data in it.
        forget(kernel.root)?;
        return Err(not_applicable!("nothing is to be included"));
    }
    let config = configuration(kernel, bytes);
    if !config.include() || !matches!(config.agent(), "auto" | "preroot") {
        forget(kernel.root)?;
        return Err(not_applicable!("Provisioning.Include is off"));
    }
    if command.dry_run {
        kernel.say(Level::Info, "documents that user data include would be fetched", &[]);
        return Ok(());
    }
    let boots = count_boot(kernel.root)?;
    // Of a run that was killed in this boot.
    seed::remove(kernel.run, ADDED)?;
    let mut is_missing = false;
    let parts = Parts { facts, bytes, net, id, root_path: command.root };
    let outcome = parts.include(kernel, &mut is_missing);
    let _ = seed::remove(kernel.run, ADDED);
    if is_missing && boots < limits::INCLUDE_BOOTS {
        let left = Value::Number(u64::from(limits::INCLUDE_BOOTS.saturating_sub(boots)));
        kernel.say(Level::Warning, "what is missing is tried again in the next {} boots", &[left]);
    } else {
        forget(kernel.root)?;
    }
    outcome
}

const MISSING: Error = unsupported!(WHAT, "not all documents that user data include could be had");

/// Counts the boots that tried.
fn count_boot(root: &mut dyn Dir) -> Result<u32> {
    let mut text = [0; 16];
    let n = root.read(BOOTS, &mut text).unwrap_or_default();
    let boots = text.get(..n).and_then(number).unwrap_or_default().saturating_add(1);
    if boots > limits::INCLUDE_BOOTS {
        forget(root)?;
        return Err(unsupported!(WHAT, "too many boots ended inside include"));
    }
    let _ = root.remove(BOOTS);
    root.create(BOOTS, Owner::root(0o600), digits(u64::from(boots), &mut [0; 20]).as_bytes())?;
    Ok(boots)
}

/// What a story is made of.
struct Parts<'p> {
    facts: &'p mut Facts,
    bytes: &'p mut [u8],
    net: &'p mut Buffers,
    id: InstanceId,
    root_path: &'static str,
}

impl Parts<'_> {
    /// Nobody but us looks for a seed below /run/preroot/include: that of the report stays what it is.
    #[inline(never)]
    fn include(mut self, kernel: &mut Kernel<'_>, is_missing: &mut bool) -> Result<()> {
        let _ = kernel.run.make_dir(RUN, Owner::root(0o700));
        let Kernel { clock, log, host, root, run, disks, links, system } = kernel;
        let mut fetched = Ok(());
        run.enter(RUN, Symlinks::Refuse, &mut |run| {
            let (clock, log, host, root) = (&mut **clock, &mut **log, &mut **host, &mut **root);
            let (disks, links, system) = (&mut **disks, &mut **links, &mut **system);
            let kernel = &mut Kernel { clock, log, host, root, run, disks, links, system };
            fetched = self.story(kernel).gather();
            Ok(())
        })?;
        // Whatever kept them from being had, or read, may be over by then.
        *is_missing = fetched.is_err();
        self.story(kernel).add().and(fetched)
    }

    fn story<'s, 'k>(&'s mut self, kernel: &'s mut Kernel<'k>) -> Story<'s, 'k> {
        let config = config::load(kernel.root, self.bytes, &mut |_, _| {});
        Story {
            kernel,
            facts: self.facts,
            bytes: self.bytes,
            net: self.net,
            id: self.id.clone(),
            config,
            root_path: self.root_path,
            dry_run: false,
            progress_us: u64::MAX,
            rounds: None,
            failed_in: "",
            boot_until_us: None,
            is_last_try: true,
        }
    }
}

/// How the documents of this boot are fetched.
struct Fetching {
    curl: Result<&'static str>,
    until_us: u64,
    /// By number: those that could not be had, which was told.
    missing: heapless::Vec<usize, { limits::INCLUDES }>,
}

impl Story<'_, '_> {
    /// Fetches, translates, and looks what the documents want in their turn.
    #[inline(never)]
    fn gather(&mut self) -> Result<()> {
        let place = SeedPlace::Root(PLACE);
        let program = self.program(PROGRAMS);
        let program = program.ok_or(unsupported!(WHAT, "the image has no preroot-cloud-config"))?;
        let mut fetching = Fetching {
            curl: self.program(CURL).ok_or(NO_CURL),
            until_us: self.kernel.clock.now_us().saturating_add(limits::INCLUDE_MS * 1000),
            missing: heapless::Vec::new(),
        };
        for rounds in (0..limits::INCLUDE_ROUNDS).rev() {
            if !self.fetch_all(&mut fetching)? {
                break;
            }
            // Each round says all that the documents add; the facts as they were before them.
            self.load(place)?;
            self.rounds = Some(rounds);
            self.translate_anew(place, program)?;
            if !self.take_wanted()? {
                break;
            }
        }
        if fetching.missing.is_empty() { Ok(()) } else { Err(MISSING) }
    }

    /// Where it fails, what the round before said is there again.
    #[inline(never)]
    fn translate_anew(&mut self, place: SeedPlace<'_>, program: &str) -> Result<()> {
        seed::remove(self.kernel.run, BEFORE)?;
        let _ = self.kernel.run.rename(seed::SEED, BEFORE);
        let translated = self.translate_by(place, program);
        if let Err(error) = translated {
            self.say(Level::Error, "what was included was not translated: {}", &[Value::Why(error)]);
            seed::remove(self.kernel.run, seed::SEED)?;
            let _ = self.kernel.run.rename(BEFORE, seed::SEED);
        }
        seed::remove(self.kernel.run, BEFORE).and(translated)
    }

    /// True where a document came. Each has its turn before any has another: a server that hangs costs no other document its
    /// time.
    #[inline(never)]
    fn fetch_all(&mut self, fetching: &mut Fetching) -> Result<bool> {
        for tried in 1..=limits::INCLUDE_TRIES {
            let mut is_left = false;
            for n in 0..limits::INCLUDES {
                let root = &mut *self.kernel.root;
                let is_there = exists(root, &Stage::Old.file(n)?)? || exists(root, &Stage::New.file(n)?)?;
                let mut url = heapless::String::new();
                if is_there || fetching.missing.contains(&n) {
                    continue;
                }
                let Some([source, part, line]) = self.wanted(n, &mut url) else { continue };
                let Err(error) = self.try_fetch(n, &url, fetching) else { continue };
                let again_us = self.kernel.clock.now_us().saturating_add(limits::INCLUDE_AGAIN_MS * 1000);
                if tried < limits::INCLUDE_TRIES && !FINAL.contains(&error) && again_us < fetching.until_us {
                    is_left = true;
                    continue;
                }
                let text = "{}, part {}, line {}: #include: not fetched: {}";
                self.say(Level::Error, text, &[source, part, line, Value::Why(error)]);
                let _ = fetching.missing.push(n);
            }
            if !is_left {
                break;
            }
            self.kernel.clock.sleep_ms(limits::INCLUDE_AGAIN_MS);
        }
        let mut has_new = false;
        for n in 0..limits::INCLUDES {
            has_new |= exists(self.kernel.root, &Stage::New.file(n)?)?;
        }
        Ok(has_new)
    }

    /// Which document has this number, and who names it.
    #[inline(never)]
    fn wanted(
        &mut self,
        n: usize,
        url: &mut heapless::String<{ limits::INCLUDE_URL }>,
    ) -> Option<[Value<'static>; 3]> {
        let length = self.kernel.root.read(LIST, self.bytes).ok()?;
        // A cut may have left half a line.
        let line = lines(self.bytes.get(..length)?).nth(n).filter(|line| line.ends_with(b"\n"))?;
        let wanted = Wanted::parse(bare(line))?;
        url.push_str(wanted.url).ok()?;
        let source = Value::Text(if wanted.source == 0 { "user data" } else { "vendor data" });
        Some([source, Value::Number(wanted.part.into()), Value::Number(wanted.line.into())])
    }

    #[inline(never)]
    fn try_fetch(&mut self, n: usize, url: &str, fetching: &Fetching) -> Result<()> {
        let curl = join(&["/", fetching.curl?])?;
        let left_ms = fetching.until_us.saturating_sub(self.kernel.clock.now_us()) / 1000;
        if left_ms == 0 {
            return Err(deadline!("documents that user data include", limits::INCLUDE_MS));
        }
        let (root, part) = (&mut *self.kernel.root, Stage::Part.file(n)?);
        let _ = root.make_dir(DOCUMENTS, Owner::root(0o700));
        let _ = root.remove(&part);
        root.create_unsynced(&part, Owner::root(0o600), url.as_bytes())?;
        root.append(&part, b"\n")?;
        let (most, all) = limits::INCLUDED;
        let mut there = 0u64;
        for n in 0..limits::INCLUDES {
            for stage in [Stage::New, Stage::Old] {
                there = there.saturating_add(root.stat(&stage.file(n)?).map_or(0, |stat| stat.size));
            }
        }
        let most = most.min(all.saturating_sub(there)).min(root.free_bytes() / 2);
        let mut page = Page { root, path: &part, url, is_asked: false, most };
        let argv = [&*curl, "--disable", "--config", "-"];
        let most_ms = left_ms.min(limits::INCLUDE_TRY_MS);
        let ended = self.kernel.system.run_talking(self.root_path, &argv, most_ms, self.bytes, &mut page);
        let fetched = ended.and_then(|code| match u64::try_from(code).unwrap_or_default() {
            0 => Ok(()),
            // Source: libcurl-errors(3).
            1 | 3 | 47 => Err(REFUSED),
            63 => Err(LARGE),
            code => Err(malformed!(WHAT, "curl failed, with this exit status", code)),
        });
        let root = &mut *self.kernel.root;
        let kept = fetched.and_then(|()| {
            root.sync_all()?;
            root.rename(&part, &Stage::New.file(n)?)?;
            root.sync_dir(DOCUMENTS)
        });
        if kept.is_err() {
            let _ = root.remove(&part);
        }
        kept
    }

    /// True where the documents want others, which now are in the list.
    fn take_wanted(&mut self) -> Result<bool> {
        let (old, new) = self.bytes.split_at_mut(self.bytes.len() / 2);
        let length = self.kernel.root.read(LIST, old)?;
        let known = old.get(..length).unwrap_or_default();
        let whole = known.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
        if whole < length {
            let target = Target::root(LIST, object!(WHAT), 0o600);
            replace::write(self.kernel.root, target, known.get(..whole).unwrap_or_default(), &mut |_, _| {
                Ok(())
            })?;
        }
        let known = known.get(..whole).unwrap_or_default();
        let mut count = lines(known).count();
        let length = self.kernel.run.read(&join(&[seed::SEED, "/", seed::INCLUDE])?, new).unwrap_or_default();
        let mut has_more = false;
        for line in lines(new.get(..length).unwrap_or_default()) {
            let Some(wanted) = Wanted::parse(bare(line)) else { continue };
            let is_it =
                |other: &[u8]| Wanted::parse(bare(other)).is_some_and(|other| other.url == wanted.url);
            if lines(known).any(is_it) || !line.ends_with(b"\n") {
                continue;
            }
            if count >= limits::INCLUDES {
                let text = "more than {} documents are to be included: the rest is left out";
                self.kernel.say(Level::Error, text, &[Value::Number(limits::INCLUDES as u64)]);
                break;
            }
            self.kernel.root.append(LIST, line)?;
            count = count.saturating_add(1);
            has_more = true;
        }
        Ok(has_more)
    }

    /// Applies what the documents add. Whatever becomes of it, it is not done again.
    #[inline(never)]
    fn add(&mut self) -> Result<()> {
        let place = SeedPlace::Run(ADDED);
        if !exists(self.kernel.run, ADDED)? {
            return Ok(());
        }
        let mut outcome = Ok(());
        for module in MODULES.iter().filter(|module| !OTHERS.contains(&module.name)) {
            if let Err(error) | Ok(Some(error)) = self.run_module(module, place) {
                let values = [Value::Text(module.name), Value::Why(error)];
                self.say(Level::Error, "{}: not all that user data ask for: {}", &values);
                outcome = outcome.and(Err(malformed!(WHAT, "not all that was included could be done", 0)));
            }
        }
        for n in 0..limits::INCLUDES {
            let _ = self.kernel.root.rename(&Stage::New.file(n)?, &Stage::Old.file(n)?);
        }
        let swept = self.kernel.root.sync_dir(DOCUMENTS).and_then(|()| sweep(self.kernel.root, &self.id));
        if let Err(error) = swept {
            self.say(Level::Warning, "marks of the modules stay: {}", &[Value::Why(error)]);
        }
        outcome
    }
}

const NO_CURL: Error = unsupported!(WHAT, "the image has no curl, which fetches them");
/// To ask again would change nothing.
const FINAL: &[Error] = &[LARGE, REFUSED, NO_CURL];
const REFUSED: Error = unsupported!(WHAT, "curl refuses the URL, or where it leads");
const LARGE: Error = too_many!("bytes of a document, or of all", 16 * 1024 * 1024);

/// Tells curl what to fetch, and keeps what comes.
struct Page<'p> {
    root: &'p mut dyn Dir,
    path: &'p str,
    url: &'p str,
    is_asked: bool,
    most: u64,
}

impl Talk for Page<'_> {
    fn feed(&mut self, room: &mut [u8]) -> Result<usize> {
        if core::mem::replace(&mut self.is_asked, true) {
            return Ok(0);
        }
        super::translation::put(room, &[ORDERS, self.url, "\"\n"])
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.most = self.most.checked_sub(bytes.len() as u64).ok_or(LARGE)?;
        self.root.append(self.path, bytes)
    }
}

#[cfg(test)]
mod tests;
