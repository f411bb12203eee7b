//! Does the seed reach the real root, or is this VM provisioned already? The last hook before switch-root.

use super::fetch::FETCH_BEGUN;
use super::lines::each_line;
use super::{JOIN_POLL_MS, beside, grow, identity, kvp, scripts};
use crate::apply::replace::{self, Target};
use crate::apply::{machine_id, next_name, object};
use crate::config;
use crate::disk::filesystem;
use crate::error::Result;
use crate::event::{Level, Value};
use crate::facts::{InstanceId, PreProvisioning};
use crate::format::text::{PathText, join};
use crate::limits;
use crate::machine::{Machine, Platform};
use crate::seed;
use crate::sys::{CANCEL, Dir, Kernel, Owner};

/// Below /run/preroot: fetch has ended, however.
pub(super) const FETCH_ENDED: &str = "fetch.ended";
/// Below /run/preroot while fetch may have a link up.
pub(super) const ON_LINE: &str = "fetch.online";
/// Below /run/preroot: apply and report have nothing to do in this boot; their units are not even started. Whatever
/// they are to do at every boot must be asked for in [`is_settled`].
pub(super) const SETTLED: &str = "settled";
/// Below /run/preroot: the mounted root is not provisioned for this VM.
pub(super) const FIRST_BOOT: &str = "first-boot";
/// Below /run/preroot: the root is mounted only after fetch has ended, so that [`FIRST_BOOT`] cannot be known.
pub(super) const MOUNT_LATER: &str = "mount.later";
const STOP_POLL_MS: u64 = 10;
/// Where our state directory may have a file system of its own.
const PLACES: [&str; 3] = ["var", "var/lib", seed::STATE];
/// Below /run/preroot: `root=` could not be resolved before the mount; the mounted root tells its device.
pub(super) const GROW_LATER: &str = "grow.later";

/// Hands everything over to the root mounted at `root_path`: the seed, and at last what the host reads.
///
/// # Errors
/// As [`hand_seed_over`].
pub(super) fn run(kernel: &mut Kernel<'_>, bytes: &mut [u8], root_path: &str) -> Result<()> {
    kernel.log.enter("persist");
    let outcome = hand_seed_over(kernel, bytes, root_path);
    let_host_read(kernel);
    kvp::stop(kernel);
    if kvp::has_records(kernel.run) && !is_state_elsewhere(kernel, bytes) {
        let told = while_writable(kernel, root_path, &mut kvp::hand_over);
        if let Err(error) = told {
            kernel.say(Level::Warning, "what the host reads stays in memory: {}", &[Value::Why(error)]);
        }
    }
    outcome
}

/// Of a failure that was settled a moment ago the host shall have read before nobody answers it for some seconds.
fn let_host_read(kernel: &mut Kernel<'_>) {
    let context = seed::load_context(kernel.run, seed::SEED);
    if context.is_ok_and(|context| context.verdict == seed::Verdict::Fail) && kvp::has_records(kernel.run) {
        kernel.clock.sleep_ms(limits::KVP_READ_MS);
    }
}

/// Grows the root where that could not be done before the mount; joins a running fetch, or stops it where
/// this VM is provisioned already; copies the seed to the root mounted at `root_path`.
///
/// # Errors
/// `NotApplicable` where there is nothing to persist; `Os` when the root cannot be written (the seed in
/// memory stays and `apply` uses that).
fn hand_seed_over(kernel: &mut Kernel<'_>, bytes: &mut [u8], root_path: &str) -> Result<()> {
    let mut machine = identity::observe(kernel);
    if machine.platform.is_none() {
        return Err(not_applicable!("not a platform of ours"));
    }
    if kernel.run.remove(GROW_LATER).is_ok() {
        // Said there already; the seed matters more than the size.
        let _ = grow::after_mount(kernel, bytes, root_path, false);
    }
    if is_for_a_medium_to_say(&machine) {
        is_ours(kernel, bytes, machine.platform)?;
        join_fetch(kernel);
        machine = identity::observe(kernel);
        if machine.vm_id.is_none() {
            return Err(not_applicable!("no seed to persist"));
        }
    }
    let id = identity::id_of(&machine)?;
    if [seed::PROVISIONED, seed::PROVISIONED_HERE].iter().any(|mark| seed::is_marked(kernel.root, mark, &id))
    {
        return stop_fetch(kernel, &id, root_path);
    }
    let is_ours = is_ours(kernel, bytes, machine.platform)?;
    if is_ours {
        // A fetch that found nothing may tell the platform so now; a VM of a pool has nothing yet.
        if !seed::is_marked(kernel.root, seed::POOL, &id) {
            let _ = kernel.run.create_unsynced(FIRST_BOOT, Owner::root(0o644), b"");
        }
        keep_cloud_init_out(kernel, root_path);
    }
    join_fetch(kernel);
    if kernel.run.stat(seed::SEED).is_err() {
        return Err(not_applicable!("no seed to persist"));
    }
    if is_state_elsewhere(kernel, bytes) {
        let text =
            "/var has a file system of its own that is not mounted yet: the seed stays in memory until apply";
        kernel.say(Level::Info, text, &[]);
        return Ok(());
    }
    copy(kernel, root_path, &id, is_ours)
}

