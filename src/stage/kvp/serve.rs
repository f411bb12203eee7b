//! `preroot kvp`: how is the host answered where no daemon of the distribution runs?
//!
//! `--early` is the initrd's: it waits until there is something to say, and ends when `persist` takes the records over.
//! Without it the root's own pools are served until somebody ends it, for images that have no daemon at all.

use super::{OPEN, STOP, hand_over};
use crate::cli::Command;
use crate::error::{Errno, Error, Result};
use crate::event::{Level, Value};
use crate::format::kvp::{self, AUTO, GUEST, MESSAGE, RECORD, Record, Request, Status};
use crate::format::text::{join, split_once};
use crate::limits;
use crate::machine::Platform;
use crate::report::pool::Pools;
use crate::stage::identity;
use crate::sys::{Clock, Dir, FileType, Kernel, Log, Messages, Owner};

/// Class of the data exchange on the virtual machine bus (`HV_KVP_GUID`, include/linux/hyperv.h).
const CLASS: &[u8] = b"{a9a0f4e7-5a45-4d96-b827-8a841e8c03e6}";
const BUS: &str = "sys/bus/vmbus/devices";
/// A channel that hv_utils has opened (`CHANNEL_OPENED_STATE`). A daemon that registers before that has crashed kernels
/// (CVE-2024-55916).
const OPENED: &[u8] = b"3";
/// After an error of the driver, and that often without a question answered in between.
const PAUSE_MS: u64 = 250;
const TRIES: u32 = 5;
/// Questions answered before looking whether to end.
const BURST: u32 = 64;

/// Serves. `bytes` holds a message.
///
/// # Errors
/// `NotApplicable` where the host offers no data exchange, or another process answers it; `Os`.
pub(in crate::stage) fn run(kernel: &mut Kernel<'_>, bytes: &mut [u8], command: &Command) -> Result<()> {
    kernel.log.enter("kvp");
    if !identity::observe(kernel).platform.is_some_and(Platform::wants_report) {
        return Err(not_applicable!("not a platform of ours"));
    }
    let message = bytes.first_chunk_mut().ok_or(too_many!("KVP message", MESSAGE))?;
    if command.dry_run {
        return Ok(());
    }
    if command.early {
        await_record(kernel);
        // The note before the look: `stop` does it the other way round, so one of the two sees the other.
        let _ = kernel.run.create_unsynced(OPEN, Owner::root(0o644), b"");
    } else {
        hand_over(kernel)?;
    }
    let outcome = match is_over(kernel.clock, kernel.run, command.early) {
        true => Ok(()),
        false => answer_all(kernel, message, command.early),
    };
    if command.early {
        let _ = kernel.run.remove(OPEN);
    }
    outcome
}

/// Whoever is early and does not come here for long is ended, and begun again by its supervisor.
fn is_over(clock: &mut dyn Clock, run: &mut dyn Dir, is_early: bool) -> bool {
    if is_early {
        clock.watch(limits::KVP_WATCH_MS);
    }
    clock.is_cancelled() || is_early && run.stat(STOP).is_ok()
}

/// Until the guest's pool has a record, or the initrd is about to end.
fn await_record(kernel: &mut Kernel<'_>) {
    while !Pools::in_memory(kernel.run).has(GUEST) && !is_over(kernel.clock, kernel.run, true) {
        kernel.clock.sleep_ms(limits::POLL_MS);
    }
}

/// The directory of the data exchange's channel.
fn find_channel(host: &mut dyn Dir) -> Option<crate::format::text::PathText> {
    let mut names = heapless::Vec::<heapless::String<48>, { limits::LINKS }>::new();
    let _ = host.list(BUS, &mut |name, kind| {
        // A name too long or too many: none of the host's own.
        let name = heapless::String::try_from(name).ok().filter(|_| kind != FileType::File);
        name.is_none_or(|name| names.push(name).is_ok())
    });
    names.iter().find_map(|name| {
        let at = join(&[BUS, "/", name, "/"]).ok()?;
        is(host, &at, "class_id", CLASS).then_some(at)
    })
}

