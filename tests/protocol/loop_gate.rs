//! A session's gate with the real policy.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use interceptor::clock::BootTime;
use interceptor::identity::{Cgroup, Executable, Principal, Process, User};
use interceptor::masking::Masks;
use interceptor::policy::{Generation, Policy, PrincipalFacts, Refusal};
use interceptor::session::meter::Room;
use interceptor::session::{
    Authorized, Direction, EndReason, Gate, Outcome, Phase, Reading, Refused, RequestId, Said,
    Terminal, Typed,
};

/// What a session is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Everything is permitted.
    Open,
    /// But tables that are named `denied…`.
    Denied,
    /// Nor what cannot be read, function calls, and what runs on tables that are named `late…`.
    Closed,
    /// Everything is permitted but functions that are not the server's own.
    Uncalled,
    /// Everything is permitted, and answers of what is named `few` are limited.
    Limited,
}

const ALL: &str = r#"
@id("all")
permit (principal is Agent, action, resource);
"#;

const CALLED_RULES: &str = r#"
@id("no-functions-of-others")
@hint("ask for it")
forbid (principal is Agent, action == Action::"Call", resource is Function)
unless { resource.schema == "pg_catalog" };
"#;

const RULES: &str = r#"
@id("no-denied")
@hint("ask for it")
forbid (principal is Agent, action, resource is Table)
when { resource.name like "denied*" };
"#;

const READ_RULES: &str = r#"
@id("nothing-unread")
@hint("ask for it")
forbid (principal is Agent, action == Action::"Unreadable", resource);
"#;

const CLOSED_RULES: &str = r#"
@id("no-calls")
@hint("ask for it")
forbid (principal is Agent, action == Action::"FastPath", resource);

@id("too-late")
@hint("ask for it")
forbid (principal is Agent, action, resource is Table)
when { resource.name like "late*" };
"#;

const LIMITED_RULES: &str = r#"
@id("few-rows")
@max_rows("100")
permit (principal is Agent, action, resource is Table)
when { resource.name == "few_rows" };

@id("few-bytes")
@max_bytes("4KiB")
permit (principal is Agent, action, resource is Table)
when { resource.name == "few_bytes" };

@id("few-in-all")
@max_session_rows("150")
permit (principal is Agent, action, resource is Table)
when { resource.name == "few_in_all" };
"#;

static LIMITED: LazyLock<Policy> = LazyLock::new(|| policy(&[ALL, LIMITED_RULES].concat()));
static OPEN: LazyLock<Policy> = LazyLock::new(|| policy(ALL));
static UNCALLED: LazyLock<Policy> = LazyLock::new(|| policy(&[ALL, CALLED_RULES].concat()));
static POLICY: LazyLock<Policy> = LazyLock::new(|| policy(&[ALL, RULES].concat()));
static READ: LazyLock<Policy> = LazyLock::new(|| policy(&[ALL, RULES, READ_RULES].concat()));
static CLOSED: LazyLock<Policy> =
    LazyLock::new(|| policy(&[ALL, RULES, READ_RULES, CLOSED_RULES].concat()));

fn policy(rules: &str) -> Policy {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.cedar"), rules).unwrap();
    Policy::load(directory.path(), Generation(1)).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// What one request was and became.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) permitted: bool,
    pub(crate) outcomes: Vec<Outcome>,
}

pub(crate) struct PolicyGate {
    principal: Arc<PrincipalFacts>,
    rules: Rules,
    pub(crate) masks: Mutex<Arc<Masks>>,
    pub(crate) lines: Mutex<HashMap<RequestId, Line>>,
    pub(crate) order: Mutex<Vec<RequestId>>,
}

impl PolicyGate {
    pub(crate) fn new(rules: Rules, masks: &Arc<Masks>) -> Self {
        Self {
            rules,
            masks: Mutex::new(Arc::clone(masks)),
            principal: Arc::new(PrincipalFacts::new(&principal()).unwrap()),
            lines: Mutex::default(),
            order: Mutex::default(),
        }
    }

    /// Every permitted request has one end, no other has any.
    pub(crate) fn assert_balanced(&self) {
        for line in self.lines.lock().unwrap().values() {
            assert_eq!(line.outcomes.len(), usize::from(line.permitted), "{line:?}");
        }
    }

    /// The requests in their order.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let lines = self.lines.lock().unwrap();
        let order = self.order.lock().unwrap();
        order.iter().map(|id| lines[id].clone()).collect()
    }
}

impl Gate for PolicyGate {
    async fn authorize(
        &self,
        phase: Phase,
        said: Said<'_>,
        reading: &Arc<Reading>,
    ) -> Result<Authorized, Refused> {
        let request = RequestId(uuid::Uuid::now_v7());
        // What was permitted when it was prepared may not be when it is run.
        let policy = match (self.rules, phase) {
            (Rules::Open, _) => &OPEN,
            (Rules::Uncalled, _) => &UNCALLED,
            (Rules::Limited, _) => &LIMITED,
            (Rules::Closed, Phase::Execute) => &CLOSED,
            (Rules::Closed, Phase::Prepare) => &READ,
            (Rules::Denied, _) => &POLICY,
        };
        let judged = policy.authorize(&self.principal, "db", "postgres", &reading.asks);
        let line = Line {
            text: said.text.to_owned(),
            permitted: judged.is_ok(),
            outcomes: Vec::new(),
        };
        self.lines.lock().unwrap().insert(request, line);
        self.order.lock().unwrap().push(request);
        match judged {
            Ok(permit) => Ok(Authorized {
                request,
                permit,
                word: None,
                allowance: None,
            }),
            Err(refusal) => Err(Refused { request, refusal }),
        }
    }

    fn asks_people(&self) -> bool {
        false
    }

    fn finish(&self, request: RequestId, outcome: &Outcome) {
        let mut lines = self.lines.lock().unwrap();
        let line = lines.get_mut(&request).unwrap();
        line.outcomes.push(outcome.clone());
    }

    async fn record(&self, _: Direction, _: Bytes) -> Result<(), Refusal> {
        Ok(())
    }

    fn masks(&self) -> Arc<Masks> {
        Arc::clone(&self.masks.lock().unwrap())
    }

    async fn terminal(&self, _: u32, _: &Terminal) -> Result<(), Refusal> {
        Ok(())
    }

    fn typed(&self, _: RequestId, _: &[Typed]) -> Result<(), Refusal> {
        Ok(())
    }

    fn lasts(&self, _: RequestId) {}

    fn presented(&self, _: &str, _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    fn returned(&self, _: RequestId, _: &'static str) -> Result<(), Refusal> {
        Ok(())
    }

    fn room(&self) -> Room {
        Room::default()
    }

    async fn ended(&self) -> EndReason {
        std::future::pending().await
    }
}

fn principal() -> Principal {
    Principal {
        agent: "tester".to_owned(),
        user: User {
            uid: 1000,
            gid: 1000,
            name: None,
        },
        process: Process {
            pid: 1,
            started: BootTime(1),
            executable: Executable {
                path: PathBuf::from("/usr/bin/psql"),
                sha256: "0".repeat(64),
            },
            argv: Vec::new(),
            uid: 1000,
        },
        ancestors: Vec::new(),
        cgroup: Cgroup {
            id: 1,
            path: "/a".to_owned(),
            scope: "/a".to_owned(),
        },
        container: None,
        workload: None,
        privileged: false,
        identity: None,
    }
}
