//! Containers: tagged by a hook of their runtime before they start, or by name while they run.

mod powers;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::json;

use super::{Tagging, cgroup, still_lives, tag_path};
use crate::config::{self, LabelRule};
use crate::control::Given;
use crate::control::api::{Contain, Scope};
use crate::control::caller::{Answer, Known};
use crate::identity::{is_named, pidfd};
use crate::policy::ControlVerb;
use crate::session::services::Services;

/// `POST /v1/scopes/contain`: tags a container that is about to start, where it is an agent's.
///
/// # Errors
/// An answer where policy refuses, its image names the agent, it has no cgroup of its own, or cannot be
/// intercepted: it must not start then.
pub async fn contain(
    State(services): Given,
    caller: Known,
    Json(asked): Json<Contain>,
) -> Result<Json<Option<Scope>>, Answer> {
    caller.may_somewhere(&services, ControlVerb::Tag).await?;
    let agent = match &asked.agent {
        Some(agent) => Some(agent.clone()),
        None => whose(&services.config.load().labels, &asked).map_err(|why| Answer::bad(&why))?,
    };
    let Some(agent) = agent else {
        return Ok(Json(None));
    };
    if !config::is_name(&agent) {
        return Err(Answer::bad("an agent's name is 1 to 63 of a-z, 0-9 and -"));
    }
    powers::check(&services, (&agent, &asked.id), asked.capabilities.as_ref())?;
    // Held, so that its number is no other process's meanwhile.
    let process = pidfd::open(asked.pid);
    let process = process.map_err(|error| Answer::bad(&format!("no such process: {error}")))?;
    let path = services.capture.hierarchy().of(Some(asked.pid));
    let path = path.map_err(|error| Answer::bad(&error.to_string()))?;
    still_lives(&process)?;
    only_its_own(&services, &path, &asked)?;
    if caller.process()?.uid == 0 {
        services.identity.learn(&asked.bundle);
    }
    let detail = json!({ "cgroup": path, "agent": agent, "container": asked.id });
    let tagging = Tagging {
        path: &path,
        agent: &agent,
        process: Some(process),
        detail,
    };
    tag_path(&services, &caller, tagging)
        .await
        .map(|tagged| Json(Some(tagged)))
}

/// Whose a container is by its labels: the first rule that fits says so.
fn whose(rules: &[LabelRule], asked: &Contain) -> Result<Option<String>, String> {
    let fits = |rule: &&LabelRule| {
        let value = asked.labels.get(&rule.label);
        value.is_some_and(|own| rule.value.as_ref().is_none_or(|wanted| wanted == own))
    };
    let Some(rule) = rules.iter().find(fits) else {
        return Ok(None);
    };
    let of_image = asked.of_image.as_ref();
    if of_image.is_none_or(|names| names.contains(&rule.label)) {
        return Err(format!(
            "label {} may come from the image of container {}, which nobody becomes an agent by: start it with \
             the annotation interceptor.agent",
            rule.label, asked.id
        ));
    }
    Ok(Some(rule.agent.clone()))
}

/// A container without a cgroup of its own cannot be told from what else is in there.
fn only_its_own(services: &Services, path: &str, asked: &Contain) -> Result<(), Answer> {
    let processes = services.capture.hierarchy().processes(path);
    let processes = processes.map_err(|error| Answer::failed(&error))?;
    let is_its_own = is_named(path, &asked.id) || processes == [asked.pid];
    (path != "/" && is_its_own).then_some(()).ok_or_else(|| {
        let id = &asked.id;
        Answer::bad(&format!("container {id} has no cgroup of its own: {path}"))
    })
}

/// A process of a container that runs, held, where none of them may lead packets past the guard.
///
/// # Errors
/// An answer where one may.
pub(super) fn process(
    services: &Services,
    (agent, path): (&str, &str),
) -> Result<Option<OwnedFd>, Answer> {
    let processes = services.capture.hierarchy().processes(path);
    let processes = processes.map_err(|error| Answer::failed(&error))?;
    powers::check(services, (agent, path), Some(&powers::of(&processes)))?;
    let mut held = processes
        .into_iter()
        .filter_map(|pid| pidfd::open(pid).ok());
    Ok(held.next())
}