fn is(host: &mut dyn Dir, at: &str, attribute: &str, wanted: &[u8]) -> bool {
    let mut buf = [0; 64];
    let length = join(&[at, attribute]).and_then(|path| host.read(&path, &mut buf)).unwrap_or_default();
    buf.get(..length).is_some_and(|text| text.trim_ascii() == wanted)
}

/// Waits until hv_utils has opened the channel. hv_vmbus makes its devices some time after it was loaded, and hv_utils may be
/// loaded by anybody at any time: the initrd's server has the time until the initrd ends.
fn await_channel(kernel: &mut Kernel<'_>, is_early: bool) -> Result<()> {
    let until_us = kernel.clock.now_us().saturating_add(limits::KVP_OPEN_MS * 1000);
    loop {
        let channel = find_channel(kernel.host);
        if channel.as_ref().is_some_and(|channel| is(kernel.host, channel, "state", OPENED)) {
            return Ok(());
        }
        let is_late = !is_early && kernel.clock.now_us() >= until_us;
        match channel {
            None if is_late || is_over(kernel.clock, kernel.run, is_early) => {
                return Err(not_applicable!("the host offers no data exchange"));
            }
            Some(_) if is_late => return Err(deadline!("data exchange with the host", limits::KVP_OPEN_MS)),
            Some(_) if is_over(kernel.clock, kernel.run, is_early) => return Ok(()),
            _ => kernel.clock.sleep_ms(limits::STOP_LOOK_MS),
        }
    }
}

/// Waits for hv_utils, then answers until it is over. The driver takes back what was under way when a daemon was too slow
/// or the machine slept: then it wants to be opened anew.
fn answer_all(kernel: &mut Kernel<'_>, message: &mut [u8; MESSAGE], is_early: bool) -> Result<()> {
    await_channel(kernel, is_early)?;
    let mut system = System::of(kernel);
    let mut tries = TRIES;
    loop {
        if is_over(kernel.clock, kernel.run, is_early) {
            return Ok(());
        }
        let Kernel { clock, log, root, run, .. } = kernel;
        let mut server = Server {
            clock: *clock,
            log: *log,
            root: *root,
            run: *run,
            system: &mut system,
            is_early,
            has_answered: false,
            complaint: None,
        };
        let error = match kernel.system.with_kvp(&mut |device| server.answer_host(device, message)) {
            Ok(()) => return Ok(()),
            Err(error) if error.errno() == Some(Errno::BUSY) => {
                return Err(not_applicable!("another process answers the host"));
            }
            Err(error) => error,
        };
        tries = if server.has_answered { TRIES } else { tries - 1 };
        if tries == 0 {
            return Err(error);
        }
        kernel.clock.sleep_ms(PAUSE_MS);
    }
}

/// An open device's other end.
struct Server<'s> {
    clock: &'s mut dyn Clock,
    log: &'s mut dyn Log,
    /// It or /run/preroot has the pools.
    root: &'s mut dyn Dir,
    run: &'s mut dyn Dir,
    system: &'s mut System,
    is_early: bool,
    /// A question, since the device was opened.
    has_answered: bool,
    complaint: Option<Error>,
}