/// True where only the medium says who this is.
fn is_for_a_medium_to_say(machine: &Machine) -> bool {
    machine.vm_id.is_none() && machine.platform != Some(Platform::Azure)
}

/// Waits for the fetch of a machine about which nobody is sure: it looks for a moment. True when it found nothing.
pub(super) fn join_unsure(kernel: &mut Kernel<'_>, bytes: &mut [u8]) -> bool {
    let machine = identity::observe(kernel);
    if !is_for_a_medium_to_say(&machine)
        || kernel.run.stat(FETCH_BEGUN).is_err()
        || machine.platform.is_some() && is_ours(kernel, bytes, machine.platform).is_err()
    {
        return false;
    }
    join_fetch(kernel);
    !identity::is_kept(kernel.run)
}

/// Who provisions, as the mounted root says it. Where that is another agent, nobody waits for fetch.
#[inline(never)]
fn is_ours(kernel: &mut Kernel<'_>, bytes: &mut [u8], platform: Option<Platform>) -> Result<bool> {
    let config = config::load(kernel.root, bytes, &mut |_, _| {});
    let why = match config.agent() {
        "waagent" | "cloud-init" => {
            not_applicable!("preroot.conf names another agent (Provisioning.Agent)")
        }
        "auto" if is_cloud_inits(kernel, bytes, platform) => {
            not_applicable!("cloud-init is enabled and provisions")
        }
        _ => return Ok(config::is_ours(kernel.root, &config)),
    };
    drop_fetch(kernel)?;
    Err(why)
}

/// Kernel arguments that cloud-init looks at before it knows whether it runs.
const CLOUD_INITS: [&str; 4] = ["cloud-init=", "ds=", "ci.", "cc:"];
const DROP_INS: &str = "etc/cloud/cloud.cfg.d";

/// True when an enabled cloud-init runs in this boot, or has nothing to do that we would: its generator (ds-identify)
/// knows Azure by the tag that we know it by, and labelled media by their labels, unless the command line or its own
/// configuration tell it another thing. Then it knows only later, and apply asks again.
#[inline(never)]
fn is_cloud_inits(kernel: &mut Kernel<'_>, bytes: &mut [u8], platform: Option<Platform>) -> bool {
    let source = match platform {
        Some(Platform::Azure) => "Azure",
        Some(Platform::OpenStack | Platform::Tencent) => "ConfigDrive",
        Some(Platform::NoCloud) => "NoCloud",
        None => return false,
    };
    if !config::has_cloud_init(kernel.root) || kernel.root.stat("etc/cloud/ds-identify.cfg").is_ok() {
        return false;
    }
    let read = kernel.host.read("proc/cmdline", bytes);
    let line = read.ok().and_then(|n| core::str::from_utf8(bytes.get(..n)?).ok());
    let mut words = line.unwrap_or("cc:").split_ascii_whitespace();
    if words.any(|word| CLOUD_INITS.iter().any(|start| word.starts_with(start))) {
        return false;
    }
    let mut is_sure = looks_here(kernel.root, "etc/cloud/cloud.cfg", source, bytes);
    let mut last = PathText::new();
    while let Some(name) = next_name(kernel.root, DROP_INS, &last) {
        let path = join(&[DROP_INS, "/", &name]);
        is_sure &=
            !name.ends_with(".cfg") || path.is_ok_and(|path| looks_here(kernel.root, &path, source, bytes));
        last = name;
    }
    is_sure
}

/// False when this file names the platforms cloud-init shall look for, and, on one line, not this one.
fn looks_here(root: &mut dyn Dir, path: &str, source: &str, bytes: &mut [u8]) -> bool {
    let mut is_sure = true;
    let read = each_line(root, path, bytes, b'\n', &mut |_, line| {
        is_sure &= !line.trim_ascii_start().starts_with("datasource_list") || line.contains(source);
        Ok(())
    });
    is_sure && read.map_or_else(|error| error.is_not_found(), |()| true)
}

