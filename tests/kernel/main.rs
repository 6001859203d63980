//! The kernel tier: the capture layer against the real kernel, with cgroups and namespaces of its own.
//!
//! Needs root, cgroup v2 and Python 3; says so and fails where one is missing. Each test has its own
//! scope, pins and ports, so that all can run at once.

mod address;
mod bind;
mod datagram;
mod guard;
mod loopback;
mod matrix;
mod record;
mod restart;
mod scene;
