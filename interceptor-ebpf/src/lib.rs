//! The ABI: what the programs in the kernel and the daemon agree on.
#![no_std]
