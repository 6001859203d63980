//! The agent as an attacker: it knows the source, owns its process tree, and has compilers and drivers.
//! The upstream as an attacker: it says what no server says. Needs root, to make the scopes.
//!
//! Each test is one attack against the real daemon on the real kernel, and what must come of it.

mod floods;
mod http;
mod idle;
mod logins;
mod masks;
mod messages;
mod paths;
mod reach;
mod smuggling;
mod ssh;
mod startups;
mod upstreams;
mod volume;
mod ways_out;

#[path = "../e2e/lab.rs"]
mod lab;

#[path = "../e2e/ssh/lab.rs"]
mod ssh_lab;
