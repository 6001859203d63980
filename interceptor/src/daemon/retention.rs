//! Purges recordings whose time is over, now and then, each behind its line in the audit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::audit::read::{Entries, Filter};
use crate::audit::{self, Event, Log, Sink};
use crate::clock;
use crate::config::Keep;
use crate::recording::Error;
use crate::recording::retention::{self, Due};
use crate::recording::verify::Vouched;
use crate::session::services::Services;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(600);

/// Settles what an earlier daemon left, then purges until `stop`.
pub(super) async fn watch(services: Arc<Services>, stop: CancellationToken) {
    let root = services.config.load().paths.state.join("recordings");
    let since = services.recorder.since();
    let audit: Arc<dyn Sink> = Arc::<Log>::clone(&services.audit);
    let settled = {
        let (root, log) = (root.clone(), root.with_file_name("audit"));
        let known = move |from| vouched(&log, from);
        let settle = move || retention::settle_lost(&root, since, &audit, known);
        tokio::task::spawn_blocking(settle).await
    };
    match settled {
        Ok(Ok(0)) => {}
        Err(error) => tracing::error!(%error, "cannot end what a daemon that died has recorded"),
        Ok(Ok(count)) => tracing::info!(count, "recordings of a daemon that died are over"),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot end what a daemon that died has recorded")
        }
    }
    loop {
        if let Err(error) = look(&services, root.clone()).await {
            tracing::error!(%error, "cannot look for recordings whose time is over");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What the log says of recordings, from a time on.
fn vouched(log: &Path, from: Timestamp) -> Result<Vouched, audit::Error> {
    let filter = Filter {
        since: Some(from),
        event: Some("recording".to_owned()),
        ..Filter::default()
    };
    let mut vouched = Vouched::default();
    for entry in Entries::open(log, filter)? {
        vouched.take(entry?.line.as_bytes());
    }
    Ok(vouched)
}

/// One look.
async fn look(services: &Arc<Services>, root: PathBuf) -> Result<(), Error> {
    let (looked, now) = (Arc::clone(services), clock::wall());
    let due = tokio::task::spawn_blocking(move || find(&looked, &root, now)).await;
    match due {
        Ok(due) => {
            for due in due? {
                purge(services, due).await;
            }
        }
        Err(error) => tracing::error!(%error, "cannot look for recordings whose time is over"),
    }
    Ok(())
}

fn find(services: &Services, root: &Path, now: Timestamp) -> Result<Vec<Due>, Error> {
    retention::sweep(root)?;
    let config = services.config.load();
    let keep = |target: &str| -> Keep {
        let said = config.targets.get(target).map(|target| target.keep);
        said.unwrap_or_default().or(config.recording.keep)
    };
    retention::due(root, keep, now)
}

/// Its line first, and on disk: what is gone without one is a violation.
async fn purge(services: &Arc<Services>, due: Due) {
    let session = due.meta.session;
    // Since the list was made somebody may have come to hold it.
    let _alone = services.keeping.lock().await;
    if due.is_held() {
        return;
    }
    let tail = due.tail().unwrap_or_else(|error| {
        tracing::warn!(%error, %session, "a recording goes without the hash of its end");
        None
    });
    let event = Event::RecordingPurged {
        session,
        target: &due.meta.target,
        agent: due.meta.agent(),
        started: due.meta.started,
        bytes: due.bytes,
        tail,
        why: due.why,
    };
    let written = services.audit.append(&event);
    let written = match written {
        Ok(sequence) => services.audit.durable(sequence).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        tracing::error!(%error, %session, "a recording is kept past its time: the audit cannot be told of it");
        return;
    }
    let target = due.meta.target.clone();
    let purged = tokio::task::spawn_blocking(move || due.purge()).await;
    match purged {
        Ok(Ok(())) => services.metrics.recording_purged(&target),
        Ok(Err(error)) => {
            tracing::error!(%error, %session, "cannot remove a recording whose time is over")
        }
        Err(error) => {
            tracing::error!(%error, %session, "cannot remove a recording whose time is over")
        }
    }
}
