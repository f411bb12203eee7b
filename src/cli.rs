//! What was asked for: argv to [`Command`]. Pure.

pub mod growpart;

/// A stage or tool to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Load what is needed and not built in.
    Modules,
    /// Media, then network.
    Fetch,
    /// Media only.
    FetchOffline,
    /// Network only.
    FetchOnline,
    /// The root partition.
    Grow,
    /// Seed to the mounted root.
    Persist,
    /// All initrd stages in order.
    Initrd,
    /// Seed to system.
    Apply,
    /// Wait for the owner of a VM that was started before it had one.
    Pool,
    /// What user data include.
    Include,
    /// Run what the image and the VM's maker left to run.
    Scripts,
    /// Have the DHCP client publish the host name.
    HostName,
    /// Tell the platform.
    Report,
    /// Answer the host's data exchange.
    Kvp,
    /// The temporary disk of this boot.
    ResourceDisk,
    /// What happened.
    Status,
    /// How long it took.
    Timeline,
    /// Which facts the seed holds.
    Show,
    /// What the configuration files settle.
    Config,
    /// Make the image nobody's again.
    Deprovision,
    /// The boot loader's files: let the kernel speak on the serial console.
    SerialConsole,
    /// Version and build.
    Version,
    /// How to use this.
    Help,
}

impl Verb {
    /// The stage's name in messages and in `status`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Modules => "modules",
            Self::Fetch => "fetch",
            Self::FetchOffline => "fetch-offline",
            Self::FetchOnline => "fetch-online",
            Self::Grow => "grow",
            Self::Persist => "persist",
            Self::Initrd => "initrd",
            Self::Apply => "apply",
            Self::Pool => "pool",
            Self::Include => "include",
            Self::Scripts => "scripts",
            Self::HostName => "host-name",
            Self::Report => "report",
            Self::Kvp => "kvp",
            Self::ResourceDisk => "resource-disk",
            Self::Status => "status",
            Self::Timeline => "timeline",
            Self::Show => "show",
            Self::Config => "config",
            Self::Deprovision => "deprovision",
            Self::SerialConsole => "serialconsole",
            Self::Version => "version",
            Self::Help => "help",
        }
    }
}

/// A verb and its options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// What to do.
    pub verb: Verb,
    /// Say what would be done, do nothing.
    pub dry_run: bool,
    /// The root to provision: `/` unless `--root`.
    pub root: &'static str,
    /// Our directory below /run: `/run/preroot` unless `--run`.
    pub run: &'static str,
    /// `grow --disk DISK`: an implied dry run.
    pub disk: Option<&'static str>,
    /// `report --failed REASON`.
    pub failed: Option<&'static str>,
    /// `report --early`: one try on our own stack, before the OS network. `kvp --early`: in the initrd.
    pub early: bool,
    /// `status --wait`.
    pub wait: bool,
    /// `status --json`.
    pub json: bool,
    /// `show --from DEVICE|DIR|FILE`.
    pub from: Option<&'static str>,
    /// `config --explain`.
    pub explain: bool,
    /// `deprovision --user`.
    pub user: bool,
    /// `deprovision --logs`.
    pub logs: bool,
    /// `deprovision --force`.
    pub force: bool,
}

/// Why argv was not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// No command.
    Missing,
    /// Not a command of ours.
    UnknownCommand,
    /// Not an option of ours.
    UnknownOption,
    /// An option without its value.
    MissingValue,
    /// Not UTF-8.
    NotText,
}

