//! Policy files as text: which are read, where each policy in them begins, and what is too deep to parse.
//!
//! Cedar's parser recurses without a bound and takes the process with it at a few hundred nested
//! parentheses (measured with 4.14), so text is measured here before the parser sees it. Nothing of a
//! directory that could hold a rule is passed over in silence: a rule that is not read is a rule that
//! does not forbid.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::config;

/// Most bytes of one file.
const FILE_BYTES: u64 = 1024 * 1024;
/// Most files of one directory.
const FILES: usize = 1_000;
/// Most policies of one directory.
const POLICIES: usize = 10_000;
/// Deepest nesting of brackets in a policy.
const NESTING: usize = 100;
/// Most operators in one policy: chains of them nest as brackets do, without brackets.
const OPERATORS: usize = 1_000;

/// One mistake (or warning) in a policy directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// The file, or the directory where it is about the whole.
    pub file: PathBuf,
    /// The line, from 1; absent where it is about the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is wrong and what was expected.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.text),
            None => write!(f, "{}: {}", self.file.display(), self.text),
        }
    }
}

/// Every mistake of a directory, in the order of its files; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// One file's text.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Its path.
    pub(super) path: Arc<Path>,
    /// What it holds.
    pub(super) text: Arc<str>,
}

impl File {
    /// The line, from 1, in which the byte at `offset` stands.
    pub(super) fn line(&self, offset: usize) -> u32 {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let breaks = before.iter().filter(|byte| **byte == b'\n').count();
        u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// A mistake at `offset`.
    pub(super) fn mistake(&self, offset: usize, text: impl Into<String>) -> Mistake {
        Mistake {
            file: self.path.to_path_buf(),
            line: Some(self.line(offset)),
            text: text.into(),
        }
    }
}

/// One policy's text.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The file that it stands in.
    pub(super) file: File,
    /// Where its first token stands.
    pub(super) start: usize,
    /// From the first token to the semicolon.
    pub(super) text: String,
}

impl Piece {
    /// A mistake at `offset` bytes from the policy's first token.
    pub(super) fn mistake(&self, offset: usize, text: impl Into<String>) -> Mistake {
        self.file.mistake(self.start.saturating_add(offset), text)
    }

    /// The line of its first token.
    pub(super) fn line(&self) -> u32 {
        self.file.line(self.start)
    }
}

/// Reads the `*.cedar` files of `dir`, by name. What cannot be read is among `mistakes`.
pub(super) fn read(dir: &Path, mistakes: &mut Vec<Mistake>) -> Vec<File> {
    let mut paths = match list(dir, mistakes) {
        Ok(paths) => paths,
        Err(error) => {
            mistakes.push(whole(dir, format!("cannot list the directory: {error}")));
            return Vec::new();
        }
    };
    paths.sort();
    if paths.len() > FILES {
        mistakes.push(whole(
            dir,
            format!("holds more than {FILES} policy files; join some of them"),
        ));
        return Vec::new();
    }
    if paths.is_empty() && mistakes.is_empty() {
        let text =
            "holds no *.cedar file: nothing would be permitted; name the directory of a pack";
        mistakes.push(whole(dir, text));
    }
    let mut files = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(text) => files.push(File {
                path: Arc::from(path),
                text: Arc::from(text),
            }),
            Err(text) => mistakes.push(whole(&path, text)),
        }
    }
    files
}

/// Finds the policy files of a directory, and refuses those that would be passed over.
fn list(dir: &Path, mistakes: &mut Vec<Mistake>) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Editors keep their own copies under such names.
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if holds_policies(&path)? {
                let text = "is a directory with policies, which are not read: directories are \
                            flat; move its files up, or name this directory instead";
                mistakes.push(whole(&path, text));
            }
        } else if name.ends_with(".cedar") {
            paths.push(path);
        } else if name == "schema.cedarschema" {
            check_schema(&path, mistakes);
        } else if name.ends_with(".cedarschema") || name.ends_with(".cedar.json") {
            let text = "is not read: policies are written in *.cedar, and the schema is the \
                        program's own";
            mistakes.push(whole(&path, text));
        }
    }
    Ok(paths)
}

