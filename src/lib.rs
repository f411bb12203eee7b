//! Provisions a cloud VM from its initrd, before the root file system is mounted.
//!
//! ```text
//!         INITRD, before the root is mounted                       |   REAL ROOT, before the network starts
//!  Machine --modules--> medium / NIC --bytes--> format::* --> Facts |
//!                                                              |    |
//!  disk::grow + plan (pure) <----------------------------------+    |
//!  effects: ordered GPT writes; seed::publish ===== /run/preroot/seed ==> load > apply > report
//! ```
//!
//! The folders are the layers and imports only point downward: [`stage`] tells the stories; `source`,
//! `apply`, `report`, `disk` and `net` know how; `format` turns bytes into meaning and back and does
//! nothing else; [`sys`] is the kernel. `ARCHITECTURE.md` has the whole picture.
#![cfg_attr(not(test), no_std)]

#[cfg(test)]
extern crate std;

// First: its macros are used everywhere.
#[macro_use]
pub mod error;

pub mod apply;
pub mod cli;
pub mod config;
pub mod disk;
pub mod event;
pub mod facts;
pub mod format;
pub mod limits;
pub mod machine;
pub mod net;
mod order;
pub mod plan;
pub mod report;
pub mod secret;
pub mod seed;
pub mod source;
pub mod stage;
pub mod sys;
