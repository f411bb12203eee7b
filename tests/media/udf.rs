//! Which kinds of UDF volume does mkudffs make, and for which of them is which tree?

use crate::tree::{Names, Random, Tree};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every kind mkudffs knows, with a revision for each.
const KINDS: [(&str, &[&str]); 11] = [
    ("hd", &["1.02", "1.50", "2.00", "2.01"]),
    ("dvdram", &["1.50", "2.01"]),
    ("mo", &["1.02", "2.01"]),
    ("dvdrw", &["1.50", "2.00", "2.01"]),
    ("cdrw", &["1.50", "2.01"]),
    // mkudffs 2.3 says "Not enough blocks" to mo and worm of any size.
    ("worm", &["1.02", "2.01"]),
    ("dvd", &["1.02", "2.01"]),
    ("dvdr", &["1.50", "2.01"]),
    ("cdr", &["1.50", "2.01"]),
    ("cd", &["1.02", "2.01"]),
    ("bdr", &["2.50", "2.60"]),
];
const BLOCKS: [u32; 4] = [512, 1024, 2048, 4096];

/// A volume to be made.
pub(crate) struct Volume {
    pub(crate) seed: u64,
    pub(crate) block: u32,
    pub(crate) kind: &'static str,
    pub(crate) revision: &'static str,
    /// Allocation; session start.
    allocation: &'static str,
    start_block: u32,
}

impl Volume {
    /// The volume of a number: the first are every kind with every block size, those after them the kinds that are written.
    pub(crate) fn numbered(n: usize) -> Self {
        let mut random = Random::new(n as u64 ^ 0x0DF);
        let combinations = KINDS.len() * BLOCKS.len();
        let (kind, block) = match n.checked_sub(combinations) {
            None => (KINDS[n % KINDS.len()], BLOCKS[n / KINDS.len()]),
            Some(_) => (random.pick(&[KINDS[0], KINDS[1], KINDS[3], KINDS[4]]), random.pick(&BLOCKS)),
        };
        let allocation = random.pick(&["inicb", "short", "long"]);
        // mkudffs writes the VAT into its entry or not at all.
        let allocation = if matches!(kind.0, "cdr" | "dvdr" | "bdr") { "inicb" } else { allocation };
        let revision = random.pick(kind.1);
        Self { seed: n as u64, block, kind: kind.0, revision, allocation, start_block: 0 }
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::random(self.seed, Names::Udf)
    }

    /// Makes the empty volume; false: mkudffs does not make such a one.
    pub(crate) fn format(&self, path: &Path, tree: &Tree) -> bool {
        // Room for the tree with every name in a block of its own, and for what a kind wants at least.
        let per_entry = u64::from(self.block) * 3 + 4096;
        let needed = (tree.size_bytes() + tree.entries.len() as u64 * per_entry) / u64::from(self.block);
        let is_made = [6000, 40_000, 700_000].into_iter().any(|more| self.run(path, tree, needed + more));
        if !is_made {
            println!("mkudffs does not make {}", self.name());
        }
        is_made
    }

    fn run(&self, path: &Path, tree: &Tree, blocks: u64) -> bool {
        let _ = fs::remove_file(path);
        let (block, blocks, start) =
            (self.block.to_string(), blocks.to_string(), self.start_block.to_string());
        let label = format!("--label={}", tree.label);
        let mut command = Command::new("mkudffs");
        command.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin");
        command.args(["--utf8", &label, "-m", self.kind, "-r", self.revision, "-b", &block]);
        command.args(["--ad", self.allocation, "--startblock", &start, "--new-file"]);
        command.arg(path).arg(blocks);
        let is_made = command.output().unwrap().status.success();
        if !is_made {
            let _ = fs::remove_file(path);
        }
        is_made
    }

    pub(crate) fn name(&self) -> String {
        format!("{} {} {} {}", self.kind, self.revision, self.block, self.allocation)
    }
}

/// Where the trees and the images are between the programs that work on them.
pub(crate) fn place(what: &str, n: usize) -> PathBuf {
    Path::new(&std::env::var("MEDIA_DIR").unwrap()).join(what).join(format!("{n:04}"))
}
