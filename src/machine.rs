//! What is this machine? Observed once, from what the kernel shows of firmware and boot loader.

use crate::error::Result;
use crate::facts::InstanceId;
use crate::format::cmdline;
use crate::format::text::lossy;
use crate::limits;
use crate::sys::{Dir, Kernel};

/// Azure's chassis asset tag: "MSFT AZURE VM" in decimal ASCII. A plain Hyper-V host has another.
/// Source: cloud-init `sources/azure/identity.py`.
const AZURE_TAG: &str = "7783-7084-3265-9085-8269-3286-77";
/// product_name of OpenStack's machines. Source: cloud-init `tools/ds-identify`.
const OPENSTACK_PRODUCTS: [&str; 2] = ["OpenStack Nova", "OpenStack Compute"];
/// chassis_asset_tag of clouds that are OpenStack under another name. Source: the same.
const OPENSTACK_TAGS: [&str; 6] = [
    "OpenTelekomCloud",
    "SAP CCloud VM",
    "HUAWEICLOUD",
    "Samsung Cloud Platform",
    "OpenStack Nova",
    "OpenStack Compute",
];
/// Source: the data source that was proposed to cloud-init (pull request 4198).
const TENCENT_PRODUCT: &str = "Tencent Cloud CVM";
/// Names a source for us alone; the words of cloud-init that do so for it, too. The last of a line counts.
const OUR_WORD: &str = "rd.preroot.source";
const THEIR_WORDS: [&str; 3] = ["ds", "ci.ds", "ci.datasource"];

/// A platform we know how to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Platform {
    /// Microsoft Azure, or an Azure Stack Hub.
    #[default]
    Azure,
    /// OpenStack, or whoever has a config drive of its kind.
    OpenStack,
    /// Tencent Cloud.
    Tencent,
    /// Anything with a NoCloud medium.
    NoCloud,
}

impl Platform {
    const ALL: [Self; 4] = [Self::Azure, Self::OpenStack, Self::Tencent, Self::NoCloud];

    /// The word of the seed's `platform` file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Azure => "azure",
            Self::OpenStack => "openstack",
            Self::Tencent => "tencent",
            Self::NoCloud => "nocloud",
        }
    }

    /// The platform a word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.word() == word)
    }

    /// Somebody waits to hear how provisioning went.
    #[must_use]
    pub fn wants_report(self) -> bool {
        self == Self::Azure
    }
}

/// Firmware of a Hyper-V machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    /// BIOS: the DVD is on an IDE controller, the first three fields of the UUID are byte-swapped.
    One,
    /// UEFI.
    Two,
}

/// On which devices a file system's label may say who this machine is to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trusted {
    /// On none.
    Nowhere,
    /// On optical drives: a medium there was put in by whoever runs the hypervisor.
    Optical,
    /// On disks and partitions, too, where what is on them says SMBIOS's UUID, as OpenStack does: a tenant's volume with
    /// such a label is none.
    Matching,
    /// On disks and partitions, too, which somebody else may have written and attached.
    Anywhere,
}

/// How sure it is that there is a labelled medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Nobody says anything.
    No,
    /// Machines of this make may have one, or what is named says more than the name.
    Perhaps,
    /// It is named: it is waited for.
    Surely,
}

/// Which labelled media count here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Media {
    /// `config-2`.
    pub config_drive: Trusted,
    /// `cidata`.
    pub nocloud: Trusted,
    /// How long one is waited for.
    pub expected: Expected,
}

impl Media {
    /// None.
    pub const NONE: Self =
        Self { config_drive: Trusted::Nowhere, nocloud: Trusted::Nowhere, expected: Expected::No };
    /// Of a machine about which nobody says anything.
    const UNKNOWN: Self =
        Self { config_drive: Trusted::Optical, nocloud: Trusted::Optical, expected: Expected::No };
    /// Of one whose make has config drives.
    const OPENSTACK: Self =
        Self { config_drive: Trusted::Matching, nocloud: Trusted::Optical, expected: Expected::Perhaps };
    const CONFIG_DRIVE: Self =
        Self { config_drive: Trusted::Anywhere, nocloud: Trusted::Nowhere, expected: Expected::Surely };
    const NOCLOUD: Self =
        Self { config_drive: Trusted::Nowhere, nocloud: Trusted::Anywhere, expected: Expected::Surely };
}

