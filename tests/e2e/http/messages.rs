//! Messages of gRPC are masked by their descriptors, between the stock server and the stock client.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::daemon::{Settings, Target};
use support::process::Process;
use support::tls::Authority;
use support::{DEADLINE, Daemon, place, port};
use tempfile::TempDir;

use super::TOKEN;
use super::held::{approve, asked};
use crate::lab::{has, lacks, needs_root, text};

const POLICY: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("call") permit (principal is Agent, action == Action::"HttpPost", resource in Target::"api")
when { context has grpc && context.grpc.service == "shop.Customers" };
"#;
const MASKS: &str = r#"mask: { customers.email: email, "**.ssn": last4, customers.phones: "null", customers.labels.tier: hide }"#;
const SSN: &str = "078-05-1120";

/// Fields are dropped in order: the daemon before the server.
struct Shop {
    daemon: Daemon,
    _server: Process,
    address: std::net::SocketAddr,
    log: PathBuf,
    directory: TempDir,
}

impl Shop {
    fn new(more: &[&str]) -> Result<Self> {
        Self::policed(POLICY, more, &[])
    }

    /// Under another policy, with more of the target.
    fn policed(policy: &str, more: &[&str], of_target: &[&str]) -> Result<Self> {
        needs_root()?;
        let directory = place::temporary("messages")?;
        let authority = Authority::make(directory.path())?;
        let (address, python) = (port::free()?, place::python()?);
        let log = directory.path().join("arrived");
        fs::write(&log, "")?;
        let mut command = Command::new(&python);
        command
            .arg(script("grpc_shop_server.py"))
            .arg(address.port().to_string())
            .args([&authority.certificate, &authority.key])
            .arg(directory.path())
            .arg(&log)
            .env_clear();
        let server = Process::start(command)?;
        server.await_text("listening", DEADLINE)?;
        let descriptors = format!("grpc: {}", directory.path().join("shop.binpb").display());
        let lines = [&["hosts: [localhost]", &descriptors][..], more].concat();
        let target = Target {
            password: Some(TOKEN.to_owned()),
            authority: Some(authority.ca),
            more: of_target.iter().map(|line| (*line).to_owned()).collect(),
            ..Target::http("api", address, &lines)
        };
        let daemon = Daemon::start(Settings::new(vec![target], policy))?;
        Ok(Self {
            daemon,
            _server: server,
            address,
            log,
            directory,
        })
    }

    /// What the client is told.
    fn call(&self, asked: &[&str]) -> Result<String> {
        let place = format!("localhost:{}", self.address.port());
        let (ca, python) = (self.daemon.authority(), place::python()?);
        let made = self.directory.path().to_string_lossy();
        let (client, ca) = (script("grpc_shop_client.py"), ca.to_string_lossy());
        let words = [&[client.as_str(), &place, &*ca, &*made][..], asked].concat();
        self.daemon
            .agent()
            .run(&python.to_string_lossy(), &words)?
            .ok()
    }

    /// The pages among it.
    fn pages(&self, asked: &[&str]) -> Result<Vec<Value>> {
        let said = self.call(asked)?;
        let page = |line: &str| {
            let (_, page) = line.split_once(' ').context("a page")?;
            serde_json::from_str(page).with_context(|| line.to_owned())
        };
        said.lines().map(page).collect()
    }

    /// What came to the server, one message a line.
    fn arrived(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }
}

fn script(name: &str) -> String {
    let path = place::workspace().join("tests/e2e/http/clients").join(name);
    path.to_string_lossy().into_owned()
}

