//! `interceptor hook`: what container runtimes run before a container starts (OCI runtime specification,
//! "POSIX-platform Hooks").
//!
//! The runtime has made the container's cgroup and network namespace by then, and nothing of the image runs
//! yet: the cgroup is tagged and the daemon listens in the namespace before there is anybody to connect. A hook
//! that fails keeps the container from starting.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde::Deserialize;

use super::{Daemon, client};
use crate::control::api::{self, Scope, Which};

/// The annotation of a container that names its agent. One without it is left alone.
const AGENT: &str = "interceptor.agent";

/// Bytes of what a runtime tells; a container has some kilobytes of annotations.
const MOST: u64 = 1 << 20;

/// `interceptor hook`.
#[derive(Debug, Subcommand)]
pub enum Hook {
    /// Tags the container that the runtime tells of on standard input, where its annotation
    /// `interceptor.agent` names an agent.
    CreateRuntime(CreateRuntime),
}

/// `interceptor hook create-runtime`.
#[derive(Debug, Args)]
pub struct CreateRuntime {
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
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl State {
    fn read(text: &str) -> anyhow::Result<Self> {
        serde_json::from_str(text)
            .context("this is not what a container runtime tells of a container")
    }

    /// Which process is to be whose; none where the container is nobody's.
    fn agent(&self) -> anyhow::Result<Option<(u32, &str)>> {
        let Some(agent) = self.annotations.get(AGENT) else {
            return Ok(None);
        };
        ensure!(
            self.pid > 0 && ["creating", "created"].contains(&self.status.as_str()),
            "container {} is {}: it can be tagged only before it starts, by a hook of createRuntime",
            self.id,
            self.status
        );
        Ok(Some((self.pid, agent)))
    }
}

impl Hook {
    /// # Errors
    /// Where the runtime tells something else, the daemon cannot be reached, or refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let Self::CreateRuntime(CreateRuntime { daemon }) = self;
        let mut text = String::new();
        let told = std::io::stdin().take(MOST).read_to_string(&mut text);
        told.context("cannot read what the runtime tells")?;
        let state = State::read(&text)?;
        let Some((pid, agent)) = state.agent()? else {
            return Ok(ExitCode::SUCCESS);
        };
        let asked = api::Tag {
            which: Which {
                cgroup: None,
                pid: Some(pid),
                unit: None,
            },
            agent: agent.to_owned(),
        };
        let tagged = client::post::<_, Scope>(&daemon.control()?, "/v1/scopes/tag", &asked).await;
        tagged.with_context(|| format!("cannot tag container {}", state.id))?;
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

    const NAMED: &str = r#","annotations":{"interceptor.agent":"claude"}"#;

    #[test]
    fn a_container_is_whose_its_annotation_says_before_it_starts() {
        let found = state("creating", 7, NAMED);
        assert_eq!(found.agent().unwrap(), Some((7, "claude")));
        let found = state("created", 7, NAMED);
        assert_eq!(found.agent().unwrap(), Some((7, "claude")));
        for more in ["", r#","annotations":{}"#] {
            assert_eq!(state("running", 7, more).agent().unwrap(), None);
        }
    }

    #[test]
    fn a_container_that_runs_already_is_too_late() {
        for (status, pid) in [("running", 7), ("stopped", 7), ("creating", 0)] {
            let error = state(status, pid, NAMED).agent().unwrap_err();
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