/// What we know of the machine before asking anybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Whose it is; `None`: nobody's we know, so nothing is asked and no packet sent.
    pub platform: Option<Platform>,
    /// Which one, as Azure's `compute.vmId` says it; `None` where the firmware has no UUID. Elsewhere what the medium
    /// said, once it was read.
    pub vm_id: Option<InstanceId>,
    /// SMBIOS's system UUID, as the kernel shows it.
    pub system_id: Option<InstanceId>,
    /// Its firmware.
    pub generation: Generation,
    /// CPUID says Hyper-V.
    pub is_hyperv: bool,
    /// Which labelled media count.
    pub media: Media,
}

/// Looks at DMI, firmware, CPUID and the kernel command line. What cannot be read counts as absent.
#[must_use]
pub fn observe(kernel: &mut Kernel<'_>) -> Machine {
    let generation = match kernel.host.stat("sys/firmware/efi") {
        Ok(_) => Generation::Two,
        Err(_) => Generation::One,
    };
    let (platform, media) = platform(kernel.host);
    let system_id =
        InstanceId::parse(text(kernel.host, "sys/class/dmi/id/product_uuid", &mut [0; limits::DMI_TEXT]))
            .ok();
    // SMBIOS 2.3 has the first three fields of the UUID in the other byte order.
    let vm_id = match (platform, generation) {
        (Some(Platform::Azure), Generation::One) => system_id.as_ref().and_then(InstanceId::swapped),
        (Some(Platform::Azure), Generation::Two) => system_id.clone(),
        _ => None,
    };
    Machine { platform, vm_id, system_id, generation, is_hyperv: kernel.system.is_hyperv(), media }
}

/// The rules of `docs/sources.md`, from the surest sign to none.
#[inline(never)]
fn platform(host: &mut dyn Dir) -> (Option<Platform>, Media) {
    let mut buf = [0; limits::DMI_TEXT];
    let tag = asset_tag(host, &mut buf);
    if tag == AZURE_TAG {
        return (Some(Platform::Azure), Media::NONE);
    }
    let is_openstack = OPENSTACK_TAGS.contains(&tag);
    let product = text(host, "sys/class/dmi/id/product_name", &mut buf).trim_ascii();
    let of_firmware = if product == TENCENT_PRODUCT {
        Some(Platform::Tencent)
    } else {
        (is_openstack || OPENSTACK_PRODUCTS.contains(&product)).then_some(Platform::OpenStack)
    };
    let mut line = [0; limits::COMMAND_LINE];
    let line = match read_text(host, "proc/cmdline", &mut line) {
        Ok(line) => line,
        Err(error) if error.is_not_found() => "",
        // It may say that no medium counts.
        Err(_) => return (of_firmware, Media::NONE),
    };
    let words = nocloud_words(serial(host, &mut buf));
    let named = named_source(line).or(words.map(|_| Named::NoCloud));
    match (named, of_firmware) {
        (Some(Named::ConfigDrive), of) => (of.or(Some(Platform::OpenStack)), Media::CONFIG_DRIVE),
        (Some(Named::NoCloud), _) => {
            // Words that say who this machine is, or where that is to be had, need no medium.
            let says_more =
                [words, nocloud_words(line)].iter().any(|words| !words.unwrap_or_default().is_empty());
            let expected = if says_more { Expected::Perhaps } else { Expected::Surely };
            (Some(Platform::NoCloud), Media { expected, ..Media::NOCLOUD })
        }
        (Some(Named::Other), _) => (None, Media::NONE),
        (None, Some(of)) => (Some(of), Media::OPENSTACK),
        (None, None) => (None, Media::UNKNOWN),
    }
}

fn asset_tag<'b>(host: &mut dyn Dir, buf: &'b mut [u8]) -> &'b str {
    text(host, "sys/class/dmi/id/chassis_asset_tag", buf).trim_ascii()
}

/// True when firmware says that this is Azure's.
pub fn is_azure(host: &mut dyn Dir) -> bool {
    asset_tag(host, &mut [0; limits::DMI_TEXT]) == AZURE_TAG
}

/// A source somebody named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    ConfigDrive,
    NoCloud,
    /// None of ours.
    Other,
}

