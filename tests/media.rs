//! Is every file of a medium read as it was written? Images made by the programs that people use, of random trees: every
//! listing and every byte is compared, and what blkid says of type and label.
//!
//! `MEDIA_TREES=1000 cargo test --test media -- --nocapture` prints how many; `tests/media.sh` installs the programs.
//! A kind whose program is missing is skipped, and said.
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

#[path = "media/tree.rs"]
mod tree;
#[path = "media/udf.rs"]
mod udf;
#[path = "media/writers.rs"]
mod writers;

use preroot::error::{Errno, Error, Result, Rule};
use preroot::format::ReadAt;
use preroot::format::volume::{FileKind, SCRATCH_BYTES, Volume};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use tree::{Content, Random, Tree};

const READ: &Rule = &Rule::new(b"oread image\0");

/// An image, or the partition in it, as a device.
struct Image {
    file: File,
    start: u64,
    size_bytes: u64,
    session_bytes: u64,
}

impl Image {
    fn open(path: &Path, start: u64, session_bytes: u64) -> Self {
        let file = File::open(path).unwrap();
        let size_bytes = file.metadata().unwrap().len() - start;
        Self { file, start, size_bytes, session_bytes }
    }
}

impl ReadAt for Image {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        assert!(offset + buf.len() as u64 <= self.size_bytes, "a read past the end");
        self.file.read_exact_at(buf, self.start + offset).map_err(|_| READ.refused(Errno::IO))
    }
    fn session_bytes(&self) -> u64 {
        self.session_bytes
    }
}

/// What a reader says of a medium.
struct Reader {
    image: Image,
    volume: Volume,
    scratch: Vec<u8>,
}

type Listing = BTreeMap<String, (FileKind, u64)>;

impl Reader {
    fn open(mut image: Image) -> std::result::Result<Self, Error> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let volume = Volume::open(&mut image, &mut scratch)?;
        Ok(Self { image, volume, scratch })
    }

    fn list(&mut self, path: &str, into: &mut Listing) {
        let mut found = vec![];
        self.volume
            .list(&mut self.image, path, &mut self.scratch, &mut |entry| {
                let size = if entry.kind == FileKind::File { entry.size_bytes } else { 0 };
                found.push((entry.name.to_string(), (entry.kind, size)));
                Ok(ControlFlow::Continue(()))
            })
            .unwrap_or_else(|error| panic!("list {path:?}: {error:?}"));
        for (name, what) in found {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            assert!(into.insert(path.clone(), what).is_none(), "{path} is listed twice");
            if what.0 == FileKind::Directory {
                self.list(&path, into);
            }
        }
    }

    fn read(&mut self, path: &str, random: &mut Random) -> Vec<u8> {
        let found = self.volume.find(&mut self.image, path, &mut self.scratch);
        let mut file = found.unwrap_or_else(|error| panic!("find {path:?}: {error:?}"));
        let mut content = vec![0; usize::try_from(file.size_bytes()).unwrap()];
        let chunk = [512, 4096, 10_000, 1 << 20][random.below(4)];
        for (i, part) in content.chunks_mut(chunk).enumerate() {
            assert_eq!(file.read(&mut self.image, (i * chunk) as u64, part), Ok(part.len()), "{path}");
        }
        // Backwards, too.
        let at = random.below(content.len().max(1));
        let mut piece = [0; 100];
        let got = file.read(&mut self.image, at as u64, &mut piece).unwrap();
        assert_eq!(piece[..got], content[at.min(content.len())..][..got], "{path}");
        content
    }
}

/// Compares an image with its tree; returns how many files were read.
fn compare(image: Image, tree: &Tree, ignore: &[&str], what: &str) -> usize {
    let mut reader = Reader::open(image).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let mut random = Random::new(tree.seed);
    let mut listing = Listing::new();
    reader.list("", &mut listing);
    listing
        .retain(|path, _| !ignore.iter().any(|name| path == name || path.starts_with(&format!("{name}/"))));
    let expected: Listing =
        tree.entries.iter().map(|(path, content)| (path.clone(), content.listed())).collect();
    let is_equal = listing == expected;
    if !is_equal {
        let less: Vec<_> =
            expected.iter().filter(|(path, what)| listing.get(*path) != Some(what)).take(5).collect();
        let more: Vec<_> =
            listing.iter().filter(|(path, what)| expected.get(*path) != Some(what)).take(5).collect();
        panic!("{what}, seed {}: listings differ: missing {less:#?}, found {more:#?}", tree.seed);
    }
    let mut files = 0;
    for (path, content) in &tree.entries {
        let stat = reader.volume.stat(&mut reader.image, path, &mut reader.scratch).unwrap();
        assert_eq!(stat.kind, content.listed().0, "{what}: {path}");
        if let Content::File(bytes) = content {
            assert!(reader.read(path, &mut random) == *bytes, "{what}, seed {}: {path} differs", tree.seed);
            files += 1;
        } else {
            assert!(
                reader.volume.find(&mut reader.image, path, &mut reader.scratch).is_err(),
                "{what}: {path}"
            );
        }
    }
    files
}

/// Type and labels by blkid; empty where it is ambivalent or knows none.
fn blkid(path: &Path, start: u64) -> [String; 3] {
    let offset = start.to_string();
    ["TYPE", "LABEL", "LABEL_FATBOOT"].map(|name| {
        // As `value` it is not escaped.
        let mut command = Command::new("blkid");
        command.args(["-p", "-O", &offset, "-o", "value", "-s", name]).arg(path);
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim_end_matches('\n').into()
    })
}

