//! What kind of part is this? By its first bytes (cloud-init's handlers/__init__.py), or by its content type.

/// Kinds of parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `#cloud-config`.
    Config,
    /// `#cloud-config-archive`.
    Archive,
    /// `#cloud-config-jsonp`.
    Patch,
    /// `#include`, `#include-once`.
    Include,
    /// `#include-once`.
    IncludeOnce,
    /// `#cloud-boothook`.
    Boothook,
    /// `#part-handler`.
    PartHandler,
    /// `#!`.
    Script,
    /// A script for each boot; has no first bytes.
    PerBoot,
    /// Likewise, once for each instance.
    PerInstance,
    /// Likewise, once for this disk.
    PerOnce,
    /// `## template: jinja`.
    Template,
    /// `text/plain` and unnamed ones.
    Plain,
    /// Anything else.
    Other,
}

/// Longest first where one begins with another.
const BY_PREFIX: &[(&str, Kind)] = &[
    ("#cloud-config-archive", Kind::Archive),
    ("#cloud-config-jsonp", Kind::Patch),
    ("## template: jinja", Kind::Template),
    ("#cloud-boothook", Kind::Boothook),
    ("#cloud-config", Kind::Config),
    ("#part-handler", Kind::PartHandler),
    ("#include-once", Kind::IncludeOnce),
    ("#include", Kind::Include),
    ("#!", Kind::Script),
];

const BY_TYPE: &[(&str, Kind)] = &[
    ("text/cloud-config", Kind::Config),
    ("text/cloud-config-archive", Kind::Archive),
    ("text/cloud-config-jsonp", Kind::Patch),
    ("text/x-include-url", Kind::Include),
    ("text/x-include-once-url", Kind::IncludeOnce),
    ("text/cloud-boothook", Kind::Boothook),
    ("text/part-handler", Kind::PartHandler),
    ("text/x-shellscript", Kind::Script),
    ("text/x-shellscript-per-boot", Kind::PerBoot),
    ("text/x-shellscript-per-instance", Kind::PerInstance),
    ("text/x-shellscript-per-once", Kind::PerOnce),
    ("text/jinja2", Kind::Template),
    ("text/plain", Kind::Plain),
    ("text/x-not-multipart", Kind::Plain),
];

/// Content types of what is gzip (cloudinit/user_data.py, `DECOMP_TYPES`).
const COMPRESSED: &[&str] = &[
    "application/gzip",
    "application/gzip-compressed",
    "application/gzipped",
    "application/x-compress",
    "application/x-compressed",
    "application/x-gunzip",
    "application/x-gzip",
    "application/x-gzip-compressed",
];

/// By the first bytes, behind blanks, in any case.
pub fn by_prefix(bytes: &[u8]) -> Option<Kind> {
    let bytes = bytes.trim_ascii_start();
    let begins = |prefix: &str| {
        bytes.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    BY_PREFIX.iter().find(|(prefix, _)| begins(prefix)).map(|(_, kind)| *kind)
}

/// By a content type in lower case.
pub fn by_type(content_type: &str) -> Kind {
    BY_TYPE.iter().find(|(name, _)| *name == content_type).map_or(Kind::Other, |(_, kind)| *kind)
}

/// The content type of a kind, for people and tests.
pub fn type_of(kind: Kind) -> Option<&'static str> {
    BY_TYPE.iter().find(|(_, of)| *of == kind).map(|(name, _)| *name)
}

/// True for what is decompressed and looked at again.
pub fn is_compressed(content_type: &str) -> bool {
    COMPRESSED.contains(&content_type)
}
