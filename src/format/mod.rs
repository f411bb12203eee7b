//! Bytes to meaning and back. Pure: no I/O, no clock, no unsafe; every file here is fuzzed.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod authorized_keys;
pub mod base64;
pub mod cloud_cfg;
pub mod cloud_config;
pub mod cmdline;
pub mod config;
pub mod crc32;
pub mod dhcp;
pub mod disk_setup;
pub mod fat;
pub mod field;
pub mod fields;
pub mod fstab;
pub mod goalstate;
pub mod gpt;
pub mod guid;
pub mod hosts;
pub mod http;
pub mod imds;
pub mod json;
pub mod kernel_args;
pub mod kvp;
pub mod login_defs;
pub mod mbr;
pub mod modules;
pub mod network;
pub mod network_data;
pub mod nocloud;
pub mod ntp;
pub mod openstack;
pub mod ovf;
pub mod passwd;
pub mod person;
pub mod resolv_conf;
pub mod root_arg;
pub mod router_discovery;
pub mod rtnetlink;
pub mod sha256;
pub mod sha512_crypt;
pub mod sshd_config;
pub mod sudoers;
pub mod superblock;
pub mod swap;
pub mod text;
pub mod translation;
pub mod utf8;
pub mod vendor_data;
pub mod xml;

pub(crate) mod bytes;
pub mod file;
pub mod iso9660;
pub mod ntfs;
pub mod udf;
pub mod volume;

#[cfg(test)]
#[path = "tests/cases.rs"]
pub(crate) mod cases;
#[cfg(test)]
#[path = "tests/kept.rs"]
pub(crate) mod kept;
#[cfg(test)]
#[path = "tests/media.rs"]
pub(crate) mod media;

use crate::error::Result;

/// Bytes at offsets: a block device, a partition of it, or an image in a test.
pub trait ReadAt {
    /// Size in bytes.
    fn size_bytes(&self) -> u64;
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `Os(IO)` past the end or when the device fails.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()>;
    /// First byte of the last session, where the drive knows of several (CDROMMULTISESSION).
    fn session_bytes(&self) -> u64 {
        0
    }
}
