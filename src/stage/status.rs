//! `preroot status`: where is this VM on its way, in one word and for a script?

use super::identity;
use super::outcomes::Outcomes;
use super::persist::SETTLED;
use super::pool;
use super::scripts::RECORDS;
use crate::apply::replace::{self, Target};
use crate::apply::{next_name, object};
use crate::cli::Command;
use crate::error::{Errno, Result};
use crate::facts::InstanceId;
use crate::format::text::{PathText, join};
use crate::limits;
use crate::machine::{self, Machine, Platform};
use crate::seed;
use crate::sys::{Dir, Kernel};
use core::fmt::{self, Write};

/// Pause between two looks of `--wait`.
const POLL_MS: u64 = limits::POLL_MS;
/// Below /run/preroot: where the VM is on its way, in one word, for whoever may not see its marks.
const WORD: &str = "state";

/// Where the VM is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The platform took our Ready, in this boot or an earlier one.
    Reported,
    /// Everything is applied; the platform does not know yet.
    Provisioned,
    /// The initrd learnt who this VM is; nothing is applied yet.
    Seeded,
    /// Nothing is known yet.
    Started,
    /// A stage failed that nothing makes good for.
    Failed,
    /// No machine of ours, or one that wants nothing.
    NotApplicable,
}

impl State {
    const ALL: [Self; 6] =
        [Self::Reported, Self::Provisioned, Self::Seeded, Self::Started, Self::Failed, Self::NotApplicable];

    const fn word(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Provisioned => "provisioned",
            Self::Seeded => "seeded",
            Self::Started => "started",
            Self::Failed => "failed",
            Self::NotApplicable => "not-applicable",
        }
    }

    const fn sentence(self, wants_report: bool) -> &'static str {
        match self {
            Self::Reported if !wants_report => "provisioned; this platform wants no report",
            Self::Reported => "provisioned, and the platform knows (Ready)",
            Self::Provisioned => "provisioned; the platform is not told yet",
            Self::Seeded => "known who this VM is to be; not applied yet",
            Self::Started => "not known yet who this VM is to be",
            Self::Failed => "provisioning failed; `preroot timeline` shows where",
            Self::NotApplicable => "nothing to provision here",
        }
    }

    /// Waiting longer changes nothing.
    const fn is_final(self) -> bool {
        matches!(self, Self::Reported | Self::Failed | Self::NotApplicable)
    }

    const fn outcome(self) -> Result<()> {
        match self {
            Self::Failed => Err(malformed!("provisioning", "provisioning failed", 0)),
            Self::NotApplicable => Err(not_applicable!("nothing to provision here")),
            _ => Ok(()),
        }
    }
}

/// Prints it, with `--wait` once it is final (or after [`limits::REPORT_LATE_MS`]).
///
/// # Errors
/// For the exit code: 1 when provisioning failed or the marks cannot be read, 76 when there is nothing to
/// provision.
pub(super) fn run(
    kernel: &mut Kernel<'_>,
    window: &mut [u8],
    command: &Command,
    out: &mut dyn Write,
) -> Result<()> {
    let is_hidden =
        kernel.root.stat(seed::PROVISIONED).is_err_and(|error| error.errno() == Some(Errno::ACCES));
    let machine = identity::observe(kernel);
    let until_us = kernel.clock.now_us().saturating_add(limits::REPORT_LATE_MS * 1000);
    loop {
        let outcomes = Outcomes::read(kernel.run, window)?;
        let state = if is_hidden { told(kernel.run, &machine) } else { look(kernel, &machine, &outcomes) };
        if !command.wait || state.is_final() || !is_worth_waiting(kernel, until_us) {
            let print = if command.json { print_json } else { print_text };
            // Standard output that takes nothing is not our fault.
            let _ = print(out, state, &machine, &outcomes, kernel.root);
            return state.outcome();
        }
    }
}

/// Leaves the word for everybody.
#[inline(never)]
pub(super) fn tell(kernel: &mut Kernel<'_>, window: &mut [u8]) {
    let Ok(outcomes) = Outcomes::read(kernel.run, window) else { return };
    let machine = identity::observe(kernel);
    let word = look(kernel, &machine, &outcomes).word();
    // Whole at any time. Without it everybody else reads an older one, or none.
    let target = Target::root(WORD, object!("status"), 0o644);
    let _ = replace::write(kernel.run, target, word.as_bytes(), &mut |_, _| Ok(()));
}

/// What root was the last to see; before anything was applied that was nothing.
fn told(run: &mut dyn Dir, machine: &Machine) -> State {
    // Nobody has anything to do in this boot, nor to say.
    if run.stat(SETTLED).is_ok() {
        return State::Reported;
    }
    let mut buf = [0; 32];
    let length = run.read(WORD, &mut buf).unwrap_or_default();
    let known = State::ALL.into_iter().find(|state| buf.get(..length) == Some(state.word().as_bytes()));
    known.unwrap_or(if machine.platform.is_some() { State::Started } else { State::NotApplicable })
}

