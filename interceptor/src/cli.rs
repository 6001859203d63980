//! cli.

pub mod audit;
pub mod sessions;
pub mod terminal;
