//! Everything of the real kernel that a stage is lent, opened once per process.

use super::{Console, LinuxClock, LinuxDir, LinuxDisks, LinuxLinks, LinuxSystem, open_or_make};
use crate::error::Result;
use crate::format::cmdline::Options;
use crate::format::text::join;
use crate::format::text::lossy;
use crate::limits;
use crate::sys::{CANCEL, Dir, Kernel};

/// Our own directory where `--run` does not name another.
const RUN: &str = "/run/preroot";

/// The kernel's side of a stage.
pub struct Linux {
    clock: LinuxClock,
    log: Console,
    host: LinuxDir,
    root: LinuxDir,
    run: LinuxDir,
    disks: LinuxDisks,
    links: LinuxLinks,
    system: LinuxSystem,
    /// What the kernel command line asks of us.
    pub options: Options,
}

impl Linux {
    /// Opens `/`, the root to provision and our directory below /run (made if missing). Messages go to the
    /// kernel log; on a dry run, or below another `--run`, a person is at the terminal and gets them there.
    ///
    /// # Errors
    /// `Os` when a directory cannot be opened.
    pub fn open(root: &str, run: &str, is_dry_run: bool) -> Result<Self> {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        // No core file and no debugger of another user: a clear password may be in memory.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        let is_boot = run == RUN && !is_dry_run;
        let timeline = join(&[run, "/timeline"])?;
        let mut host = LinuxDir::open("/")?;
        let options = options(&mut host);
        Ok(Self {
            clock: LinuxClock::new(),
            log: Console::new(is_boot, if is_dry_run { "" } else { &timeline }).with_debug(options.is_debug),
            host,
            root: LinuxDir::open(root)?,
            run: open_or_make(run)?,
            disks: LinuxDisks::default(),
            links: LinuxLinks::new(),
            system: LinuxSystem::default(),
            options,
        })
    }

    /// From now on the file [`CANCEL`] below `run` asks this process to stop, as SIGTERM always does. For fetch
    /// only: the file outlives it, and what runs later must not take it for its own.
    ///
    /// # Errors
    /// `TooMany` when the path is too long.
    pub fn obey_cancel(&mut self, run: &str) -> Result<()> {
        self.clock.obey(&join(&[run, "/", CANCEL])?);
        Ok(())
    }

    /// Lends it.
    pub fn kernel(&mut self) -> Kernel<'_> {
        Kernel {
            clock: &mut self.clock,
            log: &mut self.log,
            host: &mut self.host,
            root: &mut self.root,
            run: &mut self.run,
            disks: &mut self.disks,
            links: &mut self.links,
            system: &mut self.system,
        }
    }
}

/// The console must know them before anything else is observed.
fn options(host: &mut LinuxDir) -> Options {
    let mut buf = [0; limits::COMMAND_LINE];
    let length = host.read("proc/cmdline", &mut buf).unwrap_or_default();
    Options::parse(lossy(buf.get_mut(..length).unwrap_or_default()))
}
