//! Names: who asked the daemon's name server, and which addresses a scope knows a target's name for.

use std::net::SocketAddr;
use std::time::Duration;

use aya::maps::MapError;
use interceptor_ebpf::MAX_NAMED;
use interceptor_ebpf::flow::{self, AskedKey, NamedKey};

use super::rules::{address, endpoint};
use super::{
    Capture, Error, Flow, NetnsCookie, OriginalDestination, map_error, origin::stamp, write_error,
};
use crate::clock::{self, BootTime};

/// How long a question may have waited to be read; a row that is older is of another one.
const FRESH: Duration = Duration::from_secs(10);

impl Capture {
    /// Who sent the last datagram from `client` to the name server at `via`, in a namespace, and to which
    /// resolver. Datagrams of one socket that were sent at once count as of who sent the last.
    ///
    /// # Errors
    /// [`Error::NoRecord`] where nobody of a scope did; it must not be answered.
    pub fn asked(
        &self,
        netns: NetnsCookie,
        client: SocketAddr,
        via: SocketAddr,
    ) -> Result<Flow, Error> {
        let key = AskedKey {
            netns: netns.0,
            client: endpoint(client),
            via: endpoint(via),
        };
        let record = match self.asked.get(&key, 0) {
            Ok(record) => record,
            Err(MapError::KeyNotFound) => return Err(Error::NoRecord),
            Err(source) => return Err(map_error("read", "ASKED")(source)),
        };
        let whole = record.kind == flow::ASKED
            && record.seal == record.sealed()
            && record.netns == key.netns
            && record.client.same(&key.client)
            && record.via.same(&key.via);
        let at = BootTime(record.at);
        if !whole || clock::boot().since(at) > FRESH {
            return Err(Error::NoRecord);
        }
        Ok(Flow {
            destination: OriginalDestination(address(&record.destination).into()),
            process: stamp(&record.process),
            scope: record.scope,
            netns,
            at,
        })
    }

    /// Has connections of a scope to these addresses redirected from now on, whatever other rules say.
    ///
    /// # Errors
    /// Where they do not fit, or the kernel refuses; some of them may be redirected then.
    pub fn name(&self, scope: u64, addresses: &[SocketAddr]) -> Result<(), Error> {
        let mut tables = self.tables();
        for address in addresses {
            let written = tables.named.insert(named(scope, *address), 1, 0);
            let what = "know one more address by its name";
            written.map_err(write_error("NAMED", (what, MAX_NAMED)))?;
        }
        Ok(())
    }

    /// Takes that back.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn unname(&self, scope: u64, addresses: &[SocketAddr]) -> Result<(), Error> {
        let mut tables = self.tables();
        for address in addresses {
            tables.remove_name(&named(scope, *address))?;
        }
        Ok(())
    }

    /// Names that an earlier start knew: nobody knows any more whose they are.
    pub(super) fn forget_names(&self) -> Result<(), Error> {
        let mut tables = self.tables();
        let keys: Result<Vec<_>, _> = tables.named.keys().collect();
        for key in keys.map_err(map_error("read", "NAMED"))? {
            tables.remove_name(&key)?;
        }
        Ok(())
    }
}

impl super::Tables {
    fn remove_name(&mut self, key: &NamedKey) -> Result<(), Error> {
        match self.named.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                Ok(())
            }
            Err(source) => Err(map_error("write", "NAMED")(source)),
        }
    }
}

fn named(scope: u64, at: SocketAddr) -> NamedKey {
    NamedKey {
        scope,
        at: endpoint(at),
        reserved: 0,
    }
}
