//! What is wrong with a configuration: every mistake with file, line, column, key and what was expected.
//!
//! A mistake never repeats what stands where a secret belongs: its text comes from the key's shape.

use std::fmt;
use std::path::{Path, PathBuf};

use super::shape::Held;

/// A place in the file, both counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where; `None` where it concerns the file as a whole.
    pub place: Option<Place>,
    /// The key, as `targets.orders.addresses[0]`; empty at the top of the file.
    pub key: String,
    /// What was expected there.
    pub expected: String,
}

/// Everything that is wrong with one file, in the file's order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub all: Vec<Mistake>,
    /// Where the policies lie all the same, as far as the file says.
    pub policies: Option<PathBuf>,
}

impl Mistakes {
    /// A single mistake that concerns the whole file.
    pub(super) fn whole(file: &Path, expected: impl Into<String>) -> Self {
        let mistake = Mistake {
            place: None,
            key: String::new(),
            expected: expected.into(),
        };
        Self {
            file: file.to_owned(),
            all: vec![mistake],
            policies: None,
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.all.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(Place { line, column }) = mistake.place {
                write!(f, "{line}:{column}:")?;
            }
            if !mistake.key.is_empty() {
                write!(f, " {}:", mistake.key)?;
            }
            write!(f, " {}", mistake.expected)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A file that the configuration names and that is read later.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Where.
    pub(super) place: Place,
    /// Under which key.
    pub(super) key: String,
    /// Its path, as it was written.
    pub(super) path: PathBuf,
    /// What it is to hold.
    pub(super) held: Held,
}

/// Collects mistakes while a file is checked, and the files that it names.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<Mistake>,
    named: Vec<Named>,
}

impl Report {
    /// Notes a file that is named.
    pub(super) fn name(&mut self, named: Named) {
        self.named.push(named);
    }

    /// The files that were named.
    pub(super) fn named(&mut self) -> Vec<Named> {
        std::mem::take(&mut self.named)
    }

    /// Notes one mistake.
    pub(super) fn add(&mut self, place: Place, key: &str, expected: impl Into<String>) {
        self.found.push(Mistake {
            place: Some(place),
            key: key.to_owned(),
            expected: expected.into(),
        });
    }

    /// The mistakes in the file's order; `None` where there is none.
    pub(super) fn finish(mut self, file: &Path) -> Option<Mistakes> {
        self.found.sort_by_key(|mistake| mistake.place);
        self.found.dedup();
        (!self.found.is_empty()).then(|| Mistakes {
            file: file.to_owned(),
            all: self.found,
            policies: None,
        })
    }
}
