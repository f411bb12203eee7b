//! Seed to system: what does this VM's first boot in its real root do, in which order, and when is it done?
//!
//! Every boot: the root file system follows its partition. First boot of this VM: the seed is trusted or
//! refused, the modules run in the order of their table, each is marked when done, and the mark that names
//! this VM comes last. A module that fails stops no other.

use super::identity;
use super::pool;
use super::report;
use crate::apply::network::missing as missing_cards;
use crate::apply::replace::{self, Target};
use crate::apply::{Buffers as Halves, MODULES, Module, Root, SeedPlace, State, next_name, object};
use crate::cli::Command;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::event::{Level, Value};
use crate::facts::{Fact, Facts, InstanceId};
use crate::format::authorized_keys::{KeyLine, fingerprint};
use crate::format::config::Config;
use crate::format::text::{Out, join, number};
use crate::limits;
use crate::machine::Platform;
use crate::net::Buffers;
use crate::seed;
use crate::sys::{Dir, Kernel, Owner};
use marks::{mark_done, mark_path, set_aside, state_path, sweep};

/// Below /run/preroot: why this boot's apply failed, for the report. Static text only.
pub(super) const FAILURE: &str = "apply.failure";
const HOST_KEYS: &str = "etc/ssh";
/// Below /run/preroot: this boot is in the count of boots; a person may run apply again and again.
const COUNTED: &str = "apply.counted";
type PathText = heapless::String<{ limits::PATH }>;

/// What the stage works on.
struct Story<'s, 'k> {
    kernel: &'s mut Kernel<'k>,
    facts: &'s mut Facts,
    bytes: &'s mut [u8],
    net: &'s mut Buffers,
    id: InstanceId,
    config: Config,
    root_path: &'static str,
    dry_run: bool,
    /// When the platform hears that this takes its time; never: it does not ask.
    progress_us: u64,
    /// How often documents may be fetched that user data include; `None`: never.
    rounds: Option<u32>,
    /// Name of the first module that failed.
    failed_in: &'static str,
    /// Another boot would give up.
    is_last_try: bool,
    /// When the scripts of each boot have to end: they are run where they belong, and what is left of them at the end.
    boot_until_us: Option<u64>,
}

/// Makes the system at `command.root` what the seed says. `bytes` holds whole files, old and new, a half
/// each: at least twice [`limits::CUSTOM_DATA`].
///
/// # Errors
/// `NotApplicable` on a VM that is provisioned already or has no seed; why the seed is refused; else the
/// first module's failure, after all the others had their turn.
#[inline(never)]
pub(super) fn run(
    kernel: &mut Kernel<'_>,
    facts: &mut Facts,
    bytes: &mut [u8],
    net: &mut Buffers,
    command: &Command,
) -> Result<()> {
    kernel.log.enter("apply");
    let machine = identity::observe(kernel);
    if machine.platform.is_none() {
        return Err(not_applicable!("not a platform of ours"));
    }
    let id = identity::id_of(&machine)?;
    let (root_path, dry_run) = (command.root, command.dry_run);
    let config = configuration(kernel, bytes);
    if !dry_run {
        super::kvp::end_early(kernel);
        super::persist::end_early(kernel);
    }
    let progress_us = match machine.platform.is_some_and(Platform::wants_report) && !dry_run {
        true => kernel.clock.now_us().saturating_add(limits::PROGRESS_MS * 1000),
        false => u64::MAX,
    };
    let rounds = config.include().then_some(limits::INCLUDE_ROUNDS);
    let mut story = Story {
        kernel,
        facts,
        bytes,
        net,
        id,
        config,
        root_path,
        dry_run,
        progress_us,
        rounds,
        failed_in: "",
        boot_until_us: None,
        is_last_try: false,
    };
    story.grow_file_system();
    if seed::is_marked(story.kernel.root, seed::PROVISIONED, &story.id) {
        story.run_boot_scripts();
        return Err(not_applicable!("provisioned already"));
    }
    story.leave_to_others()?;
    story.leave_to_those_who_wait()?;
    let outcome = story.provision();
    if !dry_run {
        // First: whatever ends this early, the platform hears why.
        note_failure(story.kernel.run, story.failed_in, outcome);
        if story.boot_until_us.is_none() {
            story.run_boot_scripts();
        }
    }
    outcome
}

