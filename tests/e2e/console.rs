//! The web page on which people answer, in a real browser; and who cannot reach it.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Browser, DEADLINE, Daemon, Finished, Process, place, port};

use crate::lab::{Lab, has, refused, text};

mod crowd;
mod standins;

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("orders") permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.orders");
@id("salaries") @approve("games, idp:analysts, slack:dba")
permit (principal is Agent, action == Action::"Select", resource in Table::"shop/shop/public.salaries");
@id("staff") permit (principal is Person, action == Action::"Approve", resource in Agent::"demo")
when { principal.groups.contains("idp:analysts") || principal.groups.contains("slack:dba") };
"#;

const SALARIES: &str = "select 'row ' || 'arrived' from salaries limit 1";
/// A user of no scope; nobody is the agent's.
const WATCHER: u32 = 2;

/// A lab whose console is at `url`.
struct Scene {
    lab: Lab,
    url: String,
}

impl Scene {
    fn new(more: &str) -> Result<Self> {
        let at = port::free()?;
        Self::at(at, &format!("console: {{ listen: '{at}' }}\n{more}"))
    }

    fn at(at: std::net::SocketAddr, more: &str) -> Result<Self> {
        Self::with(at, "", more)
    }

    /// The same under more rules.
    fn with(at: std::net::SocketAddr, rules: &str, more: &str) -> Result<Self> {
        let lab = Lab::with(|settings| {
            settings.policies = vec![("rules.cedar".to_owned(), format!("{RULES}{rules}"))];
            settings.more = more.to_owned();
        })?;
        let url = format!("http://{at}");
        Ok(Self { lab, url })
    }

    /// One that people of an issuer log in to, under more rules; who issues, and by what name.
    fn by_issuer(rules: &str) -> Result<(Process, String, Self)> {
        let at = port::free()?;
        let (provider, issuer) = provider(&format!("http://{at}/login/done"))?;
        let known = issuers(&issuer);
        let more = format!("console: {{ listen: '{at}', login: {{ issuer: idp }} }}\n{known}");
        Ok((provider, issuer, Self::with(at, rules, &more)?))
    }

    fn link(&self) -> Result<String> {
        link(&self.lab.daemon)
    }

    /// A psql that has asked for what waits for people.
    fn held(&self) -> Result<Process> {
        let mut psql = self.lab.agent().open_psql(&self.lab.dsn())?;
        psql.send(&format!("{SALARIES};\n\\echo over :SQLSTATE\n"))?;
        psql.await_text("waiting for approval", DEADLINE)?;
        Ok(psql)
    }

    /// A browser in which root is logged in.
    fn root(&self) -> Result<Browser> {
        root(&self.lab.daemon)
    }
}

/// A link by which root opens the console of a daemon, once.
fn link(daemon: &Daemon) -> Result<String> {
    let said = daemon.cli(&["console", "--json"])?.ok()?;
    let said: Value = serde_json::from_str(&said)?;
    Ok(text(&said, "/url")?.to_owned())
}

/// A browser in which root is logged in at a daemon's console.
pub(crate) fn root(daemon: &Daemon) -> Result<Browser> {
    let mut browser = Browser::start(WATCHER)?;
    browser.open(&link(daemon)?)?;
    browser.shows("What waits for people")?;
    Ok(browser)
}