/// An image with cloud-init whose preroot.conf names preroot: cloud-init's own way to be switched off, in time for its
/// generator, so that `cloud-init status --wait` ends at once. What goes wrong costs no seed: apply warns.
#[inline(never)]
fn keep_cloud_init_out(kernel: &mut Kernel<'_>, root_path: &str) {
    if !config::has_cloud_init(kernel.root) {
        return;
    }
    let outcome = while_writable(kernel, root_path, &mut |kernel| {
        let target = Target::root(config::NO_CLOUD_INIT, object!("cloud-init.disabled"), 0o644);
        replace::write(kernel.root, target, WHY_DISABLED, &mut |_, _| Ok(()))
    });
    match outcome {
        Ok(()) => kernel.say(Level::Info, "cloud-init is disabled: Provisioning.Agent=preroot", &[]),
        Err(error) => kernel.say(Level::Warning, "cloud-init was not disabled: {}", &[Value::Why(error)]),
    }
}

const WHY_DISABLED: &[u8] = b"By preroot, because of Provisioning.Agent=preroot in its configuration.\n";

/// True when apply and report would find nothing to do: told, its secrets dropped, its file system as large as can be, no
/// script for each boot before the network.
fn is_settled(kernel: &mut Kernel<'_>, id: &InstanceId, root_path: &str) -> bool {
    !seed::is_kept(kernel.root, id)
        && seed::is_marked(kernel.root, seed::REPORTED, id)
        && filesystem::is_full(kernel, root_path)
        && !grow::stack::is_growable(kernel, root_path)
        && kernel.root.stat(scripts::BOOT).is_err()
}

/// True when the image's fstab mounts something over our state directory and that has not happened yet. What
/// were written now would be hidden by it: secrets that nobody could remove any more.
fn is_state_elsewhere(kernel: &mut Kernel<'_>, bytes: &mut [u8]) -> bool {
    let mut is_elsewhere = false;
    for place in PLACES {
        let mut is_listed = false;
        let read = each_line(kernel.root, "etc/fstab", bytes, b'\n', &mut |_, line| {
            is_listed |= mounts(line, place);
            Ok(())
        });
        // No fstab: everything is on the root.
        let here = kernel.root.stat("").map(|stat| stat.device);
        let there = kernel.root.stat(place).map(|stat| stat.device);
        is_elsewhere |= read.is_ok() && is_listed && (there.is_err() || there == here);
    }
    is_elsewhere
}

/// A line of fstab(5) that mounts `place` at boot.
fn mounts(line: &str, place: &str) -> bool {
    let mut fields = line.split_ascii_whitespace();
    let is_comment = fields.next().is_none_or(|device| device.starts_with('#'));
    let target = fields.next().and_then(|target| target.strip_prefix('/')).unwrap_or_default();
    let options = fields.nth(1).unwrap_or_default();
    !is_comment
        && target.trim_end_matches('/') == place
        && !options.split(',').any(|option| option == "noauto")
}

/// A second boot waits for nothing but a link that fetch has up, and reports nothing.
fn stop_fetch(kernel: &mut Kernel<'_>, id: &InstanceId, root_path: &str) -> Result<()> {
    drop_fetch(kernel)?;
    if is_settled(kernel, id, root_path) {
        // Without it they look themselves.
        let _ = kernel.run.create_unsynced(SETTLED, Owner::root(0o644), b"");
    }
    kernel.say(Level::Info, "this VM is provisioned already; fetch is stopped", &[]);
    Err(not_applicable!("provisioned already"))
}

fn drop_fetch(kernel: &mut Kernel<'_>) -> Result<()> {
    stop(kernel, &|run| run.stat(ON_LINE).is_err());
    seed::remove(kernel.run, seed::SEED).and(seed::abandon(kernel.run))
}

/// Asks fetch to stop and gives it [`limits::STOP_MS`] to get there, else kills it: in an initrd without systemd nobody
/// else ends it, and once /proc and /sys have moved to the real root it could not put its link back any more.
fn stop(kernel: &mut Kernel<'_>, is_over: &dyn Fn(&mut dyn Dir) -> bool) {
    let _ = kernel.run.create_unsynced(CANCEL, Owner::root(0o644), b"");
    if !ends(kernel, is_over) && beside::end(kernel, beside::FETCH) {
        // Its supervisor's word: the link is as it was found.
        ends(kernel, &|run| run.stat(FETCH_ENDED).is_ok());
    }
}

