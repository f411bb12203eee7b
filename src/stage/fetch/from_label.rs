//! What does a config drive or a NoCloud medium say?

use super::STAGE;
use crate::error::{Error, Kind, Result};
use crate::event::{Level, Value};
use crate::facts::network::Network;
use crate::facts::{DeviceName, Facts, Provenance};
use crate::format::cloud_config::Entries;
use crate::format::sha512_crypt::RANDOM;
use crate::limits;
use crate::machine::{self, Machine, Media, Platform};
use crate::seed::{self, Context};
use crate::source::cloud_config::{Said, SeedEntries};
use crate::source::instance::{InstanceReader, Learned};
use crate::source::labelled::{self, Look, Medium};
use crate::source::tree::{Tree, VolumeTree};
use crate::source::{config_drive, nocloud};
use crate::stage::{entropy, identity};
use crate::sys::Kernel;
use crate::sys::linux::Scratch;

/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE_MS: u64 = 16;
/// Bytes read at once; NoCloud's meta-data is read whole.
const WINDOW: usize = limits::NOCLOUD_META_DATA;

/// Reads a labelled medium into the seed. Nothing is waited for but what firmware or command line speak of.
///
/// # Errors
/// `NotApplicable` when there is none; `Error::STOPPED`; what is wrong with the medium, once its seed says so.
#[inline(never)]
pub(in crate::stage) fn from_label(
    kernel: &mut Kernel<'_>,
    scratch: &mut Scratch,
    machine: &Machine,
) -> Result<()> {
    kernel.log.enter(STAGE);
    let found = find(kernel, &machine.media)?;
    let has_words = machine.platform == Some(Platform::NoCloud) && read_words(kernel, &mut scratch.facts);
    let (platform, device) = match (&found, machine.platform) {
        (Some((device, Medium::NoCloud)), _) => (Platform::NoCloud, Some(device)),
        (Some((device, Medium::ConfigDrive)), Some(Platform::Tencent)) => (Platform::Tencent, Some(device)),
        (Some((device, Medium::ConfigDrive)), _) => (Platform::OpenStack, Some(device)),
        (None, _) if has_words => (Platform::NoCloud, None),
        (None, _) => return none_found(kernel, machine),
    };
    seed::begin(kernel.run)?;
    let outcome = match &found {
        Some((device, medium)) => read(kernel, scratch, device, *medium),
        None => Ok(()),
    };
    let mut context = Context { platform, medium: device.cloned(), ..Context::default() };
    match outcome {
        Ok(()) => {}
        Err(error) if error.is(Kind::NotApplicable) => {
            return seed::abandon(kernel.run).and(Err(error));
        }
        Err(error) => {
            // Nobody can be told but who looks at the console; half of what it says is nothing to go by.
            say_fault(kernel, found.as_ref(), error);
            scratch.instance.reset();
            scratch.facts.network.clear();
            seed::begin(kernel.run)?;
            (context.is_fatal, context.failure) = (true, seed::failure(error.reason()));
        }
    }
    if let Some(id) = &scratch.facts.instance_id {
        identity::keep(kernel.run, platform, &id.value)?;
    }
    seed::publish(kernel.run, &scratch.facts, &context)?;
    outcome
}

fn none_found(kernel: &mut Kernel<'_>, machine: &Machine) -> Result<()> {
    if machine.media.is_expected {
        let text = "no config drive and no NoCloud medium, though firmware or command line speak of one";
        kernel.say(Level::Warning, text, &[]);
    }
    Err(not_applicable!("no medium of a platform of ours"))
}

fn say_fault(kernel: &mut Kernel<'_>, found: Option<&(DeviceName, Medium)>, error: Error) {
    let Some((device, medium)) = found else { return };
    let (name, device) = (Value::Text(medium.name()), Value::Name(device.as_str()));
    if error.is(Kind::Unsupported) && error.number() > 0 {
        let values = [name, device, Value::Number(error.number()), Value::Why(error)];
        return kernel.say(Level::Error, "the {} on {} cannot be used: line {}: {}", &values);
    }
    kernel.say(Level::Error, "the {} on {} cannot be used: {}", &[name, device, Value::Why(error)]);
}

