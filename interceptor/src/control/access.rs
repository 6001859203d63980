//! Access beyond what policy permits for good: for a while, or with somebody's word.

pub mod approvals;
mod asking;
pub mod delegating;
pub mod factors;
pub mod grants;
pub mod hook;
