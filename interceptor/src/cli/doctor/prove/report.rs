//! What came of it: a table for people, and a signed report for whoever asks later.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::{PublicKey, Signer};

/// What came of one way in one kind of scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The kernel said no.
    Refused {
        /// With these words.
        errno: String,
    },
    /// Nobody said no, and nothing arrived.
    Silent,
    /// It leads to what this host does not have, or does not show: nothing was tried.
    Absent,
    /// Open, as it is said to be on such a kernel.
    Limit,
    /// Open.
    Open,
}

impl Outcome {
    fn word(&self) -> &str {
        match self {
            Self::Refused { errno } => errno,
            Self::Silent => "silent",
            Self::Absent => "nothing here",
            Self::Limit => "open (limit)",
            Self::Open => "OPEN",
        }
    }
}

/// One way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// Its name.
    pub(super) way: String,
    /// For a command of `interceptor run`.
    pub(super) launched: Outcome,
    /// For a process in a cgroup that is only tagged.
    pub(super) tagged: Outcome,
}

/// The report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// Version of the form.
    pub(super) v: u32,
    /// When.
    pub(super) time: String,
    /// The host's name.
    pub(super) host: String,
    /// The kernel: release and build.
    pub(super) kernel: String,
    /// The kernel's security modules, where it tells.
    pub(super) security: String,
    /// This program.
    pub(super) version: String,
    /// Who looks at UNIX sockets.
    pub(super) guard: String,
    /// Whether the whole host is guarded.
    #[serde(default)]
    pub(super) guards_host: bool,
    /// As whom it was tried.
    pub(super) user: String,
    /// Each way.
    pub(super) ways: Vec<Row>,
}

impl Report {
    /// Ways that are open and must not be.
    pub(super) fn open(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Open)
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        let one = |row: &&Row| is(&row.launched) || is(&row.tagged);
        self.ways.iter().filter(one).count()
    }

    /// As a table.
    pub(super) fn table(&self) -> String {
        let width = self.ways.iter().map(|row| row.way.len()).max();
        let width = width.unwrap_or(0);
        let mut text = format!("{:width$}  {:16}  tagged\n", "way out", "run");
        for Row {
            way,
            launched,
            tagged,
        } in &self.ways
        {
            let (launched, tagged) = (launched.word(), tagged.word());
            text += &format!("{way:width$}  {launched:16}  {tagged}\n");
        }
        text += &format!(
            "\n{} ways, {} open, {} a limit of this kernel or configuration (Linux {}, guard {}{})\n",
            self.ways.len(),
            self.open(),
            self.count(|outcome| *outcome == Outcome::Limit),
            self.kernel,
            self.guard,
            if self.guards_host { " and host" } else { "" }
        );
        text
    }
}

/// What is written: the report, the id of the key that signed it, and the signature of [`PURPOSE`], a line end, and
/// the report's bytes as they stand when written without spaces and with sorted keys.
#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    report: Value,
    key: String,
    signature: String,
}

/// What is signed begins with this line.
const PURPOSE: &str = "interceptor boundary report";

/// Writes it, signed with the key that signs the audit log.
pub(super) fn write(report: &Report, signer: &Signer, to: &Path) -> anyhow::Result<()> {
    let report = serde_json::to_value(report)?;
    let signed = Signed {
        signature: signer.sign_document(PURPOSE, &serde_json::to_vec(&report)?),
        key: signer.public().id().to_owned(),
        report,
    };
    let mut text = serde_json::to_vec_pretty(&signed)?;
    text.push(b'\n');
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

/// Reads one that one of these keys has signed.
///
/// # Errors
/// Where it is none, or has been changed.
pub(super) fn read(keys: &[PublicKey], from: &Path) -> anyhow::Result<Report> {
    let text = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let signed: Signed = serde_json::from_slice(&text).context("it is no report")?;
    let key = keys.iter().find(|key| key.id() == signed.key);
    let key = key.with_context(|| {
        format!(
            "the report is signed with another key, {:?}: name the audit.pub of the host that signed it by --key",
            signed.key
        )
    })?;
    let bytes = serde_json::to_vec(&signed.report)?;
    let valid = key.has_signed(PURPOSE, &bytes, &signed.signature);
    ensure!(valid, "the report is not as it was signed");
    serde_json::from_value(signed.report).context("it is a report of another version")
}
