//! Every map: its bound, who writes it, who reads it, and what happens when it is full.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::{bpf_map_lookup_elem, bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use interceptor_ebpf::door::{Dial, Door};
use interceptor_ebpf::event::{Bucket, BucketKey, COUNTERS as COUNTER_COUNT};
use interceptor_ebpf::flow::{AskedKey, Endpoint, Flow, Mark, NamedKey, PendingKey, Socket};
use interceptor_ebpf::process::{Lineage, Offsets};
use interceptor_ebpf::rule::{EXACT_BITS, RuleKey, State};
use interceptor_ebpf::scope::{Listeners, Scope};
use interceptor_ebpf::{
    MAX_ASKED, MAX_BUCKETS, MAX_CARRIED, MAX_DIALS, MAX_DOORS, MAX_LINEAGE, MAX_NAMED,
    MAX_NAMESPACES, MAX_PENDING, MAX_PROTECTED, MAX_RESOLVERS, MAX_RULES, MAX_SCOPES, RING_BYTES,
};

/// Where the kernel keeps what: written by the loader before the programs are loaded.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::NONE;

/// Whether `bpf_set_retval` exists (Linux 5.18): written by the loader.
#[unsafe(no_mangle)]
pub(crate) static HAS_RETVAL: u32 = u32::MAX;

/// Written by the daemon. One row.
#[map]
pub(crate) static STATE: Array<State> = Array::with_max_entries(1, 0);

/// Tagged cgroups. Written by the daemon; full: tagging fails.
#[map]
pub(crate) static SCOPES: HashMap<u64, Scope> = HashMap::with_max_entries(MAX_SCOPES, 0);

/// Listener pairs. Written by the daemon; full: connects of the namespace are refused.
#[map]
pub(crate) static LISTENERS: HashMap<u64, Listeners> = HashMap::with_max_entries(MAX_NAMESPACES, 0);

/// The rules of two generations. Written by the daemon; full: the new rules are not taken.
#[map]
pub(crate) static RULES: LpmTrie<RuleKey, u32> = LpmTrie::with_max_entries(MAX_RULES, 0);

/// What scopes may not bind. Written by the daemon; full: the new rules are not taken.
#[map]
pub(crate) static PROTECTED: HashMap<Endpoint, u32> = HashMap::with_max_entries(MAX_PROTECTED, 0);

/// Records between client and accepted socket. Full: the eldest goes, and its connection is refused.
#[map]
pub(crate) static PENDING: LruHashMap<PendingKey, Flow> =
    LruHashMap::with_max_entries(MAX_PENDING, 0);

/// Resolvers by slot. Written by the daemon; a scope asks them through it.
#[map]
pub(crate) static RESOLVERS: Array<Endpoint> = Array::with_max_entries(MAX_RESOLVERS, 0);

/// Who asks for names. Read by the daemon; full: the eldest goes, and its question is not answered.
#[map]
pub(crate) static ASKED: LruHashMap<AskedKey, Flow> = LruHashMap::with_max_entries(MAX_ASKED, 0);

/// Addresses that scopes were told for a target's name: to the daemon. Written by it; full: the answer
/// is not given.
#[map]
pub(crate) static NAMED: HashMap<NamedKey, u32> = HashMap::with_max_entries(MAX_NAMED, 0);

/// UNIX sockets outside that scopes may reach. Written by the daemon; full: the new ones are not taken.
#[map]
pub(crate) static DOORS: HashMap<Door, u32> = HashMap::with_max_entries(MAX_DOORS, 0);

/// UNIX sockets of targets, and the daemon's own that they lead to. Written by the daemon; full: the new ones
/// are not taken.
#[map]
pub(crate) static CARRIED: HashMap<Door, u32> = HashMap::with_max_entries(MAX_CARRIED, 0);

/// The name of the daemon's own. Written by the daemon. One row.
#[map]
pub(crate) static VIA: Array<Door> = Array::with_max_entries(1, 0);

/// Who dialled them. Read by the daemon; full: the eldest goes, and its connection is refused.
#[map]
pub(crate) static DIALS: LruHashMap<u64, Dial> = LruHashMap::with_max_entries(MAX_DIALS, 0);

/// Which scope processes come from, by their numbers. Written by tracepoints, and by the daemon for those that are
/// there when it tags, and when it untags. A row for each number that there can be: never full. The loader makes it
/// one row where the host is not guarded.
#[map]
pub(crate) static LINEAGE: Array<Lineage> = Array::with_max_entries(MAX_LINEAGE, 0);

