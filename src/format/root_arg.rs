//! Which device does `root=` on the kernel command line name?
//!
//! `--` ends the kernel's words; the last `root=` wins. The forms are those of initramfs-tools
//! (`scripts/functions` resolve_device), dracut (`man dracut.cmdline`) and the kernel
//! (`block/early-lookup.c`).

use super::cmdline;
use super::guid::Guid;
use crate::error::Result;
use crate::format::text::split_once;
use crate::limits;

/// A label: any text.
pub type Label = heapless::String<{ limits::LABEL }>;
/// A block device's kernel name, checked by [`is_device_name`].
pub type DeviceName = heapless::String<{ limits::DEVICE_NAME }>;

const WHAT: &str = "root=";

/// A root device that a plain partition could be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RootArg {
    /// `UUID=`, `/dev/disk/by-uuid/`: of a file system.
    Uuid(Guid),
    /// `LABEL=`, `/dev/disk/by-label/`: of a file system.
    Label(Label),
    /// `PARTUUID=`, `/dev/disk/by-partuuid/`, with `/PARTNROFF=n`: the partition n numbers further on.
    PartUuid {
        /// Unique GUID of a GPT entry, or [`Guid::of_mbr`] for disk signature and number of an MBR partition.
        guid: Guid,
        /// Added to its number.
        offset: i32,
    },
    /// `PARTLABEL=`, `/dev/disk/by-partlabel/`: name of a GPT entry.
    PartLabel(Label),
    /// `/dev/NAME`.
    Device(DeviceName),
    /// `8:1` or `0801`: what only a kernel without an initrd and initramfs-tools understand.
    Number {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Reads a kernel command line; `None` when there is no `root=` or its last one is empty.
///
/// # Errors
/// `Unsupported` when it names what no plain partition can be (`/dev/mapper/...`, `nfs`, `ZFS=` ...);
/// `TooMany` when it is longer than any label.
#[inline(never)]
pub fn parse(command_line: &str) -> Result<Option<RootArg>> {
    let kernels_own = cmdline::arguments(command_line).take_while(|argument| argument.name != "--");
    let last = kernels_own.filter(|argument| argument.name == "root").last();
    match last.and_then(|argument| argument.value).filter(|value| !value.is_empty()) {
        Some(value) => device(&unquoted(value)?).map(Some),
        None => Ok(None),
    }
}

/// Without double quotes; room for the longest form around the longest label, each byte escaped.
type Unquoted = heapless::String<{ limits::LABEL * 4 + 32 }>;

/// systemd and dracut drop quotes inside a value too: `root=LABEL="my root"`.
fn unquoted(value: &str) -> Result<Unquoted> {
    let mut out = Unquoted::new();
    for part in value.split('"') {
        out.push_str(part).map_err(|_| too_many!(WHAT, out.capacity()))?;
    }
    Ok(out)
}

/// Reads the value of a `root=`.
///
/// # Errors
/// As [`parse`].
fn device(text: &str) -> Result<RootArg> {
    // dracut's way to say that no handler but that of block devices is meant (modules.d/95rootfs-block).
    let text = text.strip_prefix("block:").unwrap_or(text);
    if let Some(path) = text.strip_prefix("/dev/disk/by-") {
        let (kind, name) = path.split_once('/').unwrap_or((path, ""));
        let name = unescaped(name)?;
        return match kind {
            "uuid" => uuid(&name),
            "label" => Ok(RootArg::Label(name)),
            "partuuid" => partition(&name),
            "partlabel" => Ok(RootArg::PartLabel(name)),
            _ => Err(unsupported!(WHAT, "links of /dev/disk by id or path")),
        };
    }
    if let Some(name) = text.strip_prefix("/dev/") {
        return node(name);
    }
    if let Some((major, minor)) = device_number(text) {
        return Ok(RootArg::Number { major, minor });
    }
    match text.split_once('=') {
        Some(("UUID", name)) => uuid(name),
        Some(("LABEL", name)) => label(name).map(RootArg::Label),
        Some(("PARTUUID", name)) => partition(name),
        Some(("PARTLABEL", name)) => label(name).map(RootArg::PartLabel),
        _ => Err(unsupported!(WHAT, "names no partition in a form we know")),
    }
}

fn label(text: &str) -> Result<Label> {
    Label::try_from(text).map_err(|_| too_many!(WHAT, limits::LABEL))
}

fn uuid(text: &str) -> Result<RootArg> {
    let unknown = unsupported!(WHAT, "a UUID that no ext4, xfs or btrfs has");
    Guid::parse(text).map(RootArg::Uuid).ok_or(unknown)
}

/// `PARTUUID` of GPT (with an offset) or MBR. Source: block/early-lookup.c devt_from_partuuid.
fn partition(text: &str) -> Result<RootArg> {
    let bad = malformed!(WHAT, "PARTUUID", 0);
    let (name, offset) = match split_once(text, "/PARTNROFF=") {
        Some((name, offset)) => (name, offset.parse().map_err(|_| bad)?),
        None => (text, 0),
    };
    let guid = Guid::parse(name).or_else(|| mbr_partition(name)).ok_or(bad)?;
    Ok(RootArg::PartUuid { guid, offset })
}

/// `xxxxxxxx-nn`, both hexadecimal, as the kernel prints them (block/partitions/msdos.c, set_info).
fn mbr_partition(name: &str) -> Option<Guid> {
    let (signature, number) = name.split_once('-').filter(|(signature, _)| signature.len() == 8)?;
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex(signature) || !is_hex(number) {
        return None;
    }
    let number = u8::from_str_radix(number, 16).ok().filter(|number| *number > 0)?;
    Some(Guid::of_mbr(u32::from_str_radix(signature, 16).ok()?, number))
}

/// `MAJOR:MINOR`, or four hexadecimal digits and more, the last two the minor (initramfs-tools, parse_numeric).
fn device_number(text: &str) -> Option<(u32, u32)> {
    if let Some((major, minor)) = text.split_once(':') {
        return Some((major.parse().ok()?, minor.parse().ok()?));
    }
    let is_hex = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = u32::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
    Some((value >> 8, value & 0xFF))
}

fn node(name: &str) -> Result<RootArg> {
    // Names that mean something else to the kernel or to systemd.
    const NOT_DEVICES: [&str; 6] = ["root", "nfs", "cifs", "ram", "gpt-auto-root", "gpt-auto-root-luks"];
    if NOT_DEVICES.contains(&name) {
        return Err(unsupported!(WHAT, "names no partition in a form we know"));
    }
    if name.contains('/') {
        return Err(unsupported!(WHAT, "LVM, device mapper or another directory of /dev"));
    }
    if !is_device_name(name) {
        return Err(malformed!(WHAT, "device name", 0));
    }
    DeviceName::try_from(name).map(RootArg::Device).map_err(|_| too_many!(WHAT, limits::DEVICE_NAME))
}

/// True for a name that can stand in a path below /sys/class/block: `sda1`, `nvme0n1p2`, `cciss!c0d0p1`.
#[must_use]
pub fn is_device_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!_.:-".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain)
}