/// Sleeps. False at the deadline, or when SIGTERM cut the sleep short.
fn is_worth_waiting(kernel: &mut Kernel<'_>, until_us: u64) -> bool {
    let begin_us = kernel.clock.now_us();
    kernel.clock.sleep_ms(POLL_MS);
    let now_us = kernel.clock.now_us();
    now_us < until_us && now_us.saturating_sub(begin_us) >= POLL_MS * 1000 / 2
}

/// Marks on the root outlive reboots and come first; then what this boot has noted.
fn look(kernel: &mut Kernel<'_>, machine: &Machine, outcomes: &Outcomes) -> State {
    let mut is_marked = |file| {
        let id: Option<&InstanceId> = machine.vm_id.as_ref();
        id.is_some_and(|id| seed::is_marked(kernel.root, file, id))
    };
    if is_marked(seed::REPORTED) {
        return State::Reported;
    }
    let is_provisioned = is_marked(seed::PROVISIONED);
    let seed = seed::verify(kernel.run, seed::SEED).and_then(|()| seed::load_context(kernel.run, seed::SEED));
    // While fetch is at work the seed must not be applied yet; that is no failure.
    let is_settled = outcomes.has_ended("fetch-online") || outcomes.has_ended("apply");
    let is_fatal = is_settled && seed.as_ref().is_ok_and(|context| context.verdict == seed::Verdict::Fail);
    let is_waiting = machine.vm_id.as_ref().is_some_and(|id| pool::is_waiting(kernel, id));
    if outcomes.ended("report", "done") && is_provisioned {
        State::Reported
    } else if outcomes.ended("apply", "failed") || is_fatal {
        State::Failed
    } else if is_provisioned {
        State::Provisioned
    } else if machine.platform.is_none() || outcomes.ended("apply", "not-applicable") && !is_waiting {
        State::NotApplicable
    } else if seed.is_ok() {
        State::Seeded
    } else {
        State::Started
    }
}

fn print_text(
    out: &mut dyn Write,
    state: State,
    machine: &Machine,
    outcomes: &Outcomes,
    root: &mut dyn Dir,
) -> fmt::Result {
    writeln!(
        out,
        "{}: {}",
        state.word(),
        state.sentence(machine.platform.is_none_or(Platform::wants_report))
    )?;
    writeln!(out, "  {:<14} {}", "platform", machine.platform.map_or("unknown", machine::Platform::word))?;
    if let Some(id) = &machine.vm_id {
        writeln!(out, "  {:<14} {}", "vm id", id.as_str())?;
    }
    for outcome in outcomes.iter() {
        writeln!(out, "  {:<14} {} in {} ms", outcome.stage, outcome.word, outcome.took_ms)?;
    }
    scripts(root, &mut |name, word| writeln!(out, "  {:<14} {name}: {word}", "script"))
}

/// Scripts that ran, in this boot or an earlier one, and their exit status. What is no plain name shows as `?`.
fn scripts(root: &mut dyn Dir, each: &mut dyn FnMut(&str, &str) -> fmt::Result) -> fmt::Result {
    let mut last = PathText::new();
    while let Some(name) = next_name(root, RECORDS, &last) {
        let mut buf = [0; 256];
        let path = join(&[RECORDS, "/", &name]);
        let n = path.and_then(|path| root.read(&path, &mut buf)).unwrap_or_default();
        let text = buf.get(..n).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
        let is_plain = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
        let word = text.lines().nth(1).filter(is_plain).unwrap_or("?");
        each(Some(&*name).filter(is_plain).unwrap_or("?"), word)?;
        last = name;
    }
    Ok(())
}

/// One line. Every text in it is a word of ours or a checked id: nothing needs escaping.
fn print_json(
    out: &mut dyn Write,
    state: State,
    machine: &Machine,
    outcomes: &Outcomes,
    root: &mut dyn Dir,
) -> fmt::Result {
    write!(out, "{{\"state\":\"{}\",\"platform\":", state.word())?;
    print_word(out, machine.platform.map(machine::Platform::word))?;
    out.write_str(",\"vm_id\":")?;
    print_word(out, machine.vm_id.as_ref().map(InstanceId::as_str))?;
    out.write_str(",\"stages\":{")?;
    for (number, outcome) in outcomes.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let (stage, word, ms) = (&outcome.stage, &outcome.word, outcome.took_ms);
        write!(out, "{comma}\"{stage}\":{{\"outcome\":\"{word}\",\"ms\":{ms}}}")?;
    }
    out.write_str("},\"scripts\":{")?;
    let mut comma = "";
    scripts(root, &mut |name, word| {
        let comma = core::mem::replace(&mut comma, ",");
        write!(out, "{comma}\"{name}\":\"{word}\"")
    })?;
    out.write_str("}}\n")
}

