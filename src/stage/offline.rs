//! How does the document on the provisioning medium get into the parser?

use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::format::ReadAt;
use crate::format::file::File;
use crate::format::volume::{self, Kind};
use crate::limits;
use crate::source::medium::{Awaited, DriveName, Missing, Next, Watch};
use crate::sys::{Dir, Kernel};
use zeroize::Zeroize as _;

/// The document's name, in the root directory.
const NAME: &str = "ovf-env.xml";
/// Bytes handed to the parser at once, and of `scratch` that are used (and wiped).
const CHUNK: usize = 16 * 1024;

/// What became of the medium.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Medium {
    /// The document was handed over whole.
    Read(Document),
    /// There is none. Some of a document may have been handed over: it is to be thrown away.
    Missing(Missing),
}

/// Where the document was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// The drive; to be ejected once the facts are safe.
    pub drive: DriveName,
    /// The medium's file system.
    pub kind: Kind,
    /// Length.
    pub size_bytes: u64,
    /// From the first look to the last byte, milliseconds.
    pub after_ms: u64,
}

/// Takes the next chunk; it may keep what it decodes below `/run/preroot`, which it is lent.
pub type Receive<'r> = &'r mut dyn FnMut(&mut dyn Dir, &[u8]) -> Result<()>;

/// Waits for the provisioning medium and hands ovf-env.xml to `document`, chunk by chunk. Only optical drives
/// are ever opened. `scratch` should hold 16 KiB, and is wiped: the document has a password in it. `on_trouble` is called
/// once there is a drive that cannot be read yet: somebody may not wait for the end of that.
///
/// # Errors
/// What `document` returns; `Os` when sysfs cannot be read. A medium that is not there or not good is no error
/// but [`Medium::Missing`].
#[inline(never)]
pub fn read_medium(
    kernel: &mut Kernel<'_>,
    scratch: &mut [u8],
    document: Receive<'_>,
    on_trouble: &mut dyn FnMut(&mut dyn Dir),
) -> Result<Medium> {
    let length = scratch.len().min(CHUNK);
    let scratch = scratch.get_mut(..length).unwrap_or_default();
    let medium = wait_and_read(kernel, scratch, document, on_trouble);
    scratch.zeroize();
    if let Ok(medium) = &medium {
        say_outcome(kernel, medium);
    }
    medium
}

#[inline(never)]
fn wait_and_read(
    kernel: &mut Kernel<'_>,
    scratch: &mut [u8],
    document: Receive<'_>,
    on_trouble: &mut dyn FnMut(&mut dyn Dir),
) -> Result<Medium> {
    let mut watch = Watch::new(now_ms(kernel));
    let mut transfer = Transfer { begun: None, offset: 0, scratch, document };
    let mut said = Said::default();
    loop {
        let now = now_ms(kernel);
        watch.look(kernel.host, kernel.disks, now)?;
        while let Some(drive) = watch.next_due() {
            let missing = match transfer.attempt(kernel, &drive)? {
                Attempt::Done(kind, size_bytes) => {
                    let after_ms = watch.elapsed_ms(now_ms(kernel));
                    return Ok(Medium::Read(Document { drive, kind, size_bytes, after_ms }));
                }
                Attempt::NotNow => continue,
                Attempt::Failed(missing) => missing,
            };
            if transfer.begun.is_some() && !matches!(missing, Missing::Unreadable(_)) {
                return Ok(Medium::Missing(missing));
            }
            watch.refuse(&drive, missing, now_ms(kernel));
        }
        match watch.next(now_ms(kernel)) {
            _ if kernel.clock.is_cancelled() => return Ok(Medium::Missing(Missing::Stopped)),
            Next::GiveUp(missing) => return Ok(Medium::Missing(missing)),
            Next::Wait { ms, awaited } => {
                if said.once(kernel, awaited) && awaited == Awaited::Ready {
                    on_trouble(kernel.run);
                }
                kernel.clock.sleep_ms(ms);
            }
        }
    }
}

fn now_ms(kernel: &mut Kernel<'_>) -> u64 {
    kernel.clock.now_us() / 1000
}

/// How reading a drive went.
enum Attempt {
    /// Everything was handed over.
    Done(Kind, u64),
    /// Another drive's document is half handed over.
    NotNow,
    /// It did not go.
    Failed(Missing),
}

/// A document on its way. A device that fails in the middle is asked again for the rest, so that the parser
/// never sees a byte twice.
struct Transfer<'t> {
    /// Drive and place of the document whose first `offset` bytes were handed over.
    begun: Option<(DriveName, Kind, File)>,
    offset: u64,
    scratch: &'t mut [u8],
    document: Receive<'t>,
}

