//! Reading records is itself a record: before the CLI shows any, the audit says who is about to.
//!
//! The daemon writes the line. Where none runs, this process writes it into the log itself, as its one
//! writer for that moment; where even that cannot be done, nothing is shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use nix::unistd::{Gid, Uid};
use serde_json::json;

use super::client;
use super::{Daemon, block_on};
use crate::audit::event::{Caller, Event};
use crate::audit::{self, Sink as _};
use crate::capture::cgroup2::Hierarchy;
use crate::config::{self, Config};
use crate::control::api::{Read, Records};
use crate::identity::Identifier;
use crate::identity::runtimes::Runtimes;
use crate::policy::Generation;

/// Where records are when nothing says otherwise.
const STATE: &str = "/var/lib/interceptor";

/// The state directory, without telling anybody: for a check, which shows nothing.
///
/// # Errors
/// Where the configuration that is named cannot be read.
pub(super) fn state(daemon: &Daemon) -> anyhow::Result<PathBuf> {
    let control = daemon.control()?;
    if runs(&control) {
        let records: Records = block_on(client::get(&control, "/v1/records"), false)?;
        return Ok(PathBuf::from(records.state));
    }
    Ok(configured(daemon)?.map_or_else(|| PathBuf::from(STATE), |config| config.paths.state))
}

/// Tells the audit that `which` of `what` is about to be read; gives the state directory.
///
/// A copy of the records elsewhere, named by `copy`, is read without: it is no longer this host's.
///
/// # Errors
/// Where the reading cannot be written, or the daemon refuses it.
pub(super) fn announce(
    daemon: &Daemon,
    copy: Option<&Path>,
    what: &str,
    which: &str,
) -> anyhow::Result<PathBuf> {
    let control = daemon.control()?;
    if runs(&control) {
        let asked = Read {
            what: what.to_owned(),
            which: which.to_owned(),
        };
        let records: Records = block_on(client::post(&control, "/v1/records/read", &asked), false)?;
        return Ok(PathBuf::from(records.state));
    }
    let config = configured(daemon)?;
    let state = config
        .as_ref()
        .map_or_else(|| PathBuf::from(STATE), |config| config.paths.state.clone());
    if copy.is_none_or(|copy| is_below(copy, &state)) {
        let settings = config.map_or_else(audit::Settings::default, |config: Config| config.audit);
        write(&state, &settings, what, which)?;
    }
    Ok(state)
}

/// One that does not let us in runs: whoever asks it next is told why.
fn runs(control: &Path) -> bool {
    let answer = std::os::unix::net::UnixStream::connect(control);
    answer.map_or_else(
        |error| error.kind() == std::io::ErrorKind::PermissionDenied,
        |_open| true,
    )
}

fn configured(daemon: &Daemon) -> anyhow::Result<Option<Config>> {
    let load =
        |path: &PathBuf| config::load(path).map_err(|mistakes| anyhow::anyhow!("{mistakes}"));
    daemon.config.as_ref().map(load).transpose()
}

fn is_below(path: &Path, state: &Path) -> bool {
    match (path.canonicalize(), state.canonicalize()) {
        (Ok(path), Ok(state)) => path.starts_with(state),
        _ => false,
    }
}

fn write(state: &Path, settings: &audit::Settings, what: &str, which: &str) -> anyhow::Result<()> {
    let log = state.join("audit");
    if !log.exists() {
        return Ok(());
    }
    let unwritten = "cannot write to the audit that it is about to be read";
    let signer = audit::Signer::open(state).context(unwritten)?;
    let log = audit::Log::open(&log, signer, settings).context(unwritten)?;
    let caller = own();
    let event = Event::Control {
        verb: "read",
        caller: Some(caller),
        result: "ok",
        detail: json!({ "what": what, "which": which }),
        generation: Generation(0),
    };
    log.append(&event).context(unwritten)?;
    log.close().context(unwritten)
}

/// This process, as the daemon would describe it.
fn own() -> Caller {
    let pid = std::process::id();
    let ids = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let described = Hierarchy::find()
        .map_err(anyhow::Error::from)
        .and_then(|hierarchy| Ok(Identifier::new(hierarchy.mount(), Runtimes::default())?))
        .and_then(|identifier| {
            block_on(async { Ok(identifier.of_operator(pid, ids).await?) }, false)
        });
    match described {
        Ok(operator) => Caller::Operator(Arc::new(operator)),
        Err(error) => Caller::bare(pid, ids, error.to_string()),
    }
}
