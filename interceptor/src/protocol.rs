//! The engines, one per protocol, and the one `match` over them.
pub mod postgres;
