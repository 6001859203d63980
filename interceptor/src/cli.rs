//! cli.
pub mod policy;
pub mod why;
