//! `preroot deprovision`: what is named, who is asked, and what then goes?

use crate::apply::deprovision::{Context, Found, Group, Purpose, Takes, walk};
use crate::cli::Command;
use crate::config;
use crate::error::Result;
use crate::facts::UserName;
use crate::format::config::Config;
use crate::format::text::split_once;
use crate::limits;
use crate::seed;
use crate::sys::{Dir, Kernel};
use core::fmt::{self, Write};

/// Programs that stop a service of the running system, and what they are told: whichever the image has, and
/// whatever the agent is called in it.
const STOP: &[&[&str]] = &[
    &["/usr/bin/systemctl", "stop", "walinuxagent.service", "waagent.service"],
    &["/sbin/rc-service", "waagent", "stop"],
];
const LOCALHOST: &str = "localhost.localdomain";

/// Names what goes, asks, and takes it away. `ask` waits for a person's answer; `None`: nobody can give one.
///
/// # Errors
/// `Unsupported` when nobody could be asked, `NotApplicable` when the answer is no, the first failure.
#[inline(never)]
pub(super) fn run(
    kernel: &mut Kernel<'_>,
    bytes: &mut [u8],
    command: &Command,
    ask: &mut dyn FnMut() -> Option<bool>,
    out: &mut dyn Write,
) -> Result<()> {
    let config = config::load(kernel.root, bytes, &mut |_, _| {});
    let takes = Takes { user: command.user, logs: command.logs };
    let user = if takes.user { administrator(kernel.root, &config, bytes) } else { None };
    if takes.user && user.is_none() {
        let _ = out.write_str("nobody wrote down who the administrator is: no account is removed\n");
    }
    let context = Context::observe(kernel.root, bytes, &config, user.as_ref(), takes)?;
    let purpose = if command.dry_run { Purpose::List } else { Purpose::Overview };
    let mut list = List { out: &mut *out, group: None, paths: 0 };
    let listed = walk(kernel.root, bytes, &context, purpose, &mut |found| list.put(found));
    if command.dry_run {
        return listed;
    }
    let paths = list.paths;
    if paths == 0 {
        let _ = out.write_str("nothing to do\n");
        return Ok(());
    }
    consent(command, ask, out)?;
    if command.root == "/" {
        stop_agent(kernel);
        let _ = kernel.system.set_hostname(LOCALHOST);
    }
    let mut list = List { out, group: None, paths: 0 };
    walk(kernel.root, bytes, &context, Purpose::Act, &mut |found| list.put(found))?;
    let _ = out.write_str("done; power off and capture the disk: its next boot is a first one\n");
    Ok(())
}

fn consent(command: &Command, ask: &mut dyn FnMut() -> Option<bool>, out: &mut dyn Write) -> Result<()> {
    if command.force {
        return Ok(());
    }
    let _ = out.write_str("All this goes for good. Proceed? (y/n) ");
    match ask() {
        Some(true) => Ok(()),
        Some(false) => Err(not_applicable!("nothing was changed")),
        None => Err(unsupported!("deprovision", "standard input is no terminal: say --force")),
    }
}

/// Else it could write what was just taken away. That it is not there, or not running, is fine.
fn stop_agent(kernel: &mut Kernel<'_>) {
    for argv in STOP {
        let _ = kernel.system.run("/", argv, limits::PROGRAM_MS);
    }
}

/// Whom preroot made the administrator, else whom waagent's or cloud-init's copy of the document names.
fn administrator(root: &mut dyn Dir, config: &Config, bytes: &mut [u8]) -> Option<UserName> {
    let directory = config.agent_directory().trim_start_matches('/');
    for (parts, before) in [([seed::USER, "", ""], ""), ([directory, "/", "ovf-env.xml"], "UserName>")] {
        let mut path = heapless::String::<{ limits::PATH }>::new();
        parts.iter().try_for_each(|part| path.push_str(part)).ok()?;
        let Ok(length) = root.read(&path, bytes) else { continue };
        let text = core::str::from_utf8(bytes.get(..length)?).ok()?;
        // No need to parse the document: root alone wrote it, and a name is checked.
        let (_, behind) = split_once(text, before)?;
        return UserName::parse(behind.split('<').next()?).ok();
    }
    None
}

/// The paths, below the reason they share.
struct List<'o> {
    out: &'o mut dyn Write,
    group: Option<&'static Group>,
    paths: u64,
}

