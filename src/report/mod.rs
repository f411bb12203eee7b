//! How is the platform told how provisioning went? Everything here is pure but [`pool`].

pub mod azure;
pub mod health;
pub mod kvp;
pub mod pool;

/// Our name and version, as the platform sees it.
pub const AGENT: &str = concat!("preroot/", env!("CARGO_PKG_VERSION"));