/// Whose error it is.
enum Fault {
    /// The drive's: to be tried again.
    Device(Error),
    /// The medium's.
    Content(Error),
    /// The receiver's.
    Document(Error),
}

impl Transfer<'_> {
    /// Reads the medium of one drive.
    fn attempt(&mut self, kernel: &mut Kernel<'_>, drive: &DriveName) -> Result<Attempt> {
        if self.begun.as_ref().is_some_and(|(begun, ..)| begun != drive) {
            return Ok(Attempt::NotNow);
        }
        let mut result = None;
        let run = &mut *kernel.run;
        let opened = kernel.disks.open_read(drive, &mut |device| {
            result = Some(self.stream(device, drive, run));
            Ok(())
        });
        let fault = match (result, opened) {
            (Some(Ok((kind, size_bytes))), _) => return Ok(Attempt::Done(kind, size_bytes)),
            (Some(Err(fault)), _) => fault,
            (None, Err(error)) => Fault::Device(error),
            (None, Ok(())) => return Ok(Attempt::NotNow),
        };
        match fault {
            Fault::Device(error) => Ok(Attempt::Failed(Missing::Unreadable(error))),
            Fault::Content(error) => Ok(Attempt::Failed(Missing::of_content(error))),
            Fault::Document(error) => Err(error),
        }
    }

    fn stream(
        &mut self,
        device: &mut dyn ReadAt,
        drive: &DriveName,
        run: &mut dyn Dir,
    ) -> core::result::Result<(Kind, u64), Fault> {
        let found = volume::find_file(device, NAME, self.scratch);
        let (kind, file) = found.map_err(|error| {
            if volume::is_of_device(error) { Fault::Device(error) } else { Fault::Content(error) }
        })?;
        let size_bytes = file.size_bytes();
        if size_bytes > limits::OVF_DOCUMENT {
            let limit = limits::OVF_DOCUMENT as usize;
            return Err(Fault::Content(too_many!("bytes of ovf-env.xml", limit)));
        }
        let mut begun = (drive.clone(), kind, file);
        if self.offset > 0 && self.begun.as_ref() != Some(&begun) {
            let changed = malformed!(NAME, "medium changed while it was read", self.offset);
            return Err(Fault::Content(changed));
        }
        while self.offset < size_bytes {
            let length = begun.2.read(device, self.offset, self.scratch).map_err(Fault::Device)?;
            let chunk = self.scratch.get(..length).unwrap_or_default();
            if chunk.is_empty() {
                break;
            }
            self.begun.get_or_insert_with(|| begun.clone());
            (self.document)(run, chunk).map_err(Fault::Document)?;
            self.offset = self.offset.saturating_add(length as u64);
        }
        Ok((kind, size_bytes))
    }
}

/// What has been said while waiting: each thing once, not at every poll.
#[derive(Default)]
struct Said {
    lines: [bool; 4],
}

impl Said {
    /// True when it was news.
    fn once(&mut self, kernel: &mut Kernel<'_>, awaited: Awaited) -> bool {
        let (index, text) = match awaited {
            Awaited::Drive => (0, "waiting for an optical drive, {} at most"),
            Awaited::Medium => (1, "optical drive without medium, waiting {} in case one appears"),
            Awaited::Ready => (2, "optical drive not ready, waiting {} at most"),
            Awaited::Document => (3, "medium is not the provisioning medium, waiting {} for another"),
        };
        let limit = match awaited {
            Awaited::Drive => limits::DRIVE_MS,
            Awaited::Medium | Awaited::Document => limits::NO_DISC_MS,
            Awaited::Ready => limits::MEDIUM_MS,
        };
        let Some(line) = self.lines.get_mut(index).filter(|line| !**line) else { return false };
        *line = true;
        kernel.say(Level::Info, text, &[Value::Millis(limit)]);
        true
    }
}

fn say_outcome(kernel: &mut Kernel<'_>, medium: &Medium) {
    match medium {
        Medium::Read(document) => kernel.say(
            Level::Info,
            "{}: ovf-env.xml, {} on {}, after {}",
            &[
                Value::Name(&document.drive),
                Value::SizeBytes(document.size_bytes),
                Value::Text(document.kind.name()),
                Value::Millis(document.after_ms),
            ],
        ),
        Medium::Missing(missing @ (Missing::NoDrive | Missing::NoMedium | Missing::Stopped)) => {
            kernel.say(Level::Warning, "{}", &[Value::Text(missing.reason())]);
        }
        Medium::Missing(missing) => {
            let why = missing.error().map_or(Value::Text("?"), Value::Why);
            kernel.say(Level::Error, "{} ({})", &[Value::Text(missing.reason()), why]);
        }
    }
}

#[cfg(test)]
mod tests;
