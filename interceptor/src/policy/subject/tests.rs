//! What the daemon tells Cedar is what the schema promises to those who write rules.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "most actions are about what their family is about"
)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use cedar_policy::{EvalResult, Request};

use super::*;
use crate::policy::family::Family;
use crate::policy::tests::{ask, person, principal};
use crate::policy::vocabulary::PARSED;
use crate::policy::{Action, GraphqlFacts, GrpcFacts, HttpFacts, McpFacts, TlsFacts};

fn resources() -> Vec<Resource> {
    let name = || "a.b \"c\"/d".to_owned();
    vec![
        Resource::Target,
        Resource::Database,
        Resource::Schema { schema: name() },
        Resource::Table {
            schema: name(),
            table: name(),
        },
        Resource::Column {
            schema: name(),
            table: name(),
            column: name(),
        },
        Resource::Function {
            schema: name(),
            function: name(),
        },
        Resource::File {
            path: vec![name(), name()],
        },
        Resource::Forward {
            host: name(),
            port: 22,
        },
        Resource::Path {
            path: "/a.b \"c\"/d".to_owned(),
        },
        Resource::KubeNamespace { namespace: name() },
        Resource::KubeObject {
            namespace: name(),
            resource: "deployments.apps".to_owned(),
            name: name(),
        },
        Resource::KubeObject {
            namespace: String::new(),
            resource: "nodes".to_owned(),
            name: String::new(),
        },
    ]
}

#[test]
fn entities_are_what_the_schema_says() {
    let mut contained = principal("claude");
    contained.container = Some("c0ffee".to_owned());
    let some = |text: &str| Some(text.to_owned());
    contained.workload = Some(Arc::new(Workload {
        runtime: "cri-o".to_owned(),
        name: some("agent"),
        image: some("registry.example/agent:1"),
        image_id: some("c0de"),
        digest: some("sha256:00"),
        pod: some("agent-0"),
        namespace: some("agents"),
        service_account: some("claude"),
    }));
    contained.user.name = None;
    contained.ancestors.clear();
    let mut bound = principal("claude");
    bound.identity = Some(Arc::new(person()));
    for principal in [principal("claude"), contained, bound] {
        let facts = PrincipalFacts::new(&principal).unwrap();
        Entities::from_entities([facts.entity], Some(&PARSED)).unwrap();
    }
    for resource in resources() {
        let entities = chain_entities("crm", "app", &resource).unwrap();
        Entities::from_entities(entities, Some(&PARSED)).unwrap();
    }
}

/// Whether the schema has the action on such a resource.
fn fits(action: Action, resource: &Resource) -> bool {
    match action {
        Action::Connect => *resource == Resource::Target,
        Action::Open => matches!(resource, Resource::Target | Resource::Database),
        Action::Reveal => !matches!(
            resource,
            Resource::File { .. } | Resource::Forward { .. } | Resource::KubeNamespace { .. }
        ),
        Action::Exec
        | Action::Shell
        | Action::Subsystem
        | Action::HttpPassThrough
        | Action::ForwardX11
        | Action::ForwardAgent => *resource == Resource::Target,
        Action::ListFiles | Action::ReadFile | Action::WriteFile | Action::RemoveFile => {
            matches!(resource, Resource::File { .. })
        }
        Action::ForwardTo | Action::ForwardFrom => {
            matches!(resource, Resource::Forward { .. })
        }
        Action::KubeVisit => matches!(resource, Resource::Path { .. }),
        Action::KubeOther => matches!(
            resource,
            Resource::Path { .. } | Resource::KubeObject { .. }
        ),
        _ if Family::of(action) == Family::Kubernetes => {
            matches!(resource, Resource::KubeObject { .. })
        }
        _ if matches!(
            resource,
            Resource::File { .. }
                | Resource::Forward { .. }
                | Resource::KubeNamespace { .. }
                | Resource::KubeObject { .. }
        ) =>
        {
            false
        }
        _ => {
            let http = Family::of(action) == Family::Http;
            http == matches!(resource, Resource::Path { .. })
        }
    }
}

#[test]
fn requests_are_what_the_schema_says() {
    let facts = Arc::new(PrincipalFacts::new(&principal("claude")).unwrap());
    let subject = Subject::new(&facts, "crm", "app").unwrap();
    let context = crate::policy::Context {
        settings: ["a".to_owned()].into(),
        functions: ["f".to_owned()].into(),
        statements: u32::MAX,
        ..crate::policy::Context::default()
    };
    let facts_of_http = HttpFacts {
        query: ["q".to_owned()].into(),
        graphql: Some(GraphqlFacts::default()),
        grpc: Some(GrpcFacts::default()),
        mcp: Some(McpFacts::default()),
        tls: Some(TlsFacts::default()),
        ..HttpFacts::default()
    };
    let http = crate::policy::Context {
        http: Some(Box::new(facts_of_http)),
        ..crate::policy::Context::default()
    };
    let ssh = crate::policy::Context {
        ssh: Some(Box::default()),
        ..crate::policy::Context::default()
    };
    let kubernetes = crate::policy::Context {
        kubernetes: Some(Box::default()),
        ..crate::policy::Context::default()
    };
    for action in Action::ALL {
        for resource in resources() {
            let context = match Family::of(action) {
                Family::Sql => &context,
                Family::Http => &http,
                Family::Ssh => &ssh,
                Family::Kubernetes => &kubernetes,
            };
            let made = Request::new(
                facts.uid.clone(),
                vocabulary::uid(Kind::Action, action.name()),
                subject.resource(&resource),
                crate::policy::decide::context(context).unwrap(),
                Some(&PARSED),
            );
            let fits = fits(action, &resource);
            assert_eq!(made.is_ok(), fits, "{action:?} {resource:?} {made:?}");
        }
    }
}

#[test]
fn a_resource_lies_in_all_that_it_lies_in() {
    let facts = Arc::new(PrincipalFacts::new(&principal("claude")).unwrap());
    let subject = Subject::new(&facts, "crm", "app").unwrap();
    let column = Resource::Column {
        schema: "public".to_owned(),
        table: "t".to_owned(),
        column: "c".to_owned(),
    };
    let asks = [ask([(Action::Select, column.clone())])];
    let entities = subject.entities(asks.iter()).unwrap();
    let uid = subject.resource(&column);
    for (kind, id) in [
        (Kind::Table, "crm/app/public.t"),
        (Kind::Schema, "crm/app/public"),
        (Kind::Database, "crm/app"),
        (Kind::Target, "crm"),
    ] {
        assert!(
            entities.is_ancestor_of(&vocabulary::uid(kind, id), &uid),
            "{id}"
        );
    }
    let user = vocabulary::uid(Kind::User, "1000");
    assert!(entities.is_ancestor_of(&user, &facts.uid));
    let entity = entities.get(&uid).unwrap();
    let text = |name| match entity.attr(name).unwrap().unwrap() {
        EvalResult::String(text) => text,
        other => panic!("{other:?}"),
    };
    let names = ["name", "table", "schema", "database", "target"].map(text);
    assert_eq!(names, ["c", "t", "public", "app", "crm"]);
}

#[test]
fn two_paths_never_read_the_same() {
    let of = |bytes: &[u8]| path(Path::new(OsStr::from_bytes(bytes)));
    assert_eq!(of(b"/bin/\xff"), r"/bin/\xff");
    assert_ne!(of(b"/bin/\xff"), of(b"/bin/\xfe"));
    assert_eq!(of("/bin/é".as_bytes()), "/bin/é");
}
