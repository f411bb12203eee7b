//! What does a config drive or a NoCloud medium say?

use super::STAGE;
use crate::error::{Error, Kind, Result};
use crate::event::{Level, Value};
use crate::facts::network::Network;
use crate::facts::{DeviceName, Facts, Provenance};
use crate::format::cloud_config::Entries;
use crate::format::sha512_crypt::RANDOM;
use crate::format::volume::is_of_device;
use crate::limits;
use crate::machine::{self, Expected, Machine, Platform};
use crate::seed::{self, Context};
use crate::source::cloud_config::{Said, SeedEntries};
use crate::source::instance::{InstanceReader, Learned};
use crate::source::labelled::{self, Candidate, Medium};
use crate::source::tree::{Tree, VolumeTree};
use crate::source::{AdminPass, config_drive, nocloud};
use crate::stage::{entropy, identity};
use crate::sys::Kernel;
use crate::sys::linux::Scratch;

const USER_DATA_WAITS: &str = "user data is kept for apply, and not acted upon without preroot-cloud-config";
const NETWORK_CONFIG_WAITS: &str = "network-config is kept, and not acted upon";
/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE_MS: u64 = 16;
/// Bytes read at once; NoCloud's meta-data is read whole.
const WINDOW: usize = limits::NOCLOUD_META_DATA;

/// Reads a labelled medium into the seed. Nothing is waited for but what firmware or command line speak of; a medium
/// that cannot be used leaves its place to the next.
///
/// # Errors
/// `NotApplicable` when there is none; `Error::STOPPED`; what is wrong with the first medium, once its seed says so.
#[inline(never)]
pub(in crate::stage) fn from_label(
    kernel: &mut Kernel<'_>,
    scratch: &mut Scratch,
    machine: &Machine,
) -> Result<()> {
    kernel.log.enter(STAGE);
    let has_words = machine.platform == Some(Platform::NoCloud) && read_words(kernel, &mut scratch.facts);
    let mut search = Search::default();
    search.run(kernel, scratch, machine)?;
    let (found, is_read) = (&search.found, search.is_read);
    let platform = match (found, machine.platform) {
        (Some(Candidate { medium: Medium::NoCloud, .. }), _) => Platform::NoCloud,
        (Some(_), Some(Platform::Tencent)) => Platform::Tencent,
        (Some(_), _) => Platform::OpenStack,
        (None, Some(platform)) => platform,
        (None, None) => Platform::NoCloud,
    };
    let fault = match (is_read, search.fault) {
        (true, _) => None,
        // Words are enough where there is no medium to be had.
        (false, fault) if found.is_some() || !has_words => fault,
        (false, _) => None,
    };
    if !is_read && fault.is_none() && !has_words {
        seed::abandon(kernel.run)?;
        return none_found(kernel, machine);
    }
    if !is_read {
        seed::begin(kernel.run)?;
    }
    let medium = found.as_ref().map(|candidate| candidate.device.clone());
    let mut context = Context { platform, medium, ..Context::default() };
    if let Some(error) = fault {
        (context.verdict, context.failure) = (seed::Verdict::Fail, seed::failure(error.reason()));
    }
    if let Some(id) = &scratch.facts.instance_id {
        let is_disk = found.as_ref().is_some_and(|candidate| !candidate.is_optical());
        identity::keep(kernel.run, platform, &id.value, is_disk)?;
    }
    seed::publish(kernel.run, &scratch.facts, &context)?;
    fault.map_or(Ok(()), Err)
}

fn none_found(kernel: &mut Kernel<'_>, machine: &Machine) -> Result<()> {
    if machine.media.expected == Expected::Surely {
        let text = "no config drive and no NoCloud medium, though firmware or command line speak of one";
        kernel.say(Level::Warning, text, &[]);
    }
    Err(not_applicable!("no medium of a platform of ours"))
}

