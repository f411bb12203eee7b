//! The `modules` stage: the drivers that this machine's provisioning needs, loaded without kmod or udev.
//!
//! On Hyper-V the four synthetic drivers by name, then whatever device of a class that matters has no driver
//! yet ([`coldplug`]). Where udev was faster, all is there already and no table is read.

mod coldplug;
mod list;
mod load;
mod look_up;
mod table;

use crate::error::{Error, Result};
use crate::event::{Level, Value};
use crate::format::cmdline;
use crate::format::text;
use crate::limits;
use crate::sys::Kernel;
use coldplug::Found;
use list::List;
use table::{State, Table, Why};

/// Synthetic bus, disks, network, and the channel to the host (KVP): without the first three nothing works.
const HYPERV: [&str; 4] = ["hv_vmbus", "hv_storvsc", "hv_netvsc", "hv_utils"];
/// New drivers bring new devices (virtio_pci a network card, pci_hyperv an NVMe disk): look this often.
const PASSES: u32 = 4;
/// Pause before the next look, doubled each time; only after something was loaded.
const PAUSE_MS: u64 = 10;

/// Shares of the lent buffer.
const CMDLINE: usize = 4096;
const RELEASE: usize = 65;
const DEVICES: usize = 8 * 1024;
const MODALIASES: usize = 16 * 1024;
/// One read of a table; its longest line must fit.
const WINDOW: usize = 16 * 1024;

/// The lent buffer, shared out.
struct Parts<'s> {
    line: &'s mut [u8],
    release: &'s mut [u8],
    devices: &'s mut [u8],
    modaliases: &'s mut [u8],
    names: &'s mut [u8],
    window: &'s mut [u8],
}

impl<'s> Parts<'s> {
    /// `None` when it is too small.
    fn split(scratch: &'s mut [u8]) -> Option<Self> {
        let (line, rest) = scratch.split_at_mut_checked(CMDLINE)?;
        let (release, rest) = rest.split_at_mut_checked(RELEASE)?;
        let (devices, rest) = rest.split_at_mut_checked(DEVICES)?;
        let (modaliases, rest) = rest.split_at_mut_checked(MODALIASES)?;
        let (names, window) = rest.split_at_mut_checked(table::NAME_BYTES)?;
        (window.len() >= WINDOW).then_some(Self { line, release, devices, modaliases, names, window })
    }
}

/// A run's state.
struct Loader<'a, 'k, 's> {
    kernel: &'a mut Kernel<'k>,
    /// `lib/modules/6.1.0-50-cloud-amd64`.
    base: &'s str,
    /// The kernel's.
    cmdline: &'s str,
    table: Table<'s>,
    window: &'s mut [u8],
    first_error: Option<Error>,
}

/// Loads them. `scratch` has at least 64 KiB.
///
/// # Errors
/// The first refusal of the kernel, after everything else was tried; `TooMany`.
pub fn run(kernel: &mut Kernel<'_>, scratch: &mut [u8]) -> Result<()> {
    kernel.log.enter("modules");
    let begin_us = kernel.clock.now_us();
    let small = too_many!("scratch of the modules stage", scratch.len());
    let Parts { line, release, devices, modaliases, names, window } = Parts::split(scratch).ok_or(small)?;
    let base = base_path(kernel.system.kernel_release(release));
    if kernel.host.stat(&base).is_err() {
        let text = "no modules for this kernel here: what is needed must be built in";
        kernel.say(Level::Info, text, &[]);
        return Ok(());
    }
    let length = kernel.host.read("proc/cmdline", line).unwrap_or_default();
    let cmdline = line.get(..length).and_then(|l| core::str::from_utf8(l).ok()).unwrap_or_default();
    let table = Table::new(names);
    let mut loader = Loader { kernel, base: &base, cmdline, table, window, first_error: None };
    loader.run_passes(devices, &mut List::new(modaliases))?;
    loader.say_summary(begin_us);
    loader.first_error.map_or(Ok(()), Err)
}

impl Loader<'_, '_, '_> {
    fn run_passes(&mut self, devices: &mut [u8], modaliases: &mut List<'_>) -> Result<()> {
        let is_hyperv = self.kernel.system.is_hyperv();
        for name in HYPERV.iter().filter(|_| is_hyperv) {
            self.table.insert(name, Why::Required)?;
        }
        for pass in 0..PASSES {
            let mark = modaliases.mark();
            let found = coldplug::collect(self.kernel.host, is_hyperv, devices, modaliases)?;
            self.want_by_name(is_hyperv, found)?;
            self.want_drivers(modaliases, mark)?;
            self.look_up()?;
            if self.load_all() == 0 {
                break;
            }
            self.kernel.clock.sleep_ms(PAUSE_MS << pass);
        }
        Ok(())
    }

    fn want_by_name(&mut self, is_hyperv: bool, found: Found) -> Result<()> {
        if found.has_scsi_host || is_hyperv {
            self.table.insert("sd_mod", Why::Wanted)?;
            self.table.insert("sr_mod", Why::Wanted)?;
        }
        if found.has_nic || is_hyperv {
            self.table.insert("af_packet", Why::Wanted)?;
        }
        self.want_file_systems()
    }

    /// The root's file system, where nobody else would load it with its soft dependencies (ext4 does not
    /// mount without crc32c): `rootfstype=`, and ext4 where the kernel has no modprobe to ask.
    fn want_file_systems(&mut self) -> Result<()> {
        let listed = cmdline::value(self.cmdline, "rootfstype").unwrap_or_default();
        for name in listed.split(',').filter(|name| !name.is_empty() && *name != "auto") {
            self.table.insert(name, Why::Wanted)?;
        }
        let has_modprobe =
            ["sbin/modprobe", "usr/sbin/modprobe"].iter().any(|path| self.kernel.host.stat(path).is_ok());
        if listed.is_empty() && !has_modprobe {
            self.table.insert("ext4", Why::Wanted)?;
        }
        Ok(())
    }

    fn say_summary(&mut self, begin_us: u64) {
        let took_ms = self.kernel.clock.now_us().saturating_sub(begin_us) / 1000;
        let wanted = |state| self.count(|s, why| s == state && why != Why::Needed);
        let values = [
            Value::Number(self.count(|state, _| state == State::Loaded)),
            Value::Millis(took_ms),
            Value::Number(wanted(State::Present)),
            Value::Number(wanted(State::BuiltIn)),
            Value::Number(wanted(State::NoHardware) + wanted(State::Skipped)),
        ];
        let text = "{} modules loaded in {}, {} were there, {} built in, {} without hardware";
        self.kernel.say(Level::Info, text, &values);
    }
}

fn base_path(release: &str) -> heapless::String<{ limits::PATH }> {
    join("lib/modules", release)
}

/// `directory/name`; "" when it is too long, which names nothing.
fn join(directory: &str, name: &str) -> heapless::String<{ limits::PATH }> {
    text::join(&[directory, "/", name]).unwrap_or_default()
}

#[cfg(test)]
mod tests;
