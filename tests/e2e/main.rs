//! End to end: the real kernel, real cgroups, a real PostgreSQL, stock clients. Needs root.
//!
//! Each test is one sentence of what the program promises. One of them alone: `cargo xtask e2e NAME`.

mod actions;
mod approvals;
mod attribution;
mod budgets;
mod clients;
mod console;
mod containers;
mod demo;
mod denied;
mod detect;
mod direct;
mod discover;
mod drivers;
mod filesystems;
mod grants;
mod http;
mod identity;
mod kube;
mod lab;
mod launcher;
mod limits;
mod logins;
mod masks;
mod matrix;
mod mistakes;
mod names;
mod namespaces;
mod operating;
mod passwords;
mod prove;
mod psql;
mod records;
mod refusals;
mod roles;
mod saml;
mod scopes;
mod ssh;
mod storage;
mod survival;
mod timeouts;
mod unix;
mod upstreams;
mod webhook;
mod why;