fn say_fault(kernel: &mut Kernel<'_>, candidate: &Candidate, error: Error) {
    let (name, device) = (Value::Text(candidate.medium.name()), Value::Name(candidate.device.as_str()));
    if error.is(Kind::Unsupported) && error.number() > 0 {
        let values = [name, device, Value::Number(error.number()), Value::Why(error)];
        return kernel.say(Level::Error, "the {} on {} cannot be used: line {}: {}", &values);
    }
    kernel.say(Level::Error, "the {} on {} cannot be used: {}", &[name, device, Value::Why(error)]);
}

/// Media that are tried one after the other.
#[derive(Default)]
struct Search {
    /// Those that cannot be used.
    tried: heapless::Vec<DeviceName, { limits::LABELLED_MEDIA }>,
    /// The one that was read; else the first that is at fault.
    found: Option<Candidate>,
    is_read: bool,
    /// What is wrong with the first, or with a drive that may hold one.
    fault: Option<Error>,
}

impl Search {
    /// Looks until a medium was read, or nothing more is to be expected.
    #[inline(never)]
    fn run(&mut self, kernel: &mut Kernel<'_>, scratch: &mut Scratch, machine: &Machine) -> Result<()> {
        let begin_us = kernel.clock.now_us();
        let expected = machine.media.expected;
        let mut pause_ms = FIRST_PAUSE_MS;
        loop {
            if kernel.clock.is_cancelled() {
                return Err(Error::STOPPED);
            }
            let look = labelled::look(kernel.host, kernel.disks, &machine.media, &self.tried)?;
            let waited_ms = kernel.clock.now_us().saturating_sub(begin_us) / 1000;
            let mut not_yet = look.fault;
            // A disk waits for what may be in the drive, but not for ever.
            let is_patient = expected != Expected::No && waited_ms < limits::LABELLED_MS;
            if let Some(candidate) =
                look.best.filter(|best| best.is_optical() || not_yet.is_none() || !is_patient)
            {
                match self.take(kernel, scratch, machine, &candidate) {
                    Ok(()) => return Ok(()),
                    // It may be spinning up.
                    Err(error) if is_patient && candidate.is_optical() && is_of_device(error) => {
                        not_yet = Some(error);
                    }
                    Err(error) => {
                        self.refuse(kernel, candidate, error);
                        if self.tried.is_full() {
                            return self.give_up(kernel, Some(too_many!("media", limits::LABELLED_MEDIA)));
                        }
                        continue;
                    }
                }
            }
            let limit_ms = match (expected, not_yet) {
                (Expected::No, _) => 0,
                (Expected::Perhaps, None) => limits::SETTLE_MS,
                (Expected::Perhaps, Some(_)) | (Expected::Surely, None) => limits::LABELLED_MS,
                (Expected::Surely, Some(_)) => limits::MEDIUM_MS,
            };
            if waited_ms >= limit_ms {
                return self.give_up(kernel, not_yet.filter(|_| expected != Expected::No));
            }
            kernel.clock.sleep_ms(pause_ms.min(limit_ms.saturating_sub(waited_ms)));
            pause_ms = pause_ms.saturating_mul(2).min(limits::POLL_MS);
        }
    }

    fn take(
        &mut self,
        kernel: &mut Kernel<'_>,
        scratch: &mut Scratch,
        machine: &Machine,
        candidate: &Candidate,
    ) -> Result<()> {
        seed::begin(kernel.run)?;
        scratch.instance.only = None;
        if candidate.has_to_match() {
            scratch.instance.only = Some(machine.system_id.clone().ok_or(config_drive::OF_ANOTHER)?);
        }
        if let Err(error) = read(kernel, scratch, candidate) {
            // Half of what it says is nothing to go by.
            scratch.instance.reset();
            scratch.facts.network.clear();
            return Err(error);
        }
        (self.found, self.is_read) = (Some(candidate.clone()), true);
        Ok(())
    }

