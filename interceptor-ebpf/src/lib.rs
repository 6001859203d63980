//! The ABI: what the programs in the kernel and the daemon agree on.
//!
//! Owns the records that cross the border and the names of programs and maps. Everything here is
//! `repr(C)`, padded by hand and checked for size; a change of any of it raises [`LAYOUT`].
//!
//! | hook | why | since | fallback | test (`tests/kernel`) |
//! |---|---|---|---|---|
//! | `connect4/6` | the verdict, the stamp, the rewrite | 4.17 | none | `matrix`, `record`, `address` |
//! | `getpeername4/6` | the client sees the peer that it dialled | 5.8 | none | `address`, `names` |
//! | `sendmsg4/6` | UDP to a resolver goes to the daemon, all other is refused | 4.18 | egress | `names`, `datagram` |
//! | `recvmsg4/6` | the answer comes from the resolver that was asked | 5.2 | none | `names` |
//! | `bind4/6` | no squatting of targets or of the daemon | 4.17 | egress drops the SYN-ACK | `bind` |
//! | `bind4` (daemon) | before `SO_NETNS_COOKIE`: which namespace a socket is in | 5.7, storage 5.10 | none | all |
//! | `sock_create` | no raw sockets; stamps who made a socket | 4.10, storage 5.10 | none | `datagram` |
//! | `setsockopt` | no broadcast, no groups of receivers | 5.3, long values 5.8 | `connect4/6` for broadcast | `datagram` |
//! | `sock_ops` (scope) | hands the record over; knows accepted sockets | 4.16 | none | `record`, `loopback` |
//! | `sock_ops` (daemon) | takes the record for the accepted socket | 4.13, storage 5.10 | no record: refused | `record` |
//! | LSM `unix_stream_connect`, `unix_may_send` | no UNIX socket that was made outside of the scope | 6.0, `bpf` among the LSMs | `connect_unix` | `doors` |
//! | LSM `socket_create` | no vsock, packet or other odd family | 6.0, the same | the launcher's seccomp | `doors` |
//! | LSM `file_receive` | no socket that was made outside and is passed in | 6.0, the same | none | `doors` |
//! | `connect_unix`, `sendmsg_unix` | where there is no LSM: only UNIX sockets that are named | 6.7 | the launcher's mounts | `doors` |
//! | `connect_unix` | a target's UNIX socket is the daemon's | 6.7 | such targets are refused | `carried` |
//! | root cgroup `sock_create`, `connect4/6`, `sendmsg4/6` | `guard: host`: no socket from outside, none of who has left | 4.18, storage 5.10 | LSM `file_receive` | `host` |
//! | `sched_process_fork`, `cgroup_attach_task` | `guard: host`: who comes from a scope | 4.17, bpf_link 5.7 | none | `host` |
//! | `cgroup_skb/egress` | the guard behind all of them | 4.10, storage 5.2 | none | `guard`, `restart` |
#![no_std]

pub mod door;
pub mod event;
pub mod flow;
pub mod kfunc;
pub mod process;
pub mod rule;
pub mod scope;

/// Version of every record below; it is part of the pins' path.
pub const LAYOUT: u32 = 7;

/// Scopes at once; tagging more is refused.
pub const MAX_SCOPES: u32 = 16_384;
/// Cgroup levels below the root that a scope may sit at.
pub const MAX_LEVEL: u32 = 32;
/// Network namespaces with a listener pair at once; more are refused.
pub const MAX_NAMESPACES: u32 = 1024;
/// Rows of two generations of rules together.
pub const MAX_RULES: u32 = 131_072;
/// Protected addresses at once.
pub const MAX_PROTECTED: u32 = 16_384;
/// Connections between `connect()` and the handshake's end; the eldest is forgotten, so refused.
pub const MAX_PENDING: u32 = 16_384;
/// Resolvers at once; more are refused.
pub const MAX_RESOLVERS: u32 = 4;
/// Sockets that asked the daemon for a name; the eldest is forgotten, so not answered.
pub const MAX_ASKED: u32 = 16_384;
/// Addresses that scopes know a target's name for; more are not taken.
pub const MAX_NAMED: u32 = 65_536;
/// UNIX sockets that scopes may reach outside of themselves; more are refused.
pub const MAX_DOORS: u32 = 1_024;
/// UNIX sockets of targets at once; more are refused.
pub const MAX_CARRIED: u32 = 1_024;
/// Dials of them that the daemon has not accepted yet; the eldest is forgotten, so refused.
pub const MAX_DIALS: u32 = 4_096;
/// Distinct refusals whose rate is remembered; of the eldest only the sum is known.
pub const MAX_BUCKETS: u32 = 8_192;
/// Numbers that processes can have (`PID_MAX_LIMIT` on 64 bits): where the host is guarded each has its row.
pub const MAX_LINEAGE: u32 = 4_194_304;
/// Bytes of the ring of refusals; a power of two of pages.
pub const RING_BYTES: u32 = 256 * 1024;