fn ends(kernel: &mut Kernel<'_>, is_over: &dyn Fn(&mut dyn Dir) -> bool) -> bool {
    for _ in 0..limits::STOP_MS / STOP_POLL_MS {
        if is_over(kernel.run) || kernel.clock.is_cancelled() {
            return true;
        }
        kernel.clock.sleep_ms(STOP_POLL_MS);
    }
    false
}

/// From the real root: nobody waited for fetch's first half on a later boot, and `persist` may never have been run.
pub(super) fn end_early(kernel: &mut Kernel<'_>) {
    if kernel.run.stat(FETCH_BEGUN).is_ok() && kernel.run.stat(FETCH_ENDED).is_err() {
        match beside::find(kernel, beside::FETCH) {
            Some(_) => stop(kernel, &|run| run.stat(FETCH_ENDED).is_ok()),
            // systemd ended it with the initrd's units: nobody would say so.
            None => _ = kernel.run.create_unsynced(CANCEL, Owner::root(0o644), b""),
        }
    }
}

/// Waits for fetch to end, at most [`limits::JOIN_MS`].
fn join_fetch(kernel: &mut Kernel<'_>) {
    let begin = kernel.clock.now_us();
    let mut is_said = false;
    loop {
        if kernel.run.stat(FETCH_ENDED).is_ok() || kernel.clock.is_cancelled() {
            return;
        }
        let waited_ms = kernel.clock.now_us().saturating_sub(begin) / 1000;
        if waited_ms >= limits::JOIN_MS {
            let values = [Value::Millis(waited_ms)];
            kernel.say(
                Level::Warning,
                "fetch has not ended after {}; it is stopped, what it has is used",
                &values,
            );
            // It must not publish again, or hold a link up, after the system has taken over.
            return stop(kernel, &|run| run.stat(FETCH_ENDED).is_ok());
        }
        if waited_ms >= 1000 && !is_said {
            kernel.say(Level::Info, "waiting for fetch, at most {}", &[Value::Millis(limits::JOIN_MS)]);
            is_said = true;
        }
        kernel.clock.sleep_ms(JOIN_POLL_MS);
    }
}

fn copy(kernel: &mut Kernel<'_>, root_path: &str, id: &InstanceId, is_ours: bool) -> Result<()> {
    // What was said of a VM of a pool is nobody's, and belongs on no disk.
    let is_pooled = seed::load_pre_provisioning(kernel.run, kernel.root, id) != PreProvisioning::None;
    let mut is_kept = false;
    while_writable(kernel, root_path, &mut |kernel| {
        if !is_pooled {
            is_kept = seed::persist(kernel.run, kernel.root, id)?;
        }
        if is_ours {
            renew_machine_id(kernel, id);
        }
        Ok(())
    })?;
    let text = match (is_kept, is_pooled) {
        (true, _) => "seed is on the root",
        (_, true) => "a VM of a pool: the seed stays in memory",
        _ => "IMDS is to be asked again: the seed stays in memory",
    };
    kernel.say(Level::Info, text, &[]);
    Ok(())
}

fn while_writable(
    kernel: &mut Kernel<'_>,
    root_path: &str,
    act: &mut dyn FnMut(&mut Kernel<'_>) -> Result<()>,
) -> Result<()> {
    let was_read_only = kernel.system.remount(root_path, false)?;
    let outcome = act(kernel);
    if was_read_only && let Err(error) = kernel.system.remount(root_path, true) {
        kernel.say(Level::Warning, "the root stays writable: {}", &[Value::Why(error)]);
    }
    outcome
}

/// Only for a VM that is to be provisioned, and by us. What goes wrong costs no seed.
#[inline(never)]
fn renew_machine_id(kernel: &mut Kernel<'_>, id: &InstanceId) {
    if seed::load_context(kernel.run, seed::SEED).is_ok_and(|context| context.verdict == seed::Verdict::Fail)
    {
        return;
    }
    match machine_id::renew(kernel.root, id) {
        Ok(true) => {
            kernel.say(Level::Info, "the image's machine-id is emptied: init makes this VM's own", &[])
        }
        Ok(false) => {}
        Err(error) => kernel.say(Level::Warning, "the image's machine-id stays: {}", &[Value::Why(error)]),
    }
}

#[cfg(test)]
mod tests;
