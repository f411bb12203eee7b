//! Does the seed reach the real root, or is this VM provisioned already? The last hook before switch-root.

use super::fetch::FETCH_BEGUN;
use super::lines::each_line;
use super::{JOIN_POLL_MS, grow, identity, kvp, scripts};
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
const SETTLED: &str = "settled";
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

/// Asks fetch to stop and gives it [`limits::STOP_MS`] to get there: in an initrd without systemd nobody else
/// ends it, and once /proc and /sys have moved to the real root it could not put its link back any more.
fn stop(kernel: &mut Kernel<'_>, is_over: &dyn Fn(&mut dyn Dir) -> bool) {
    let _ = kernel.run.create_unsynced(CANCEL, Owner::root(0o644), b"");
    for _ in 0..limits::STOP_MS / STOP_POLL_MS {
        if is_over(kernel.run) || kernel.clock.is_cancelled() {
            return;
        }
        kernel.clock.sleep_ms(STOP_POLL_MS);
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
mod tests {
    use super::run;
    use crate::error::Kind;
    use crate::facts::{Facts, InstanceId};
    use crate::seed;
    use crate::sys::fake::World;

    const ID: &str = "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf";

    fn azure() -> World {
        let mut world = World::new();
        on_azure(&mut world);
        world.system.read_only.insert("/sysroot".into());
        world
    }

    fn on_azure(world: &mut World) {
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world.host.put("sys/class/dmi/id/product_uuid", std::format!("{ID}\n"));
        world.host.put_dir("sys/firmware/efi");
    }

    fn publish(world: &mut World) {
        seed::begin(&mut world.run).unwrap();
        seed::publish(&mut world.run, &Facts::new(), &seed::Context::default()).unwrap();
    }

    #[test]
    fn a_provisioned_vm_waits_for_nothing_and_stops_fetch() {
        let mut world = azure();
        seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(ID).unwrap()).unwrap();
        publish(&mut world);
        let before = world.root.dump();
        assert!(
            matches!(run(&mut world.kernel(), &mut [], "/sysroot"), Err(error) if error.is(Kind::NotApplicable))
        );
        assert!(world.clock.sleeps.is_empty());
        assert!(world.run.text(crate::sys::CANCEL).is_some());
        assert!(world.run.owner(seed::SEED).is_none());
        assert_eq!(world.root.dump(), before);
    }

    /// What becomes of fetch and the boot where Debian's cloud-init is enabled.
    fn beside_cloud_init(agent: &str, cmdline: &str, more: &[(&str, &str)]) -> World {
        let mut world = azure();
        world.host.put("proc/cmdline", cmdline);
        world
            .root
            .put("etc/preroot.conf", std::format!("Provisioning.Agent={agent}\n"))
            .put("etc/systemd/system/cloud-init.target.wants/cloud-init-local.service", "")
            .put("etc/cloud/cloud.cfg", "# datasource_list: [ Ec2 ]\nusers:\n  - default\n")
            .put("etc/cloud/cloud.cfg.d/90_dpkg.cfg", "datasource_list: [ NoCloud, Azure, Ec2, None ]\n")
            .put_dir("var/lib");
        for (path, text) in more {
            world.root.put(path, *text);
        }
        world.run.put(super::FETCH_ENDED, "");
        publish(&mut world);
        let _ = run(&mut world.kernel(), &mut [0; 256], "/sysroot");
        assert!(world.clock.sleeps.is_empty() && world.system.read_only.contains("/sysroot"));
        world
    }

    #[test]
    fn another_agents_vm_waits_for_nothing_and_tells_nothing() {
        for (agent, is_stopped) in
            [("waagent", true), ("cloud-init", true), ("auto", true), ("preroot", false), ("disabled", false)]
        {
            let world = beside_cloud_init(agent, "root=/dev/sda1 ro\n", &[]);
            assert_eq!(world.run.text(crate::sys::CANCEL).is_some(), is_stopped, "{agent}");
            assert_eq!(world.run.owner(seed::SEED).is_none(), is_stopped, "{agent}");
            let may_tell = world.run.text(super::FIRST_BOOT).is_some();
            assert_eq!(may_tell, agent == "preroot", "{agent}: cloud-init may do it");
            assert_eq!(
                world.root.text(crate::config::NO_CLOUD_INIT).is_some(),
                agent == "preroot",
                "{agent}"
            );
        }
    }

    #[test]
    fn without_a_config_drive_nobody_waits() {
        use crate::stage::persist::{FETCH_BEGUN, FETCH_ENDED, GROW_LATER, join_unsure};
        let cloud_init = "etc/systemd/system/cloud-init.target.wants/cloud-init-local.service";
        for (has_cloud_init, has_ended) in [(true, false), (false, true)] {
            let mut world = World::new();
            world.host.put("sys/class/dmi/id/product_name", "OpenStack Nova\n").put("proc/cmdline", "ro\n");
            world.host.put("sys/class/dmi/id/product_uuid", std::format!("{ID}\n"));
            world.run.put(FETCH_BEGUN, "").put(GROW_LATER, "");
            if has_cloud_init {
                world.root.put(cloud_init, "").put("etc/cloud/cloud.cfg", "");
            }
            if has_ended {
                world.run.put(FETCH_ENDED, "");
            }
            // Only where we provision is another look worth it.
            assert_eq!(join_unsure(&mut world.kernel(), &mut [0; 256]), has_ended);
            let outcome = run(&mut world.kernel(), &mut [0; 256], "/sysroot");
            assert!(outcome.is_err_and(|error| error.is(Kind::NotApplicable)));
            assert!(world.clock.sleeps.is_empty() && world.run.text(GROW_LATER).is_none());
            assert_eq!(world.run.text(crate::sys::CANCEL).is_some(), has_cloud_init);
        }
    }

    #[test]
    fn a_cloud_init_that_may_find_nothing_to_do_is_asked_later() {
        let nowhere = ("etc/cloud/cloud.cfg.d/99.cfg", "datasource_list: [ Ec2 ]\n");
        let policy = ("etc/cloud/ds-identify.cfg", "policy: disabled\n");
        for (cmdline, more, is_asked_later) in [
            ("cloud-init=disabled", &[][..], true),
            ("ro ds=nocloud", &[], true),
            ("ci.di.policy=disabled", &[], true),
            ("cc:", &[], true),
            ("ro dsx=1 cloud-init", &[], false),
            ("ro", &[nowhere], true),
            ("ro", &[policy], true),
            ("ro", &[("etc/cloud/cloud.cfg.d/README", "datasource_list: [ Ec2 ]\n")], false),
            ("ro", &[("etc/cloud/cloud.cfg.d/50.cfg", "datasource_list:\n- Azure\n")], true),
        ] {
            let world = beside_cloud_init("auto", cmdline, more);
            assert_eq!(world.run.owner(seed::SEED).is_some(), is_asked_later, "{cmdline} {more:?}");
            assert_eq!(world.run.text(crate::sys::CANCEL).is_none(), is_asked_later, "{cmdline} {more:?}");
        }
    }

    #[test]
    fn apply_and_report_are_not_started_when_they_have_nothing_to_do() {
        let id = InstanceId::parse(ID).unwrap();
        let is_settled = |is_reported: bool, is_kept: bool, mib: u64| {
            let mut world = crate::disk::filesystem::tests::mounted(25600, mib, 1);
            on_azure(&mut world);
            seed::mark(&mut world.root, seed::PROVISIONED, &id).unwrap();
            if is_reported {
                seed::mark(&mut world.root, seed::REPORTED, &id).unwrap();
            }
            if is_kept {
                world.root.put_dir(&seed::pending(&id).unwrap());
            }
            assert!(run(&mut world.kernel(), &mut [], "/sysroot").is_err());
            world.run.text(super::SETTLED).is_some()
        };
        assert!(is_settled(true, false, 100));
        assert!(!is_settled(false, false, 100), "the platform does not know yet");
        assert!(!is_settled(true, true, 100), "a cut came before the secrets were dropped");
        assert!(!is_settled(true, false, 200), "the disk was made larger");
    }

    #[test]
    fn a_fetch_that_nobody_can_stop_leaves_no_seed() {
        let mut world = azure();
        seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(ID).unwrap()).unwrap();
        seed::begin(&mut world.run).unwrap();
        assert!(run(&mut world.kernel(), &mut [], "/sysroot").is_err());
        // it comes late, in an initrd that is gone
        seed::begin(&mut world.run).unwrap();
        let published = seed::publish(&mut world.run, &Facts::new(), &seed::Context::default());
        assert_eq!(published, Err(crate::error::Error::STOPPED));
        assert!(world.run.owner(seed::SEED).is_none() && world.run.owner("seed.tmp").is_none());
    }

    #[test]
    fn a_state_directory_that_is_not_mounted_yet_hides_no_mark() {
        let mut world = azure();
        world.root.put("etc/fstab", "UUID=b /var ext4 defaults 0 2\n").put(seed::PROVISIONED_HERE, ID);
        publish(&mut world);
        assert!(run(&mut world.kernel(), &mut [0; 512], "/sysroot").is_err());
        assert!(world.clock.sleeps.is_empty() && world.run.owner(seed::SEED).is_none());
        assert!(world.run.text(super::FIRST_BOOT).is_none() && world.run.text(super::SETTLED).is_none());
    }

    #[test]
    fn the_seed_is_copied_and_the_root_is_read_only_again() {
        let mut world = azure();
        publish(&mut world);
        world.run.put(super::FETCH_ENDED, "");
        run(&mut world.kernel(), &mut [], "/sysroot").unwrap();
        assert!(world.root.owner(&seed::pending(&InstanceId::parse(ID).unwrap()).unwrap()).is_some());
        assert!(world.system.read_only.contains("/sysroot"));
    }

    #[test]
    fn the_images_machine_id_goes_where_preroot_provisions() {
        const IMAGES: &str = "0123456789abcdef0123456789abcdef\n";
        for (conf, is_emptied) in [("", true), ("Provisioning.Agent=disabled\n", false)] {
            let mut world = azure();
            publish(&mut world);
            world.run.put(super::FETCH_ENDED, "");
            world
                .root
                .put("usr/lib/systemd/systemd", "")
                .put("etc/machine-id", IMAGES)
                .put("etc/preroot.conf", conf);
            run(&mut world.kernel(), &mut [0; 512], "/sysroot").unwrap();
            assert_eq!(world.root.text("etc/machine-id").unwrap(), if is_emptied { "" } else { IMAGES });
            assert!(world.system.read_only.contains("/sysroot"));
        }
    }

    #[test]
    fn a_second_boot_waits_for_nothing_but_a_link_that_is_up() {
        let mut world = azure();
        seed::mark(&mut world.root, seed::PROVISIONED, &InstanceId::parse(ID).unwrap()).unwrap();
        world.run.put(super::ON_LINE, "");
        assert!(run(&mut world.kernel(), &mut [], "/sysroot").is_err());
        assert_eq!(world.clock.sleeps.iter().sum::<u64>(), crate::limits::STOP_MS);
    }

    #[test]
    fn a_seed_is_not_written_below_a_mount_that_is_still_to_come() {
        for (fstab, is_kept) in [
            ("UUID=a / ext4 defaults 0 1\n#UUID=b /var ext4 defaults 0 2\n", false),
            ("UUID=a / ext4 defaults 0 1\nUUID=b\t/var\text4 defaults 0 2\n", true),
            ("/dev/mapper/x /var/lib/ xfs defaults 0 0", true),
            ("UUID=b /var ext4 noauto,ro 0 2\nUUID=c /var/log ext4 defaults\n", false),
        ] {
            let mut world = azure();
            publish(&mut world);
            world.run.put(super::FETCH_ENDED, "");
            world.root.put("etc/fstab", fstab);
            world.root.put_dir("var/lib");
            run(&mut world.kernel(), &mut [0; 512], "/sysroot").unwrap();
            assert_eq!(world.root.owner("var/lib/preroot").is_none(), is_kept, "{fstab}");
            assert!(world.run.owner(seed::SEED).is_some());
        }
    }

    #[test]
    fn a_fetch_that_hangs_is_left_behind_after_the_deadline() {
        let mut world = azure();
        publish(&mut world);
        world.clock.tick_us = 10;
        run(&mut world.kernel(), &mut [], "/sysroot").unwrap();
        let waited: u64 = world.clock.sleeps.iter().sum();
        assert!((9_000..=11_100).contains(&waited), "{waited}");
        assert!(world.log.lines.iter().any(|line| line.contains("has not ended")));
        assert!(world.run.text(crate::sys::CANCEL).is_some());
    }

    #[test]
    fn another_platform_is_not_applicable() {
        let mut world = World::new();
        assert!(
            matches!(run(&mut world.kernel(), &mut [], "/sysroot"), Err(error) if error.is(Kind::NotApplicable))
        );
        assert!(world.log.lines.is_empty());
    }
}