#[test]
fn messages_are_masked_by_the_names_of_their_fields_in_every_kind_of_call() -> Result<()> {
    let shop = Shop::new(&["inject: { secret: SECRET }", MASKS])?;
    let asked = ["Get:one", "Get:packed", "Get:compressed", "Watch:3", "Talk"];
    let pages = shop.pages(&asked)?;
    ensure!(pages.len() == 8, "{pages:?}");
    for page in &pages {
        lacks(&page.to_string(), &[SSN, "ann@", "555-", "gold"])?;
        let ann = page.pointer("/customers/0").context("a customer")?;
        let wanted = json!({
            "name": "Ann",
            "email": "a***@example.com",
            "card": "4111111111111111",
            "phones": ["", ""],
            "labels": { "ssn": "*******1120" },
            "address": { "street": "Main St", "ssn": "*******1120" },
            "extra": { "ssn": "*******1120", "list": [{ "ssn": "*******1120", "n": 1.0 }] },
            "detail": {
                "@type": "type.googleapis.com/shop.Address",
                "street": "Side St",
                "ssn": "*******1120",
            },
            "office": { "ssn": "*******1120" },
        });
        ensure!(*ann == wanted, "{ann}");
    }
    let last = pages.last().context("a page")?;
    ensure!(text(last, "/asked")? == "b", "{last}");
    // No more than the bound of a message is held of a call that goes on.
    let many = shop.pages(&["Watch:300"])?;
    ensure!(many.len() == 300, "{}", many.len());
    lacks(&serde_json::to_string(&many)?, &[SSN])
}

#[test]
fn a_credential_that_comes_back_in_compressed_messages_is_covered() -> Result<()> {
    for more in [
        &["inject: { secret: SECRET }"][..],
        &["inject: { secret: SECRET }", MASKS],
    ] {
        let shop = Shop::new(more)?;
        let pages = shop.pages(&["Get:credential", "Get:compressed"])?;
        let page = pages.first().context("a page")?;
        has(text(page, "/asked")?, &["Bearer ************"])?;
        lacks(&page.to_string(), &[TOKEN])?;
        let ann = pages
            .last()
            .and_then(|page| page.pointer("/customers/0/name"));
        ensure!(ann == Some(&json!("Ann")), "{pages:?}");
        let returned = shop.daemon.audit().events("credential.returned")?;
        ensure!(returned.len() == 1, "{returned:?}");
    }
    Ok(())
}

#[test]
fn what_no_descriptor_has_is_refused_before_the_call_and_cut_off_behind_it() -> Result<()> {
    let shop = Shop::new(&[MASKS])?;
    let said = shop.call(&["Unknown:here", "Get:later", "Get:status"])?;
    has(
        &said,
        &[
            "Unknown failed PERMISSION_DENIED interceptor: no descriptor says what its messages hold",
            "Get failed ",
            "Get failed NOT_FOUND interceptor: what it said goes no farther",
        ],
    )?;
    lacks(&said, &["P123456789", "ann@"])?;
    lacks(&shop.arrived()?, &["here"])?;
    let cut = shop
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |line| {
            text(line, "/status")
                .is_ok_and(|status| status.contains("its descriptor does not have"))
        })?;
    ensure!(text(&cut, "/status")?.contains("cut off"), "{cut}");
    let shop = Shop::new(&[MASKS, "unread: pass"])?;
    let said = shop.call(&["Unknown:here", "Get:later", "Get:status"])?;
    has(
        &said,
        &[
            "Unknown {",
            "Get {",
            "NOT_FOUND no customer ann@example.com",
        ],
    )?;
    has(&shop.arrived()?, &["here"])
}