impl List<'_> {
    fn put(&mut self, found: &Found<'_>) {
        self.paths = self.paths.saturating_add(1);
        // Standard output that takes nothing is not our fault.
        let _ = self.print(found);
    }

    fn print(&mut self, found: &Found<'_>) -> fmt::Result {
        let is_new = self.group.is_none_or(|group| group.why != found.group.why);
        self.group = Some(found.group);
        if is_new {
            writeln!(self.out, "{}:", found.group.why)?;
        }
        let word = if found.failure.is_some() { "FAILED" } else { found.group.action.word() };
        write!(self.out, "  {word} /")?;
        super::print_plain(found.path, self.out)?;
        if let Some(error) = found.failure {
            write!(self.out, ": {error}")?;
        }
        self.out.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::cli;
    use crate::sys::Dir;
    use crate::sys::fake::World;
    use std::string::String;

    const OVF: &str = include_str!("../../tests/fixtures/ovf/sample-d-masked-copy/input.xml");

    fn world() -> World {
        let mut world = World::new();
        world
            .root
            .put("etc/passwd", "root:x:0:0::/root:/bin/sh\nops:x:1000:1000::/home/ops:/bin/sh\n")
            .put("etc/hostname", "web-1\n")
            .put("var/lib/preroot/user", "ops\n");
        world
    }

    /// What was printed, and the exit code.
    fn deprovision(world: &mut World, words: &[&'static str], answer: Option<bool>) -> (String, u8) {
        let command = cli::parse(&mut ["deprovision"].iter().chain(words).map(|word| Some(*word))).unwrap();
        let mut bytes = std::vec![0; 64 * 1024];
        let mut out = String::new();
        let outcome = run(&mut world.kernel(), &mut bytes, &command, &mut || answer, &mut out);
        (out, outcome.map_or_else(|error| error.exit_code(), |()| 0))
    }

    #[test]
    fn nothing_changes_without_a_yes() {
        let mut world = world();
        let before = world.root.dump();
        for (words, answer, code) in [
            (&["--root", "/x"][..], Some(false), 76),
            (&["--root", "/x"], None, 1),
            (&["--dry-run", "--user"], Some(true), 0),
        ] {
            let (out, got) = deprovision(&mut world, words, answer);
            assert_eq!((got, world.root.dump()), (code, before.clone()), "{out}");
            assert!(out.contains("  edit   /etc/hostname\n"), "{out}");
        }
        assert!(world.system.runs.is_empty());
        let (out, code) = deprovision(&mut world, &["--root", "/x"], Some(true));
        assert!(code == 0 && out.ends_with("its next boot is a first one\n"), "{out}");
        assert_eq!(deprovision(&mut world, &["--root", "/x"], None), ("nothing to do\n".into(), 0));
    }

    #[test]
    fn force_asks_nobody_and_a_running_system_gets_its_agent_stopped() {
        let mut world = world();
        let (_, code) = deprovision(&mut world, &["--force", "--user"], None);
        assert_eq!(code, 0);
        assert!(world.system.runs[0].starts_with("/usr/bin/systemctl stop walinuxagent.service"));
        assert_eq!(world.system.hostname.as_deref(), Some("localhost.localdomain"));
        assert!(!world.root.text("etc/passwd").unwrap().contains("ops"));
    }

    #[test]
    fn offline_the_running_system_is_left_alone() {
        let mut world = world();
        assert_eq!(deprovision(&mut world, &["--force", "--root", "/mnt"], None).1, 0);
        assert!(world.system.runs.is_empty() && world.system.hostname.is_none());
    }

    #[test]
    fn the_agents_document_names_the_administrator_where_we_did_not() {
        let mut world = world();
        world.root.remove("var/lib/preroot/user").unwrap();
        let (out, code) = deprovision(&mut world, &["--dry-run", "--user"], None);
        assert!(code == 0 && out.starts_with("nobody wrote down"), "{out}");
        let user = OVF.split("UserName>").nth(1).unwrap().split('<').next().unwrap();
        world.root.put("var/lib/waagent/ovf-env.xml", OVF);
        world.root.put("etc/passwd", std::format!("{user}:x:1000:1000::/home/{user}:/bin/sh\n"));
        assert_eq!(deprovision(&mut world, &["--force", "--user", "--root", "/x"], None).1, 0);
        assert_eq!(world.root.text("etc/passwd").unwrap(), "");
    }
}
