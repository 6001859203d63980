//! The project's commands: `cargo xtask check | test | e2e | suite | bench | fuzz | demo | setup`.
//!
//! Depends on nothing that needs more than Rust and a C linker, so that it compiles on a fresh machine
//! and can install what the rest needs. Each command sets up what it needs itself.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks on the terminal"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the product's rules on dialling and clocks are not for the things around it"
)]

mod bench;
mod check;
mod demo;
mod fuzz;
mod guard;
mod root;
mod setup;
mod shell;
mod stage;
mod test;
mod vm;

use std::process::ExitCode;

use crate::setup::For;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check            formatting, lints on both targets, docs, tidy, dependencies
  test [TIER…]     every test: unit, protocol, policy, kernel, e2e, hostile, suites (needs root: asks sudo);
                   or those of some tiers
  e2e [FILTER…]    the end-to-end tests whose names contain FILTER
  e2e --vm [KERNEL…] [WORD… | --whole]
                   the telling part of the kernel tier under 5.10, 6.1, 6.12 and 7.3, each in an
                   emulated machine, and the program as a service there; or only the tests whose
                   names contain a WORD, and the service where one is `service`; or all of the tier
  suite NAME [--seconds N]
                   all of a foreign suite directly and through: regress, psycopg2, asyncpg,
                   sqlalchemy, sqlsmith, openssh, asyncssh, paramiko
  bench postgres [FILTER…]
                   direct, haproxy, pgbouncer and interceptor side by side; only the cases
                   whose names contain a FILTER
  bench http [FILTER…]
                   direct, haproxy, mitmproxy and interceptor from TLS to TLS, side by side
  bench detect     value detectors beside a set of regular expressions
  bench approvals  what a thousand requests cost that wait for people at once
  bench grants     what a grant costs a request, with ten thousand of them alive
  bench judge      what a statement costs before it goes upstream, the first time and again
  bench kernel     what the programs in the kernel cost, and many connects, scopes and namespaces
                   (needs root: asks sudo)
  bench records    a place in a long recording, and words among a million requests
  bench ssh        bulk, logins and idle sessions of SSH, direct and through the daemon
  fuzz NAME [--seconds N]
                   a fuzzer, for a minute or for N seconds
  fuzz canary [--seconds N [--seed S]]
                   statements that ask for what is masked, in every way there is: prints what
                   was asked and answered, and fails where anything of it came back
  demo [--keep] [--program FILE]
                   the whole thing on your terminal; --keep stays up for playing; --program takes
                   one that is built already
  setup [demo | e2e | test | bench]
                   only install what that command needs; without one, what building needs";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["check"] => check::everything(),
        ["test", tiers @ ..] => test::tiers(tiers),
        ["e2e", "--vm", words @ ..] => vm::matrix(words),
        ["e2e", filter @ ..] => test::end_to_end(filter),
        ["bench", "postgres", filter @ ..] => bench::postgres(filter),
        ["bench", "http", filter @ ..] => bench::http::measure(filter),
        ["bench", "detect"] => bench::detect::measure(),
        ["bench", "approvals"] => bench::approvals::measure(),
        ["bench", "grants"] => bench::grants::measure(),
        ["bench", "judge"] => bench::judge::measure(),
        ["bench", "kernel"] => bench::kernel::measure(),
        ["bench", "records"] => bench::records::measure(),
        ["bench", "ssh"] => bench::ssh::measure(),
        ["suite", name] => test::suite(name, None),
        ["suite", name, "--seconds", seconds] => test::suite(name, Some(seconds)),
        ["fuzz", "canary"] => fuzz::canary("60", "1"),
        ["fuzz", "canary", "--seconds", seconds] => fuzz::canary(seconds, "1"),
        ["fuzz", "canary", "--seconds", seconds, "--seed", seed] => fuzz::canary(seconds, seed),
        ["fuzz", name] => fuzz::target(name, "60"),
        ["fuzz", name, "--seconds", seconds] => fuzz::target(name, seconds),
        ["demo", options @ ..] => demo::run(options),
        ["setup"] => setup::build(),
        ["setup", "demo"] => setup::servers(For::Demo).map(drop),
        ["setup", "e2e"] => setup::clients(For::EndToEnd).map(drop),
        ["setup", "test"] => setup::clients(For::Test)
            .and_then(|ready| setup::suites(&ready))
            .map(drop),
        ["setup", "bench"] => setup::servers(For::Bench)
            .and_then(|_ready| setup::servers(For::Web))
            .and_then(|_ready| setup::mitmproxy())
            .map(drop),
        // How the commands that need root throughout call themselves through sudo.
        ["as-root", "demo", keep] => demo::as_root(*keep == "keep"),
        ["as-root", "bench-ssh"] => bench::ssh::as_root(),
        ["as-root", "bench-http", filter @ ..] => bench::http::as_root(filter),
        ["as-root", "bench", filter @ ..] => bench::as_root(filter),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