/// What the image's maker settled.
#[inline(never)]
pub(super) fn configuration(kernel: &mut Kernel<'_>, bytes: &mut [u8]) -> Config {
    let mut faults = 0;
    let config = config::load(kernel.root, bytes, &mut |_, _| faults += 1);
    if faults > 0 {
        let text = "{} lines of the configuration do not count; `preroot config` names them";
        kernel.say(Level::Warning, text, &[Value::Number(faults)]);
    }
    config
}

/// "users: no space left": what the platform is told. Nothing when it went well.
fn note_failure(run: &mut dyn Dir, module: &str, outcome: Result<()>) {
    let _ = run.remove(FAILURE);
    let Err(error) = outcome else { return };
    if error.is(Kind::NotApplicable) {
        return;
    }
    let separator = if module.is_empty() { "" } else { ": " };
    if let Ok(text) = join(&[module, separator, error.reason()]) {
        // The report says "apply did not finish" without it.
        let _ = run.create_unsynced(FAILURE, Owner::root(0o644), text.as_bytes());
    }
}

impl Story<'_, '_> {
    /// Two agents would undo each other's work: says who does it here, and drops the seed with its secrets.
    #[inline(never)]
    fn leave_to_others(&mut self) -> Result<()> {
        let why = match self.config.agent() {
            "waagent" | "cloud-init" => {
                not_applicable!("preroot.conf names another agent (Provisioning.Agent)")
            }
            _ if !config::has_cloud_init(self.kernel.root) => return Ok(()),
            "auto" => not_applicable!(
                "cloud-init is enabled and provisions; else say Provisioning.Agent=preroot in /etc/preroot.conf"
            ),
            _ => {
                let text =
                    "cloud-init is enabled too; /etc/cloud/cloud-init.disabled would keep it from this";
                self.say(Level::Warning, text, &[]);
                return Ok(());
            }
        };
        if !self.dry_run {
            seed::forget(self.kernel.run, self.kernel.root, &self.id)?;
        }
        Err(why)
    }

    /// What the seed says of a VM of a pool is nobody's; its owner's comes later. The copy on the root would only keep a
    /// password. Or it lacks what only IMDS has.
    #[inline(never)]
    fn leave_to_those_who_wait(&mut self) -> Result<()> {
        if !pool::is_waiting(self.kernel, &self.id) {
            return Ok(());
        }
        if !self.dry_run {
            let _ = self.kernel.run.create_unsynced(pool::WAITS, Owner::root(0o644), b"");
            seed::remove(self.kernel.root, &seed::pending(&self.id)?)?;
        }
        Err(not_applicable!("preroot pool waits for this VM's owner, or for IMDS"))
    }

    /// True once another VM's scripts, which a captured image brings, are gone: what is there is this VM's.
    fn has_own_scripts(&mut self) -> bool {
        let mark = seed::marks(&self.id).and_then(|marks| join(&[&marks, "/old_scripts"]));
        seed::is_marked(self.kernel.root, seed::PROVISIONED, &self.id)
            || mark.is_ok_and(|mark| self.kernel.root.stat(&mark).is_ok())
    }

    /// `bootcmd` and boothooks, on every boot, those that have not run in it: that one of them fails is no failure of this stage.
    #[inline(never)]
    fn run_boot_scripts(&mut self) {
        let is_off = self.dry_run || self.config.agent() == "disabled" || !self.has_own_scripts();
        let now_us = self.kernel.clock.now_us();
        let until_us =
            *self.boot_until_us.get_or_insert(now_us.saturating_add(limits::BOOT_SCRIPTS_MS * 1000));
        if !is_off
            && let Err(error) =
                super::scripts::run_early(self.kernel, self.bytes, self.root_path, &self.id, until_us)
        {
            self.say(Level::Warning, "scripts of this boot: {}", &[Value::Why(error)]);
        }
    }

    /// The first boot of this VM, or one that a cut made first again.
    fn provision(&mut self) -> Result<()> {
        let pending = seed::pending(&self.id)?;
        let place = self.find_seed(&pending)?;
        self.load(place)?;
        if !self.dry_run {
            self.keep(place, &pending);
            self.count_boot(&pending)?;
        }
        let place = self.translate(place);
        match self.config.agent() {
            "disabled" => self.say(Level::Info, "nothing is applied: Provisioning.Agent=disabled", &[]),
            _ => self.run_modules(place)?,
        }
        if self.dry_run { Ok(()) } else { self.finish() }
    }