impl Server<'_> {
    /// Registers, then answers until it is over; what was asked by then is answered first.
    fn answer_host(&mut self, device: &mut dyn Messages, message: &mut [u8; MESSAGE]) -> Result<()> {
        kvp::register(message);
        device.send(message)?;
        let (mut is_registered, mut is_ending, mut burst) = (false, false, 0);
        loop {
            if burst == BURST {
                burst = 0;
                if is_over(self.clock, self.run, self.is_early) {
                    return Ok(());
                }
            }
            match device.receive(message)? {
                // What is under way when the device closes fails for the host: nothing comes between the last look and that.
                None if is_ending => return Ok(()),
                None if is_over(self.clock, self.run, self.is_early) => is_ending = true,
                None => device.wait(self.clock.now_us().saturating_add(limits::STOP_LOOK_MS * 1000))?,
                Some(MESSAGE) => {
                    burst += 1;
                    match Request::parse(message, is_registered) {
                        Request::Registered(version) => {
                            self.system.version = heapless::String::try_from(version).unwrap_or_default();
                            is_registered = true;
                            self.log.say(Level::Info, "the host is answered (KVP)", &[]);
                        }
                        request => {
                            let answer = self.answer(request);
                            write_answer(message, &answer);
                            device.send(message)?;
                            self.has_answered = true;
                        }
                    }
                }
                Some(_) => return Err(malformed!("KVP message", "length", 0)),
            }
        }
    }

    /// A pool that cannot be read or written costs this answer, and is said once.
    fn answer(&mut self, request: Request<'_>) -> Answer {
        match self.look_up(request) {
            Ok(answer) => answer,
            Err(error) => {
                if self.complaint.replace(error) != Some(error) {
                    self.log.say(Level::Warning, "the host gets no answer: {}", &[Value::Why(error)]);
                }
                Answer::Status(Status::Refused)
            }
        }
    }

    #[inline(never)]
    fn look_up(&mut self, request: Request<'_>) -> Result<Answer> {
        let mut pools = match self.is_early {
            true => Pools::in_memory(self.run),
            false => Pools::of_root(self.root),
        };
        let mut record = [0; RECORD];
        let is_there = match request {
            Request::Enumerate { pool: AUTO, index } => {
                let system = self.system.record(index);
                return Ok(system.map_or(Answer::Status(Status::None), Answer::Record));
            }
            Request::Enumerate { pool, index } if pools.read(pool, index, &mut record)? => {
                return Ok(Answer::Record(record));
            }
            Request::Get { pool, key, size } if pools.find(pool, key, &mut record)? => {
                return Ok(Answer::Value(record, size));
            }
            Request::Set { pool, key, value } => pools.set(pool, key, value).map(|()| true)?,
            Request::Delete { pool, key } => pools.delete(pool, key)?,
            Request::Other => return Ok(Answer::Status(Status::Refused)),
            _ => false,
        };
        Ok(Answer::Status(if is_there { Status::Done } else { Status::None }))
    }
}

enum Answer {
    Status(Status),
    Record(Record),
    Value(Record, usize),
}

fn write_answer(message: &mut [u8; MESSAGE], answer: &Answer) {
    match answer {
        Answer::Status(status) => kvp::answer(message, *status),
        Answer::Record(record) => kvp::answer_record(message, record),
        Answer::Value(record, size) => kvp::answer_value(message, record, *size),
    }
}

/// What the pool without a file says of this system.
struct System {
    name: [u8; 64],
    release: [u8; 65],
    version: heapless::String<16>,
}

impl System {
    fn of(kernel: &mut Kernel<'_>) -> Self {
        let mut system = Self { name: [0; 64], release: [0; 65], version: heapless::String::new() };
        let _ = kernel.host.read("proc/sys/kernel/hostname", &mut system.name);
        kernel.system.kernel_release(&mut system.release);
        system
    }

    /// The keys that Hyper-V has given these numbers. Addresses are left out: in the initrd the kernel has none.
    fn record(&self, index: u32) -> Option<Record> {
        let text = |bytes| core::str::from_utf8(bytes).unwrap_or_default().trim_end_matches(['\0', '\n']);
        let release = text(&self.release);
        let (key, value) = match index {
            0 => ("FullyQualifiedDomainName", text(&self.name)),
            1 => ("IntegrationServicesVersion", self.version.as_str()),
            2 => ("NetworkAddressIPv4", ""),
            3 => ("NetworkAddressIPv6", ""),
            4 => ("OSBuildNumber", release),
            5 => ("OSName", "Linux"),
            6 => ("OSMajorVersion", ""),
            7 => ("OSMinorVersion", ""),
            8 => ("OSVersion", split_once(release, "-").map_or(release, |(version, _)| version)),
            9 => ("ProcessorArchitecture", "x86_64"),
            _ => return None,
        };
        kvp::record(key, value).ok()
    }
}