/// The cgroup of a container that runs, by its name, its id or how that begins.
///
/// # Errors
/// What to say where there is none, or more than one.
pub(super) async fn cgroup_of(services: &Arc<Services>, name: &str) -> Result<String, String> {
    let (services, name) = (Arc::clone(services), name.to_owned());
    cgroup::walk(move || {
        let (all, named) = services.identity.containers(&name);
        one(&all, &named, &name)
    })
    .await
}

fn one(all: &[(String, String)], named: &BTreeSet<String>, name: &str) -> Result<String, String> {
    let by = |fits: &dyn Fn(&str) -> bool| -> Vec<_> {
        let found = all.iter().filter(|(id, _)| fits(id));
        found
            .map(|(id, path)| (id.as_str(), path.as_str()))
            .collect()
    };
    let exact = by(&|id| id == name);
    let found = match exact.is_empty() {
        true => by(&|id| named.contains(id) || !name.is_empty() && id.starts_with(name)),
        false => exact,
    };
    match found.as_slice() {
        [] => Err(format!(
            "no container that runs is called {name}, or has an id that begins so"
        )),
        [(_, path)] => Ok((*path).to_owned()),
        several => {
            let lines = several.iter().map(|(id, path)| format!("\n  {id}  {path}"));
            let lines: String = lines.collect();
            Err(format!(
                "{name} may be any of these, name one by its whole id or its cgroup:{lines}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(labels: &[(&str, &str)], of_image: Option<&[&str]>) -> Contain {
        let text = |text: &str| text.to_owned();
        Contain {
            id: "c".to_owned(),
            pid: 7,
            bundle: "/b".into(),
            agent: None,
            labels: labels
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            of_image: of_image.map(|names| names.iter().copied().map(text).collect()),
            capabilities: Some(BTreeSet::new()),
        }
    }

    fn rule(label: &str, value: Option<&str>, agent: &str) -> LabelRule {
        LabelRule {
            label: label.to_owned(),
            value: value.map(str::to_owned),
            agent: agent.to_owned(),
        }
    }

    #[test]
    fn the_first_rule_whose_label_a_container_has_says_whose_it_is() {
        let rules = [
            rule("role", Some("ci"), "builder"),
            rule("agent", None, "any"),
            rule("role", Some("db"), "never"),
        ];
        for (labels, agent) in [
            (&[("role", "ci"), ("agent", "x")][..], Some("builder")),
            (&[("role", "other"), ("agent", "x")], Some("any")),
            (&[("role", "other")], None),
            (&[], None),
        ] {
            let found = whose(&rules, &asked(labels, Some(&[])));
            assert_eq!(
                found.as_ref().map(Option::as_deref),
                Ok(agent),
                "{labels:?}"
            );
        }
    }

    #[test]
    fn a_label_that_may_be_the_images_makes_no_agent_and_lets_nobody_start() {
        let rules = [rule("agent", None, "any")];
        for of_image in [Some(&["agent"][..]), None] {
            let error = whose(&rules, &asked(&[("agent", "x")], of_image)).unwrap_err();
            assert!(error.contains("may come from the image"), "{error}");
        }
        let other = asked(&[("agent", "x")], Some(&["other"]));
        assert_eq!(whose(&rules, &other), Ok(Some("any".to_owned())));
    }

    #[test]
    fn a_container_is_found_by_name_and_id_and_never_guessed() {
        let all = ["aa11", "aa22", "bb33"].map(|id| (id.to_owned(), format!("/c/{id}")));
        let named = |ids: &[&str]| {
            ids.iter()
                .map(|id| (*id).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let found = |ids: &[&str], name: &str| one(&all, &named(ids), name);
        assert_eq!(found(&[], "aa1"), Ok("/c/aa11".to_owned()));
        assert_eq!(found(&["bb33"], "web"), Ok("/c/bb33".to_owned()));
        // Somebody's name may be another's id.
        assert_eq!(found(&["bb33"], "aa11"), Ok("/c/aa11".to_owned()));
        for (ids, name, said) in [
            (&[][..], "aa", "aa22  /c/aa22"),
            (&["bb33"], "aa1", "bb33  /c/bb33"),
            (&["aa11", "bb33"], "web", "may be any of these"),
        ] {
            let error = found(ids, name).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        for name in ["", "cc", "web"] {
            assert!(
                found(&["dead"], name)
                    .unwrap_err()
                    .starts_with("no container"),
                "{name}"
            );
        }
    }
}
