//! End to end: the real kernel, real cgroups, a real PostgreSQL, stock clients. Needs root.
//!
//! Each test is one sentence of what the program promises. One of them alone: `cargo xtask e2e NAME`.

mod attribution;
mod clients;
mod lab;
mod logins;
mod mistakes;
mod operating;
mod passwords;
mod records;
mod refusals;
mod scopes;
mod storage;
mod survival;
mod upstreams;