    /// It gets no second look, and the next has its turn.
    fn refuse(&mut self, kernel: &mut Kernel<'_>, candidate: Candidate, error: Error) {
        if error == config_drive::OF_ANOTHER {
            let text = "{}: a config drive with another uuid than SMBIOS's: not this machine's, left alone";
            kernel.say(Level::Info, text, &[Value::Name(candidate.device.as_str())]);
        } else if !error.is(Kind::NotApplicable) {
            // Nobody can be told but who looks at the console.
            say_fault(kernel, &candidate, error);
            self.fault = self.fault.or(Some(error));
            self.found.get_or_insert_with(|| candidate.clone());
        }
        // That there is no room for more ends the search.
        let _ = self.tried.push(candidate.device);
    }

    fn give_up(&mut self, kernel: &mut Kernel<'_>, not_yet: Option<Error>) -> Result<()> {
        if let Some(error) = not_yet {
            kernel.say(
                Level::Error,
                "a drive that may hold the medium cannot be read: {}",
                &[Value::Why(error)],
            );
            self.fault = self.fault.or(Some(error));
        }
        Ok(())
    }
}

/// What firmware and command line say behind `ds=nocloud`; true where that names this machine.
#[inline(never)]
fn read_words(kernel: &mut Kernel<'_>, facts: &mut Facts) -> bool {
    let (mut line, mut serial) = ([0; limits::COMMAND_LINE], [0; limits::DMI_TEXT]);
    let line = machine::command_line(kernel.host, &mut line);
    let serial = machine::serial(kernel.host, &mut serial);
    let words = |text| machine::nocloud_words(text).unwrap_or_default();
    let (has_any, fault) = nocloud::read_words(words(line), words(serial), facts);
    if let Some(error) = fault {
        kernel.say(Level::Warning, "left out: {}", &[Value::Why(error)]);
    }
    has_any
}

/// The medium into the facts and the seed that is being written.
#[inline(never)]
fn read(kernel: &mut Kernel<'_>, scratch: &mut Scratch, candidate: &Candidate) -> Result<()> {
    let Candidate { device, medium, .. } = candidate;
    let medium = *medium;
    let Scratch { facts, bytes, instance, .. } = scratch;
    let window = bytes.get_mut(..WINDOW).unwrap_or_default();
    let begin_us = kernel.clock.now_us();
    // Vendor data may hold a password in clear. What is lacking then is said there.
    let _ = entropy::fill(kernel, &mut [0]);
    let (mut said, mut kind) = (Said::default(), "");
    {
        let system = &mut *kernel.system;
        let mut random = || {
            let mut random = [0; RANDOM];
            system.random(&mut random).is_ok().then_some(random)
        };
        let mut entries = SeedEntries { run: kernel.run, random: &mut random, said: &mut said };
        let network = &mut facts.network;
        kernel.disks.open_read(device.as_str(), &mut |device| {
            let none = malformed!("medium", "medium changed while it was read", 0);
            let volume = labelled::open(device)?.ok_or(none)?;
            kind = volume.kind().name();
            read_tree(medium, &mut VolumeTree::new(device, &volume), instance, window, &mut entries, network)
        })?;
        if instance.has_mapping() {
            entries.learn(facts, Provenance::VendorData)?;
        }
    }
    let learned = conclude(kernel, medium, instance, facts)?;
    let is_vendors = facts.hostname.as_ref().is_some_and(|name| name.from == Provenance::VendorData);
    if let Some(name) = instance.meta.hostname.as_ref().filter(|_| is_vendors) {
        // For a user who switches vendor data off.
        seed::spool(kernel.run, seed::MEDIUM_HOST_NAME, name.as_str().as_bytes())?;
    }
    let took_ms = kernel.clock.now_us().saturating_sub(begin_us) / 1000;
    let values =
        [Value::Name(device.as_str()), Value::Text(medium.name()), Value::Text(kind), Value::Millis(took_ms)];
    kernel.say(Level::Info, "{}: {}, {}, read in {}", &values);
    say_learned(kernel, &learned);
    Ok(())
}

