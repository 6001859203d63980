//! `interceptor hook`: what container runtimes run before a container starts (OCI runtime specification,
//! "POSIX-platform Hooks").
//!
//! The runtime has made the container's cgroup and network namespace by then, and nothing of the image runs
//! yet: the cgroup is tagged and the daemon listens in the namespace before there is anybody to connect. A hook
//! that fails keeps the container from starting.

pub mod runtime;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde::Deserialize;

use super::{Daemon, client};
use crate::control::api::{Contain, Scope};
use crate::identity::runtimes::{self, Kept};

/// The annotation of a container that names its agent. One without it is left alone.
pub(super) const AGENT: &str = "interceptor.agent";

/// Bytes of what a runtime tells; a container has some kilobytes of annotations.
const MOST: u64 = 1 << 20;

/// `interceptor hook`.
#[derive(Debug, Subcommand)]
pub enum Hook {
    /// Tags the container that the runtime tells of on standard input, where its annotation
    /// `interceptor.agent` names an agent.
    CreateRuntime(CreateRuntime),
    /// Runs a container runtime, and has it run the hook: for those that cannot be told of hooks.
    Runtime(runtime::Runtime),
}

/// `interceptor hook create-runtime`.
#[derive(Debug, Args)]
pub struct CreateRuntime {
    /// Has the configuration's rules about labels say whose a container without the annotation is. No
    /// container at all starts then while the daemon does not run.
    #[arg(long)]
    labels: bool,
    /// Where Docker keeps its data, where that is not the usual place.
    #[arg(long, value_name = "DIRECTORY")]
    state: Vec<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
}

/// What a runtime tells of a container (OCI runtime specification, "State").
#[derive(Debug, Deserialize)]
struct State {
    id: String,
    status: String,
    #[serde(default)]
    pid: u32,
    bundle: PathBuf,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl State {
    fn read(text: &str) -> anyhow::Result<Self> {
        serde_json::from_str(text)
            .context("this is not what a container runtime tells of a container")
    }

    /// What the daemon is to be told; nothing where the container is nobody's. `kept` is what the runtime has
    /// of it beside.
    fn contain(
        self,
        by_label: bool,
        kept: impl FnOnce(&Self) -> anyhow::Result<Option<Kept>>,
    ) -> anyhow::Result<Option<Contain>> {
        let agent = self.annotations.get(AGENT).cloned();
        if agent.is_none() && !by_label {
            return Ok(None);
        }
        ensure!(
            self.pid > 0 && ["creating", "created"].contains(&self.status.as_str()),
            "container {} is {}: it can be tagged only before it starts, by a hook of createRuntime",
            self.id,
            self.status
        );
        // A bundle of nobody's has no image.
        let Kept {
            mut labels,
            of_image,
            ..
        } = kept(&self)?.unwrap_or_else(|| Kept {
            of_image: Some(BTreeSet::new()),
            ..Kept::default()
        });
        if agent.is_some() {
            ensure!(
                of_image
                    .as_ref()
                    .is_some_and(|names| !names.contains(AGENT)),
                "annotation {AGENT} may come from the image of container {}, which nobody becomes an agent by: use \
                 an image without it",
                self.id
            );
        }
        labels.extend(self.annotations);
        Ok(Some(Contain {
            id: self.id,
            pid: self.pid,
            bundle: self.bundle,
            agent,
            labels,
            of_image,
            capabilities: None,
        }))
    }
}

impl Hook {
    /// # Errors
    /// Where the runtime tells something else, the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let CreateRuntime {
            labels,
            state: places,
            daemon,
        } = match self {
            Self::CreateRuntime(hook) => hook,
            Self::Runtime(runtime) => return runtime.run(),
        };
        let mut text = String::new();
        let told = std::io::stdin().take(MOST).read_to_string(&mut text);
        told.context("cannot read what the runtime tells")?;
        let kept = |state: &State| {
            let kept = runtimes::of_container(&state.bundle, &state.id, &places);
            kept.map_err(anyhow::Error::msg)
        };
        let Some(mut asked) = State::read(&text)?.contain(labels, kept)? else {
            return Ok(ExitCode::SUCCESS);
        };
        asked.capabilities = runtimes::capabilities(&asked.bundle);
        let control = daemon.control()?;
        let tagged = client::post::<_, Option<Scope>>(&control, "/v1/scopes/contain", &asked).await;
        tagged.with_context(|| format!("cannot tag container {}", asked.id))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: &str, pid: u32, more: &str) -> State {
        let text = format!(
            r#"{{"ociVersion":"1.0.2","id":"c","status":"{status}","pid":{pid},"bundle":"/b"{more}}}"#
        );
        State::read(&text).unwrap()
    }

    fn unknown(_state: &State) -> anyhow::Result<Option<Kept>> {
        Ok(None)
    }

    const NAMED: &str = r#","annotations":{"interceptor.agent":"claude"}"#;

    #[test]
    fn a_container_is_whose_its_annotation_says_before_it_starts() {
        for status in ["creating", "created"] {
            let found = state(status, 7, NAMED).contain(false, unknown);
            let found = found.unwrap().unwrap();
            assert_eq!((found.pid, found.agent.as_deref()), (7, Some("claude")));
        }
        for more in ["", r#","annotations":{}"#] {
            let found = state("running", 7, more).contain(false, unknown);
            assert_eq!(found.unwrap(), None);
        }
    }

    #[test]
    fn rules_are_asked_with_all_labels_and_annotations_where_that_is_wanted() {
        let more = r#","annotations":{"a":"of the runtime","b":"x"}"#;
        let kept = |_: &State| {
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            Ok(Some(Kept {
                labels: [pair("a", "of its storage"), pair("c", "y")].into(),
                of_image: Some(["c".to_owned()].into()),
                ..Kept::default()
            }))
        };
        let found = state("created", 7, more).contain(true, kept);
        let found = found.unwrap().unwrap();
        assert_eq!(found.agent, None);
        let labels: Vec<_> = found.labels.iter().collect();
        assert_eq!(
            format!("{labels:?}"),
            r#"[("a", "of the runtime"), ("b", "x"), ("c", "y")]"#
        );
        assert_eq!(found.of_image, Some(["c".to_owned()].into()));
    }

    #[test]
    fn nobody_becomes_an_agent_by_what_an_image_says() {
        for of_image in [Some([AGENT.to_owned()].into()), None] {
            let kept = Kept {
                of_image,
                ..Kept::default()
            };
            let found = state("created", 7, NAMED).contain(false, |_| Ok(Some(kept)));
            let error = found.unwrap_err().to_string();
            assert!(error.contains("may come from the image"), "{error}");
        }
    }

    #[test]
    fn a_container_that_runs_already_is_too_late() {
        for (status, pid) in [("running", 7), ("stopped", 7), ("creating", 0)] {
            let error = state(status, pid, NAMED)
                .contain(false, unknown)
                .unwrap_err();
            assert!(
                error.to_string().contains("only before it starts"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_no_runtime_tells_is_refused() {
        for text in ["", "{}", "[]", r#"{"id":1}"#] {
            assert!(State::read(text).is_err(), "{text}");
        }
    }
}
