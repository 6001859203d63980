//! Who called `connect()`, and where the kernel keeps the facts that no helper gives.

/// [`Process::started`] was read.
pub const STARTED: u32 = 1;
/// [`Process::inode`] and [`Process::device`] were read.
pub const EXECUTABLE: u32 = 2;
/// [`Process::comm`] was read.
pub const COMM: u32 = 4;
/// [`Process::uid`] and [`Process::gid`] are the effective ones, not the real ones.
pub const EFFECTIVE: u32 = 8;

/// A process as the kernel saw it at one moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// `group_leader->start_boottime`, nanoseconds.
    pub started: u64,
    /// Cgroup v2 id.
    pub cgroup: u64,
    /// `mm->exe_file->f_inode->i_ino`.
    pub inode: u64,
    /// `mm->exe_file->f_inode->i_sb->s_dev`.
    pub device: u32,
    /// Thread group id, initial pid namespace.
    pub tgid: u32,
    /// User id, initial user namespace.
    pub uid: u32,
    /// Group id, initial user namespace.
    pub gid: u32,
    /// `group_leader->comm`, ends at the first zero.
    pub comm: [u8; 16],
    /// Which of the fields were read: [`STARTED`] and its like.
    pub fields: u32,
    /// Zero.
    pub reserved: u32,
}

/// An offset that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of members, taken from the running kernel's BTF; [`ABSENT`] where there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.group_leader`.
    pub group_leader: u32,
    /// `task_struct.start_boottime` (Linux 5.5).
    pub start_boottime: u32,
    /// `task_struct.comm`.
    pub comm: u32,
    /// `task_struct.mm`.
    pub mm: u32,
    /// `task_struct.cred`.
    pub cred: u32,
    /// `cred.euid`.
    pub euid: u32,
    /// `cred.egid`.
    pub egid: u32,
    /// `mm_struct.exe_file`.
    pub exe_file: u32,
    /// `file.f_inode`.
    pub f_inode: u32,
    /// `inode.i_ino`.
    pub i_ino: u32,
    /// `inode.i_sb`.
    pub i_sb: u32,
    /// `super_block.s_dev`.
    pub s_dev: u32,
    /// `task_struct.tgid`.
    pub tgid: u32,
    /// `task_struct.cgroups`.
    pub cgroups: u32,
    /// `css_set.dfl_cgrp`: the cgroup of version 2.
    pub dfl_cgrp: u32,
    /// `socket.sk`.
    pub socket_sk: u32,
    /// `sock.sk_cgrp_data.cgroup`.
    pub made_in: u32,
    /// `sock_common.skc_family`.
    pub family: u32,
    /// `cgroup.level`.
    pub level: u32,
    /// `cgroup.ancestors` (Linux 6.1); absent before.
    pub ancestors: u32,
    /// `cgroup.kn`.
    pub node: u32,
    /// `kernfs_node.id`.
    pub node_id: u32,
    /// `unix_sock.addr`.
    pub unix_address: u32,
    /// `unix_address.len`.
    pub unix_length: u32,
    /// `unix_address.name`.
    pub unix_name: u32,
    /// `inode.i_mode`.
    pub i_mode: u32,
    /// `file.private_data`.
    pub private_data: u32,
    /// `bpf_sock_addr_kern.uaddr`.
    pub call_address: u32,
    /// `bpf_sock_addr_kern.uaddrlen`.
    pub call_length: u32,
    /// `cred.user_ns`.
    pub user_ns: u32,
    /// `user_namespace.level`.
    pub user_level: u32,
    /// `task_struct.files`.
    pub files: u32,
    /// `files_struct.fdt`.
    pub table: u32,
    /// `fdtable.fd`.
    pub descriptors: u32,
    /// `unix_sock.peer`.
    pub unix_peer: u32,
    /// `sock_common.skc_cookie`.
    pub cookie: u32,
    /// `bpf_sock_addr_kern.sk`.
    pub call_socket: u32,
    /// `sock_common.skc_flags`.
    pub socket_flags: u32,
    /// `sk_buff.sk`.
    pub packet_socket: u32,
    /// `sock.sk_reuseport_cb`.
    pub sharers: u32,
    /// `sock_reuseport.num_socks`.
    pub sharers_count: u32,
    /// `sock_reuseport.prog`.
    pub sharers_program: u32,
    /// `task_struct.pid`.
    pub pid: u32,
    /// `cgroup.ancestor_ids` (before Linux 6.1); absent since.
    pub ancestor_ids: u32,
}

/// Nanoseconds of a tick of `USER_HZ`, in which `/proc` tells when a process started.
pub const TICK: u64 = 10_000_000;

/// The scope that a process comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Scope root's cgroup id; zero where it comes from none.
    pub scope: u64,
    /// `group_leader->start_boottime` of the process; as the daemon knows it, the beginning of its [`TICK`].
    pub started: u64,
}

impl Lineage {
    /// Whether this was kept of a process that started then, and not of another that had its number.
    #[must_use]
    #[inline(always)]
    pub const fn is_of(&self, begun: u64) -> bool {
        let is_rounded = self.started.is_multiple_of(TICK);
        self.started == begun || (is_rounded && self.started == begun - begun % TICK)
    }
}

impl Offsets {
    /// Nothing known: every field that needs an offset stays out of the stamp.
    pub const NONE: Self = Self {
        group_leader: ABSENT,
        start_boottime: ABSENT,
        comm: ABSENT,
        mm: ABSENT,
        cred: ABSENT,
        euid: ABSENT,
        egid: ABSENT,
        exe_file: ABSENT,
        f_inode: ABSENT,
        i_ino: ABSENT,
        i_sb: ABSENT,
        s_dev: ABSENT,
        tgid: ABSENT,
        cgroups: ABSENT,
        dfl_cgrp: ABSENT,
        socket_sk: ABSENT,
        made_in: ABSENT,
        family: ABSENT,
        level: ABSENT,
        ancestors: ABSENT,
        node: ABSENT,
        node_id: ABSENT,
        unix_address: ABSENT,
        unix_length: ABSENT,
        unix_name: ABSENT,
        i_mode: ABSENT,
        private_data: ABSENT,
        call_address: ABSENT,
        call_length: ABSENT,
        user_ns: ABSENT,
        user_level: ABSENT,
        files: ABSENT,
        table: ABSENT,
        descriptors: ABSENT,
        unix_peer: ABSENT,
        cookie: ABSENT,
        call_socket: ABSENT,
        socket_flags: ABSENT,
        packet_socket: ABSENT,
        sharers: ABSENT,
        sharers_count: ABSENT,
        sharers_program: ABSENT,
        pid: ABSENT,
        ancestor_ids: ABSENT,
    };
}

const _: () = assert!(size_of::<Process>() == 64);
const _: () = assert!(size_of::<Lineage>() == 16);
const _: () = assert!(size_of::<Offsets>() == 176);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "plain old data: repr(C), no padding, every bit pattern valid"
)]
mod user {
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Process {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Offsets {}
    // SAFETY: repr(C) integers without padding, asserted above.
    unsafe impl aya::Pod for super::Lineage {}
}
