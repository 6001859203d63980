//! One machine from its start to its end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use support::place;

/// Everything is emulated, and the machine may share its host.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// What came of it.
#[derive(Default)]
pub(super) struct Outcome {
    /// The kernel, as it names itself.
    pub(super) release: String,
    /// What the kernel has.
    pub(super) features: BTreeMap<String, String>,
    /// By part of the tier: how many tests passed, and failed.
    pub(super) parts: BTreeMap<String, (u32, u32)>,
    /// The tests that failed.
    pub(super) failed: Vec<String>,
    /// What `doctor --prove` said, by who was guarded: how many ways, open ones, limits.
    pub(super) proofs: BTreeMap<String, (u32, u32, u32)>,
    /// How the tests ended; none where the machine did not get so far.
    pub(super) ended: Option<i32>,
}

impl Outcome {
    /// Whether all ran and passed.
    pub(super) fn good(&self) -> bool {
        let passed: u32 = self.parts.values().map(|(passed, _)| passed).sum();
        self.ended == Some(0) && self.failed.is_empty() && passed > 0
    }

    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["vm:", "release", release] => (*release).clone_into(&mut self.release),
            ["vm:", "feature", name, has] => {
                self.features.insert((*name).to_owned(), (*has).to_owned());
            }
            ["vm:", "ended", code] => self.ended = code.parse().ok(),
            [
                "vm:",
                "proof",
                guard,
                ways,
                "ways,",
                open,
                "open,",
                limits,
                ..,
            ] => {
                let number = |word: &str| word.parse().unwrap_or(u32::MAX);
                let proof = (number(ways), number(open), number(limits));
                self.proofs.insert((*guard).to_owned(), proof);
            }
            ["test", name, "...", result] => {
                let part = name.split("::").next().unwrap_or(name);
                let (passed, failed) = self.parts.entry(part.to_owned()).or_default();
                match *result {
                    "ok" => *passed += 1,
                    _ => {
                        *failed += 1;
                        self.failed.push((*name).to_owned());
                    }
                }
            }
            _ => {}
        }
    }
}

/// A machine that ends with this value.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Boots `image` with the archives one after the other as its memory, until it turns itself off. With `filters` only
/// tests run whose names contain one; `service` is the part behind the tier.
pub(super) fn boot(
    image: &Path,
    archives: &[&Path],
    filters: &[&str],
    log: &Path,
) -> anyhow::Result<Outcome> {
    let directory = place::temporary("initrd")?;
    let initrd = directory.path().join("initrd");
    let mut whole = File::create(&initrd).context("make the archive")?;
    for archive in archives {
        let mut part =
            File::open(archive).with_context(|| format!("open {}", archive.display()))?;
        std::io::copy(&mut part, &mut whole).context("join the archives")?;
    }
    whole.flush().context("join the archives")?;
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", "3072", "-nographic", "-no-reboot", "-nic", "none"])
        .arg("-append")
        .arg(format!(
            "console=ttyS0 quiet panic=-1 noapic tests={}",
            filters.join(",")
        ))
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(&initrd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("start qemu-system-x86_64")?;
    let said = child.stdout.take().context("hear the machine")?;
    let _machine = Machine(child);
    let mut kept = File::create(log).with_context(|| format!("write {}", log.display()))?;
    let mut outcome = Outcome::default();
    let begun = Instant::now();
    let until = begun + LONGEST;
    let lines = lines(said);
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        writeln!(kept, "{:>7.1} {line}", begun.elapsed().as_secs_f64())
            .context("keep what the machine says")?;
        let was = outcome.failed.len();
        outcome.take(&line);
        if outcome.failed.len() > was || line.starts_with("vm: ") {
            println!("{line}");
        }
    }
    if outcome.ended.is_none() {
        println!("the machine said no end: {}", tail(log));
    }
    Ok(outcome)
}

/// Lines as they come, without what moves a cursor.
fn lines(said: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line);
            let plain = text.rsplit('\u{1b}').next().unwrap_or_default();
            let plain = match plain.split_once('J').filter(|_| plain.starts_with('[')) {
                Some((_, rest)) => rest,
                None => plain,
            };
            if sender.send(plain.trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The last thing that it said.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_good_where_all_passed_and_it_said_so() {
        let said = |lines: &[&str]| {
            let mut outcome = Outcome::default();
            lines.iter().for_each(|line| outcome.take(line));
            outcome
        };
        let passed = "test bind::a_squatter ... ok";
        assert!(said(&[passed, "vm: ended 0"]).good());
        for bad in [
            &[passed][..],
            &["vm: ended 0"],
            &[passed, "vm: ended 101"],
            &[passed, "test bind::another ... FAILED", "vm: ended 0"],
        ] {
            assert!(!said(bad).good(), "{bad:?}");
        }
        let one = said(&["vm: release 6.1.0", "vm: feature BTF yes", passed]);
        assert_eq!(one.release, "6.1.0");
        assert_eq!(one.parts.get("bind"), Some(&(1, 0)));
        assert_eq!(one.features.get("BTF").map(String::as_str), Some("yes"));
        let proof =
            "vm: proof host 82 ways, 0 open, 9 a limit of this kernel or configuration (Linux 6.1)";
        assert_eq!(said(&[proof]).proofs.get("host"), Some(&(82, 0, 9)));
    }
}
