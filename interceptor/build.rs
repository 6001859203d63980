//! Builds the programs of `interceptor-ebpf` for the kernel and leaves them in `OUT_DIR`.
//!
//! Needs `bpf-linker` and `rust-src`; says so in one sentence where one is missing. With
//! `AYA_BUILD_SKIP=1` nothing is built and the daemon carries no programs: enough for clippy and doc.

#[path = "build/needs.rs"]
mod needs;

use std::env;
use std::ffi::OsStr;
use std::path::Path;

use anyhow::Context as _;
use aya_build::{Package, Toolchain};

/// The only package that may use what stable does not offer: `build-std` and BPF assembly.
const PACKAGE: &str = "interceptor-ebpf";

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(PACKAGE);
    let root = root.to_str().context("the checkout's path is not UTF-8")?;
    println!("cargo:rustc-check-cfg=cfg(no_programs)");
    if is_skipped() {
        println!("cargo:rerun-if-env-changed=AYA_BUILD_SKIP");
        println!("cargo:rustc-cfg=no_programs");
        return Ok(());
    }
    needs::linker(OsStr::new("bpf-linker"))?;
    needs::source(&env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))?;
    tell_cargo();
    let package = Package {
        name: PACKAGE,
        root_dir: root,
        features: &["programs"],
        ..Package::default()
    };
    aya_build::build_ebpf([package], Toolchain::Custom(needs::TOOLCHAIN))
}

fn is_skipped() -> bool {
    env::var("AYA_BUILD_SKIP").is_ok_and(|value| value == "1" || value == "true")
}

/// The programs need `-Z build-std` and an unstable feature of aya-ebpf. What the inner cargo says comes
/// out as warnings of this package, with each build again: it says nothing but warnings and errors.
#[expect(
    unsafe_code,
    reason = "a build script has one thread, and only its own children see it"
)]
#[expect(
    clippy::disallowed_methods,
    reason = "aya-build has no other way to be told"
)]
fn tell_cargo() {
    // SAFETY: no other thread runs yet.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("CARGO_TERM_QUIET", "true");
        env::set_var("CARGO_TERM_VERBOSE", "false");
    }
}
