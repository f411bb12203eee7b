//! Does the translator make of recorded inputs what cloud-init makes of them? Cases of tests/fixtures/cases; each is equal,
//! different on purpose, or fails.

mod answer;
mod modules;
mod parts;
mod scripts;
mod yaml;
