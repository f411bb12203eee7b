//! How much is taken before it is refused? Bytes unless a name says otherwise.

/// All of one input, and the same after decompression: what the seed holds of user data (`limits::USER_DATA` of preroot).
pub const DOCUMENT: usize = 16 * 1024 * 1024;
/// All inputs together.
pub const INPUT: usize = 4 * DOCUMENT;
/// All texts of vendor data together: no platform has more, and they are not to cost the user's anything.
pub const VENDOR: usize = DOCUMENT;
/// What comes out of gzip and of aliases, all parts of a source together.
pub const UNPACKED: usize = 2 * DOCUMENT;
/// All entries together, scripts among them: a little less than what apply takes (`limits::TRANSLATION` of preroot).
pub const ANSWER: usize = preroot::limits::TRANSLATION - 64 * 1024;
/// Parts, those of archives included.
pub const PARTS: usize = 256;
/// Parts of MIME messages, whatever becomes of them.
pub const ENTITIES: usize = 4 * PARTS;
/// Headers of one part.
pub const HEADERS: usize = 128;
/// Steps of one JSON patch, each of which may move a whole list.
pub const PATCHES: usize = 1000;
/// Notes; apply tells fewer.
pub const NOTES: usize = 1000;
/// Parts inside of parts: multiparts, archives and compressed ones. Real ones have two.
pub const PART_DEPTH: usize = 8;
/// Collections inside of collections.
pub const YAML_DEPTH: usize = 100;
/// Values of all documents of a source, copies by aliases included.
pub const YAML_NODES: usize = 1_000_000;
/// Text copied by aliases in one document.
pub const ALIAS_TEXT: usize = DOCUMENT;
/// A file that a person has words written into: a line for each note and each fault.
pub const TOLD: u64 = DOCUMENT as u64;
/// Address space: a document of 16 MiB, its tree and its entries.
pub const MEMORY: u64 = 768 * 1024 * 1024;
/// Seconds of CPU.
pub const CPU_S: u64 = 20;

/// What the parts of one source may still take, together: many small bombs are one large one.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Of what is unpacked.
    pub bytes: usize,
    /// Of YAML.
    pub nodes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: UNPACKED, nodes: YAML_NODES }
    }
}

impl Budget {
    /// For vendor data.
    pub fn vendor() -> Self {
        Self { bytes: UNPACKED / 2, nodes: YAML_NODES / 4 }
    }

    /// What was used; of what was dropped again an eighth counts, for the time that it took.
    pub fn spend(&mut self, bytes: usize, nodes: usize, is_kept: bool) {
        let share = if is_kept { 1 } else { 8 };
        self.bytes = self.bytes.saturating_sub(bytes / share);
        self.nodes = self.nodes.saturating_sub(nodes / share);
    }
}