fn holds_policies(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if entry?.file_name().to_string_lossy().ends_with(".cedar") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A copy of the schema may lie beside the policies; it must say what the program's own says.
fn check_schema(path: &Path, mistakes: &mut Vec<Mistake>) {
    let text = match read_file(path) {
        Ok(text) => text,
        Err(text) => return mistakes.push(whole(path, text)),
    };
    let same = |line: &&str| !line.is_empty() && !line.starts_with("//");
    let ours = super::SCHEMA.lines().map(str::trim).filter(same);
    let mut theirs = text.lines().map(str::trim).filter(same);
    for line in ours {
        if theirs.next() != Some(line) {
            let text = format!(
                "is not the schema that this version judges by: `{line}` expected; take the \
                 schema away, or replace it by this version's"
            );
            return mistakes.push(whole(path, text));
        }
    }
    if let Some(line) = theirs.next() {
        let text = format!("is not the schema that this version judges by: `{line}` is unknown");
        mistakes.push(whole(path, text));
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let about = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !about.is_file() {
        return Err("is not a file".to_owned());
    }
    if about.len() > FILE_BYTES {
        return Err(format!("is larger than {FILE_BYTES} bytes"));
    }
    if config::is_open(&about) {
        return Err("may be written by others than its owner: chmod go-w it".to_owned());
    }
    let own = nix::unistd::geteuid().as_raw();
    if about.uid() != 0 && about.uid() != own {
        let owner = about.uid();
        return Err(format!(
            "belongs to uid {owner}, who may change it: root or uid {own} expected"
        ));
    }
    fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

fn whole(path: &Path, text: impl Into<String>) -> Mistake {
    Mistake {
        file: path.to_path_buf(),
        line: None,
        text: text.into(),
    }
}

/// Cuts files into policies, and refuses what the parser would not survive.
pub(super) fn split(files: &[File], mistakes: &mut Vec<Mistake>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for file in files {
        match Cutter::new(file).cut() {
            Ok(cut) => pieces.extend(cut),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if pieces.len() > POLICIES
        && let Some(piece) = pieces.get(POLICIES)
    {
        mistakes.push(piece.mistake(0, format!("more than {POLICIES} policies")));
    }
    pieces
}

/// Reads one file token by token, as far as brackets, strings, comments and operators go.
struct Cutter<'a> {
    file: &'a File,
    at: usize,
    depth: usize,
    operators: usize,
    start: Option<usize>,
    pieces: Vec<Piece>,
}

impl<'a> Cutter<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            file,
            at: 0,
            depth: 0,
            operators: 0,
            start: None,
            pieces: Vec::new(),
        }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        let at = self.at.checked_add(ahead)?;
        self.file.text.as_bytes().get(at).copied()
    }

    fn step(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    fn cut(mut self) -> Result<Vec<Piece>, Mistake> {
        while let Some(byte) = self.byte(0) {
            match byte {
                b'/' if self.byte(1) == Some(b'/') => self.comment(),
                byte if byte.is_ascii_whitespace() => self.step(1),
                _ => self.token(byte)?,
            }
        }
        if self.start.is_some() {
            self.finish();
        }
        Ok(self.pieces)
    }

    fn comment(&mut self) {
        while self.byte(0).is_some_and(|byte| byte != b'\n') {
            self.step(1);
        }
    }

    fn token(&mut self, byte: u8) -> Result<(), Mistake> {
        self.start.get_or_insert(self.at);
        match byte {
            b'"' => return self.string(),
            b'(' | b'[' | b'{' => {
                self.depth = self.depth.saturating_add(1);
                if self.depth > NESTING {
                    let text = format!("brackets nest deeper than {NESTING}");
                    return Err(self.file.mistake(self.at, text));
                }
            }
            b')' | b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            b';' => {
                self.step(1);
                self.finish();
                return Ok(());
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => return self.word(),
            b'.' | b'!' | b'&' | b'|' | b'=' | b'<' | b'>' | b'+' | b'-' | b'*' => {
                self.operator()?;
            }
            _ => {}
        }
        self.step(1);
        Ok(())
    }

    fn word(&mut self) -> Result<(), Mistake> {
        let start = self.at;
        while self
            .byte(0)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            self.step(1);
        }
        let word = self.file.text.get(start..self.at).unwrap_or_default();
        if matches!(
            word,
            "if" | "in" | "is" | "has" | "like" | "when" | "unless"
        ) {
            self.operator()?;
        }
        Ok(())
    }

    fn operator(&mut self) -> Result<(), Mistake> {
        self.operators = self.operators.saturating_add(1);
        if self.operators > OPERATORS {
            let text = format!("more than {OPERATORS} operators in one policy; split it");
            return Err(self.file.mistake(self.at, text));
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Mistake> {
        let start = self.at;
        self.step(1);
        while let Some(byte) = self.byte(0) {
            match byte {
                b'\\' => self.step(2),
                b'"' => {
                    self.step(1);
                    return Ok(());
                }
                _ => self.step(1),
            }
        }
        Err(self.file.mistake(start, "a string is not closed"))
    }

    fn finish(&mut self) {
        let start = self.start.take().unwrap_or(self.at);
        let text = self.file.text.get(start..self.at).unwrap_or_default();
        self.pieces.push(Piece {
            file: self.file.clone(),
            start,
            text: text.to_owned(),
        });
        self.depth = 0;
        self.operators = 0;
    }
}

#[cfg(test)]
mod tests;
