//! An in-memory world for tests: it can fail at operation n, or lose power there and forget what was not synced.

mod beside;
mod devices;
mod kvp;
mod tree;

pub use beside::Beside;
pub use devices::{Act, FakeClock, FakeDisk, FakeDisks, FakeLinks, FakeLog, FakeSystem};
pub use kvp::{FakeKvp, Question};
pub use tree::{FakeDir, Tree, Unmounted};

use super::Kernel;

/// Everything a stage is lent.
#[derive(Default)]
pub struct World {
    /// Time.
    pub clock: FakeClock,
    /// What was said.
    pub log: FakeLog,
    /// `/` of the running system.
    pub host: FakeDir,
    /// The root being provisioned.
    pub root: FakeDir,
    /// `/run/preroot`.
    pub run: FakeDir,
    /// Block devices.
    pub disks: FakeDisks,
    /// Network interfaces.
    pub links: FakeLinks,
    /// The rest.
    pub system: FakeSystem,
}

impl World {
    /// A world whose `run` is in memory, as tmpfs is.
    #[must_use]
    pub fn new() -> Self {
        let mut world = Self::default();
        world.run.in_memory = true;
        world
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
