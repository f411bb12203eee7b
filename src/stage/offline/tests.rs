//! Drives that come late, stay empty, break or change while they are read.

use super::{Medium, read_medium};
use crate::error::{Errno, Result};
use crate::format::ReadAt;
use crate::format::media::{DOCUMENT, image};
use crate::format::volume::Kind;
use crate::limits;
use crate::source::medium::Missing;
use crate::sys::fake::{FakeDir, World};
use crate::sys::{Block, Clock, Dir, Disks, DriveStatus, KernelPartition};
use std::borrow::ToOwned;
use std::cell::RefCell;
use std::rc::Rc;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// What happens to a drive.
#[derive(Clone)]
enum Turn {
    /// It appears.
    Attach,
    /// It goes.
    Detach,
    /// Its status changes.
    Status(DriveStatus),
    /// It gets another medium.
    Insert(Rc<Vec<u8>>),
    /// Reads past this byte fail.
    BadFrom(u64),
    /// SIGTERM.
    Cancel,
}

struct Drive {
    status: DriveStatus,
    medium: Rc<Vec<u8>>,
    bad_from: u64,
}

/// Drives and a clock that plays a script of turns while it sleeps.
struct Stage {
    now_ms: u64,
    script: Vec<(u64, &'static str, Turn)>,
    drives: std::collections::BTreeMap<String, Drive>,
    host: FakeDir,
    opened: Vec<String>,
    sleeps: Vec<u64>,
    is_cancelled: bool,
}

#[derive(Clone)]
struct Shared(Rc<RefCell<Stage>>);

impl Shared {
    fn new(script: Vec<(u64, &'static str, Turn)>) -> Self {
        let mut host = FakeDir::default();
        host.put_symlink("sys/class/block/sda", "../x").put_symlink("sys/class/block/vdb", "../x");
        let (drives, opened, sleeps) = Default::default();
        let stage = Stage { now_ms: 0, script, drives, host, opened, sleeps, is_cancelled: false };
        let shared = Self(Rc::new(RefCell::new(stage)));
        shared.pass(0);
        shared
    }

    fn pass(&self, ms: u64) {
        let mut stage = self.0.borrow_mut();
        stage.now_ms += ms;
        let (now, script) = (stage.now_ms, core::mem::take(&mut stage.script));
        for (at, name, turn) in script {
            if at > now {
                stage.script.push((at, name, turn));
                continue;
            }
            let path = std::format!("sys/class/block/{name}");
            let empty = Drive { status: DriveStatus::NoDisc, medium: Rc::default(), bad_from: u64::MAX };
            match turn {
                Turn::Attach => {
                    stage.host.put_symlink(&path, "../x");
                    stage.drives.insert(name.to_owned(), empty);
                }
                Turn::Detach => {
                    crate::sys::Dir::remove(&mut stage.host, &path).unwrap();
                    stage.drives.remove(name);
                }
                Turn::Status(status) => stage.drives.get_mut(name).unwrap().status = status,
                Turn::Insert(medium) => {
                    let drive = stage.drives.get_mut(name).unwrap();
                    (drive.medium, drive.status) = (medium, DriveStatus::DiscOk);
                }
                Turn::BadFrom(byte) => stage.drives.get_mut(name).unwrap().bad_from = byte,
                Turn::Cancel => stage.is_cancelled = true,
            }
        }
    }
}

impl Clock for Shared {
    fn now_us(&mut self) -> u64 {
        self.0.borrow().now_ms * 1000
    }
    fn wall_s(&mut self) -> i64 {
        0
    }
    fn sleep_ms(&mut self, ms: u64) {
        self.0.borrow_mut().sleeps.push(ms);
        self.pass(ms);
    }
    fn is_cancelled(&mut self) -> bool {
        self.0.borrow().is_cancelled
    }
}

impl Disks for Shared {
    fn open_read(&mut self, name: &str, work: &mut dyn FnMut(&mut dyn ReadAt) -> Result<()>) -> Result<()> {
        self.0.borrow_mut().opened.push(name.to_owned());
        struct Reader(Rc<Vec<u8>>, u64);
        impl ReadAt for Reader {
            fn size_bytes(&self) -> u64 {
                self.0.len() as u64
            }
            fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
                let start = usize::try_from(offset).unwrap();
                if offset + buf.len() as u64 > self.1 {
                    return Err(os!("read block device", Errno::IO));
                }
                buf.copy_from_slice(&self.0[start..start + buf.len()]);
                Ok(())
            }
        }
        let mut reader = {
            let stage = self.0.borrow();
            let drive = stage.drives.get(name).ok_or(os!("open block device", Errno::NOENT))?;
            Reader(Rc::clone(&drive.medium), drive.bad_from)
        };
        work(&mut reader)
    }
    fn open_write(&mut self, _: &str, _: &mut dyn FnMut(&mut dyn Block) -> Result<()>) -> Result<()> {
        panic!("a medium is never written")
    }
    fn resize_partition(&mut self, _: &str, _: KernelPartition) -> Result<()> {
        panic!()
    }
    fn add_partition(&mut self, _: &str, _: KernelPartition) -> Result<()> {
        panic!()
    }
    fn is_free(&mut self, _: &str) -> Result<bool> {
        panic!()
    }
    fn namespace_text(&mut self, _: &str, _: &mut [u8]) -> Result<usize> {
        panic!()
    }
    fn drive_status(&mut self, name: &str) -> Result<DriveStatus> {
        let stage = self.0.borrow();
        Ok(stage.drives.get(name).ok_or(os!("open block device", Errno::NOENT))?.status)
    }
    fn eject(&mut self, _: &str) -> Result<crate::sys::Ejected> {
        panic!("eject is the report's")
    }
}

/// What came out of a script.
struct Played {
    result: Result<Medium>,
    document: Vec<u8>,
    lines: Vec<String>,
    now_ms: u64,
    opened: Vec<String>,
    scratch: Vec<u8>,
}

fn play_with(
    script: Vec<(u64, &'static str, Turn)>,
    chunk: usize,
    receive: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Played {
    let mut shared = Shared::new(script);
    let (mut clock, mut host) = (shared.clone(), shared.0.borrow().host.clone());
    let mut world = World::new();
    let (mut document, mut scratch) = (vec![], vec![0; chunk]);
    let mut kernel = world.kernel();
    (kernel.clock, kernel.disks, kernel.host) = (&mut clock, &mut shared, &mut host);
    let mut whole = |_: &mut dyn Dir, chunk: &[u8]| {
        document.extend_from_slice(chunk);
        receive(chunk)
    };
    let result = read_medium(&mut kernel, &mut scratch, &mut whole, &mut |_| {});
    let stage = shared.0.borrow();
    assert!(stage.sleeps.iter().all(|ms| (1..=limits::POLL_MS).contains(ms)), "{:?}", stage.sleeps);
    assert!(stage.opened.iter().all(|name| name.starts_with("sr")), "{:?}", stage.opened);
    let (now_ms, opened) = (stage.now_ms, stage.opened.clone());
    Played { result, document, lines: world.log.lines, now_ms, opened, scratch }
}

fn play(script: Vec<(u64, &'static str, Turn)>) -> Played {
    play_with(script, 4096, &mut |_| Ok(()))
}

fn disc(name: &str) -> Turn {
    Turn::Insert(Rc::new(image(name)))
}

fn document(played: &Played) -> (&str, Kind, u64) {
    match &played.result {
        Ok(Medium::Read(document)) => {
            assert_eq!(played.document, DOCUMENT);
            assert_eq!(document.size_bytes, DOCUMENT.len() as u64);
            assert_eq!(document.after_ms, played.now_ms);
            (document.drive.as_str(), document.kind, document.after_ms)
        }
        other => panic!("{other:?} {:?}", played.lines),
    }
}

fn missing(played: &Played) -> Missing {
    match &played.result {
        Ok(Medium::Missing(missing)) => *missing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_medium_that_is_there_is_read_at_once_and_said_once() {
    let played = play(vec![(0, "sr0", Turn::Attach), (0, "sr0", disc("bridge"))]);
    assert_eq!(document(&played), ("sr0", Kind::Udf, 0));
    assert_eq!(played.lines, [": sr0: ovf-env.xml, 2.8 KiB on UDF, after 0 ms"]);
    assert!(played.scratch.iter().all(|b| *b == 0), "the buffer that held the password is wiped");
}

#[test]
fn a_drive_may_come_late_and_be_slow() {
    let played = play(vec![
        (1_700, "sr0", Turn::Attach),
        (1_700, "sr0", Turn::Status(DriveStatus::NotReady)),
        (9_000, "sr0", disc("iso-relaxed")),
    ]);
    let (drive, kind, after_ms) = document(&played);
    assert_eq!((drive, kind), ("sr0", Kind::Iso9660));
    assert!((9_000..9_000 + limits::POLL_MS).contains(&after_ms), "{after_ms}");
    assert_eq!(played.lines.len(), 3, "each wait is said once: {:?}", played.lines);
}

#[test]
fn the_second_drive_may_have_it() {
    let played = play(vec![
        (0, "sr0", Turn::Attach),
        (0, "sr0", disc("udf-201")),
        (300, "sr1", Turn::Attach),
        (300, "sr1", disc("bd-250")),
    ]);
    let (drive, _, after_ms) = document(&played);
    assert_eq!(drive, "sr1");
    assert!(after_ms < 600, "{after_ms}");
}

#[test]
fn what_is_missing_is_named_and_the_boot_goes_on_in_time() {
    let empty = Rc::new(vec![0; 1 << 20]);
    let mut broken = image("iso-plain");
    broken[16 * 2048 + 128] = 3;
    for (script, reason, until_ms) in [
        (vec![], "no optical drive", limits::DRIVE_MS),
        (vec![(0, "sr0", Turn::Attach)], "no provisioning medium in the optical drive", 2_000),
        (
            vec![(0, "sr0", Turn::Attach), (0, "sr0", Turn::Status(DriveStatus::NotReady))],
            "provisioning medium unreadable",
            limits::MEDIUM_MS,
        ),
        (
            vec![(0, "sr0", Turn::Attach), (0, "sr0", disc("bridge")), (0, "sr0", Turn::BadFrom(0))],
            "provisioning medium unreadable",
            limits::MEDIUM_MS,
        ),
        (vec![(0, "sr0", Turn::Attach), (0, "sr0", disc("udf-201"))], "medium without ovf-env.xml", 2_000),
        (vec![(0, "sr0", Turn::Attach), (0, "sr0", Turn::Insert(empty))], "neither UDF nor ISO 9660", 2_000),
        (
            vec![(0, "sr0", Turn::Attach), (0, "sr0", Turn::Insert(Rc::new(broken)))],
            "provisioning medium malformed",
            2_000,
        ),
        (vec![(100, "", Turn::Cancel)], "stopped while waiting for the provisioning medium", 500),
    ] {
        let played = play(script);
        assert_eq!(missing(&played).reason(), reason);
        assert!(played.now_ms <= until_ms, "{reason}: {}", played.now_ms);
        assert!(played.document.is_empty());
        assert!(played.lines.last().unwrap().contains(reason), "{:?}", played.lines);
        assert!(played.lines.len() <= 2, "{:?}", played.lines);
    }
}

#[test]
fn a_detached_drive_is_none() {
    let played = play(vec![(0, "sr0", Turn::Attach), (1_000, "sr0", Turn::Detach)]);
    assert_eq!((missing(&played), played.now_ms), (Missing::NoDrive, limits::DRIVE_MS));
}

/// A document of 40,000 bytes in 20 blocks, on ISO 9660.
fn long_document() -> (Vec<u8>, Vec<u8>, u64) {
    let mut image = image("iso-relaxed");
    let record = image.windows(11).position(|window| window == b"ovf-env.xml").unwrap() - 33;
    let start = image.len() as u32 / 2048;
    image[record + 2..record + 6].copy_from_slice(&start.to_le_bytes());
    image[record + 10..record + 14].copy_from_slice(&40_000_u32.to_le_bytes());
    let content: Vec<u8> = (0..40_000_u32).map(|i| (i / 7) as u8).collect();
    image.extend_from_slice(&content);
    image.resize(image.len().next_multiple_of(2048), 0);
    (image, content, u64::from(start) * 2048)
}

#[test]
fn a_read_error_in_the_middle_is_tried_again_and_no_byte_comes_twice() {
    let (image, content, start) = long_document();
    let played = play(vec![
        (0, "sr0", Turn::Attach),
        (0, "sr0", Turn::Insert(Rc::new(image))),
        (0, "sr0", Turn::BadFrom(start + 9_000)),
        (700, "sr0", Turn::BadFrom(start + 20_000)),
        (4_000, "sr0", Turn::BadFrom(u64::MAX)),
    ]);
    assert!(
        matches!(&played.result, Ok(Medium::Read(read)) if read.size_bytes == 40_000),
        "{:?}",
        played.result
    );
    assert!(played.document == content);
    assert!(played.opened.len() > 3);
}

#[test]
fn another_medium_in_the_middle_is_no_continuation() {
    let (image, content, start) = long_document();
    for other in [disc("bridge"), disc("udf-201")] {
        let played = play(vec![
            (0, "sr0", Turn::Attach),
            (0, "sr0", Turn::Insert(Rc::new(image.clone()))),
            (0, "sr0", Turn::BadFrom(start + 9_000)),
            (0, "sr1", Turn::Attach),
            (0, "sr1", disc("bridge")),
            (700, "sr0", other),
            (700, "sr0", Turn::BadFrom(u64::MAX)),
        ]);
        assert!(matches!(missing(&played), Missing::Malformed(_) | Missing::NotOurMedium(_)));
        assert!(content.starts_with(&played.document), "nothing of another medium was handed over");
    }
}

#[test]
fn a_document_beyond_the_limit_is_refused_unread() {
    let (mut image, ..) = long_document();
    let record = image.windows(11).position(|window| window == b"ovf-env.xml").unwrap() - 33;
    image.resize(image.len() + limits::OVF_DOCUMENT as usize, 0);
    image[record + 10..record + 14].copy_from_slice(&(limits::OVF_DOCUMENT as u32 + 1).to_le_bytes());
    let played = play(vec![(0, "sr0", Turn::Attach), (0, "sr0", Turn::Insert(Rc::new(image)))]);
    assert!(matches!(missing(&played), Missing::Malformed(error) if error.is(crate::error::Kind::TooMany)));
    assert!(played.document.is_empty());
}

#[test]
fn the_receiver_s_refusal_ends_it_and_the_buffer_is_wiped() {
    let bad = malformed!("ovf-env.xml", "not well-formed", 7);
    let script = vec![(0, "sr0", Turn::Attach), (0, "sr0", disc("bridge"))];
    let played = play_with(script, 4096, &mut |_| Err(bad));
    assert_eq!(played.result, Err(bad));
    assert!(played.scratch.iter().all(|b| *b == 0));
}
