//! Checking a log, here or a copy of it elsewhere, and what is needed for that: the key and an anchor.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::Log;
use crate::audit::PublicKey;
use crate::audit::checkpoint::{self, Checkpoint, sign};
use crate::audit::verify::{Report, Trust, verify_with};
use crate::cli::{counted, terminal};
use crate::recording::{self, verify::Vouched};

/// What a log is checked by.
#[derive(Clone, Debug, Default, Args)]
pub struct By {
    /// A file with public keys that may have signed it; by default this host's own.
    #[arg(long)]
    pub key: Vec<PathBuf>,
    /// A file with checkpoints that were kept elsewhere, one a line.
    #[arg(long)]
    pub anchor: Vec<PathBuf>,
    /// The directory of the recordings, which are checked too; by default this host's own.
    #[arg(long)]
    pub recordings: Option<PathBuf>,
}

impl By {
    /// The log is this host's own: so is the key, where none is named.
    pub(super) fn of_this_host(&mut self, state: &Path) {
        let own = state.join(sign::PUBLIC);
        if self.key.is_empty() && own.exists() {
            self.key.push(own);
        }
        self.recordings
            .get_or_insert_with(|| state.join("recordings"));
    }

    fn keys(&self) -> Result<Vec<PublicKey>> {
        let mut keys = Vec::new();
        for path in &self.key {
            keys.extend(PublicKey::read(path)?);
        }
        Ok(keys)
    }

    fn anchors(&self) -> Result<Vec<Checkpoint>> {
        let mut anchors = Vec::new();
        for path in &self.anchor {
            let cannot = || format!("cannot read the anchor {}", path.display());
            let text = fs::read_to_string(path).with_context(cannot)?;
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let anchor = Checkpoint::parse(line.as_bytes());
                anchors.push(anchor.map_err(anyhow::Error::msg).with_context(cannot)?);
            }
        }
        Ok(anchors)
    }
}

/// The log, and behind it the recordings.
fn held(
    log: &Log,
    trust: Trust<'_>,
    root: Option<&Path>,
) -> Result<(Report, Option<recording::verify::Report>)> {
    let read = || {
        let mut vouched = Vouched::default();
        let report = verify_with(&log.dir(), trust, &mut |line| vouched.take(line))?;
        anyhow::Ok((report, vouched))
    };
    let (report, vouched) = read()?;
    let Some(checked) = root.map(|root| vouched.check(root)).transpose()? else {
        return Ok((report, None));
    };
    // A daemon goes on writing: what has become of a recording since stands in the log by now.
    let (report, vouched) = match checked.is_in_doubt() {
        true => read()?,
        false => (report, vouched),
    };
    Ok((report, Some(checked.by(&vouched))))
}

pub(super) fn check(by: &By, log: &Log, out: &mut impl Write) -> Result<u8> {
    let (keys, anchors) = (by.keys()?, by.anchors()?);
    for anchor in anchors.iter().filter(|_| !keys.is_empty()) {
        if let Err(what) = anchor.is_signed_by(&keys) {
            bail!("the anchor at sequence {} {what}", anchor.seq);
        }
    }
    let trust = Trust {
        keys: &keys,
        anchors: &anchors,
    };
    let root = by.recordings.as_deref().filter(|root| root.exists());
    let (report, recordings) = held(log, trust, root)?;
    if report.segments == 0 && report.is_whole() {
        bail!(
            "cannot find an audit log in {}: no audit-*.jsonl is there; name its place with --dir or --config",
            log.dir().display()
        );
    }
    let is_whole = recordings
        .as_ref()
        .is_none_or(recording::verify::Report::is_whole);
    if log.json {
        let both = Both {
            log: &report,
            recordings: recordings.as_ref(),
        };
        let text = serde_json::to_string(&both)?;
        writeln!(out, "{}", terminal::json(&text))?;
        return Ok(u8::from(!report.is_whole() || !is_whole));
    }
    let code = tell(&report, out)?;
    if let Some(recordings) = &recordings {
        tell_recordings(recordings, out)?;
    }
    Ok(code.max(u8::from(!is_whole)))
}

/// `audit verify --json`.
#[derive(Serialize)]
struct Both<'a> {
    #[serde(flatten)]
    log: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    recordings: Option<&'a recording::verify::Report>,
}

fn tell_recordings(report: &recording::verify::Report, out: &mut impl Write) -> Result<()> {
    for recording::verify::Violation { session, what } in &report.violations {
        let line = format!("recording {session}: {what}");
        writeln!(out, "{}", terminal::line(&line))?;
    }
    if report.unlisted > 0 {
        writeln!(out, "and {} more", report.unlisted)?;
    }
    let sessions = counted(report.sessions, "recording", "recordings");
    match report.is_whole() {
        true => writeln!(out, "{sessions} as the log says, {} purged", report.purged)?,
        false => writeln!(out, "recordings are damaged ({sessions} were read)")?,
    }
    if report.unvouched_bytes > 0 {
        let bytes = report.unvouched_bytes;
        writeln!(out, "the log vouches for all but {bytes} bytes of them yet")?;
    }
    Ok(())
}

fn tell(report: &Report, out: &mut impl Write) -> Result<u8> {
    for violation in &report.violations {
        writeln!(out, "{}", terminal::line(&violation.to_string()))?;
    }
    if report.unlisted > 0 {
        writeln!(out, "and {} more", report.unlisted)?;
    }
    let lines = counted(report.lines, "line", "lines");
    let segments = counted(report.segments, "segment", "segments");
    if !report.is_whole() {
        writeln!(out, "the log is damaged ({lines} in {segments} were read)")?;
        return Ok(1);
    }
    writeln!(out, "the log is whole: {lines} in {segments}")?;
    match report.checkpoint {
        None | Some(0) => writeln!(
            out,
            "no checkpoint vouches for its end yet: lines that are missing there cannot be told"
        )?,
        Some(checkpoint) => writeln!(
            out,
            "certain up to sequence {checkpoint}, the last checkpoint"
        )?,
    }
    match report.signed {
        Some(signed) => writeln!(
            out,
            "signed up to sequence {signed} ({} checked)",
            counted(report.signatures, "signature", "signatures")
        )?,
        None => writeln!(
            out,
            "signatures were not checked: name the public key with --key"
        )?,
    }
    if report.anchors > 0 {
        let anchors = counted(report.anchors, "anchor stands", "anchors stand");
        writeln!(out, "{anchors} where they did")?;
    }
    if report.unfinished_bytes > 0 {
        let bytes = report.unfinished_bytes;
        writeln!(
            out,
            "behind it {bytes} bytes are no whole line yet: being written, or cut off by a crash"
        )?;
    }
    Ok(0)
}

/// The public key beside a log.
pub(super) fn key(log: &Log, out: &mut impl Write) -> Result<u8> {
    let dir = log.dir();
    let path = dir.parent().unwrap_or(&dir).join(sign::PUBLIC);
    for key in PublicKey::read(&path)? {
        match log.json {
            true => writeln!(out, "{}", json!({ "key": key.id(), "pem": key.pem() }))?,
            false => write!(out, "{}", key.pem())?,
        }
    }
    Ok(0)
}

/// The newest checkpoint, as a line.
pub(super) fn checkpoint(to: Option<&Path>, log: &Log, out: &mut impl Write) -> Result<u8> {
    let newest = checkpoint::newest(&log.dir())?;
    let line = serde_json::to_string(&newest)?;
    match to {
        Some(path) => fs::write(path, format!("{line}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => writeln!(out, "{line}")?,
    }
    Ok(0)
}
