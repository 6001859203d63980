//! Foreign suites, run directly and through the daemon, and compared. Needs root.
//!
//! The suites come from PyPI and Debian (`xtask/src/setup.rs`) and nothing of them is kept here: only what was
//! found to differ, with the reason, in the files that end with `.exceptions`. `cargo xtask test` runs
//! the telling part of each; `cargo xtask suite NAME` runs all of it.
#![expect(
    clippy::print_stdout,
    reason = "how much was compared belongs to the result of a suite"
)]

mod exceptions;
mod openssh;
mod outcomes;
mod pair;
mod python;
mod regress;
mod sqlsmith;
mod ssh;