/// What firmware and command line say behind `ds=nocloud`; true where that names this machine.
#[inline(never)]
fn read_words(kernel: &mut Kernel<'_>, facts: &mut Facts) -> bool {
    let (mut line, mut serial) = ([0; 2048], [0; 256]);
    let line = machine::command_line(kernel.host, &mut line);
    let serial = machine::serial(kernel.host, &mut serial);
    let words = |text| machine::nocloud_words(text).unwrap_or_default();
    let (has_any, fault) = nocloud::read_words(words(line), words(serial), facts);
    if let Some(error) = fault {
        kernel.say(Level::Warning, "left out: {}", &[Value::Why(error)]);
    }
    has_any
}

/// Looks until a medium is there, or nothing more is to be expected.
#[inline(never)]
fn find(kernel: &mut Kernel<'_>, media: &Media) -> Result<Option<(DeviceName, Medium)>> {
    let begin_us = kernel.clock.now_us();
    let mut pause_ms = FIRST_PAUSE_MS;
    loop {
        if kernel.clock.is_cancelled() {
            return Err(Error::STOPPED);
        }
        let limit_ms = match labelled::look(kernel.host, kernel.disks, media)? {
            Look::Found(device, medium) => return Ok(Some((device, medium))),
            _ if !media.is_expected => 0,
            Look::NotYet(_) => limits::MEDIUM_MS,
            Look::Nothing => limits::LABELLED_MS,
        };
        let waited_ms = kernel.clock.now_us().saturating_sub(begin_us) / 1000;
        if waited_ms >= limit_ms {
            return Ok(None);
        }
        kernel.clock.sleep_ms(pause_ms.min(limit_ms.saturating_sub(waited_ms)));
        pause_ms = pause_ms.saturating_mul(2).min(limits::POLL_MS);
    }
}

/// The medium into the facts and the seed that is being written.
#[inline(never)]
fn read(kernel: &mut Kernel<'_>, scratch: &mut Scratch, device: &DeviceName, medium: Medium) -> Result<()> {
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
    if learned.lacks_entropy {
        let text = "no randomness for a salt after {}: the password stays locked";
        kernel.say(Level::Error, text, &[Value::Millis(limits::SALT_MS)]);
    }
    let mapping = learned.mapping.unwrap_or_default();
    for (count, text) in [
        (learned.refused_keys, "{} keys are no OpenSSH keys; not installed"),
        (mapping.refused, "{} values of vendor data cannot be used"),
        (mapping.unknown, "{} keys of vendor data mean nothing here"),
        (learned.vendor_texts, "{} texts of vendor data are kept, and not acted upon"),
        (u32::from(learned.user_data_bytes.is_none()), "no user data"),
    ] {
        if count > 0 {
            kernel.say(Level::Info, text, &[Value::Number(u64::from(count))]);
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

    /// A machine of this make with a medium in this device.
    fn machine(product: &str, device: &str, medium: &str) -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/product_name", std::format!("{product}\n"));
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
            assert!(!context.is_fatal && context.failure.is_none(), "{:?}", world.log.lines);
            let hostname = facts.hostname.unwrap();
            assert_eq!((hostname.value.as_str(), hostname.from), ("VM-1-17-centos", Provenance::ConfigDrive));
            assert_eq!(facts.instance_id.unwrap().value.as_str(), "3f1d2c8a-5b7e-4a90-9a55-1c0d7e2f9b11");
            assert_eq!(facts.keys.unwrap().value.lines().count(), 1);
            assert!(world.run.text("seed/user-data").unwrap().starts_with("#!/bin/bash\n"));
            assert!(world.run.text("seed/vendor-data/0").unwrap().starts_with("#cloud-config\n"));
            let identity = world.run.text("identity").unwrap();
            assert_eq!(identity, "tencent 3f1d2c8a-5b7e-4a90-9a55-1c0d7e2f9b11\n");
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

    #[test]
    fn a_machine_nobody_speaks_of_is_left_in_silence_at_once() {
        let mut world = World::new();
        assert!(fetch(&mut world).is_err_and(|error| error.is(Kind::NotApplicable)));
        assert!(world.clock.sleeps.is_empty() && world.log.lines.is_empty() && world.run.dump().is_empty());
    }

    #[test]
    fn what_is_expected_is_waited_for_but_not_for_ever() {
        let mut world = machine("OpenStack Nova", "vda", "ntfs-fresh");
        assert!(fetch(&mut world).is_err_and(|error| error.is(Kind::NotApplicable)));
        assert_eq!(world.clock.sleeps.iter().sum::<u64>(), crate::limits::LABELLED_MS);
    }
}
