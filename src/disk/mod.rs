//! The root partition: which one it is, how far it can grow, and how it grows without ever being lost. And the
//! resource disk: which one it is, and whether it may be formatted.
//!
//! ```text
//! root (which) -> table, mbr_table (what is there) -> grow (pure: how far) -> commit (ordered writes) -> BLKPG
//! resource::observe (what is there) -> resource::choose (pure: which, and what to do with it)
//! ```

pub mod commit;
pub mod filesystem;
pub mod grow;
pub mod mbr_table;
pub mod resource;
pub mod root;
pub mod sysfs;
pub mod table;
