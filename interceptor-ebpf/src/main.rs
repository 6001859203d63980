//! The programs. Built for the kernel only, by the daemon's `build.rs`.
//!
//! Each hook is a file below `hooks`, or `unix` for those of UNIX sockets and of the LSM: an outer program that names its verdict on failure, and an
//! inner function for both families. They decide from maps alone and never wait for the daemon.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "helpers and contexts of the kernel are raw pointers"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "contexts keep halves in words, and a failed conversion would need a panic"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key by value is a second copy on a stack of 512 bytes"
)]

mod cgroup;
mod hooks;
mod maps;
mod peer;
mod stamp;
mod unix;
mod verdict;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no path of the programs panics; the verifier would not load one that could loop here.
    unsafe { core::hint::unreachable_unchecked() }
}
