//! Builds the programs of `interceptor-ebpf` for the kernel and leaves them in `OUT_DIR`.
//!
//! Needs `bpf-linker` and `rust-src`; says so in one sentence where one is missing. With
//! `AYA_BUILD_SKIP=1` nothing is built and the daemon carries no programs: enough for clippy and doc.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use aya_build::{Package, Toolchain};

/// The toolchain that `rust-toolchain.toml` pins; its LLVM and bpf-linker's must fit together.
const TOOLCHAIN: &str = "1.95.0";

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
    need_linker()?;
    need_source()?;
    tell_cargo();
    let package = Package {
        name: PACKAGE,
        root_dir: root,
        features: &["programs"],
        ..Package::default()
    };
    aya_build::build_ebpf([package], Toolchain::Custom(TOOLCHAIN))
}

fn is_skipped() -> bool {
    env::var("AYA_BUILD_SKIP").is_ok_and(|value| value == "1" || value == "true")
}

fn need_linker() -> anyhow::Result<()> {
    if Command::new("bpf-linker")
        .arg("--version")
        .output()
        .is_err()
    {
        bail!("bpf-linker is missing: run `cargo install --locked bpf-linker@0.10.3`");
    }
    Ok(())
}

fn need_source() -> anyhow::Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .context("ask rustc for its sysroot")?;
    let sysroot = String::from_utf8(output.stdout).context("read the sysroot of rustc")?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if !library.is_dir() {
        bail!("rust-src is missing: run `rustup component add rust-src --toolchain {TOOLCHAIN}`");
    }
    Ok(())
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
