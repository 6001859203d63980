//! `interceptor hook runtime -- …`: a container runtime that runs the hook, for whoever can be told of a runtime
//! but not of hooks: Docker, and containerd without a plugin.
//!
//! Adds the hook to the bundle's `config.json` where a container is about to be made, and becomes the runtime.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

/// The verbs of runtimes by which a container comes into being, and which have a bundle.
const MAKE: [&str; 3] = ["create", "run", "restore"];
/// Their other verbs.
const OTHER: [&str; 16] = [
    "checkpoint",
    "delete",
    "events",
    "exec",
    "features",
    "help",
    "init",
    "kill",
    "list",
    "pause",
    "ps",
    "resume",
    "spec",
    "start",
    "state",
    "update",
];
/// Options before the verb that stand alone; all others take a value.
const FLAGS: [&str; 6] = [
    "--debug",
    "--systemd-cgroup",
    "--version",
    "-v",
    "--help",
    "-h",
];

/// `interceptor hook runtime`.
#[derive(Debug, Args)]
pub struct Runtime {
    /// The runtime itself.
    #[arg(long, default_value = "runc")]
    runtime: PathBuf,
    /// What the hook is told beside: `--hook=--labels`.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    hook: Vec<String>,
    /// The runtime's own arguments.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

impl Runtime {
    /// Becomes the runtime; returns only where that fails.
    ///
    /// # Errors
    /// Where the hook cannot be put into the bundle, or the runtime not be run.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(bundle) = bundle(&self.arguments)? {
            let program = std::env::current_exe().context("cannot name this program")?;
            add(&bundle.join("config.json"), &program, &self.hook)?;
        }
        let error = Command::new(&self.runtime).args(&self.arguments).exec();
        Err(error).with_context(|| format!("cannot run {}", self.runtime.display()))
    }
}

/// The bundle of the container that these arguments make, if they make one.
fn bundle(arguments: &[OsString]) -> anyhow::Result<Option<PathBuf>> {
    let mut rest = arguments.iter();
    let is_long = |text: &str| text.contains('=') || FLAGS.contains(&text);
    let verb = loop {
        let Some(next) = rest.next() else {
            return Ok(None);
        };
        let text = next.to_string_lossy();
        match text.starts_with('-') {
            true if is_long(&text) => {}
            true => drop(rest.next()),
            false => break text,
        }
    };
    match verb.as_ref() {
        verb if MAKE.contains(&verb) => {}
        verb if OTHER.contains(&verb) => return Ok(None),
        // An option that is not known may have taken the verb for its value.
        verb => bail!("{verb} is no verb of a runtime that is known here"),
    }
    while let Some(next) = rest.next() {
        let text = next.to_string_lossy();
        if ["--bundle", "-b"].contains(&text.as_ref()) {
            let bundle = rest.next().context("--bundle takes a directory")?;
            return Ok(Some(PathBuf::from(bundle)));
        }
        let own = text.strip_prefix("--bundle=");
        if let Some(bundle) = own.or_else(|| text.strip_prefix("-b=")) {
            return Ok(Some(PathBuf::from(bundle)));
        }
    }
    let here = std::env::current_dir().context("cannot tell the directory")?;
    Ok(Some(here))
}

/// Puts the hook into a bundle's `config.json`, once.
fn add(file: &Path, program: &Path, more: &[String]) -> anyhow::Result<()> {
    let name = file.display();
    let text = fs::read(file).with_context(|| format!("cannot read {name}"))?;
    let mut config: Value =
        serde_json::from_slice(&text).with_context(|| format!("{name} is not JSON"))?;
    let words = ["interceptor", "hook", "create-runtime"].into_iter();
    let words: Vec<_> = words.chain(more.iter().map(String::as_str)).collect();
    let hook = json!({ "path": program, "args": words });
    let odd = || format!("{name} is no configuration of a container");
    if config
        .pointer("/annotations")
        .is_some_and(|all| all.get(super::AGENT).is_some())
    {
        take_raw(&mut config);
    }
    let hooks = config.as_object_mut().with_context(odd)?;
    let hooks = hooks.entry("hooks").or_insert_with(|| json!({}));
    if hooks.is_null() {
        *hooks = json!({});
    }
    let all = hooks.as_object_mut().with_context(odd)?;
    let all = all.entry("createRuntime").or_insert_with(|| json!([]));
    if all.is_null() {
        *all = json!([]);
    }
    let all = all.as_array_mut().with_context(odd)?;
    if !all.contains(&hook) {
        all.push(hook);
    }
    let written = || format!("cannot write {name}");
    let new = file.with_extension("json.interceptor");
    let text = serde_json::to_vec(&config).with_context(written)?;
    let mode = fs::metadata(file).with_context(written)?.permissions();
    fs::write(&new, text).with_context(written)?;
    fs::set_permissions(&new, mode).with_context(written)?;
    fs::rename(&new, file).with_context(written)
}

