//! The programs. Built for the kernel only, by the daemon's `build.rs`.
#![no_std]
#![no_main]