/// All documents of a medium.
///
/// # Errors
/// As [`config_drive::read`] and [`nocloud::read`].
pub(in crate::stage) fn read_tree(
    medium: Medium,
    tree: &mut dyn Tree,
    instance: &mut InstanceReader,
    window: &mut [u8],
    entries: &mut dyn Entries,
    network: &mut Network,
) -> Result<()> {
    match medium {
        Medium::ConfigDrive => config_drive::read(instance, tree, window, entries, network),
        Medium::NoCloud => nocloud::read(instance, tree, window, entries),
    }
}

/// What was read becomes facts; randomness first, for the kernel has little of its own this early.
fn conclude(
    kernel: &mut Kernel<'_>,
    medium: Medium,
    instance: &mut InstanceReader,
    facts: &mut Facts,
) -> Result<Learned> {
    if !instance.meta.random.is_empty() {
        // Without it the generator has what the kernel gathered.
        let _ = kernel.system.add_entropy(&instance.meta.random);
    }
    let mut random = [0; RANDOM];
    let has_random = instance.needs_salt() && entropy::fill(kernel, &mut random).is_ok();
    instance.finish(facts, medium.provenance(), has_random.then_some(random))
}

fn say_learned(kernel: &mut Kernel<'_>, learned: &Learned) {
    match learned.admin_pass {
        AdminPass::Nothing => {}
        AdminPass::Kept => {
            let text = "no key: admin_pass becomes the password of the image's default account";
            kernel.say(Level::Info, text, &[]);
        }
        AdminPass::NoEntropy => {
            let text = "no randomness for a salt after {}: the password stays locked";
            kernel.say(Level::Error, text, &[Value::Millis(limits::SALT_MS)]);
        }
    }
    let mapping = learned.mapping.unwrap_or_default();
    let kept = u32::from(learned.user_data_bytes.is_some_and(|bytes| bytes > 0));
    let network = u32::from(learned.has_network_config);
    for (count, level, text) in [
        (learned.refused_keys, Level::Warning, "{} keys are no OpenSSH keys; not installed"),
        (learned.lost_keys, Level::Warning, "{} keys are too long, or too many; not installed"),
        (mapping.refused, Level::Info, "{} values of vendor data cannot be used"),
        (mapping.unknown, Level::Info, "{} keys of vendor data mean nothing here"),
        (
            learned.vendor_texts,
            Level::Info,
            "{} texts of vendor data are kept for apply, and not acted upon without preroot-cloud-config",
        ),
        (kept, Level::Info, USER_DATA_WAITS),
        (network, Level::Warning, NETWORK_CONFIG_WAITS),
        (u32::from(learned.user_data_bytes.is_none()), Level::Info, "no user data"),
    ] {
        if count > 0 {
            kernel.say(level, text, &[Value::Number(u64::from(count))]);
        }
    }
    for error in learned.faults.iter().chain(&mapping.fault) {
        kernel.say(Level::Warning, "left out: {}", &[Value::Why(*error)]);
    }
    for name in mapping.left() {
        kernel.say(Level::Warning, "vendor data: {} is not acted upon", &[Value::Text(name)]);
    }
}

#[cfg(test)]
mod tests {
    use crate::error::{Error, Kind};
    use crate::facts::{Facts, Provenance};
    use crate::format::media::image;
    use crate::seed;
    use crate::stage::fetch::offline;
    use crate::stage::fetch::tests::scratch;
    use crate::sys::DriveStatus;
    use crate::sys::fake::{FakeDisk, World};
    use std::boxed::Box;
    use std::vec::Vec;

    /// Of the config drives in tests/fixtures/media.
    const UUID: &str = "3f1d2c8a-5b7e-4a90-9a55-1c0d7e2f9b11";

