//! Which files does a random tree have? The same for the same seed, wherever it is made.

use preroot::format::volume::FileKind;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(1))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Which names and shapes a writer keeps as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Names {
    /// ISO 9660 level 1 in lower case.
    Dos,
    /// ISO 9660 with what writers let pass.
    Relaxed,
    /// At most 60 characters of UTF-16, none that Joliet forbids.
    Joliet,
    /// Any, with symbolic links and deep directories.
    RockRidge,
    /// What FAT takes.
    Fat,
    /// Any, as long as UDF has room.
    Udf,
}

/// What is at a path.
pub(crate) enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(String),
}

impl Content {
    pub(crate) fn listed(&self) -> (FileKind, u64) {
        match self {
            Self::Directory => (FileKind::Directory, 0),
            Self::File(bytes) => (FileKind::File, bytes.len() as u64),
            Self::Symlink(_) => (FileKind::Symlink, 0),
        }
    }
}

/// Files and directories by path.
pub(crate) struct Tree {
    pub(crate) seed: u64,
    pub(crate) entries: BTreeMap<String, Content>,
    /// What the volume shall be called.
    pub(crate) label: String,
}

impl Tree {
    pub(crate) fn random(seed: u64, names: Names) -> Self {
        let mut random = Random::new(seed);
        let label = label(&mut random, names);
        let mut tree = Self { seed, entries: BTreeMap::new(), label };
        let deepest = if names == Names::RockRidge { random.pick(&[3, 5, 10]) } else { 4 };
        // Now and then a directory of many blocks.
        let crowd = if random.below(8) == 0 { 150 } else { 10 };
        tree.fill("", deepest, crowd, names, &mut random);
        tree
    }

    fn fill(&mut self, path: &str, depth: usize, crowd: usize, names: Names, random: &mut Random) {
        let mut taken = BTreeSet::new();
        for i in 0..1 + random.below(crowd) {
            let name = name(random, names);
            // Neither FAT nor plain ISO 9660 knows case.
            if !taken.insert(name.to_lowercase()) {
                continue;
            }
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let is_deep = names == Names::RockRidge && i == 0;
            match random.below(10) {
                _ if depth > 1 && is_deep => self.descend(path, depth, names, random),
                0 | 1 if depth > 1 => self.descend(path, depth, names, random),
                2 if matches!(names, Names::RockRidge | Names::Udf) => {
                    self.entries.insert(path, Content::Symlink("../some/where".into()));
                }
                _ => {
                    let bytes = bytes(random);
                    self.entries.insert(path, Content::File(bytes));
                }
            }
        }
    }

    fn descend(&mut self, path: String, depth: usize, names: Names, random: &mut Random) {
        self.fill(&path, depth - 1, 6, names, random);
        self.entries.insert(path, Content::Directory);
    }

    /// Makes it below `to`.
    pub(crate) fn write(&self, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for (path, content) in &self.entries {
            let path = to.join(path);
            match content {
                Content::Directory => fs::create_dir_all(&path).unwrap(),
                Content::File(bytes) => fs::write(&path, bytes).unwrap(),
                Content::Symlink(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            }
        }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.entries.values().map(|content| content.listed().1 + 4096).sum()
    }
}

fn bytes(random: &mut Random) -> Vec<u8> {
    let size = match random.below(12) {
        0 => 0,
        1 => random.pick(&[511, 512, 513, 2047, 2048, 2049, 4096, 65536]),
        2 => random.below(200_000),
        3..=5 => random.below(20_000),
        _ => random.below(2_500),
    };
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn word(random: &mut Random, letters: &[char], most: usize) -> String {
    (0..1 + random.below(most)).map(|_| random.pick(letters)).collect()
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn name(random: &mut Random, names: Names) -> String {
    const LATIN: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789-_";
    const WIDE: &str = "abcABC012 -_.+~#äöüßéñøŁžДжяΩ日本語中文한€";
    let known = [
        "meta-data",
        "user-data",
        "meta_data.json",
        "network_data.json",
        "openstack",
        "ovf-env.xml",
        "latest",
    ];
    // mtools makes a wrong checksum for letters that its code page has, or has something like: its own mdir does not show
    // such a long name either.
    let wide = if names == Names::Fat { "abcABC012 -_.+#Джя日本語中文한" } else { WIDE };
    let room = match names {
        Names::Dos | Names::Relaxed => 0,
        Names::Joliet => 50,
        Names::RockRidge => 70,
        Names::Fat => 100,
        Names::Udf => 60,
    };
    match (names, random.below(10)) {
        (Names::Dos, _) => {
            let base = word(random, &chars("abcdefghijklmnopqrstuvwxyz0123456789_"), 8);
            match random.below(2) {
                0 => base,
                _ => format!("{base}.{}", word(random, &chars("abcxyz012"), 3)),
            }
        }
        (Names::Relaxed, _) => format!("{}.x", word(random, &chars("abcdefghij0123456789-_+"), 20)),
        (_, 0..=2) => random.pick(&known).into(),
        (_, 3) => word(random, &chars("abcdefgh012"), 8),
        (_, 4) => format!("{}.TXT", word(random, &chars("ABCDEFGH012"), 8)),
        (_, 5..=7) => format!("{}.{}", word(random, &chars(LATIN), 20), word(random, &chars(LATIN), 5)),
        (Names::RockRidge, 8) => word(random, &chars(LATIN), 220),
        (Names::RockRidge | Names::Udf, 9) => format!("x{}\u{1F600}", word(random, &chars(wide), room)),
        // Never a blank or a dot at an end.
        _ => format!("x{}y", word(random, &chars(wide), room)),
    }
}

fn label(random: &mut Random, names: Names) -> String {
    let known = ["config-2", "cidata", "CIDATA", "CONFIG-2", "rd_rdfe_stable.1", "OVF ENV", "DATA"];
    match (names, random.below(4)) {
        (Names::Fat, _) => {
            random.pick(&["config-2", "cidata", "CIDATA", "CONFIG-2", "A B", "NO NAME", ""]).into()
        }
        (Names::Udf, 0) => word(random, &chars("abcäöüДж日本 €"), 20).trim().into(),
        (_, 0 | 1) => random.pick(&known).into(),
        _ => word(random, &chars("abcdefABCDEF0123456789_-"), if names == Names::Udf { 60 } else { 32 }),
    }
}

/// A directory that goes when the test is over.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("preroot-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
