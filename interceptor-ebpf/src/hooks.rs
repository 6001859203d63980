//! One file per hook.

pub(crate) mod address;
mod bind;
mod connect;
mod datagram;
pub(crate) mod deny;
mod egress;
mod getpeername;
mod host;
mod names;
mod sock_ops;
mod socket;

/// The call goes on.
pub(crate) const PASS: i32 = 1;
/// The call fails, with `EPERM` where no other errno was set.
pub(crate) const REFUSE: i32 = 0;