/// Takes from an agent's container what runtimes give every one of theirs, and what is of no use to it: raw sockets are
/// refused it in any case, and where there is no LSM frames would not be.
fn take_raw(config: &mut Value) {
    let sets = config.pointer_mut("/process/capabilities");
    let sets = sets.and_then(Value::as_object_mut).into_iter();
    for set in sets.flat_map(|sets| sets.values_mut()) {
        if let Some(names) = set.as_array_mut() {
            names.retain(|name| name != "CAP_NET_RAW");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle_of(line: &str) -> anyhow::Result<Option<PathBuf>> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        bundle(&words)
    }

    #[test]
    fn a_container_that_is_made_has_its_bundle_wherever_that_stands() {
        let begin = "--root /run/x --log=/l --log-format json --systemd-cgroup";
        for rest in [
            "create --bundle /b --pid-file /p create",
            "run -b /b x",
            "create --bundle=/b x",
            "restore --detach -b /b x",
        ] {
            let found = bundle_of(&format!("{begin} {rest}")).unwrap();
            assert_eq!(found, Some(PathBuf::from("/b")), "{rest}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(bundle_of("run x").unwrap(), Some(here));
    }

    #[test]
    fn what_makes_no_container_is_left_as_it_is() {
        for line in [
            "--version",
            "--root /r state create",
            "--root /r start x",
            "delete --force run",
        ] {
            assert_eq!(bundle_of(line).unwrap(), None, "{line}");
        }
    }

    #[test]
    fn arguments_that_cannot_be_told_apart_make_no_container() {
        for line in [
            "--own-flag --root /r create -b /b x",
            "--own-flag create --bundle /b x",
        ] {
            let error = bundle_of(line).unwrap_err();
            assert!(
                error.to_string().contains("no verb of a runtime"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_hook_is_added_once_and_all_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        let other = json!({ "path": "/other" });
        for hooks in [json!({}), json!(null), json!({ "createRuntime": [other] })] {
            let before = json!({ "ociVersion": "1.0.2", "hooks": hooks });
            fs::write(&file, before.to_string()).unwrap();
            for _ in 0..2 {
                add(&file, Path::new("/i"), &["--labels".to_owned()]).unwrap();
            }
            let after: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let all = after["hooks"]["createRuntime"].as_array().unwrap();
            let before = hooks["createRuntime"].as_array().map_or(0, Vec::len);
            assert_eq!(all.len(), before + 1, "{after}");
            let words = json!(["interceptor", "hook", "create-runtime", "--labels"]);
            assert_eq!(all[before], json!({ "path": "/i", "args": words }));
            assert_eq!(after["ociVersion"], "1.0.2");
        }
        for odd in ["[]", "{", r#"{"hooks":[]}"#] {
            fs::write(&file, odd).unwrap();
            assert!(add(&file, Path::new("/i"), &[]).is_err(), "{odd}");
        }
    }

    #[test]
    fn an_agents_container_has_no_raw_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        let sets =
            json!({ "bounding": ["CAP_CHOWN", "CAP_NET_RAW"], "permitted": ["CAP_NET_RAW"] });
        for (annotations, bounding) in [
            (
                json!({ "interceptor.agent": "claude" }),
                json!(["CAP_CHOWN"]),
            ),
            (json!({}), json!(["CAP_CHOWN", "CAP_NET_RAW"])),
        ] {
            let before = json!({ "annotations": annotations, "process": { "capabilities": sets } });
            fs::write(&file, before.to_string()).unwrap();
            add(&file, Path::new("/i"), &[]).unwrap();
            let after: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let found = &after["process"]["capabilities"]["bounding"];
            assert_eq!(*found, bounding, "{after}");
        }
    }
}
