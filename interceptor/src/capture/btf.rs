//! Where the running kernel keeps what: member offsets from its own type information (BTF).
//!
//! The stamp reads what no helper gives at these offsets. A member that is not found, or that two
//! types of one name put at different places, is absent: the stamp goes without, and is never wrong.
//! Format: kernel documentation, "BPF Type Format", sections 2.1 to 2.2.

use std::collections::HashMap;

use interceptor_ebpf::process::{ABSENT, Offsets};

/// `btf_header.magic`.
const MAGIC: u16 = 0xeb9f;

/// `BTF_KIND_STRUCT`, `BTF_KIND_UNION` and `BTF_KIND_FUNC`.
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNCTION: u32 = 12;

/// Anonymous members nest; more levels than this are a broken file.
const MAX_NESTING: u32 = 16;

/// The offsets that the stamp needs. Anything that does not parse gives [`Offsets::NONE`].
pub(super) fn offsets(file: &[u8]) -> Offsets {
    let Some(types) = Types::parse(file) else {
        return Offsets::NONE;
    };
    let at = |name, member| types.offset(name, member).unwrap_or(ABSENT);
    Offsets {
        group_leader: at("task_struct", "group_leader"),
        start_boottime: at("task_struct", "start_boottime"),
        comm: at("task_struct", "comm"),
        mm: at("task_struct", "mm"),
        cred: at("task_struct", "cred"),
        euid: at("cred", "euid"),
        egid: at("cred", "egid"),
        exe_file: at("mm_struct", "exe_file"),
        f_inode: at("file", "f_inode"),
        i_ino: at("inode", "i_ino"),
        i_sb: at("inode", "i_sb"),
        s_dev: at("super_block", "s_dev"),
        tgid: at("task_struct", "tgid"),
        cgroups: at("task_struct", "cgroups"),
        dfl_cgrp: at("css_set", "dfl_cgrp"),
        socket_sk: at("socket", "sk"),
        made_in: within(at("sock", "sk_cgrp_data"), at("sock_cgroup_data", "cgroup")),
        family: at("sock_common", "skc_family"),
        level: at("cgroup", "level"),
        ancestors: at("cgroup", "ancestors"),
        node: at("cgroup", "kn"),
        node_id: at("kernfs_node", "id"),
        unix_address: at("unix_sock", "addr"),
        unix_length: at("unix_address", "len"),
        unix_name: at("unix_address", "name"),
        i_mode: at("inode", "i_mode"),
        private_data: at("file", "private_data"),
        call_address: at("bpf_sock_addr_kern", "uaddr"),
        call_length: at("bpf_sock_addr_kern", "uaddrlen"),
        user_ns: at("cred", "user_ns"),
        user_level: at("user_namespace", "level"),
        files: at("task_struct", "files"),
        table: at("files_struct", "fdt"),
        descriptors: at("fdtable", "fd"),
        unix_peer: at("unix_sock", "peer"),
        cookie: at("sock_common", "skc_cookie"),
        call_socket: at("bpf_sock_addr_kern", "sk"),
        socket_flags: at("sock_common", "skc_flags"),
        packet_socket: at("sk_buff", "sk"),
        sharers: at("sock", "sk_reuseport_cb"),
        sharers_count: at("sock_reuseport", "num_socks"),
        sharers_program: at("sock_reuseport", "prog"),
        pid: at("task_struct", "pid"),
        ancestor_ids: at("cgroup", "ancestor_ids"),
    }
}

/// The id of a function of the kernel's own; none where it has none of this name, or more than one.
pub(super) fn function(file: &[u8], name: &str) -> Option<u32> {
    let types = Types::parse(file)?;
    let found = types.functions.get(name.as_bytes())?;
    match found.as_slice() {
        [id] => Some(*id),
        _ => None,
    }
}

/// The offset of a member's member; absent where either is.
fn within(outer: u32, inner: u32) -> u32 {
    match (outer, inner) {
        (ABSENT, _) | (_, ABSENT) => ABSENT,
        (outer, inner) => outer.checked_add(inner).unwrap_or(ABSENT),
    }
}

