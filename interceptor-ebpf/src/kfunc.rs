//! Functions of the kernel's own that programs call: by these numbers in the object, by the running kernel's
//! once they are loaded.

/// `bpf_cast_to_kern_ctx` (Linux 6.2).
pub const CAST: u32 = 0x7f00_0001;
/// `bpf_sock_addr_set_sun_path` (Linux 6.7).
pub const SET_SUN_PATH: u32 = 0x7f00_0002;

/// Every one of them, with the name that the kernel has it under.
pub const ALL: [(u32, &str); 2] = [
    (CAST, "bpf_cast_to_kern_ctx"),
    (SET_SUN_PATH, "bpf_sock_addr_set_sun_path"),
];
