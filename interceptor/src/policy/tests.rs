//! What the tests of this module share: a principal, a policy from text, an ask.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{
    Access, Action, Ask, Context, Generation, Grantable, Mistakes, Offer, Policy, PrincipalFacts,
    Resource,
};
use crate::clock::BootTime;
use crate::identity::{Cgroup, Executable, Identity, Principal, Process, User};

/// A process of an agent, run by user 1000.
pub(super) fn principal(agent: &str) -> Principal {
    let process = |pid, path: &str| Process {
        pid,
        started: BootTime(1),
        executable: Executable {
            path: PathBuf::from(path),
            sha256: format!("{pid:064x}"),
        },
        argv: Vec::new(),
        uid: 1000,
    };
    Principal {
        agent: agent.to_owned(),
        user: User {
            uid: 1000,
            gid: 100,
            name: Some("alice".to_owned()),
        },
        process: process(3, "/usr/bin/psql"),
        ancestors: vec![process(2, "/bin/sh"), process(1, "/usr/bin/python3")],
        cgroup: Cgroup {
            id: 9,
            path: format!("/agents.slice/{agent}/job"),
            scope: format!("/agents.slice/{agent}"),
        },
        container: None,
        workload: None,
        privileged: false,
        identity: None,
    }
}

/// Somebody that a scope can be bound to.
pub(super) fn person() -> Identity {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Identity {
        issuer: "https://idp.example".to_owned(),
        subject: "248289761001".to_owned(),
        user: Some("jane".to_owned()),
        groups: words(&["dba", "staff"]),
        acr: Some("phr".to_owned()),
        amr: words(&["hwk"]),
        claims: [("ref".to_owned(), "refs/heads/main".to_owned())].into(),
        expires: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// The same, ready to be judged.
pub(super) fn agent(name: &str) -> PrincipalFacts {
    PrincipalFacts::new(&principal(name)).unwrap()
}

/// Loads a directory of one file.
pub(super) fn load_text(text: &str) -> Result<Policy, Mistakes> {
    load_text_as(text, Generation(1))
}

/// Loads a directory of one file, as a later generation.
pub(super) fn load_text_as(text: &str, generation: Generation) -> Result<Policy, Mistakes> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("test.cedar"), text).unwrap();
    Policy::load(dir.path(), generation)
}

/// A table of schema `public`.
pub(super) fn table(name: &str) -> Resource {
    Resource::Table {
        schema: "public".to_owned(),
        table: name.to_owned(),
    }
}

/// What permits offer `claude` for this on table `orders`, which nothing permits by itself.
pub(super) fn offered(policy: &Policy, action: Action) -> Vec<Arc<[Offer]>> {
    let access = Access {
        action,
        resource: table("orders"),
    };
    let principal = Arc::new(agent("claude"));
    let grantable = policy.grantable(&principal, "crm", "app", &access);
    match grantable.expect("it may be granted") {
        Grantable::For { offers, .. } => offers,
        Grantable::Permitted => panic!("it is permitted already"),
    }
}

/// An ask for some accesses, with a `WHERE` where one is needed.
pub(super) fn ask<const N: usize>(accesses: [(Action, Resource); N]) -> Ask {
    let accesses = accesses.map(|(action, resource)| Access { action, resource });
    Ask {
        accesses: BTreeSet::from(accesses),
        context: Context {
            has_where: true,
            ..Context::default()
        },
    }
}
