//! Bytes to meaning and back. Pure: no I/O, no clock, no unsafe; every file here is fuzzed.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
