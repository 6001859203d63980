//! One file per hook.

mod address;
mod bind;
mod connect;
mod deny;
mod door;
mod egress;
mod getpeername;
mod lsm;
mod names;
mod recvmsg;
mod sendmsg;
mod sock_create;
mod sock_ops;
mod unix;

/// The call goes on.
pub(crate) const PASS: i32 = 1;
/// The call fails, with `EPERM` where no other errno was set.
pub(crate) const REFUSE: i32 = 0;