/// The source that the kernel command line names, if it does.
fn named_source(line: &str) -> Option<Named> {
    let word = cmdline::value(line, OUR_WORD).or_else(|| datasource(line))?;
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(word));
    if is(&["config-drive", "configdrive", "openstack", "openstacklocal", "tencentcloud"]) {
        Some(Named::ConfigDrive)
    } else if is(&["nocloud", "nocloud-net"]) {
        Some(Named::NoCloud)
    } else {
        Some(Named::Other)
    }
}

/// cloud-init's name of a source on the kernel command line: the last one, up to a `;`. Source: its
/// `tools/ds-identify`, read_uname_info and parse_policy.
#[must_use]
pub fn datasource(line: &str) -> Option<&str> {
    let named = cmdline::arguments(line).filter(|argument| THEIR_WORDS.contains(&argument.name));
    let value = named.last()?.value?;
    value.split(';').next()
}

/// What follows `ds=nocloud` in SMBIOS's serial number or on the kernel command line: `;h=..;i=..`. `None` where it is
/// not there as a word. Source: cloud-init sources/DataSourceNoCloud.py, `parse_cmdline_data`.
#[must_use]
pub fn nocloud_words(text: &str) -> Option<&str> {
    let word = text.split_ascii_whitespace().find(|word| nocloud_rest(word).is_some())?;
    nocloud_rest(word)
}

fn nocloud_rest(word: &str) -> Option<&str> {
    let rest = word.strip_prefix("ds=nocloud")?;
    let rest = rest.strip_prefix("-net").unwrap_or(rest);
    (rest.is_empty() || rest.starts_with(';')).then_some(rest)
}

/// SMBIOS's serial number of the system, into `buf`.
pub fn serial<'b>(host: &mut dyn Dir, buf: &'b mut [u8]) -> &'b str {
    text(host, "sys/class/dmi/id/product_serial", buf)
}

/// The kernel command line, into `buf`.
pub fn command_line<'b>(host: &mut dyn Dir, buf: &'b mut [u8]) -> &'b str {
    text(host, "proc/cmdline", buf)
}

/// A small kernel file; "" when it cannot be read.
fn text<'b>(host: &mut dyn Dir, path: &str, buf: &'b mut [u8]) -> &'b str {
    read_text(host, path, buf).unwrap_or_default()
}

