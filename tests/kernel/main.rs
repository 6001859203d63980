//! The kernel tier: the capture layer against the real kernel, with cgroups and namespaces of its own.
//!
//! Needs root, cgroup v2 and Python 3; says so and fails where one is missing. Each test has its own
//! scope, pins and ports, so that all can run at once.

#[cfg(test)]
mod address;
#[cfg(test)]
mod bind;
#[cfg(test)]
mod carried;
#[cfg(test)]
mod datagram;
#[cfg(test)]
mod doors;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod full;
#[cfg(test)]
mod guard;
#[cfg(test)]
mod host;
#[cfg(test)]
mod loopback;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod names;
#[cfg(test)]
mod pressure;
#[cfg(test)]
mod record;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod reuse;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod told;
#[cfg(test)]
mod ways;
