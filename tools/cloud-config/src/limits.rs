//! How much is taken before it is refused? Bytes unless a name says otherwise.

/// All of one input, and the same after decompression: what the seed holds of user data (`limits::USER_DATA` of preroot).
pub const DOCUMENT: usize = 16 * 1024 * 1024;
/// All inputs together.
pub const INPUT: usize = 4 * DOCUMENT;
/// Parts, those of archives included.
pub const PARTS: usize = 256;
/// Parts inside of parts: multiparts, archives and compressed ones. Real ones have two.
pub const PART_DEPTH: usize = 8;
/// Collections inside of collections.
pub const YAML_DEPTH: usize = 100;
/// Values of one document, copies by aliases included.
pub const YAML_NODES: usize = 1_000_000;
/// Text copied by aliases.
pub const ALIAS_TEXT: usize = DOCUMENT;
/// Address space: a document of 16 MiB, its tree and its entries.
pub const MEMORY: u64 = 768 * 1024 * 1024;
/// Seconds of CPU.
pub const CPU_S: u64 = 20;