/// What blkid says, and we.
fn compare_blkid(path: &Path, start: u64, what: &str) {
    let reader =
        Reader::open(Image::open(path, start, 0)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let volume = &reader.volume;
    let ours = [volume.kind().blkid_type(), volume.label(), volume.boot_label()].map(String::from);
    assert_eq!(ours, blkid(path, start), "{what}: ours, blkid's");
}

/// How many trees in all.
fn wanted() -> usize {
    std::env::var("MEDIA_TREES").ok().and_then(|text| text.parse().ok()).unwrap_or(26)
}

/// One tree, one medium; returns how many files were equal.
fn write_and_compare(writer: &writers::Writer, seed: u64, work: &Path) -> usize {
    let tree = Tree::random(seed, writer.names);
    let made = (writer.write)(&tree, work);
    let image = Image::open(&made.path, made.start, made.session_bytes);
    let files = compare(image, &tree, made.ignore, writer.name);
    if made.session_bytes == 0 {
        compare_blkid(&made.path, made.start, writer.name);
    }
    files
}

#[test]
fn iso_and_fat_are_read_as_they_were_written() {
    let work = tree::Directory::new("media");
    let mut counts = BTreeMap::<&str, [usize; 3]>::new();
    let writers: Vec<_> = writers::ALL.iter().filter(|writer| writer.is_installed()).collect();
    for seed in 0..wanted() {
        let Some(writer) = writers.get(seed % writers.len().max(1)) else { break };
        // A failure has said what differs; the others are still of interest.
        let done = std::panic::catch_unwind(|| write_and_compare(writer, seed as u64, work.path()));
        let count = counts.entry(writer.name).or_default();
        count[0] += 1;
        count[1] += done.as_ref().map_or(0, |files| *files);
        count[2] += usize::from(done.is_err());
    }
    for (name, [trees, files, failed]) in &counts {
        println!("{name}: {trees} trees, {files} files, {failed} failed");
    }
    let sum = |i: usize| counts.values().map(|count| count[i]).sum::<usize>();
    println!("{} trees, {} files, {} failed", sum(0), sum(1), sum(2));
    for writer in writers::ALL.iter().filter(|writer| !writer.is_installed()) {
        println!("skipped: {} (no {})", writer.name, writer.programs.join(", "));
    }
    assert_eq!(sum(2), 0);
}

/// A file of mkudffs's own, which the kernel hides.
const NOT_ALLOCATED: &str = "Non-Allocatable Space";

/// A few of the volumes of tests/vm/udf.sh, kept; the number is in the name.
#[test]
fn udf_of_a_kernel_that_was_kept_is_read() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/udf");
    let work = tree::Directory::new("media-udf");
    let mut files = 0;
    for entry in std::fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path()) {
        let Some(n) = entry.file_name().unwrap().to_str().unwrap().strip_suffix(".zst") else { continue };
        let image = work.path().join(n);
        let unpacked =
            Command::new("zstd").args(["-q", "-d", "--sparse", "-o"]).arg(&image).arg(&entry).status();
        if !unpacked.is_ok_and(|status| status.success()) {
            println!("skipped: {} (no zstd)", entry.display());
            continue;
        }
        let volume = udf::Volume::numbered(n.parse().unwrap());
        files += compare(
            Image::open(&image, 0, 0),
            &volume.tree(),
            &["lost+found", NOT_ALLOCATED],
            &volume.name(),
        );
        std::fs::remove_file(image).unwrap();
    }
    println!("{files} files on kept UDF volumes equal");
}

/// First half of tests/vm/udf.sh.
#[test]
#[ignore = "a part of tests/vm/udf.sh"]
fn udf_trees_are_written() {
    let mut list = String::new();
    for n in 0..wanted() {
        let volume = udf::Volume::numbered(n);
        let tree = volume.tree();
        if volume.format(&udf::place("images", n), &tree) {
            tree.write(&udf::place("trees", n));
            list += &format!("{n:04} {}\n", volume.block);
        }
    }
    std::fs::write(udf::place("", 0).with_file_name("list"), list).unwrap();
}

/// Second half: one line for each kind and block size.
#[test]
#[ignore = "a part of tests/vm/udf.sh"]
fn udf_is_read_as_a_kernel_wrote_it() {
    let mut counts = BTreeMap::<String, [usize; 4]>::new();
    for n in 0..wanted() {
        let (volume, path) = (udf::Volume::numbered(n), udf::place("images", n));
        if !path.exists() {
            continue;
        }
        let mut tree = volume.tree();
        let is_empty = udf::place("read-only", n).exists();
        if is_empty {
            tree.entries.clear();
        }
        let done = std::panic::catch_unwind(|| {
            compare_blkid(&path, 0, &volume.name());
            compare(Image::open(&path, 0, 0), &tree, &["lost+found", NOT_ALLOCATED], &volume.name())
        });
        let count = counts.entry(format!("{} {}", volume.kind, volume.block)).or_default();
        count[0] += usize::from(!is_empty);
        count[1] += usize::from(is_empty);
        count[2] += done.as_ref().map_or(0, |files| *files);
        count[3] += usize::from(done.is_err());
    }
    for (name, [trees, empty, files, failed]) in &counts {
        println!("mkudffs {name}: {trees} trees, {empty} empty, {files} files, {failed} failed");
    }
    let sum = |i: usize| counts.values().map(|count| count[i]).sum::<usize>();
    println!("udf: {} trees, {} empty volumes, {} files, {} failed", sum(0), sum(1), sum(2), sum(3));
    assert_eq!(sum(3), 0);
}
