//! The `interceptor` program: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    interceptor::cli::main(interceptor::cli::Cli::parse())
}
