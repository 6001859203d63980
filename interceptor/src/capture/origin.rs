//! The record of an accepted socket: read by its descriptor, from the kernel's own storage.

use std::os::fd::{AsFd, AsRawFd as _};

use aya::maps::MapError;
use interceptor_ebpf::flow;
use interceptor_ebpf::process::{COMM, EXECUTABLE, Process, STARTED};

use super::rules::{self, address};
use super::syscall;
use super::{
    Capture, Error, Flow, KernelFile, NetnsCookie, Origin, OriginalDestination, ProcessStamp,
    map_error,
};
use crate::clock::BootTime;
use crate::socket::SocketPath;

impl Origin for Capture {
    fn origin(&self, socket: &impl AsFd) -> Result<Flow, Error> {
        if syscall::is_unix(socket).map_err(Error::Peer)? {
            let flow = self.carried(socket);
            if matches!(flow, Err(Error::NoRecord)) {
                self.count_unrecorded_dial()?;
            }
            return flow;
        }
        let found = self.flows.get(&socket.as_fd().as_raw_fd(), 0);
        let record = match found {
            Ok(record) if record.kind == flow::REDIRECTED => record,
            Ok(_) | Err(MapError::KeyNotFound) => return Err(Error::NoRecord),
            Err(source) => return Err(map_error("read", "FLOWS")(source)),
        };
        Ok(Flow {
            destination: OriginalDestination(address(&record.destination).into()),
            process: stamp(&record.process),
            scope: record.scope,
            netns: NetnsCookie(record.netns),
            at: BootTime(record.at),
        })
    }
}

impl Capture {
    /// The flow behind a UNIX socket that was accepted at the door of targets. It is told once.
    ///
    /// The record is found by the cookie of the client's own socket; that the kernel kept the same process and
    /// user with the accepted one is a second witness.
    fn carried(&self, socket: &impl AsFd) -> Result<Flow, Error> {
        let program = self.programs.peer().ok_or(Error::NoRecord)?;
        let cookie = syscall::peer_cookie(program, socket).map_err(Error::Peer)?;
        if cookie == 0 {
            return Err(Error::NoRecord);
        }
        let dial = {
            let mut tables = self.tables();
            let dial = match tables.dials.get(&cookie, 0) {
                Ok(dial) => dial,
                Err(MapError::KeyNotFound) => return Err(Error::NoRecord),
                Err(source) => return Err(map_error("read", "DIALS")(source)),
            };
            // One that is gone already was evicted meanwhile.
            let _gone = tables.dials.remove(&cookie);
            dial
        };
        let witness = syscall::peer_credentials(socket).map_err(Error::Peer)?;
        let door = rules::text(&dial.door).and_then(|path| SocketPath::new(&path));
        let (Some(door), true) = (door, witness == (dial.process.tgid, dial.process.uid)) else {
            return Err(Error::NoRecord);
        };
        Ok(Flow {
            destination: OriginalDestination(door.into()),
            process: stamp(&dial.process),
            scope: dial.scope,
            netns: NetnsCookie(dial.netns),
            at: BootTime(dial.at),
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
