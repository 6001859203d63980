//! What building the programs needs of the machine, each missing thing in one sentence with what to do.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// The toolchain that `rust-toolchain.toml` pins; its LLVM and bpf-linker's must fit together.
pub(crate) const TOOLCHAIN: &str = "1.95.0";

/// The linker that does: later lines need an LLVM of the system.
const LINKER: &str = "0.10.3";

/// Whether there is a linker for the programs, and of the line that goes with the compiler.
pub(crate) fn linker(program: &OsStr) -> anyhow::Result<()> {
    let asked = Command::new(program).arg("--version").output();
    let Ok(asked) = asked else {
        bail!("bpf-linker is missing: run `cargo install --locked bpf-linker@{LINKER}`");
    };
    let version = String::from_utf8_lossy(&asked.stdout);
    let version = version.split_whitespace().last().unwrap_or("of no version");
    let line = LINKER.rsplit_once('.').map_or(LINKER, |(line, _)| line);
    if !version.starts_with(&format!("{line}.")) {
        bail!(
            "bpf-linker is {version}, which does not fit the compiler: run `cargo install --locked --force bpf-linker@{LINKER}`"
        );
    }
    Ok(())
}

/// Whether the standard library's sources are there.
pub(crate) fn source(rustc: &OsStr) -> anyhow::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// A program that prints a line.
    fn printing(directory: &Path, line: &str) -> PathBuf {
        let program = directory.join("program");
        fs::write(&program, format!("#!/bin/sh\necho '{line}'\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn a_linker_that_is_missing_or_does_not_fit_is_said_with_what_to_run() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent");
        let said = linker(absent.as_os_str()).unwrap_err().to_string();
        assert_eq!(
            said,
            "bpf-linker is missing: run `cargo install --locked bpf-linker@0.10.3`"
        );
        for (line, fits) in [
            ("bpf-linker 0.10.3", true),
            ("bpf-linker 0.10.4", true),
            ("bpf-linker 0.11.1", false),
            ("bpf-linker 0.1.0", false),
            ("", false),
        ] {
            let program = printing(directory.path(), line);
            let said = linker(program.as_os_str()).map_err(|error| error.to_string());
            assert_eq!(said.is_ok(), fits, "{line}: {said:?}");
            let install = "cargo install --locked --force bpf-linker@0.10.3";
            let version = line.rsplit(' ').next().unwrap_or_default();
            let is_told = |said: String| said.contains(install) && said.contains(version);
            assert!(said.is_ok() || said.is_err_and(is_told), "{line}");
        }
    }

    #[test]
    fn missing_sources_of_the_library_are_said_with_what_to_run() {
        let directory = tempfile::tempdir().unwrap();
        let rustc = printing(directory.path(), &directory.path().display().to_string());
        let said = source(rustc.as_os_str()).unwrap_err().to_string();
        assert!(
            said.contains("rustup component add rust-src --toolchain 1.95.0"),
            "{said}"
        );
        fs::create_dir_all(directory.path().join("lib/rustlib/src/rust/library/core")).unwrap();
        assert!(source(rustc.as_os_str()).is_ok());
    }
}
