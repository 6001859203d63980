//! Who asks in benches.

use std::path::PathBuf;

use interceptor::clock::BootTime;
use interceptor::identity::{Cgroup, Executable, Principal, Process, User};

/// Somebody in this scope.
pub(crate) fn principal(scope: u64) -> Principal {
    Principal {
        identity: None,
        agent: "agent".to_owned(),
        user: User {
            uid: 1000,
            gid: 1000,
            name: None,
        },
        process: Process {
            pid: 1,
            started: BootTime(1),
            executable: Executable {
                path: PathBuf::from("/bin/agent"),
                sha256: "0".repeat(64),
            },
            argv: Vec::new(),
            uid: 1000,
        },
        ancestors: Vec::new(),
        cgroup: Cgroup {
            id: scope,
            path: format!("/{scope}"),
            scope: format!("/{scope}"),
        },
        container: None,
        workload: None,
        privileged: false,
    }
}