    /// A machine of this make with a medium in this device.
    fn machine(product: &str, device: &str, medium: &str) -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/product_name", std::format!("{product}\n"));
        world.host.put("sys/class/dmi/id/product_uuid", std::format!("{}\n", UUID.to_ascii_uppercase()));
        world.host.put_dir("sys/class/block");
        put(&mut world, device, medium);
        world
    }

    fn put(world: &mut World, device: &str, medium: &str) {
        let status = device.starts_with("sr").then_some(DriveStatus::DiscOk);
        let disk = FakeDisk { status, ..FakeDisk::new(image(medium)) };
        world.disks.disks.insert(device.into(), disk);
        world.host.put_symlink(&std::format!("sys/class/block/{device}"), "../x");
    }

    fn fetch(world: &mut World) -> Result<(), Error> {
        offline(&mut world.kernel(), &mut scratch())
    }

    fn facts(world: &mut World) -> (Box<Facts>, seed::Context) {
        let mut facts = Box::new(Facts::new());
        let mut buf = std::vec![0; crate::limits::SSH_KEYS];
        seed::verify(&mut world.run, seed::SEED).unwrap();
        seed::load(&mut world.run, seed::SEED, &mut buf, &mut facts).unwrap();
        (facts, seed::load_context(&mut world.run, seed::SEED).unwrap())
    }

    #[test]
    fn a_config_drive_is_read_from_either_kind_of_medium() {
        for (device, medium) in [("sr0", "config-drive-iso"), ("vdb", "config-drive-fat")] {
            let mut world = machine("Tencent Cloud CVM", device, medium);
            fetch(&mut world).unwrap();
            assert!(world.clock.sleeps.is_empty());
            let (facts, context) = facts(&mut world);
            assert_eq!(context.platform.word(), "tencent");
            assert!(
                context.verdict == seed::Verdict::Provision && context.failure.is_none(),
                "{:?}",
                world.log.lines
            );
            let hostname = facts.hostname.unwrap();
            assert_eq!((hostname.value.as_str(), hostname.from), ("VM-1-17-centos", Provenance::ConfigDrive));
            assert_eq!(facts.instance_id.unwrap().value.as_str(), "3f1d2c8a-5b7e-4a90-9a55-1c0d7e2f9b11");
            assert_eq!(facts.keys.unwrap().value.lines().count(), 1);
            assert!(world.run.text("seed/user-data").unwrap().starts_with("#!/bin/bash\n"));
            assert!(world.run.text("seed/vendor-data/0").unwrap().starts_with("#cloud-config\n"));
            let identity = world.run.text("identity").unwrap();
            let is_disk = if device == "vdb" { " disk" } else { "" };
            assert_eq!(identity, std::format!("tencent {UUID}{is_disk}\n"));
        }
    }

    #[test]
    fn a_label_counts_only_where_the_machine_says_so() {
        for (product, line, device, medium, is_read) in [
            ("PC", "", "sr0", "config-drive-iso", true),
            ("PC", "", "vdb", "config-drive-fat", false),
            ("PC", "rd.preroot.source=config-drive", "vdb1", "config-drive-fat", true),
            ("PC", "ds=nocloud", "vdb", "config-drive-fat", false),
            ("OpenStack Nova", "", "vdb", "config-drive-fat", true),
            ("OpenStack Nova", "rd.preroot.source=none", "sr0", "config-drive-iso", false),
            ("OpenStack Nova", "", "loop0", "config-drive-fat", false),
        ] {
            let mut world = machine(product, device, medium);
            world.host.put("proc/cmdline", line);
            let outcome = fetch(&mut world);
            assert_eq!(outcome.is_ok(), is_read, "{product} {line} {device} {outcome:?}");
            assert!(is_read || outcome.is_err_and(|error| error.is(Kind::NotApplicable)));
            assert_eq!(world.run.owner("seed").is_some(), is_read);
        }
    }

    /// Who acts upon the entries that a medium puts into the seed; "" where it is said that nobody does.
    const ACTED_UPON: &[(&str, &str)] = &[
        (seed::CUSTOM_DATA, "custom_data"),
        (seed::USER_DATA, ""),
        (seed::NETWORK_CONFIG, ""),
        (seed::DISKS, "data_disks"),
        (seed::FILE_SYSTEMS, "data_disks"),
        (seed::MOUNTS, "data_disks"),
        (seed::MOUNT_DEFAULTS, "data_disks"),
        (seed::SWAP, "data_disks"),
        (seed::FQDN, "hostname"),
        (seed::PRESERVE_HOST_NAME, "hostname"),
        (seed::MANAGE_HOSTS, "hosts"),
        (seed::NTP, "ntp"),
        (seed::TIME_ZONE, "timezone"),
        (seed::LOCALE, "locale"),
        (seed::RESOLV_CONF, "resolv_conf"),
        (seed::NETWORK_ALL, "network"),
        (seed::FILES, "write_files"),
        (seed::GROUPS, "users"),
        (seed::HOST_KEYS, "ssh_host_keys"),
    ];

    #[test]
    fn what_is_kept_is_acted_upon_or_said() {
        let learned = super::Learned {
            user_data_bytes: Some(1),
            has_network_config: true,
            vendor_texts: 1,
            ..super::Learned::default()
        };
        let mut world = World::new();
        super::say_learned(&mut world.kernel(), &learned);
        for what in ["user data", "network-config", "vendor data"] {
            let is_said = |line: &&str| line.contains(what) && line.contains("not acted upon");
            assert!(world.log.lines.iter().map(|line| &**line).any(|line| is_said(&line)), "{what}");
        }
        for entry in seed::KEPT.iter().chain(&[seed::FILES]).filter(|entry| {
            let quiet = [seed::ASKED_BY, seed::TRANSLATED, seed::VENDOR_MAPPING, seed::INCLUDE];
            !quiet.contains(entry) && ![seed::MEDIUM_HOST_NAME, seed::LAUNCH_INDEX].contains(entry)
        }) {
            let (_, module) = ACTED_UPON.iter().find(|(name, _)| name == entry).expect(entry);
            let is_module = crate::apply::MODULES.iter().any(|known| known.name == *module);
            assert!(is_module || module.is_empty(), "{entry}");
        }
    }

    #[test]
    fn a_machine_nobody_speaks_of_is_left_in_silence_at_once() {
        let mut world = World::new();
        assert!(fetch(&mut world).is_err_and(|error| error.is(Kind::NotApplicable)));
        assert!(world.clock.sleeps.is_empty() && world.log.lines.is_empty() && world.run.dump().is_empty());
    }

    #[test]
    fn what_is_expected_is_waited_for_but_not_for_ever() {
        for (product, line, waited_ms, is_warned) in [
            ("OpenStack Nova", "", crate::limits::SETTLE_MS, false),
            ("OpenStack Nova", "ds=configdrive", crate::limits::LABELLED_MS, true),
            ("PC", "ds=nocloud", crate::limits::LABELLED_MS, true),
            ("PC", "ds=nocloud;s=http://10.0.0.1/", crate::limits::SETTLE_MS, true),
            ("PC", "", 0, false),
        ] {
            let mut world = machine(product, "vda", "ntfs-fresh");
            world.host.put("proc/cmdline", line);
            assert!(fetch(&mut world).is_err_and(|error| error.is(Kind::NotApplicable)));
            assert_eq!(world.clock.sleeps.iter().sum::<u64>(), waited_ms, "{product} {line}");
            assert_eq!(!world.log.lines.is_empty(), is_warned, "{product} {line} {:?}", world.log.lines);
            assert!(world.run.dump().is_empty());
        }
    }

    #[test]
    fn words_that_say_who_this_is_wait_for_no_medium() {
        let mut world = machine("PC", "vda", "ntfs-fresh");
        world.host.put("proc/cmdline", "ds=nocloud;i=i-1;h=vm1");
        fetch(&mut world).unwrap();
        assert!(world.clock.sleeps.iter().sum::<u64>() <= crate::limits::SETTLE_MS);
        assert_eq!(world.run.text("identity").unwrap(), "nocloud i-1\n");
    }

    /// A config drive of somebody else: the same one, with another uuid.
    fn make_foreign(world: &mut World, device: &str) {
        let bytes = &mut world.disks.disks.get_mut(device).unwrap().bytes;
        let places: Vec<_> =
            (0..bytes.len() - UUID.len()).filter(|n| bytes[*n..].starts_with(UUID.as_bytes())).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| bytes[at] = b'4');
    }

    #[test]
    fn a_tenants_disk_with_the_label_names_nobody() {
        // Alone, beside the machine's own, and beside an empty or slow drive.
        for (status, is_read) in [
            (None, false),
            (Some(DriveStatus::DiscOk), true),
            (Some(DriveStatus::NoDisc), false),
            (Some(DriveStatus::NotReady), false),
        ] {
            let mut world = machine("OpenStack Nova", "vdb", "config-drive-fat");
            make_foreign(&mut world, "vdb");
            if status.is_some() {
                put(&mut world, "sr0", "config-drive-iso");
                world.disks.disks.get_mut("sr0").unwrap().status = status;
            }
            let outcome = fetch(&mut world);
            assert_eq!(outcome.is_ok(), is_read, "{status:?} {outcome:?}");
            let identity = world.run.text("identity");
            assert_eq!(identity.is_some(), is_read, "{identity:?}");
            if is_read {
                assert_eq!(facts(&mut world).1.medium.unwrap().as_str(), "sr0");
            }
        }
        let mut world = machine("OpenStack Nova", "vdb", "config-drive-fat");
        world.host.put("sys/class/dmi/id/product_uuid", "");
        assert!(fetch(&mut world).is_err(), "without SMBIOS's UUID no disk matches");
    }

    #[test]
    fn a_disk_waits_for_a_drive_that_is_not_ready() {
        let mut world = machine("PC", "vdb", "config-drive-fat");
        world.host.put("proc/cmdline", "rd.preroot.source=config-drive");
        put(&mut world, "sr0", "config-drive-iso");
        world.disks.disks.get_mut("sr0").unwrap().status = Some(DriveStatus::NotReady);
        fetch(&mut world).unwrap();
        assert!(world.clock.sleeps.iter().sum::<u64>() >= crate::limits::LABELLED_MS);
        assert_eq!(facts(&mut world).1.medium.unwrap().as_str(), "vdb");
        assert!(world.run.text("identity").unwrap().ends_with(" disk\n"));
    }

    #[test]
    fn a_label_on_something_unusable_leaves_the_place_to_the_next() {
        // A volume cut short, one without metadata, one that cannot be read.
        for kind in ["cut", "empty", "broken"] {
            let mut world = machine("PC", "vdb", "config-drive-fat");
            world.host.put("proc/cmdline", "rd.preroot.source=config-drive");
            put(&mut world, "vda", "config-drive-fat");
            let disk = world.disks.disks.get_mut("vda").unwrap();
            let place =
                |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|at| at == text).unwrap();
            let at = place(&disk.bytes, UUID.as_bytes());
            match kind {
                "cut" => disk.bytes[at - 8..at].fill(b'}'),
                "empty" => {
                    let at = place(&disk.bytes, b"OPENST~1");
                    disk.bytes[at] = 0xe5;
                }
                _ => disk.broken_at = Some(place(&disk.bytes, b"#!/bin/bash") as u64),
            }
            fetch(&mut world).unwrap();
            let (facts, context) = facts(&mut world);
            assert_eq!(context.medium.unwrap().as_str(), "vdb", "{kind}");
            assert!(
                facts.hostname.is_some()
                    && context.verdict == seed::Verdict::Provision
                    && context.failure.is_none()
            );
            assert!(world.log.lines.iter().any(|line| line.contains("on vda cannot be used")), "{kind}");
        }
    }

    #[test]
    fn a_drive_that_cannot_be_read_is_no_drive_without_a_medium() {
        let mut world = machine("OpenStack Nova", "sr0", "config-drive-iso");
        world.disks.disks.get_mut("sr0").unwrap().broken_at = Some(0x8000);
        let error = fetch(&mut world).unwrap_err();
        assert!(!error.is(Kind::NotApplicable));
        assert!(world.log.lines.iter().any(|line| line.contains("cannot be read")), "{:?}", world.log.lines);
        assert_eq!(facts(&mut world).1.verdict, seed::Verdict::Fail);
    }
}