/// One struct or union: where its members begin, and how many there are.
#[derive(Clone, Copy)]
struct Record {
    members: usize,
    count: u32,
    /// The offset's upper byte is a bit field's width.
    has_bit_fields: bool,
}

struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Structs and unions by type id.
    records: HashMap<u32, Record>,
    /// Ids of structs by name.
    names: HashMap<&'a [u8], Vec<u32>>,
    /// Ids of functions by name.
    functions: HashMap<&'a [u8], Vec<u32>>,
}

impl<'a> Types<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        let magic = u16::from_ne_bytes(file.get(..2)?.try_into().ok()?);
        if magic != MAGIC {
            return None;
        }
        let length = word(file, 4)?;
        let section = |offset, bytes| {
            let from = usize::try_from(length.checked_add(word(file, offset)?)?).ok()?;
            let bytes = usize::try_from(word(file, bytes)?).ok()?;
            file.get(from..from.checked_add(bytes)?)
        };
        let mut parsed = Self {
            types: section(8, 12)?,
            strings: section(16, 20)?,
            records: HashMap::new(),
            names: HashMap::new(),
            functions: HashMap::new(),
        };
        parsed.index()?;
        Some(parsed)
    }

    /// Walks the types once; ids count from one, in the order of the file.
    fn index(&mut self) -> Option<()> {
        let mut at = 0;
        let mut id = 1;
        while at < self.types.len() {
            let name = word(self.types, at)?;
            let info = word(self.types, at + 4)?;
            let kind = (info >> 24) & 0x1f;
            let count = info & 0xffff;
            let body = at.checked_add(12)?;
            if kind == STRUCT || kind == UNION {
                let record = Record {
                    members: body,
                    count,
                    has_bit_fields: info >> 31 == 1,
                };
                self.records.insert(id, record);
                if name != 0 && kind == STRUCT {
                    let name = self.text(name)?;
                    self.names.entry(name).or_default().push(id);
                }
            }
            if kind == FUNCTION {
                let name = self.text(name)?;
                self.functions.entry(name).or_default().push(id);
            }
            at = body.checked_add(trailing(kind, count)?)?;
            id += 1;
        }
        Some(())
    }

    /// The byte offset of a member, where every struct of that name that has it agrees.
    fn offset(&self, name: &str, member: &str) -> Option<u32> {
        let mut found = None;
        for id in self.names.get(name.as_bytes())? {
            let Some(offset) = self.member(*id, member.as_bytes(), MAX_NESTING) else {
                continue;
            };
            if found.is_some_and(|earlier| earlier != offset) {
                return None;
            }
            found = Some(offset);
        }
        found
    }

    /// Looks through anonymous structs and unions as a C compiler does.
    fn member(&self, id: u32, name: &[u8], nesting: u32) -> Option<u32> {
        let record = self.records.get(&id)?;
        let deeper = nesting.checked_sub(1)?;
        for index in 0..record.count {
            let at = record.members + usize::try_from(index).ok()? * 12;
            let own = self.text(word(self.types, at)?)?;
            let kind = word(self.types, at + 4)?;
            let mut bits = word(self.types, at + 8)?;
            if record.has_bit_fields {
                if bits >> 24 != 0 {
                    continue;
                }
                bits &= 0x00ff_ffff;
            }
            if own == name {
                return (bits % 8 == 0).then_some(bits / 8);
            }
            if own.is_empty()
                && let Some(inner) = self.member(kind, name, deeper)
            {
                return inner.checked_add(bits / 8);
            }
        }
        None
    }

    fn text(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(usize::try_from(offset).ok()?..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

/// Bytes that follow the three words of a type (section 2.2); none for a kind not known here, after
/// which nothing more can be read.
fn trailing(kind: u32, count: u32) -> Option<usize> {
    let count = usize::try_from(count).ok()?;
    let bytes = match kind {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => 0,
        // ARRAY
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => count.checked_mul(12)?,
        // ENUM, FUNC_PROTO
        6 | 13 => count.checked_mul(8)?,
        _ => return None,
    };
    Some(bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests;