/// Nothing in the page went wrong.
pub(crate) fn is_content(browser: &Browser) -> Result<()> {
    let complaints = browser.complaints();
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

/// One request by a program that says of itself what it likes: the status, the headers and the body.
fn asked(url: &str, method: &str, path: &str, headers: &Value, body: &str) -> Result<(u16, Value)> {
    asked_of("", url, (method, path), headers, body)
}

/// The same under TLS that this authority vouches for.
fn asked_of(
    authority: &str,
    url: &str,
    (method, path): (&str, &str),
    headers: &Value,
    body: &str,
) -> Result<(u16, Value)> {
    let program = "
import http.client, json, os, ssl, sys, urllib.parse
url, method, path, headers, body = sys.argv[1:]
at = urllib.parse.urlparse(url).netloc
if url.startswith('https'):
    context = ssl.create_default_context(cafile=os.environ['CA'])
    connection = http.client.HTTPSConnection(at, timeout=30, context=context)
else:
    connection = http.client.HTTPConnection(at, timeout=30)
connection.putrequest(method, path, skip_host=True)
headers = {'Host': at, 'Content-Type': 'application/json', **json.loads(headers)}
for name, value in headers.items():
    connection.putheader(name, value)
connection.putheader('Content-Length', str(len(body.encode())))
connection.endheaders(body.encode())
answer = connection.getresponse()
print(json.dumps({'status': answer.status, 'headers': dict(answer.getheaders()), 'body': answer.read().decode()}))
";
    let mut command = Command::new("python3");
    command.args(["-c", program, url, method, path, &headers.to_string(), body]);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("CA", authority);
    let said = Process::run(command, DEADLINE)?.ok()?;
    let said: Value = serde_json::from_str(&said)?;
    let status = said.pointer("/status").and_then(Value::as_u64);
    let status = status.context("no status")?;
    Ok((u16::try_from(status)?, said))
}

#[test]
fn what_waits_is_shown_and_answered_in_the_page_and_the_row_arrives() -> Result<()> {
    let scene = Scene::new("")?;
    let mut browser = scene.root()?;
    browser.shows("Nothing waits for an approval.")?;
    // It comes by itself, while nobody touches the page.
    let psql = scene.held()?;
    browser.shows("SELECT on shop/shop")?;
    browser.press("j")?;
    browser.wait("document.activeElement.matches('a[href^=\"#/approvals/\"]')")?;
    browser.press("Enter")?;
    browser.shows("Exactly this")?;
    has(
        &browser.text()?,
        &[
            SALARIES,
            "psql",
            "SHA-256",
            "games or idp:analysts",
            "salaries",
            "nobody",
        ],
    )?;
    browser.shows("It would touch 1 row.")?;
    browser.wait("document.querySelector('#plan').textContent.includes('on salaries')")?;
    browser.press("a")?;
    browser.wait("document.activeElement.id === 'approve'")?;
    browser.press("Enter")?;
    psql.await_text("row arrived", DEADLINE)?;
    psql.await_text("over 00000", DEADLINE)?;
    browser.wait("document.querySelector('#answer') === null")?;
    let said = scene.lab.daemon.audit();
    let said = said.wait_for("approval.answered", DEADLINE, |_| true)?;
    ensure!(said["answer"]["by"]["uid"] == 0, "another answer: {said}");
    text(&said, "/caller/link/process/executable/sha256")?;

    let psql = scene.held()?;
    browser.press("Escape")?;
    browser.click("a[href^='#/approvals/']")?;
    browser.click("#reason")?;
    browser.value("document.querySelector('#reason').focus()")?;
    browser.typed("not on a Friday")?;
    browser.click("#deny")?;
    psql.await_text("not on a Friday", DEADLINE)?;
    psql.await_text("over 42501", DEADLINE)?;
    is_content(&browser)
}

#[test]
fn every_view_fits_a_telephone_and_says_why_a_request_was_decided_so() -> Result<()> {
    let scene = Scene::new("")?;
    let mut psql = scene.lab.agent().open_psql(&scene.lab.dsn())?;
    psql.send("select count(*) from orders;\ntable salaries;\n\\echo asked\n")?;
    let mut browser = scene.root()?;
    let screen = json!({ "width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", screen)?;
    for (key, shown) in [
        ("3", "Open sessions"),
        ("2", "What is granted"),
        ("1", "What waits"),
    ] {
        browser.press(key)?;
        browser.shows(shown)?;
        browser.wait("document.documentElement.scrollWidth <= 360")?;
    }
    browser.click("a[href^='#/approvals/']")?;
    browser.shows("Exactly this")?;
    browser.wait("document.documentElement.scrollWidth <= 360")?;
    // All that can be used has a name.
    browser.wait(
        "[...document.querySelectorAll('input')].every((input) => input.labels.length === 1)",
    )?;
    browser.press("/")?;
    browser.wait("document.activeElement.name === 'text'")?;
    browser.typed("COUNT(")?;
    browser.press("Enter")?;
    browser.click("a[href^='#/audit/']")?;
    browser.shows("What happened to")?;
    has(
        &browser.text()?,
        &["Permitted", "rule orders", "resource in Table"],
    )?;
    browser.wait("document.documentElement.scrollWidth <= 360")?;
    let read =
        |line: &Value| line["verb"] == "read" && line["detail"]["search"]["text"] == "COUNT(";
    scene
        .lab
        .daemon
        .audit()
        .wait_for("control", DEADLINE, read)?;

    browser.press("3")?;
    browser.click("main button")?;
    browser.click("main button")?;
    let closed = |line: &Value| line["reason"] == "killed";
    scene
        .lab
        .daemon
        .audit()
        .wait_for("session.closed", DEADLINE, closed)?;
    is_content(&browser)
}

#[test]
fn an_agent_is_frozen_let_go_on_and_killed_in_the_page() -> Result<()> {
    let scene = Scene::new("")?;
    let mut psql = scene.lab.agent().open_psql(&scene.lab.dsn())?;
    psql.send("\\echo here\n")?;
    psql.await_text("here", DEADLINE)?;
    let mut browser = scene.root()?;
    let audit = scene.lab.daemon.audit();
    for (word, verb) in [("Freeze", "freeze"), ("Thaw", "thaw"), ("Kill", "kill")] {
        browser.press("3")?;
        browser.shows("Agents")?;
        let button = format!("button[aria-label^='{word} the agent demo']");
        // Once is not enough.
        browser.click(&button)?;
        browser.wait(&format!(
            "document.querySelector(\"{button}\").textContent === '{word}: sure?'"
        ))?;
        browser.click(&button)?;
        let done = |line: &Value| {
            line["verb"] == verb && line["result"] == "ok" && line["detail"]["agent"] == "demo"
        };
        let line = audit.wait_for("control", DEADLINE, done)?;
        text(&line, "/caller/link/process/executable/sha256")?;
        browser.shows("The agent demo")?;
    }
    psql.finish(DEADLINE)?;
    is_content(&browser)
}

#[test]
fn what_comes_late_for_a_view_that_was_left_is_not_shown() -> Result<()> {
    let scene = Scene::new("")?;
    let mut browser = scene.root()?;
    // Its list of approvals comes once the next view stands.
    browser.value(
        "const ask = fetch; let go; window.held = new Promise((gone) => { go = gone }); window.late = 0; \
         window.go = go; window.fetch = async (...what) => { const answer = await ask(...what); \
         if (String(what[0]) === '/api/approvals') { await held; setTimeout(() => { late += 1 }, 50) } \
         return answer }",
    )?;
    browser.value("location.hash = '#/approvals/'")?;
    browser.value("location.hash = '#/grants'")?;
    browser.wait("document.querySelector('main h2').textContent.includes('What is granted')")?;
    browser.value("go()")?;
    browser.wait("late > 0")?;
    browser.wait("document.querySelector('main h2').textContent.includes('What is granted')")?;
    is_content(&browser)
}

#[test]
fn a_link_opens_once_and_nothing_is_answered_to_who_is_not_the_page() -> Result<()> {
    let scene = Scene::new("")?;
    let url = scene.url.as_str();
    let own = json!({ "Origin": url });
    let link = scene.link()?;
    let secret = link.split('#').nth(1).context("a link without a secret")?;
    let body = json!({ "link": secret }).to_string();
    for wrong in [
        json!({ "Origin": "http://evil.example" }),
        json!({ "Origin": url, "Host": "evil.example" }),
        json!({ "Origin": url, "Sec-Fetch-Site": "cross-site" }),
        json!({}),
    ] {
        let (status, _) = asked(url, "POST", "/login/link", &wrong, &body)?;
        ensure!(status == 403, "{wrong}: {status}");
    }
    let (status, said) = asked(url, "POST", "/login/link", &own, &body)?;
    ensure!(status == 200, "{said}");
    let (again, _) = asked(url, "POST", "/login/link", &own, &body)?;
    ensure!(again == 403, "the link opened twice: {again}");
    let cookie = text(&said, "/headers/set-cookie")?;
    has(cookie, &["HttpOnly", "SameSite=Strict"])?;
    let cookie = cookie.split(';').next().unwrap_or_default();
    let token: Value = serde_json::from_str(text(&said, "/body")?)?;
    let token = text(&token, "/token")?;
    let whole = json!({ "Cookie": cookie, "X-Interceptor-Token": token, "Origin": url });
    let (status, said) = asked(url, "GET", "/api/status", &whole, "")?;
    ensure!(status == 200, "{said}");
    has(
        text(&said, "/headers/content-security-policy")?,
        &[
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
        ],
    )?;
    // A cookie alone is what any page would bring along.
    for (missing, expected) in [
        ("X-Interceptor-Token", 401),
        ("Cookie", 401),
        ("Origin", 403),
    ] {
        let mut headers = whole.clone();
        headers.as_object_mut().context("no map")?.remove(missing);
        let (status, _) = asked(url, "POST", "/api/audit", &headers, "{}")?;
        ensure!(status == expected, "without {missing}: {status}");
    }
    let (status, _) = asked(url, "POST", "/api/logout", &whole, "{}")?;
    ensure!(status == 200, "no logout: {status}");
    let (status, _) = asked(url, "GET", "/api/status", &whole, "")?;
    ensure!(status == 401, "logged out, and yet {status}");
    crate::lab::lacks(&scene.lab.daemon.log(), &[secret, token])?;
    // Links are root's.
    let socket = scene.lab.daemon.run_directory().join("control.sock");
    let program = place::interceptor()?;
    let words = ["console", "--socket", &socket.to_string_lossy()];
    let other = support::Agent::outside().as_uid(WATCHER);
    let told = refused(other.run(&program.to_string_lossy(), &words)?)?;
    has(&told, &["links are for root"]).map(drop)
}

#[test]
fn under_tls_the_cookie_is_this_hosts_alone() -> Result<()> {
    let (at, directory) = (port::free()?, place::temporary("tls")?);
    let made = support::tls::Authority::make(directory.path())?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&made.key, private)?;
    let url = format!("https://localhost:{}", at.port());
    let scene = Scene::at(
        at,
        &format!(
            "console:\n  listen: '{at}'\n  url: {url}\n  tls: {{ certificate: {}, key: {{ file: {} }} }}",
            made.certificate.display(),
            made.key.display()
        ),
    )?;
    let link = scene.link()?;
    let (page, secret) = link.split_once('#').context("a link without a secret")?;
    ensure!(page == format!("{url}/login"), "another address: {page}");
    let body = json!({ "link": secret }).to_string();
    let authority = made.ca.to_string_lossy();
    let own = json!({ "Origin": url });
    let (status, said) = asked_of(&authority, &url, ("POST", "/login/link"), &own, &body)?;
    ensure!(status == 200, "{said}");
    let cookie = text(&said, "/headers/set-cookie")?;
    has(cookie, &["__Host-interceptor=", "; Path=/;", "; Secure"]).map(drop)
}

#[test]
fn a_scope_cannot_reach_the_console_whatever_direct_says() -> Result<()> {
    let at = port::free()?;
    let direct = format!(
        "direct: [{{ network: '{}', port: {} }}]",
        at.ip(),
        at.port()
    );
    let scene = Scene::at(at, &format!("console: {{ listen: '{at}' }}\n{direct}"))?;
    let program = format!(
        "import socket; print(socket.create_connection(('{}', {}), 10).getpeername())",
        at.ip(),
        at.port()
    );
    let reach = |agent: support::Agent| -> Result<Finished> {
        agent.run("/usr/bin/python3", &["-c", &program])
    };
    let told = refused(reach(scene.lab.agent())?)?;
    has(&told, &["PermissionError"])?;
    reach(support::Agent::outside())?.ok()?;
    scene
        .lab
        .daemon
        .audit()
        .wait_for("kernel.denied", DEADLINE, |_| true)
        .map(drop)
}

/// A provider that sends people back to `back`.
pub(crate) fn provider(back: &str) -> Result<(Process, String)> {
    let at = port::free()?;
    let mut node = Command::new("node");
    node.env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("INTERCEPTOR_NODE_MODULES", place::node_modules()?)
        .arg(place::workspace().join("tests/e2e/oidc/provider.mjs"))
        .args([&at.port().to_string(), back]);
    let process = Process::start(node)?;
    process.await_text("ready", DEADLINE)?;
    Ok((process, format!("http://{at}")))
}

/// That people log in by this provider.
pub(crate) fn issuers(issuer: &str) -> String {
    format!(
        "issuers:\n  idp:\n    issuer: {issuer}\n    audiences: [interceptor]\n    client: interceptor-cli\n    \
         scopes: [openid, profile]\n    allow_http: true\n"
    )
}

/// Logs in as `name` on the provider's own pages.
pub(crate) fn log_in(browser: &mut Browser, url: &str, name: &str) -> Result<()> {
    browser.open(url)?;
    browser.click("main button")?;
    browser.wait("document.querySelector('input[name=login]') !== null")?;
    browser.value(&format!(
        "document.querySelector('input[name=login]').value = '{name}'"
    ))?;
    browser.value("document.querySelector('input[name=password]').value = 'any'")?;
    browser.click("form button[type=submit]")?;
    browser.shows("Continue")?;
    browser.click("form button[type=submit]")?;
    browser.shows(&format!("idp:{name}"))
}

#[test]
fn who_logs_in_by_an_issuer_answers_by_its_groups_and_never_for_himself() -> Result<()> {
    let (_provider, issuer, scene) = Scene::by_issuer("")?;
    let psql = scene.held()?;
    let name = nix::unistd::User::from_uid(scene.lab.agent().uid().into())?;
    let name = name.map_or_else(|| "nobody".to_owned(), |user| user.name);
    // The person has the name of the user that the request runs as.
    let mut own = Browser::start(WATCHER)?;
    log_in(&mut own, &scene.url, &name)?;
    own.click("a[href^='#/approvals/']")?;
    own.click("#approve")?;
    own.shows("nobody answers a request that runs as the same user")?;

    let mut browser = Browser::start(WATCHER)?;
    log_in(&mut browser, &scene.url, "jane")?;
    browser.click("a[href^='#/approvals/']")?;
    browser.click("#approve")?;
    psql.await_text("row arrived", DEADLINE)?;
    let said = scene.lab.daemon.audit();
    let said = said.wait_for("approval.answered", DEADLINE, |_| true)?;
    ensure!(
        text(&said, "/caller/person/identity/issuer")? == issuer,
        "another: {said}"
    );
    ensure!(
        said["answer"]["by"]["uid"].is_null(),
        "a user of the host: {said}"
    );
    // Nothing else is permitted to them.
    browser.press("3")?;
    browser.shows("Status on this host is not permitted")?;
    is_content(&browser)
}
