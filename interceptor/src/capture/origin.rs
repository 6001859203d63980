//! The record of an accepted socket: read by its descriptor, from the kernel's own storage.

use std::os::fd::{AsFd, AsRawFd as _};

use aya::maps::MapError;
use interceptor_ebpf::flow;
use interceptor_ebpf::process::{COMM, EXECUTABLE, Process, STARTED};

use super::rules::address;
use super::{
    Capture, Error, Flow, KernelFile, NetnsCookie, Origin, OriginalDestination, ProcessStamp,
    map_error,
};
use crate::clock::BootTime;

impl Origin for Capture {
    fn origin(&self, socket: &impl AsFd) -> Result<Flow, Error> {
        let found = self.flows.get(&socket.as_fd().as_raw_fd(), 0);
        let record = match found {
            Ok(record) if record.kind == flow::REDIRECTED => record,
            Ok(_) | Err(MapError::KeyNotFound) => return Err(Error::NoRecord),
            Err(source) => return Err(map_error("read", "FLOWS")(source)),
        };
        Ok(Flow {
            destination: OriginalDestination(address(&record.destination)),
            process: stamp(&record.process),
            scope: record.scope,
            netns: NetnsCookie(record.netns),
            at: BootTime(record.at),
        })
    }
}

/// The kernel's stamp in our own words.
///
/// A start time that the kernel could not tell is the end of time: later than any connect, so that
/// whoever compares the two does not trust the process.
pub(super) fn stamp(process: &Process) -> ProcessStamp {
    let Process {
        started,
        cgroup,
        inode,
        device,
        tgid,
        uid,
        gid,
        comm,
        fields,
        reserved: _,
    } = process;
    let has = |field| fields & field != 0;
    let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    ProcessStamp {
        tgid: *tgid,
        started: BootTime(if has(STARTED) { *started } else { u64::MAX }),
        executable: has(EXECUTABLE).then_some(KernelFile {
            device: *device,
            inode: *inode,
        }),
        uid: *uid,
        gid: *gid,
        cgroup: *cgroup,
        comm: if has(COMM) {
            String::from_utf8_lossy(name).into_owned()
        } else {
            String::new()
        },
    }
}
