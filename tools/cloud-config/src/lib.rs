//! Translates user data into entries of preroot's seed, and does nothing else.
//!
//! ```text
//!  stdin: frames --protocol--> Inputs --parts--> Part... --merge--> one tree with lines --config--> entries, notes --> stdout
//! ```
//!
//! No file, no clock, no network: [`sandbox`] takes them away before the first byte of user data is read.
//! docs/cloud-config.md has the whole picture.

pub mod added;
pub mod config;
pub mod explain;
pub mod limits;
pub mod merge;
pub mod note;
pub mod parts;
pub mod patch;
pub mod places;
pub mod protocol;
pub mod sandbox;
pub mod schema;
pub mod translate;
pub mod yaml;