#[test]
fn what_leaves_in_messages_is_masked_or_stays_here() -> Result<()> {
    let shop = Shop::new(&["detect_sent: { email: mask, aws_key: refuse }"])?;
    let stars = "*".repeat("ann@example.com".len());
    let said = shop.call(&["Get:packed ann@example.com", "Add:packed,bob@example.com,x"])?;
    has(&said, &[&stars, "Add {"])?;
    lacks(&said, &["bob@"])?;
    let arrived = shop.arrived()?;
    has(&arrived, &[&format!("packed {stars}")])?;
    lacks(&arrived, &["ann@", "bob@"])?;
    let key = "AKIAQYLPMN5HHHFPZAM2";
    let said = shop.call(&[
        &format!("Get:{key}"),
        &format!("Add:x,{key}"),
        &format!("Get:packed {key}"),
        "Unknown:sent",
    ])?;
    has(
        &said,
        &[
            "Get failed PERMISSION_DENIED",
            "a value of kind aws_key",
            "Add failed PERMISSION_DENIED",
            "Unknown failed PERMISSION_DENIED",
        ],
    )?;
    lacks(&shop.arrived()?, &[key, "sent"])?;
    // What is only reported goes on, where it can be read and where it cannot.
    drop(shop);
    let shop = Shop::new(&["detect_sent: { email: report }"])?;
    let said = shop.call(&["Get:ann@example.com", "Unknown:ann@example.com"])?;
    has(&said, &["Get {", "Unknown {"])?;
    let finished = shop.daemon.audit().events("request.finished")?;
    let found = finished
        .first()
        .and_then(|line| line.pointer("/found_sent"));
    ensure!(found == Some(&json!({ "email": 1 })), "{finished:?}");
    Ok(())
}

#[test]
fn a_call_waits_for_people_who_are_shown_its_message() -> Result<()> {
    const ASKS: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open"], resource);
@id("call") @approve("games") permit (principal is Agent, action == Action::"HttpPost", resource in Target::"api")
when { context has grpc && context.grpc.service == "shop.Customers" };
@id("answers") permit (principal is User, action == Action::"Approve", resource in Agent::"demo")
when { principal.groups.contains("games") };
"#;
    let shop = Shop::policed(ASKS, &[], &["timeouts: { hold: 1s }"])?;
    has(
        &shop.call(&["Get:order-7"])?,
        &["Get failed PERMISSION_DENIED", "waits"],
    )?;
    lacks(&shop.arrived()?, &["order-7"])?;
    let one = asked(&shop.daemon, "/shop.Customers/Get")?;
    has(&one.to_string(), &["order-7"])?;
    approve(&shop.daemon, text(&one, "/id")?)?;
    has(&shop.call(&["Get:order-7"])?, &["Get {"])?;
    has(&shop.arrived()?, &["order-7"])
}

#[test]
fn policy_sees_the_fields_of_a_call_that_its_target_says() -> Result<()> {
    let packed = format!("packed closed{}", " ".repeat(2000));
    let policy = format!(
        r#"{POLICY}
@id("closed") forbid (principal, action == Action::"HttpPost", resource)
when {{ context.fields.containsAny(["text=closed", "text={packed}"]) }};
@id("counted") forbid (principal, action == Action::"HttpPost", resource)
unless {{ context.fields.contains("count=0") }};
"#
    );
    let read = "fields: [{ path: /shop.Customers/Get, read: [text, count] }, { path: /shop.Customers/Talk, read: [text] }]";
    let shop = Shop::policed(&policy, &[read], &[])?;
    let said = shop.call(&["Get:open", "Get:closed", "Get:packed closed", "Add:closed"])?;
    let lines: Vec<&str> = said.lines().collect();
    let [open, closed, packed, add] = lines.as_slice() else {
        anyhow::bail!("{said}");
    };
    has(open, &["Get {"])?;
    for refused in [closed, packed] {
        has(refused, &["Get failed PERMISSION_DENIED"])?;
    }
    // Of the others nothing is read, so nothing is counted.
    has(add, &["Add failed PERMISSION_DENIED"])?;
    lacks(&shop.arrived()?, &["closed"])?;
    let refused = shop.daemon.audit().events("request.refused")?;
    let rule = |at: usize| {
        let line = refused.get(at).context("a line")?;
        text(line, "/refusal/rules/0")
    };
    ensure!(
        [rule(0)?, rule(1)?, rule(2)?] == ["closed", "closed", "counted"],
        "{refused:?}"
    );
    Ok(())
}