fn print_word(out: &mut dyn Write, word: Option<&str>) -> fmt::Result {
    match word {
        Some(word) => write!(out, "\"{word}\""),
        None => out.write_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::{run, tell};
    use crate::cli;
    use crate::facts::{Facts, InstanceId};
    use crate::seed;
    use crate::sys::fake::World;
    use std::string::String;

    const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";

    fn azure() -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world.host.put("sys/class/dmi/id/product_uuid", std::format!("{ID}\n"));
        world.host.put_dir("sys/firmware/efi");
        world
    }

    fn mark(world: &mut World, file: &str) {
        seed::mark(&mut world.root, file, &InstanceId::parse(ID).unwrap()).unwrap();
    }

    /// The first word printed and the exit code.
    fn state(world: &mut World, words: &[&'static str]) -> (String, u8) {
        let command = cli::parse(&mut ["status"].iter().chain(words).map(|word| Some(*word))).unwrap();
        let mut out = String::new();
        let outcome = run(&mut world.kernel(), &mut [0; 256], &command, &mut out);
        (out, outcome.map_or_else(|error| error.exit_code(), |()| 0))
    }

    #[test]
    fn the_way_of_a_vm_has_its_words() {
        let mut world = azure();
        assert!(state(&mut world, &[]).0.starts_with("started:"));
        seed::begin(&mut world.run).unwrap();
        seed::publish(&mut world.run, &Facts::new(), &seed::Context::default()).unwrap();
        assert!(state(&mut world, &[]).0.starts_with("seeded:"));
        mark(&mut world, seed::PROVISIONED);
        assert!(state(&mut world, &[]).0.starts_with("provisioned:"));
        mark(&mut world, seed::REPORTED);
        let (out, code) = state(&mut world, &["--wait"]);
        assert!(out.starts_with("reported:") && out.contains(ID), "{out}");
        assert_eq!(code, 0);
    }

    #[test]
    fn failure_and_another_platform_have_their_exit_codes() {
        let mut world = azure();
        world.run.put("status", "modules=done 12\napply=failed 40\n");
        let (out, code) = state(&mut world, &["--json"]);
        let stages =
            "{\"modules\":{\"outcome\":\"done\",\"ms\":12},\"apply\":{\"outcome\":\"failed\",\"ms\":40}}";
        let expected = [
            r#"{"state":"failed","platform":"azure","vm_id":""#,
            ID,
            r#"","stages":"#,
            stages,
            ",\"scripts\":{}}\n",
        ];
        assert_eq!((out, code), (expected.concat(), 1));
        assert_eq!(state(&mut World::new(), &["--wait"]).1, 76);
    }

    #[test]
    fn scripts_have_their_exit_status() {
        let mut world = azure();
        world.root.put("var/lib/preroot/ran/per-boot.10-a", "id\n0\n");
        world.root.put("var/lib/preroot/ran/user.custom-data", "id\nstarted\n");
        world.root.put("var/lib/preroot/ran/user.\"", "id\n\x1b[2J\n");
        let (out, _) = state(&mut world, &[]);
        let lines = "  script         per-boot.10-a: 0\n  script         ?: ?\n  script         user.custom-data: started\n";
        assert!(out.ends_with(lines), "{out}");
        let (out, _) = state(&mut world, &["--json"]);
        let json = r#""scripts":{"per-boot.10-a":"0","?":"?","user.custom-data":"started"}}"#;
        assert!(out.ends_with(&std::format!("{json}\n")), "{out}");
    }

    #[test]
    fn who_may_not_see_the_marks_is_told_the_same_word() {
        let mut world = azure();
        let as_user = |world: &mut World, words: &[&'static str]| {
            world.root.hidden = Some("var/lib/preroot");
            let told = state(world, words);
            world.root.hidden = None;
            told
        };
        assert!(as_user(&mut world, &[]).0.starts_with("started:"));
        for (mark, word) in [(seed::PROVISIONED, "provisioned:"), (seed::REPORTED, "reported:")] {
            seed::mark(&mut world.root, mark, &InstanceId::parse(ID).unwrap()).unwrap();
            tell(&mut world.kernel(), &mut [0; 256]);
            assert_eq!(world.run.owner("state").unwrap().mode, 0o644);
            let (out, code) = as_user(&mut world, &[]);
            assert!(out.starts_with(word) && code == 0, "{out}");
        }
        let (out, code) = as_user(&mut world, &["--wait", "--json"]);
        assert!(out.starts_with(r#"{"state":"reported","platform":"azure","#) && code == 0, "{out}");
        world.run.put("state", "neither");
        assert!(as_user(&mut world, &[]).0.starts_with("started:"));
        // A later boot: nobody had anything to do, and nobody said so.
        crate::sys::Dir::remove(&mut world.run, "state").unwrap();
        world.run.put("settled", "");
        assert!(as_user(&mut world, &["--wait"]).0.starts_with("reported:") && world.clock.sleeps.is_empty());
        let mut elsewhere = World::new();
        elsewhere.root.put_dir("var/lib/preroot");
        assert_eq!(as_user(&mut elsewhere, &[]).1, 76);
    }

    #[test]
    fn waiting_has_a_deadline() {
        let mut world = azure();
        let (out, code) = state(&mut world, &["--wait"]);
        assert!(out.starts_with("started:") && code == 0);
        assert_eq!(world.clock.sleeps.iter().sum::<u64>(), crate::limits::REPORT_LATE_MS);
    }
}
