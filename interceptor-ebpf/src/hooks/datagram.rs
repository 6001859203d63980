//! Datagrams of a scope that no connect tells of: where they go, and whom their answers name.

mod recvmsg;
mod sendmsg;
