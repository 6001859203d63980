//! One output: which lines it wants, in which form, how far it is.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::http::Http;
use super::syslog::Syslog;
use super::write::Written;
use super::{From, Line, ocsf, otlp, signed, synced};
use crate::audit::Sequence;
use crate::audit::read::{Entries, Filter};
use crate::config::{Output, OutputFormat, OutputTo};
use crate::secrets::Secrets;

/// Lines of one batch.
const LINES: usize = 500;
/// How long it is until the next look, where there was nothing though there should be.
const AGAIN: Duration = Duration::from_millis(200);
/// Bytes after which a batch ends.
const BYTES: usize = 1 << 20;

/// Where the lines go.
enum To {
    Written(Written),
    Syslog(Box<Syslog>),
    Otlp(Http),
    Webhook(Http),
}

/// An output on its way through the log.
pub(super) struct Lane {
    output: Output,
    to: To,
    from: From,
    cursor: PathBuf,
    sent: u64,
    secrets: Arc<Secrets>,
    /// The log, read on from where the last batch ended; begun anew after a failure.
    entries: Option<Entries>,
}

/// `<name>.json`.
#[derive(Serialize, Deserialize)]
struct Cursor {
    seq: u64,
}

impl Lane {
    /// Finds how far it is. One that is new begins with what is written from now on.
    pub(super) async fn open(
        name: &str,
        output: Output,
        from: From,
        secrets: Arc<Secrets>,
    ) -> Result<Self, String> {
        crate::audit::own(&from.cursors).map_err(|error| error.to_string())?;
        let cursor = from.cursors.join(format!("{name}.json"));
        let known = match fs::read(&cursor) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(format!("cannot read {}: {error}", cursor.display())),
            Ok(text) => {
                let read: Result<Cursor, _> = serde_json::from_slice(&text);
                Some(read.map_err(|error| format!("cannot read {}: {error}", cursor.display()))?)
            }
        };
        let to = match &output.to {
            OutputTo::Stdout => To::Written(Written::stdout()),
            OutputTo::File(path) => To::Written(Written::file(path)),
            OutputTo::Syslog { address, ca } => {
                To::Syslog(Box::new(Syslog::new(address, ca.clone())))
            }
            OutputTo::Otlp { web, .. } => To::Otlp(Http::new(web)),
            OutputTo::Webhook { web, .. } => To::Webhook(Http::new(web)),
        };
        let mut lane = Self {
            output,
            to,
            cursor,
            sent: 0,
            secrets,
            entries: None,
            from,
        };
        match known {
            Some(Cursor { seq }) => lane.sent = seq,
            None => lane.keep(synced(&lane.from.log))?,
        }
        Ok(lane)
    }

    /// The last line that the other side has.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends one batch, waiting for lines where there are none; how many lines the other side took.
    pub(super) async fn step(&mut self) -> Result<u64, String> {
        let past = Sequence(self.sent);
        self.from
            .log
            .synced_past(past)
            .await
            .map_err(|error| error.to_string())?;
        let upto = synced(&self.from.log);
        let (entries, sent, dir) = (self.entries.take(), self.sent, self.from.dir.clone());
        let read = tokio::task::spawn_blocking(move || read(entries, &dir, (sent, upto)));
        let (entries, batch) = read.await.map_err(|error| error.to_string())??;
        let Some(last) = batch.last().map(|line| line.seq) else {
            // What is on disk is there, if not at this look.
            tokio::time::sleep(AGAIN).await;
            return Ok(0);
        };
        let wanted: Vec<Line> = batch.into_iter().filter(|line| self.wants(line)).collect();
        if !wanted.is_empty() {
            self.send(&wanted).await?;
        }
        self.keep(last)?;
        self.entries = Some(entries);
        Ok(u64::try_from(wanted.len()).unwrap_or(u64::MAX))
    }

    fn wants(&self, line: &Line) -> bool {
        let events = &self.output.events;
        events.is_empty()
            || events.iter().any(|event| {
                let filter = Filter {
                    event: Some(event.clone()),
                    ..Filter::default()
                };
                filter.passes(line.text.as_bytes())
            })
    }

    async fn send(&mut self, lines: &[Line]) -> Result<(), String> {
        let made: Vec<String> = match self.output.format {
            OutputFormat::Json => lines.iter().map(|line| line.text.clone()).collect(),
            OutputFormat::Ocsf => {
                let events = lines.iter().map(|line| ocsf::event(&line.text));
                events.map(|event| event.to_string()).collect()
            }
        };
        match (&mut self.to, &self.output.to) {
            (To::Written(to), _) => to.write(&made).await,
            (To::Syslog(to), _) => to.send(lines, &made).await,
            (To::Otlp(http), OutputTo::Otlp { token, .. }) => {
                let token = secret(&self.secrets, token.as_ref()).await?;
                otlp::send(http, token.as_ref(), lines, &made).await
            }
            (To::Webhook(http), OutputTo::Webhook { secret: key, .. }) => {
                let key = secret(&self.secrets, Some(key)).await?;
                signed::send(http, key.as_ref(), lines, &made).await
            }
            _ => Err("it is not what it was".to_owned()),
        }
    }

    /// Keeps how far it is.
    fn keep(&mut self, seq: u64) -> Result<(), String> {
        if seq == self.sent && self.cursor.exists() {
            return Ok(());
        }
        let failed = |error: &dyn std::fmt::Display| {
            format!("cannot write {}: {error}", self.cursor.display())
        };
        let text = serde_json::to_vec(&Cursor { seq }).map_err(|error| failed(&error))?;
        let new = self.cursor.with_extension("new");
        fs::write(&new, text).map_err(|error| failed(&error))?;
        fs::rename(&new, &self.cursor).map_err(|error| failed(&error))?;
        self.sent = seq;
        Ok(())
    }
}

async fn secret(
    secrets: &Secrets,
    source: Option<&crate::config::SecretSource>,
) -> Result<Option<crate::secrets::Secret>, String> {
    match source {
        None => Ok(None),
        Some(source) => {
            let fetched = secrets.fetch(source).await;
            fetched.map(Some).map_err(|error| error.to_string())
        }
    }
}

/// Reads the next lines up to one that is on disk.
fn read(
    entries: Option<Entries>,
    dir: &std::path::Path,
    (sent, upto): (u64, u64),
) -> Result<(Entries, Vec<Line>), String> {
    let after = Filter {
        after: Some(sent),
        ..Filter::default()
    };
    let mut entries = match entries {
        Some(entries) => entries,
        None => Entries::open(dir, after).map_err(|error| error.to_string())?,
    };
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < LINES && bytes < BYTES {
        // One that is not on disk yet is left to the next batch: reading stops before it.
        if batch.last().map_or(sent, |line: &Line| line.seq) >= upto {
            break;
        }
        let Some(entry) = entries.next() else {
            break;
        };
        let text = entry.map_err(|error| error.to_string())?.line;
        let Some(seq) = sequence(&text) else {
            continue;
        };
        bytes += text.len();
        batch.push(Line { seq, text });
    }
    Ok((entries, batch))
}

fn sequence(line: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Head {
        seq: u64,
    }
    serde_json::from_str::<Head>(line).ok().map(|head| head.seq)
}