/// Reads the words after the program's name.
///
/// # Errors
/// [`Usage`], for exit code 2.
pub fn parse(words: &mut dyn Iterator<Item = Option<&'static str>>) -> Result<Command, Usage> {
    let verb = words.next().ok_or(Usage::Missing)?.ok_or(Usage::NotText)?;
    let mut command = Command {
        verb: verb_of(verb).ok_or(Usage::UnknownCommand)?,
        dry_run: false,
        root: "/",
        run: "/run/preroot",
        disk: None,
        failed: None,
        early: false,
        wait: false,
        json: false,
        from: None,
        explain: false,
        user: false,
        logs: false,
        force: false,
    };
    while let Some(word) = words.next() {
        let word = word.ok_or(Usage::NotText)?;
        let mut value = || words.next().flatten().ok_or(Usage::MissingValue);
        match (word, command.verb) {
            ("--dry-run", _) => command.dry_run = true,
            ("--root", _) => command.root = value()?,
            ("--run", _) => command.run = value()?,
            ("--offline", Verb::Fetch) => command.verb = Verb::FetchOffline,
            ("--online", Verb::Fetch) => command.verb = Verb::FetchOnline,
            ("--disk", Verb::Grow) => (command.disk, command.dry_run) = (Some(value()?), true),
            ("--failed", Verb::Report) => command.failed = Some(value()?),
            ("--early", Verb::Report | Verb::Kvp) => command.early = true,
            ("--wait", Verb::Status) => command.wait = true,
            ("--json", Verb::Status) => command.json = true,
            ("--from", Verb::Show) => command.from = Some(value()?),
            ("--explain", Verb::Config) => command.explain = true,
            ("--user", Verb::Deprovision) => command.user = true,
            ("--logs", Verb::Deprovision) => command.logs = true,
            ("--force", Verb::Deprovision) => command.force = true,
            _ => return Err(Usage::UnknownOption),
        }
    }
    Ok(command)
}

/// How many words to skip where the program was called as `growpart`, or as `preroot growpart`.
pub fn behind_growpart(words: &mut dyn Iterator<Item = Option<&'static str>>) -> Option<usize> {
    let is_growpart = |word: &str| word.rsplit('/').next() == Some("growpart");
    let (place, _) = (1..).zip(words).find(|(_, word)| word.is_some_and(is_growpart))?;
    Some(place)
}

fn verb_of(word: &str) -> Option<Verb> {
    Some(match word {
        "modules" => Verb::Modules,
        "fetch" => Verb::Fetch,
        "grow" => Verb::Grow,
        "persist" => Verb::Persist,
        "initrd" => Verb::Initrd,
        "apply" => Verb::Apply,
        "pool" => Verb::Pool,
        "include" => Verb::Include,
        "scripts" => Verb::Scripts,
        "host-name" => Verb::HostName,
        "report" => Verb::Report,
        "kvp" => Verb::Kvp,
        "resource-disk" => Verb::ResourceDisk,
        "status" => Verb::Status,
        "timeline" => Verb::Timeline,
        "show" => Verb::Show,
        "config" => Verb::Config,
        "deprovision" => Verb::Deprovision,
        "serialconsole" => Verb::SerialConsole,
        "version" | "--version" | "-V" => Verb::Version,
        "help" | "--help" | "-h" => Verb::Help,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Command, Usage, Verb, behind_growpart, parse};

    fn of(words: &[&'static str]) -> Result<Command, Usage> {
        parse(&mut words.iter().map(|w| Some(*w)))
    }

    #[test]
    fn growpart_is_a_name_of_ours() {
        let of = |words: &[&'static str]| behind_growpart(&mut words.iter().map(|word| Some(*word)));
        assert_eq!(of(&["/usr/bin/growpart", "-h"]), Some(1));
        assert_eq!(of(&["preroot", "growpart"]), Some(2));
        assert_eq!(of(&["preroot", "grow"]), None);
    }

    #[test]
    fn options_belong_to_their_command() {
        assert_eq!(of(&["fetch", "--offline"]).unwrap().verb, Verb::FetchOffline);
        assert_eq!(of(&["persist", "--root", "/sysroot"]).unwrap().root, "/sysroot");
        assert_eq!(of(&["report", "--failed", "x"]).unwrap().failed, Some("x"));
        assert_eq!(of(&["show", "--from", "x"]).unwrap().from, Some("x"));
        assert!(of(&["config", "--explain"]).unwrap().explain);
        assert!(of(&["deprovision", "--user"]).unwrap().user);
        assert_eq!(of(&["apply", "--force"]), Err(Usage::UnknownOption));
        let shown = of(&["grow", "--disk", "x"]).unwrap();
        assert!(shown.dry_run && shown.disk == Some("x"));
        assert_eq!(of(&["grow", "--offline"]), Err(Usage::UnknownOption));
        assert_eq!(of(&["persist", "--root"]), Err(Usage::MissingValue));
        assert_eq!(of(&[]), Err(Usage::Missing));
        assert_eq!(of(&["frobnicate"]), Err(Usage::UnknownCommand));
        assert_eq!(parse(&mut [None].into_iter()), Err(Usage::NotText));
    }
}