fn read_text<'b>(host: &mut dyn Dir, path: &str, buf: &'b mut [u8]) -> Result<&'b str> {
    let length = host.read(path, buf)?;
    Ok(lossy(buf.get_mut(..length).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::{Expected, Generation, Media, Platform, Trusted, datasource, nocloud_words, observe};
    use crate::sys::fake::World;

    const UUID: &str = "527C2691-029F-FE4C-B1F4-A4DA7EBAC2CF\n";

    fn azure() -> World {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        world.host.put("sys/class/dmi/id/product_uuid", UUID);
        world
    }

    #[test]
    fn a_bios_machine_has_a_swapped_id() {
        let machine = observe(&mut azure().kernel());
        assert_eq!(machine.platform, Some(Platform::Azure));
        assert_eq!(machine.generation, Generation::One);
        assert_eq!(machine.vm_id.unwrap().as_str(), "91267c52-9f02-4cfe-b1f4-a4da7ebac2cf");
    }

    #[test]
    fn an_efi_machine_has_its_uuid() {
        let mut world = azure();
        world.host.put_dir("sys/firmware/efi");
        let machine = observe(&mut world.kernel());
        assert_eq!(machine.generation, Generation::Two);
        assert_eq!(machine.vm_id.unwrap().as_str(), "527c2691-029f-fe4c-b1f4-a4da7ebac2cf");
    }

    #[test]
    fn azure_alone_has_somebody_to_ask() {
        assert!(super::is_azure(&mut azure().host));
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/product_name", "OpenStack Nova\n");
        assert!(!super::is_azure(&mut world.host));
    }

    #[test]
    fn a_plain_hyperv_host_is_not_azure() {
        let mut world = World::new();
        world.system.hyperv = true;
        world.host.put("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77x\n");
        let machine = observe(&mut world.kernel());
        assert_eq!((machine.platform, machine.vm_id, machine.is_hyperv), (None, None, true));
    }

    fn seen(product: &str, tag: &str, serial: &str, line: &str) -> (Option<Platform>, Media) {
        let mut world = World::new();
        world.host.put("sys/class/dmi/id/product_name", std::format!("{product}\n"));
        world.host.put("sys/class/dmi/id/chassis_asset_tag", std::format!("{tag}\n"));
        world.host.put("sys/class/dmi/id/product_serial", std::format!("{serial}\n"));
        world.host.put("sys/class/dmi/id/product_uuid", UUID);
        world.host.put("proc/cmdline", std::format!("root=/dev/vda1 {line}\n"));
        let machine = observe(&mut world.kernel());
        assert!(machine.vm_id.is_none() || machine.platform == Some(Platform::Azure));
        (machine.platform, machine.media)
    }

    #[test]
    fn firmware_and_command_line_say_whose_media_count() {
        use Expected::{No, Perhaps, Surely};
        use Trusted::{Anywhere, Matching, Nowhere, Optical};
        let azure = "7783-7084-3265-9085-8269-3286-77";
        for (product, tag, serial, line, platform, [config_drive, nocloud], expected) in [
            ("PC", "", "", "", None, [Optical, Optical], No),
            ("OpenStack Nova", "", "", "", Some(Platform::OpenStack), [Matching, Optical], Perhaps),
            ("PC", "HUAWEICLOUD", "", "", Some(Platform::OpenStack), [Matching, Optical], Perhaps),
            ("Tencent Cloud CVM", "", "", "", Some(Platform::Tencent), [Matching, Optical], Perhaps),
            (
                "Tencent Cloud CVM",
                "",
                "",
                "ds=configdrive",
                Some(Platform::Tencent),
                [Anywhere, Nowhere],
                Surely,
            ),
            ("PC", "", "x ds=nocloud;h=a", "", Some(Platform::NoCloud), [Nowhere, Anywhere], Perhaps),
            ("PC", "", "", "ds=nocloud", Some(Platform::NoCloud), [Nowhere, Anywhere], Surely),
            ("PC", "", "xds=nocloud", "", None, [Optical, Optical], No),
            (
                "PC",
                "",
                "",
                "rd.preroot.source=config-drive",
                Some(Platform::OpenStack),
                [Anywhere, Nowhere],
                Surely,
            ),
            (
                "OpenStack Nova",
                "",
                "",
                "ds=nocloud;s=/x",
                Some(Platform::NoCloud),
                [Nowhere, Anywhere],
                Perhaps,
            ),
            ("OpenStack Nova", "", "", "ds=Ec2", None, [Nowhere, Nowhere], No),
            ("PC", "", "", "rd.preroot.source=none ds=nocloud", None, [Nowhere, Nowhere], No),
            // Nobody's word but the firmware's counts on Azure.
            ("PC", azure, "ds=nocloud", "ds=nocloud", Some(Platform::Azure), [Nowhere, Nowhere], No),
        ] {
            let media = Media { config_drive, nocloud, expected };
            assert_eq!(
                seen(product, tag, serial, line),
                (platform, media),
                "{product} {tag} {serial} {line}"
            );
        }
    }

    #[test]
    fn a_byte_that_is_no_text_voids_its_word_alone() {
        let mut world = World::new();
        world.host.put("proc/cmdline", b"x=\xff rd.preroot.source=none\n");
        assert_eq!(observe(&mut world.kernel()).media, Media::NONE);
    }

    #[test]
    fn a_long_serial_number_is_read_and_a_command_line_that_cannot_be_read_allows_nothing() {
        let mut world = World::new();
        let serial = std::format!("{} ds=nocloud;i=i-1\n", "x".repeat(900));
        world.host.put("sys/class/dmi/id/product_serial", serial);
        assert_eq!(observe(&mut world.kernel()).platform, Some(Platform::NoCloud));
        world.host.put("proc/cmdline", "x".repeat(5000));
        let machine = observe(&mut world.kernel());
        assert_eq!((machine.platform, machine.media), (None, Media::NONE));
    }

    #[test]
    fn the_words_of_nocloud() {
        assert_eq!(nocloud_words("a ds=nocloud;h=b;i=c d"), Some(";h=b;i=c"));
        assert_eq!(nocloud_words("ds=nocloud-net"), Some(""));
        assert_eq!(nocloud_words("ds=nocloudx pads=nocloud"), None);
        assert_eq!(datasource("ci.ds=Azure ds=nocloud;x"), Some("nocloud"));
    }
}
