//! Where events go: the kernel log (and so the serial console and the journal), a person's terminal,
//! and the timeline file.
#![expect(unsafe_code, reason = "borrowing descriptor 2")]

use crate::event::{Event, Level, Value};
use crate::limits;
use crate::sys::Log;
use core::fmt::{self, Write};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};

/// Room for one line: the kernel cuts a /dev/kmsg record near 1 KiB.
type Line = Clipped<512>;

/// Text that is clipped, never refused: a log line may lose its end, not its stage.
#[derive(Default)]
struct Clipped<const N: usize>(heapless::String<N>);

impl<const N: usize> Write for Clipped<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.push(c).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl<const N: usize> Clipped<N> {
    fn end_line(&mut self) -> &[u8] {
        if self.0.push('\n').is_err() {
            self.0.pop();
            let _ = self.0.push('\n');
        }
        self.0.as_bytes()
    }
}

/// The sinks of this process.
pub struct Console {
    to_kernel: bool,
    is_debug: bool,
    stage: &'static str,
    timeline: heapless::String<{ limits::PATH }>,
}

impl Console {
    /// With `to_kernel` events go to /dev/kmsg, else to standard error; `timeline` is the absolute path of
    /// the file that keeps them, "" for none.
    #[must_use]
    pub fn new(to_kernel: bool, timeline: &str) -> Self {
        Self {
            to_kernel,
            is_debug: false,
            stage: "",
            timeline: heapless::String::try_from(timeline).unwrap_or_default(),
        }
    }

    /// With `rd.preroot.debug` details are as loud as progress.
    #[must_use]
    pub fn with_debug(self, is_debug: bool) -> Self {
        Self { is_debug, ..self }
    }

    fn level(&self, event: &Event<'_>) -> Level {
        if self.is_debug { event.level.min(Level::Info) } else { event.level }
    }
}

impl Log for Console {
    fn enter(&mut self, stage: &'static str) -> &'static str {
        core::mem::replace(&mut self.stage, stage)
    }

    fn say(&mut self, level: Level, text: &'static str, values: &[Value<'_>]) {
        let event = &Event { level, stage: self.stage, text, values };
        if self.to_kernel {
            to_kmsg(event, self.level(event));
        }
        if !self.to_kernel && self.level(event) <= Level::Info {
            let mut line = Line::default();
            let _ = write!(line, "preroot {}: {event}", event.stage);
            let _ = rustix::io::write(stderr(), line.end_line());
        }
        if !self.timeline.is_empty() {
            append_timeline(&self.timeline, event);
        }
    }
}

/// One record a message. The descriptor is new each time: a kernel without `printk_devkmsg=on` drops all
/// but ten lines in five seconds, counted per open file (drivers/char/../printk.c, devkmsg_write).
fn to_kmsg(event: &Event<'_>, level: Level) {
    let Some(fd) = open_kmsg() else { return };
    let mut line = Line::default();
    // LOG_DAEMON (3 << 3) | level
    let _ = write!(line, "<{}>preroot {}: {event}", 24 | level as u8, event.stage);
    let _ = rustix::io::write(&fd, line.end_line());
}

fn open_kmsg() -> Option<OwnedFd> {
    open(c"/dev/kmsg", OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).ok()
}

fn append_timeline(path: &str, event: &Event<'_>) {
    let Some(fd) = open_timeline(path) else { return };
    let mut line = Line::default();
    let us = super::raw::monotonic_ns() / 1000;
    let before = rustix::fs::fstat(&fd).map_or(0, |stat| stat.st_size);
    if before >= limits::TIMELINE_BYTES {
        return;
    }
    let _ = write!(line, "{us} {} {}: {event}", event.level as u8, event.stage);
    let written = rustix::io::write(&fd, line.end_line()).unwrap_or_default();
    if before.saturating_add(written as i64) >= limits::TIMELINE_BYTES {
        let mut last = Line::default();
        let _ = write!(
            last,
            "{us} {} {}: the timeline is full: the kernel log has the rest",
            Level::Warning as u8,
            event.stage
        );
        let _ = rustix::io::write(&fd, last.end_line());
    }
}

/// Anybody may read it, whatever the umask: it holds what the kernel log has, fixed sentences without secrets.
fn open_timeline(path: &str) -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let made = open(path, flags | OFlags::CREATE | OFlags::EXCL, mode);
    if let Ok(fd) = &made {
        let _ = rustix::fs::fchmod(fd, mode);
    }
    made.or_else(|_| open(path, flags, mode)).ok()
}

fn stderr() -> rustix::fd::BorrowedFd<'static> {
    // SAFETY: descriptor 2 is never closed by us; if the caller closed it, writes fail.
    unsafe { rustix::stdio::stderr() }
}

/// Says where a panic was, on /dev/kmsg or standard error, and ends with 101. The message of the panic is
/// left out: it may quote input. Inlined, so that the compiler sees that nobody reads it: 6 KB of formatting go.
#[inline(always)]
pub fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    let mut line = Line::default();
    let _ = line.write_str("<27>preroot: bug: panic at ");
    if let Some(place) = info.location() {
        let _ = write!(line, "{}:{}", place.file(), place.line());
    }
    let _ = line.write_str("; this stage's work is lost, the boot goes on");
    let bytes = line.end_line();
    match open_kmsg() {
        Some(fd) => {
            let _ = rustix::io::write(fd.as_fd(), bytes);
        }
        None => {
            let _ = rustix::io::write(stderr(), bytes.get(4..).unwrap_or_default());
        }
    }
    super::exit(101)
}