/// Refusals. Read by the daemon; full: the refusal is counted as lost.
#[map]
pub(crate) static DENIALS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// The rate limit of refusals, and what it folded. Read by the daemon; full: the eldest goes, may be reported
/// again at once, and what it folded is told without saying of what.
#[map]
pub(crate) static BUCKETS: LruHashMap<BucketKey, Bucket> =
    LruHashMap::with_max_entries(MAX_BUCKETS, 0);

/// Counters, one row a reason. Read by the daemon.
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

/// What became of a connection. No memory: the connect is refused.
#[btf_map]
pub(crate) static FLOWS: Storage<Flow, { BPF_F_NO_PREALLOC as usize }> = Storage::new();

/// What a UNIX socket was led to the daemon for. No memory: the connect is refused.
#[btf_map]
pub(crate) static DIALLED: Storage<Dial, { BPF_F_NO_PREALLOC as usize }> = Storage::new();

/// Which scope made a socket. No memory: `socket()` is refused.
#[btf_map]
pub(crate) static SOCKETS: Storage<Socket, { BPF_F_NO_PREALLOC as usize }> = Storage::new();

/// The daemon's own listeners, and by inheritance what they accept. Written by the daemon.
#[btf_map]
pub(crate) static MARKS: Storage<Mark, { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize }> =
    Storage::new();

/// `BPF_MAP_TYPE_SK_STORAGE` for every kind of context. aya's own takes `sock_addr` contexts only
/// and fixes the flags.
#[repr(C)]
pub(crate) struct Storage<T, const FLAGS: usize> {
    r#type: *const [i32; 24],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: the fields are never read; the loader reads their types from BTF.
unsafe impl<T, const FLAGS: usize> Sync for Storage<T, FLAGS> {}

impl<T, const FLAGS: usize> Storage<T, FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    #[inline(always)]
    fn map(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// The value of `socket`, or null.
    #[inline(always)]
    pub(crate) fn get<S>(&self, socket: *mut S) -> *mut T {
        // SAFETY: the verifier proves `socket` to be a socket, and the result is checked for null.
        unsafe { bpf_sk_storage_get(self.map(), socket.cast(), ptr::null_mut(), 0) }.cast()
    }

    /// The value of `socket`, made from zeroes where there is none; null where there is no memory.
    #[inline(always)]
    pub(crate) fn create<S>(&self, socket: *mut S) -> *mut T {
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: as in `get`.
        unsafe { bpf_sk_storage_get(self.map(), socket.cast(), ptr::null_mut(), flags) }.cast()
    }

    /// As [`Self::create`], made from `value`, which must point into another map.
    #[inline(always)]
    pub(crate) fn create_from<S>(&self, socket: *mut S, value: *mut T) -> *mut T {
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: as in `get`; the verifier checks `value`'s bounds.
        unsafe { bpf_sk_storage_get(self.map(), socket.cast(), value.cast(), flags) }.cast()
    }

    /// Forgets the value of `socket`.
    #[inline(always)]
    pub(crate) fn delete<S>(&self, socket: *mut S) {
        // SAFETY: as in `get`.
        let _missing = unsafe { bpf_sk_storage_delete(self.map(), socket.cast()) };
    }
}

/// A trie key as the kernel wants it. aya's own is packed, which costs a store for each byte.
#[repr(C)]
pub(crate) struct TrieKey {
    /// Bits that count.
    pub prefix: u32,
    /// The rest.
    pub rule: RuleKey,
}

const _: () = assert!(size_of::<TrieKey>() == size_of::<Key<RuleKey>>());

impl TrieKey {
    /// A key to look one address up with.
    #[inline(always)]
    pub(crate) fn whole(rule: RuleKey) -> Self {
        Self {
            prefix: EXACT_BITS + 128,
            rule,
        }
    }

    /// The bits of the longest row that matches; zero where none does.
    #[inline(always)]
    pub(crate) fn find(&self) -> u32 {
        let map = ptr::from_ref(&RULES).cast_mut().cast();
        // SAFETY: map and key have the sizes that the map was made with.
        let found = unsafe { bpf_map_lookup_elem(map, ptr::from_ref(self).cast_mut().cast()) };
        if found.is_null() {
            return 0;
        }
        // SAFETY: not null, and a row of the trie is a `u32` that the daemon replaces whole.
        unsafe { found.cast::<u32>().read_volatile() }
    }
}

/// The row of `STATE`; null only where the map is missing.
#[inline(always)]
pub(crate) fn state() -> *const State {
    STATE.get_ptr(0).unwrap_or(ptr::null())
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counter: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: a row of a per-CPU array; nobody else writes this CPU's.
        unsafe { *value += 1 }
    }
}