/// Undoes udev's `\xHH` (systemd `src/basic/utf8.c` / `encode_devnode_name`).
fn unescaped(name: &str) -> Result<Label> {
    let bad = malformed!(WHAT, "\\x escape", 0);
    let full = too_many!(WHAT, limits::LABEL);
    let mut bytes = heapless::Vec::<u8, { limits::LABEL }>::new();
    let mut rest = name.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = match rest.strip_prefix(b"\\x").and_then(|hex| hex.split_at_checked(2)) {
            Some((hex, behind)) => (hex_byte(hex).ok_or(bad)?, behind),
            None => (*first, behind),
        };
        bytes.push(byte).map_err(|_| full)?;
        rest = behind;
    }
    Label::from_utf8(bytes).map_err(|_| bad)
}

fn hex_byte(hex: &[u8]) -> Option<u8> {
    let digits = core::str::from_utf8(hex).ok().filter(|text| !text.starts_with('+'))?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{Guid, Label, RootArg, is_device_name, parse};
    use crate::error::{Kind, Result};
    use proptest::prelude::{any, proptest};

    const UUID: &str = "0a1b2c3d-0000-4000-8000-00000000beef";

    fn of(text: &str) -> Result<Option<RootArg>> {
        parse(text)
    }

    fn label(text: &str) -> Label {
        Label::try_from(text).unwrap()
    }

    #[test]
    fn every_form_is_read() {
        let guid = Guid::parse(UUID).unwrap();
        let part = |offset| RootArg::PartUuid { guid, offset };
        let device = |name| RootArg::Device(name);
        for (text, expected) in [
            ("UUID=0A1B2C3D-0000-4000-8000-00000000BEEF", RootArg::Uuid(guid)),
            ("/dev/disk/by-uuid/0a1b2c3d-0000-4000-8000-00000000beef", RootArg::Uuid(guid)),
            ("LABEL=cloudimg-rootfs", RootArg::Label(label("cloudimg-rootfs"))),
            ("/dev/disk/by-label/my\\x20root", RootArg::Label(label("my root"))),
            ("PARTUUID=0a1b2c3d-0000-4000-8000-00000000beef", part(0)),
            ("PARTUUID=0a1b2c3d-0000-4000-8000-00000000beef/PARTNROFF=1", part(1)),
            ("PARTUUID=0a1b2c3d-0000-4000-8000-00000000beef/PARTNROFF=-2", part(-2)),
            ("/dev/disk/by-partuuid/0a1b2c3d-0000-4000-8000-00000000beef", part(0)),
            ("PARTUUID=deadbeef-0a", RootArg::PartUuid { guid: Guid::of_mbr(0xdead_beef, 10), offset: 0 }),
            (
                "PARTUUID=DEADBEEF-01/PARTNROFF=4",
                RootArg::PartUuid { guid: Guid::of_mbr(0xdead_beef, 1), offset: 4 },
            ),
            ("block:UUID=0a1b2c3d-0000-4000-8000-00000000beef", RootArg::Uuid(guid)),
            ("block:/dev/sda1", device("sda1".try_into().unwrap())),
            ("8:17", RootArg::Number { major: 8, minor: 17 }),
            ("0801", RootArg::Number { major: 8, minor: 1 }),
            ("fe01", RootArg::Number { major: 254, minor: 1 }),
            ("PARTLABEL=root", RootArg::PartLabel(label("root"))),
            ("/dev/disk/by-partlabel/root\\x2fa", RootArg::PartLabel(label("root/a"))),
            ("/dev/sda1", device("sda1".try_into().unwrap())),
            ("/dev/nvme0n1p1", device("nvme0n1p1".try_into().unwrap())),
        ] {
            assert_eq!(of(&std::format!("ro root={text} quiet")), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn other_roots_are_unsupported() {
        for text in [
            "/dev/mapper/vg-root",
            "/dev/vg/root",
            "/dev/nfs",
            "ZFS=rpool/ROOT",
            "sda1",
            "live:CDLABEL=x",
            "8:x",
            "gpt-auto",
            "tmpfs",
            "overlay:UUID=x",
            "/dev/disk/by-id/x",
            "/dev/disk/by-path/x",
            "UUID=6f4a-beef",
            "/dev/gpt-auto-root",
            "nbd:10.0.0.1",
        ] {
            let error = of(&std::format!("root={text}")).unwrap_err();
            assert!(error.is(Kind::Unsupported), "{text}: {error:?}");
        }
        for text in [
            "/dev/",
            "/dev/..",
            "PARTUUID=",
            "PARTUUID=deadbeef-00",
            "PARTUUID=+eadbeef-01",
            "PARTUUID=x/PARTNROFF=1",
            "/dev/disk/by-label/a\\xzz",
        ] {
            assert!(of(&std::format!("root={text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_root_wins_up_to_the_end_of_the_kernels_words() {
        let name = |text| of(text).unwrap();
        assert_eq!(name("root=/dev/sda1 root=LABEL=a"), Some(RootArg::Label(label("a"))));
        assert_eq!(name("root=LABEL=a -- root=LABEL=b"), Some(RootArg::Label(label("a"))));
        assert_eq!(name("rd.root=LABEL=b xroot=LABEL=c"), None);
        assert_eq!(name("root=LABEL=a root="), None);
        assert_eq!(name(""), None);
    }

    #[test]
    fn quotes_hold_words_together() {
        for text in [
            "root=\"LABEL=my root\"",
            "\"root=LABEL=my root\"",
            "a=\"x root=LABEL=no\" root=LABEL=\"my root\"\n",
        ] {
            assert_eq!(of(text), Ok(Some(RootArg::Label(label("my root")))), "{text}");
        }
    }

    #[test]
    fn a_device_name_cannot_leave_its_directory() {
        for bad in ["", "..", ".", "a/b", "a b", "a\0"] {
            assert!(!is_device_name(bad), "{bad:?}");
        }
        assert!(is_device_name("cciss!c0d0p1") && is_device_name("dm-0"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn no_mixture_of_its_words_panics(text in "(root=|\"|UUID=|LABEL=|/dev/|disk/by-|label/|partuuid/|\\\\x|[0-9a-f]{2}| |-){0,12}") {
            let _ = parse(&text);
        }
    }
}