    #[inline(never)]
    fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        self.kernel.say(level, text, values);
    }

    /// On every boot: somebody may have made the disk larger since. That it cannot is no failure of this stage.
    #[inline(never)]
    fn grow_file_system(&mut self) {
        if self.dry_run {
            return;
        }
        let is_asked = self.config.grow_stack() || super::grow::is_stack_asked(self.kernel, self.bytes);
        if is_asked && let Err(error) = super::grow::stack::grow(self.kernel, self.bytes, self.root_path) {
            self.say(Level::Warning, "what the root is on was not grown: {}", &[Value::Why(error)]);
        }
        if let Err(error) = super::grow::file_system(self.kernel, self.root_path) {
            self.say(Level::Warning, "the root file system was not grown: {}", &[Value::Why(error)]);
        }
    }

    /// The seed of this boot, else the one kept on the root.
    fn find_seed<'p>(&mut self, pending: &'p str) -> Result<SeedPlace<'p>> {
        let is_kept = seed::may_be_applied(self.kernel.root, pending);
        match seed::verify(self.kernel.run, seed::SEED) {
            // An earlier boot may have known more.
            Ok(()) if is_kept && !seed::may_be_applied(self.kernel.run, seed::SEED) => {}
            Ok(()) => return Ok(SeedPlace::Run(seed::SEED)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        match seed::verify(self.kernel.root, pending) {
            Ok(()) => Ok(SeedPlace::Root(pending)),
            Err(error) if error.is_not_found() => Err(not_applicable!("no seed for this VM")),
            Err(error) => Err(error),
        }
    }

    /// Reads it, and refuses what is not for this machine to apply.
    #[inline(never)]
    fn load(&mut self, place: SeedPlace<'_>) -> Result<()> {
        let (dir, base): (&mut dyn Dir, &str) = match place {
            SeedPlace::Run(base) => (self.kernel.run, base),
            SeedPlace::Root(base) => (self.kernel.root, base),
        };
        if seed::load_context(dir, base)?.verdict != seed::Verdict::Provision {
            return Err(not_applicable!("the initrd gave up, and the report says why"));
        }
        seed::load(dir, base, self.bytes, self.facts)?;
        match &self.facts.instance_id {
            Some(named) if !named.value.is_same_vm(&self.id) => {
                Err(malformed!("seed", "names another VM", 0))
            }
            _ => Ok(()),
        }
    }

    /// A seed only in memory (a separate /var was not mounted in the initrd) would be lost with the power.
    fn keep(&mut self, place: SeedPlace<'_>, pending: &str) {
        if matches!(place, SeedPlace::Root(_)) || self.kernel.root.stat(pending).is_ok() {
            return;
        }
        if let Err(error) = seed::persist(self.kernel.run, self.kernel.root, &self.id) {
            let text = "the seed is in memory only, a power cut now would lose it: {}";
            self.say(Level::Warning, text, &[Value::Why(error)]);
        }
    }

    /// Counts the boots that came this far and did not finish; gives up above [`limits::APPLY_BOOTS`].
    fn count_boot(&mut self, pending: &str) -> Result<()> {
        let path = state_path("boots-", &self.id)?;
        let mut digits = [0; 16];
        let length = self.kernel.root.read(&path, &mut digits).unwrap_or_default();
        let before = digits.get(..length).and_then(|text| number(text.trim_ascii())).unwrap_or_default();
        let is_counted = self.kernel.run.stat(COUNTED).is_ok();
        self.is_last_try = before.saturating_add(u32::from(!is_counted)) >= limits::APPLY_BOOTS;
        if is_counted {
            return Ok(());
        }
        if before >= limits::APPLY_BOOTS {
            self.give_up(pending);
            return Err(unsupported!("apply", "too many boots ended inside apply"));
        }
        let mut line = [0; 16];
        let mut out = Out::new(too_many!("boot counter"), &mut line);
        out.put_number(u64::from(before.saturating_add(1))).and_then(|()| out.put(b"\n"))?;
        let counted = seed::make_state_dir(self.kernel.root).and_then(|()| {
            let target = Target::root(&path, object!("boot counter"), 0o600);
            replace::write(self.kernel.root, target, out.as_bytes(), &mut |_, _| Ok(()))
        });
        if let Err(error) = counted {
            self.say(Level::Warning, "boots cannot be counted: {}", &[Value::Why(error)]);
        }
        let _ = self.kernel.run.create_unsynced(COUNTED, Owner::root(0o644), b"");
        Ok(())
    }

    /// Moves the seed aside for a person to look at, its secrets first.
    fn give_up(&mut self, pending: &str) {
        let set_aside = set_aside(self.kernel.root, pending, &self.id);
        let text =
            "given up after {} boots; /var/lib/preroot/failed-* has the seed, removing boots-* tries again";
        self.say(Level::Error, text, &[Value::Number(u64::from(limits::APPLY_BOOTS))]);
        if let Err(error) = set_aside {
            self.say(Level::Warning, "the seed could not be set aside: {}", &[Value::Why(error)]);
        }
    }

    /// Every module has its turn; the first failure is the stage's.
    fn run_modules(&mut self, place: SeedPlace<'_>) -> Result<()> {
        let marks = seed::marks(&self.id)?;
        let mut first_failure = None;
        for module in MODULES {
            let mark = mark_path(&marks, module)?;
            let outcome = match self.kernel.root.stat(&mark).is_ok() {
                true => {
                    self.say(Level::Debug, "{}: done before", &[Value::Text(module.name)]);
                    Ok(None)
                }
                false => self.run_module(module, place).inspect(|partly| {
                    if partly.is_none() && !self.dry_run {
                        mark_done(self.kernel.root, &marks, &mark);
                    }
                }),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(error)) => self.degrade(place, module, error),
                Err(error) if module.is_others() => self.degrade(place, module, error),
                Err(error) => {
                    let values = [Value::Text(module.name), Value::Why(error)];
                    self.say(Level::Error, "{}: failed: {}", &values);
                    if first_failure.is_none() {
                        (first_failure, self.failed_in) = (Some(error), module.name);
                    }
                }
            }
            // Done before or not: in a boot after a cut they come before the others, too.
            if module.name == "boot_scripts" {
                self.run_boot_scripts();
            }
            self.tell_progress(place);
        }
        self.tell_missing_cards();
        first_failure.map_or(Ok(()), Err)
    }

    /// What user data ask for does not keep the VM from being provisioned: the report has the first of it.
    #[inline(never)]
    fn degrade(&mut self, place: SeedPlace<'_>, module: &Module, error: Error) {
        let values = [Value::Text(module.name), Value::Why(error)];
        self.say(Level::Error, "{}: not all that user data ask for: {}", &values);
        if self.dry_run {
            return;
        }
        let (dir, base) = self.seed_dir(place);
        let noted = join(&["user data: ", module.name, ": ", error.reason()])
            .and_then(|text: heapless::String<{ limits::REASON }>| seed::add_failure(dir, base, &text));
        if let Err(error) = noted {
            self.say(Level::Warning, "the report will not say so: {}", &[Value::Why(error)]);
        }
    }

    /// Over the initrd's lease: there is no other network yet. Not where requests must be signed.
    #[inline(never)]
    fn tell_progress(&mut self, place: SeedPlace<'_>) {
        let now_us = self.kernel.clock.now_us();
        if now_us < self.progress_us {
            return;
        }
        self.progress_us = now_us.saturating_add(limits::PROGRESS_AGAIN_MS * 1000);
        // A lease of an earlier boot may be another VM's by now.
        let SeedPlace::Run(base) = place else { return };
        let lease = seed::load_context(self.kernel.run, base).ok().and_then(|context| context.lease);
        if let Some(lease) = lease
            && !Fact::is_true(self.facts.wants_proxy_agent.as_ref())
        {
            report::in_progress_over(self.kernel, self.net, self.bytes, &lease, &self.id);
        }
    }

    /// What was said about a card waits for it; the others have what they need.
    #[inline(never)]
    fn tell_missing_cards(&mut self) {
        let (host, log) = (&mut *self.kernel.host, &mut *self.kernel.log);
        missing_cards(&self.facts.network, host, &mut |mac| {
            let text = "no network card has the address {}; what the platform says of it waits for one";
            log.say(Level::Warning, text, &[Value::Mac(mac.0)]);
        });
    }

    /// What others than the platform asked it for in vain, if nothing else failed.
    #[inline(never)]
    fn run_module(&mut self, module: &Module, place: SeedPlace<'_>) -> Result<Option<Error>> {
        let begin_us = self.kernel.clock.now_us();
        let wall_s = self.kernel.clock.wall_s();
        let mut root = Root {
            dir: self.kernel.root,
            run: self.kernel.run,
            host: self.kernel.host,
            disks: self.kernel.disks,
            system: self.kernel.system,
            clock: self.kernel.clock,
            until_us: u64::MAX,
            is_switched_off: false,
            is_last_try: self.is_last_try,
            partly: None,
            path: self.root_path,
            seed: place,
            config: &self.config,
            id: &self.id,
            wall_s,
            buffers: Halves::halves_of(self.bytes),
        };
        let state = module.look(self.facts, &mut root)?;
        if state == State::Missing && !self.dry_run {
            (module.apply)(self.facts, &mut root)?;
        }
        let partly = root.partly;
        let took = Value::Millis(self.kernel.clock.now_us().saturating_sub(begin_us) / 1000);
        let name = Value::Text(module.name);
        match state {
            State::Satisfied => self.say(Level::Info, "{}: as it should be", &[name]),
            State::Missing if self.dry_run => self.say(Level::Info, "{}: would be applied", &[name]),
            State::Missing => self.say(Level::Info, "{}: applied in {}", &[name, took]),
            State::Foreign { why } => self.say(Level::Info, "{}: left alone: {}", &[name, Value::Text(why)]),
        }
        Ok(partly)
    }

    /// The mark that ends it; what only served the way there goes.
    fn finish(&mut self) -> Result<()> {
        if let (Some(user), false) = (&self.facts.user, self.config.agent() == "disabled") {
            seed::keep_user(self.kernel.root, &user.value)?;
        }
        seed::mark(self.kernel.root, seed::PROVISIONED, &self.id)?;
        self.mark_here();
        let swept = sweep(self.kernel.root, &self.id);
        if let Err(error) = swept {
            self.say(Level::Warning, "marks of the modules stay: {}", &[Value::Why(error)]);
        }
        self.show_host_keys();
        self.say(Level::Info, "this VM is provisioned", &[]);
        Ok(())
    }

    /// Who has the serial console can compare them with what the first login shows.
    #[inline(never)]
    fn show_host_keys(&mut self) {
        let mut last = PathText::new();
        while let Some(name) = next_name(self.kernel.root, HOST_KEYS, &last) {
            if name.starts_with("ssh_host_") && name.ends_with("_key.pub") {
                let path = join(&[HOST_KEYS, "/", &name]);
                let n = path.and_then(|path| self.kernel.root.read(&path, self.bytes)).unwrap_or_default();
                let key = KeyLine::parse(self.bytes.get(..n).unwrap_or_default());
                let print = key.and_then(|key| fingerprint(&key));
                if let (Some(key), Some(print)) = (key, print) {
                    let kind = core::str::from_utf8(key.kind).unwrap_or_default();
                    self.kernel.say(
                        Level::Info,
                        "SSH host key: {} {}",
                        &[Value::Name(&print), Value::Name(kind)],
                    );
                }
            }
            last = name;
        }
    }

    /// The initrd does not see a /var of its own: the same mark where it looks, or each boot would wait for a fetch.
    fn mark_here(&mut self) {
        let device = |root: &mut dyn Dir, path| root.stat(path).map(|stat| stat.device);
        if device(self.kernel.root, seed::STATE) == device(self.kernel.root, "etc") {
            return;
        }
        let target = Target::root(seed::PROVISIONED_HERE, object!("mark in /etc"), 0o644);
        let written =
            replace::write(self.kernel.root, target, self.id.as_str().as_bytes(), &mut |_, _| Ok(()));
        if let Err(error) = written {
            self.say(Level::Warning, "later boots will wait for a fetch: {}", &[Value::Why(error)]);
        }
    }
}

pub(super) mod include;
pub(super) mod marks;
mod translation;

#[cfg(test)]
pub(super) mod tests;
