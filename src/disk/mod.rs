//! The root partition: which one it is, how far it can grow, and how it grows without ever being lost.
//!
//! ```text
//! root (which) -> table (what is there) -> grow (pure: how far) -> commit (ordered writes) -> BLKPG
//! ```

pub mod commit;
pub mod filesystem;
pub mod grow;
pub mod root;
pub mod sysfs;
pub mod table;
