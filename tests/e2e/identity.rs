//! Who stands behind an agent: tokens of a real OpenID Connect provider, people who log in, and credentials
//! that are nobody's any more.

mod exchange;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{DEADLINE, Finished, Process, place, port};

use crate::lab::{Lab, has, lacks, refused, text};

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("orders") permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.orders");
@id("copies") permit (principal is Agent, action == Action::"CopyOut", resource == Database::"shop/shop");
@id("analysts") permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.customers")
when { principal has identity && principal.identity.groups.contains("analysts") };
@id("inserts") @grant("1h") @grant_scope permit (principal is Agent, action == Action::"Insert", resource in Table::"shop/shop/public.orders");
"#;

const CUSTOMER: &str = "select name from customers where id = 1";

/// The provider, and a lab that knows it.
struct Scene {
    lab: Lab,
    provider: Provider,
    directory: tempfile::TempDir,
}

struct Provider {
    at: SocketAddr,
    _process: Process,
}

fn node(script: &str) -> Result<Command> {
    let mut node = Command::new("node");
    node.env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("INTERCEPTOR_NODE_MODULES", place::node_modules()?)
        .arg(place::workspace().join("tests/e2e/oidc").join(script));
    Ok(node)
}

impl Provider {
    fn start() -> Result<Self> {
        let at = port::free()?;
        let mut command = node("provider.mjs")?;
        command.arg(at.port().to_string());
        let process = Process::start(command)?;
        process.await_text("ready", DEADLINE)?;
        Ok(Self {
            at: SocketAddr::from(([127, 0, 0, 1], at.port())),
            _process: process,
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// A token of a workload, by its own credentials.
    fn token(&self, client: &str) -> Result<String> {
        let script = "const [, url, client] = process.argv;
            const key = Buffer.from(`${client}:secret-of-${client}`).toString('base64');
            fetch(`${url}/token`, { method: 'POST', headers: { authorization: `Basic ${key}` },
              body: new URLSearchParams({ grant_type: 'client_credentials' }) })
              .then((answer) => answer.json()).then((answer) => console.log(answer.access_token));";
        let mut command = Command::new("node");
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .args(["-e", script, &self.url(), client]);
        let token = Process::run(command, DEADLINE)?.ok()?;
        Ok(token.trim().to_owned())
    }
}

impl Scene {
    fn new(postgres: &[&str]) -> Result<Self> {
        let provider = Provider::start()?;
        let issuers = format!(
            "issuers:\n  idp:\n    issuer: {}\n    audiences: [interceptor]\n    client: interceptor-cli\n    \
             from_scope: true\n    exchange_for: [others]\n    scopes: [openid, profile]\n    allow_http: true\n    skew: 0s\n    claims: {{ keep: [ref] }}",
            provider.url()
        );
        let lab = Lab::with(|settings| {
            settings.policies = vec![("rules.cedar".to_owned(), RULES.to_owned())];
            settings.more = issuers;
            for target in &mut settings.targets {
                target
                    .postgres
                    .extend(postgres.iter().map(|&line| line.to_owned()));
            }
        })?;
        Ok(Self {
            lab,
            provider,
            directory: place::temporary("token")?,
        })
    }

    /// A file with a token in it.
    fn file(&self, token: &str) -> Result<PathBuf> {
        let path = self.directory.path().join("token");
        fs::write(&path, format!("{token}\n"))?;
        Ok(path)
    }

    /// `interceptor run` with these options and this command.
    fn run(&self, options: &[&str], command: &[&str]) -> Result<Command> {
        let user = nix::unistd::User::from_uid(self.lab.agent().uid().into())?;
        let user = user.map_or_else(|| "nobody".to_owned(), |user| user.name);
        let mut run = Command::new(place::interceptor()?);
        run.env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("run")
            .arg("--socket")
            .arg(self.lab.daemon.run_directory().join("control.sock"))
            .args(["--agent", "analyst", "--user", &user])
            .args(options)
            .arg("--")
            .args(command)
            .current_dir("/");
        Ok(run)
    }

    /// The stock client for these statements, under `interceptor run`.
    fn psql(&self, options: &[&str], sql: &str) -> Result<Finished> {
        let psql = psql()?;
        let dsn = self.lab.dsn().conninfo();
        let command = [&psql, "-X", "-A", "-t", "-w", "-d", &dsn, "-c", sql];
        Process::run(self.run(options, &command)?, DEADLINE)
    }

    fn as_token(&self, token: &Path, sql: &str) -> Result<Finished> {
        self.psql(&["--as-token", &token.to_string_lossy()], sql)
    }

    fn refusal(&self, reason: &str) -> Result<Value> {
        let log = self.lab.daemon.audit();
        log.wait_for("identity.refused", DEADLINE, |line| {
            line["reason"] == reason
        })
    }

    fn bind(&self, token: &str) -> Result<Finished> {
        let file = self.file(token)?;
        let file = file.to_string_lossy().into_owned();
        let scope = self.lab.daemon.scope().to_owned();
        self.lab.daemon.cli(&["bind", &scope, "--token", &file])
    }

    /// That nobody wrote the token down.
    fn nowhere(&self, token: &str) -> Result<()> {
        let state = self.lab.daemon.state();
        let mut grep = Command::new("grep");
        let signature = token.rsplit('.').next().unwrap_or(token);
        grep.args(["-r", "-a", "-l", "-F", "--", signature])
            .arg(state);
        let found = Process::run(grep, DEADLINE)?;
        ensure!(found.stdout.is_empty(), "it stands in {}", found.stdout);
        lacks(&self.lab.daemon.log(), &[signature])
    }
}

fn psql() -> Result<String> {
    let psql = place::postgres_programs()?.join("psql");
    Ok(psql.to_string_lossy().into_owned())
}

#[test]
fn a_workloads_token_opens_what_policy_keeps_for_its_groups_and_every_line_names_it() -> Result<()>
{
    let scene = Scene::new(&[])?;
    has(&refused(scene.psql(&[], CUSTOMER)?)?, &["not permitted"])?;
    let token = scene.provider.token("analyst")?;
    let file = scene.file(&token)?;
    has(&scene.as_token(&file, CUSTOMER)?.ok()?, &["Ada Lovelace"])?;
    ensure!(!file.exists(), "the token's file stays");

    let log = scene.lab.daemon.audit();
    let bound = log.wait_for("identity.bound", DEADLINE, |_| true)?;
    ensure!(text(&bound, "/how")? == "token", "another way: {bound}");
    ensure!(text(&bound, "/agent")? == "analyst", "another: {bound}");
    text(&bound, "/caller/process/executable/sha256")?;
    let permitted = log.wait_for("request.permitted", DEADLINE, |line| {
        line["rules"][0] == "analysts"
    })?;
    for event in ["connection.opened", "session.opened", "request.permitted"] {
        let line = log.wait_for(event, DEADLINE, |line| {
            line["connection"] == permitted["connection"]
        })?;
        ensure!(
            text(&line, "/principal/identity/user")? == "analyst",
            "{line}"
        );
        ensure!(
            text(&line, "/principal/identity/issuer")? == scene.provider.url(),
            "{line}"
        );
        text(&line, "/principal/identity/subject")?;
        let kept = text(&line, "/principal/identity/claims/ref")?;
        ensure!(kept == "refs/heads/main", "another claim: {line}");
    }
    // With the last process of its scope ends what it was bound to.
    let ended = log.wait_for("identity.ended", DEADLINE, |_| true)?;
    ensure!(text(&ended, "/why")? == "scope", "another end: {ended}");
    scene.nowhere(&token)
}

#[test]
fn a_token_in_a_variable_is_not_there_for_the_command() -> Result<()> {
    let scene = Scene::new(&[])?;
    let token = scene.provider.token("analyst")?;
    let (psql, dsn) = (psql()?, scene.lab.dsn().conninfo());
    let script = format!("echo \"${{CI_TOKEN-none}}\"; exec {psql} -XAtwd '{dsn}' -c '{CUSTOMER}'");
    let mut run = scene.run(&["--as-token", "ENV:CI_TOKEN"], &["sh", "-c", &script])?;
    run.env("CI_TOKEN", &token);
    has(
        &Process::run(run, DEADLINE)?.ok()?,
        &["none\n", "Ada Lovelace"],
    )
}

#[test]
fn tokens_that_prove_nothing_start_nothing_and_only_the_audit_says_why() -> Result<()> {
    let scene = Scene::new(&[])?;
    let good = scene.provider.token("analyst")?;
    let other = scene.provider.token("intern")?;
    let part = |token: &str, at: usize| token.split('.').nth(at).unwrap_or("").to_owned();
    let spliced = format!("{}.{}.{}", part(&good, 0), part(&other, 1), part(&good, 2));
    // {"alg":"none"}
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", part(&good, 1));
    let rows = [
        (other, "audience"),
        (spliced, "signature"),
        (unsigned, "algorithm"),
        ("hello".to_owned(), "malformed"),
    ];
    for (token, reason) in rows {
        let file = scene.file(&token)?;
        let told = refused(scene.as_token(&file, "select 1")?)?;
        has(&told, &["could not be verified"])?;
        lacks(&told, &[reason])?;
        let line = scene.refusal(reason)?;
        text(&line, "/cause")?;
        ensure!(text(&line, "/agent")? == "analyst", "another: {line}");
        text(&line, "/caller/process/executable/path")?;
    }
    let file = scene.file(&good)?;
    scene.as_token(&file, CUSTOMER)?.ok()?;
    let file = scene.file(&good)?;
    has(
        &refused(scene.as_token(&file, CUSTOMER)?)?,
        &["could not be verified"],
    )?;
    scene.refusal("replayed")?;
    let opened = scene.lab.daemon.audit().events("session.opened")?;
    ensure!(opened.len() == 1, "{} sessions", opened.len());
    Ok(())
}

#[test]
fn what_stands_on_an_identity_ends_with_its_token() -> Result<()> {
    let scene = Scene::new(&[])?;
    let (psql, dsn) = (psql()?, scene.lab.dsn().conninfo());
    let file = scene.file(&scene.provider.token("brief")?)?;
    let options = ["--as-token", &*file.to_string_lossy()];
    let mut shell = Process::start(scene.run(&options, &["sh"])?)?;
    let client = format!("{psql} -XAtwd '{dsn}'");
    let endless = "copy (select orders.item from orders, generate_series(1, 1000000000)) to stdout";
    shell.send(&format!(
        "{client} -c \"{CUSTOMER}\"; {client} -c \"{endless}\" 2>&1 >/dev/null; {client} -c \"{CUSTOMER}\" 2>&1; \
         {client} -c 'select id from orders where id = 1' && echo other; exit\n"
    ))?;
    shell.await_text("Ada Lovelace", DEADLINE)?;
    let log = scene.lab.daemon.audit();
    let ended = log.wait_for("identity.ended", DEADLINE, |line| line["why"] == "expired")?;
    ensure!(ended["sessions"] == 1, "another count: {ended}");
    let finished = shell.finish(DEADLINE)?;
    // The session that was open, the next one without the identity, and what needs none.
    has(
        &finished.stdout,
        &[
            "identity that this session was opened under has ended",
            "not permitted",
            "other",
        ],
    )?;
    let closed = log.wait_for("session.closed", DEADLINE, |line| {
        line["reason"] == "identity"
    })?;
    ensure!(
        text(&closed, "/principal/identity/user")? == "brief",
        "{closed}"
    );
    Ok(())
}

#[test]
fn a_scope_is_bound_to_one_subject_and_stays_so_when_the_daemon_is_killed() -> Result<()> {
    let mut scene = Scene::new(&[])?;
    refused(scene.lab.psql(&[CUSTOMER])?)?;
    let bound = scene.bind(&scene.provider.token("analyst")?)?.ok()?;
    has(&bound, &["bound to analyst of", &scene.provider.url()])?;
    has(&scene.lab.psql(&[CUSTOMER])?.ok()?, &["Ada Lovelace"])?;
    refused(scene.bind(&scene.provider.token("brief")?)?)?;
    scene.refusal("bound")?;
    // A fresh token of the same subject, of which the same is said: what is open goes on.
    let mut open = scene.lab.agent().open_psql(&scene.lab.dsn())?;
    open.send("select 'opened' from orders limit 1;\n")?;
    open.await_text("opened", DEADLINE)?;
    scene.bind(&scene.provider.token("analyst")?)?.ok()?;
    let log = scene.lab.daemon.audit();
    log.wait_for("identity.bound", DEADLINE, |line| line["renewed"] == true)?;
    open.send("select 'still open' from orders limit 1;\n")?;
    open.await_text("still open", DEADLINE)?;
    drop(open);

    scene.lab.daemon.kill();
    scene.lab.daemon.resume()?;
    has(&scene.lab.psql(&[CUSTOMER])?.ok()?, &["Ada Lovelace"])?;
    let scope = scene.lab.daemon.scope().to_owned();
    scene.lab.daemon.cli(&["unbind", &scope])?.ok()?;
    refused(scene.lab.psql(&[CUSTOMER])?)?;
    let ended = log.wait_for("identity.ended", DEADLINE, |line| line["why"] == "revoked")?;
    ensure!(text(&ended, "/identity/user")? == "analyst", "{ended}");
    has(
        &refused(scene.lab.daemon.cli(&["unbind", &scope])?)?,
        &["bound to nobody"],
    )?;
    // Free again, it is the next one's.
    scene.bind(&scene.provider.token("brief")?)?.ok().map(drop)
}

#[test]
fn a_reload_that_takes_an_issuer_away_takes_its_identities_along() -> Result<()> {
    let mut scene = Scene::new(&[])?;
    scene.bind(&scene.provider.token("analyst")?)?.ok()?;
    scene.lab.psql(&[CUSTOMER])?.ok()?;
    scene.lab.daemon.change(|settings| settings.more.clear())?;
    scene.lab.daemon.reload()?.ok()?;
    let log = scene.lab.daemon.audit();
    log.wait_for("identity.ended", DEADLINE, |line| line["why"] == "issuer")?;
    refused(scene.lab.psql(&[CUSTOMER])?).map(drop)
}

/// Waits for a login's address and confirms it as a person in a browser does.
fn confirm(login: &Process, name: &str) -> Result<()> {
    login.await_text("confirm the code", DEADLINE)?;
    let said = login.log();
    let address = said
        .split_whitespace()
        .find(|word| word.starts_with("http"));
    let mut person = node("person.mjs")?;
    person.args([address.context("no address")?, name]);
    has(&Process::run(person, DEADLINE)?.ok()?, &["Sign-in Success"])
}

#[test]
fn a_person_logs_in_at_a_terminal_inside_a_scope_where_that_may_be_and_before_a_run() -> Result<()>
{
    let mut scene = Scene::new(&[])?;
    let socket = scene.lab.daemon.run_directory().join("agent.sock");
    let socket = socket.to_string_lossy();
    let words = ["login", "--issuer", "idp", "--socket", &socket];
    let program = place::interceptor()?;
    let mut login = scene
        .lab
        .agent()
        .start(&program.to_string_lossy(), &words)?;
    confirm(&login, "carol")?;
    has(&login.finish(DEADLINE)?.ok()?, &["bound to carol"])?;
    has(&scene.lab.psql(&[CUSTOMER])?.ok()?, &["Ada Lovelace"])?;
    let log = scene.lab.daemon.audit();
    let permitted = log.wait_for("request.permitted", DEADLINE, |line| {
        line["rules"][0] == "analysts"
    })?;
    ensure!(
        text(&permitted, "/principal/identity/user")? == "carol",
        "{permitted}"
    );

    let (psql, dsn) = (psql()?, scene.lab.dsn().conninfo());
    let client = [&psql, "-X", "-A", "-t", "-w", "-d", &dsn, "-c", CUSTOMER];
    let mut run = Process::start(scene.run(&["--login", "idp"], &client)?)?;
    confirm(&run, "dave")?;
    has(&run.finish(DEADLINE)?.ok()?, &["Ada Lovelace"])?;
    let bound = log.wait_for("identity.bound", DEADLINE, |line| {
        line["identity"]["user"] == "dave"
    })?;
    ensure!(text(&bound, "/how")? == "login", "another way: {bound}");

    // An agent that begins one by itself could show its code to anybody.
    scene.lab.daemon.change(|settings| {
        settings.more = settings
            .more
            .replace("from_scope: true", "from_scope: false");
    })?;
    scene.lab.daemon.reload()?.ok()?;
    let told = refused(scene.lab.agent().run(&program.to_string_lossy(), &words)?)?;
    has(&told, &["from_scope", "--login idp"])
}

#[test]
fn a_stale_credential_is_not_used_and_is_reported_and_the_agent_is_judged_by_who_it_is()
-> Result<()> {
    let scene = Scene::new(&["ask_password: true"])?;
    let lab = &scene.lab;
    let contractor = "the-offboarded-contractors-password";
    let presented = |password: &str| {
        let dsn = lab.dsn().with_password(password);
        let token = scene.file(&scene.provider.token("analyst")?)?;
        let (psql, dsn) = (psql()?, dsn.conninfo());
        let command = [&psql, "-X", "-A", "-t", "-d", &dsn, "-c", CUSTOMER];
        let token = token.to_string_lossy();
        Process::run(scene.run(&["--as-token", &token], &command)?, DEADLINE)?.ok()
    };
    // It is no password of any role, and opens nothing: whose agent this is does.
    for password in [contractor, contractor, "another"] {
        has(&presented(password)?, &["Ada Lovelace"])?;
    }
    let dsn = lab.dsn().with_password(contractor);
    let alone = lab.agent().psql(&dsn, &[CUSTOMER])?;
    has(&refused(alone)?, &["not permitted"])?;

    let lines = lab.daemon.audit().events("credential.presented")?;
    let prints: Vec<_> = lines
        .iter()
        .map(|line| text(line, "/fingerprint"))
        .collect::<Result<_>>()?;
    ensure!(prints.len() == 4, "{} were reported", prints.len());
    ensure!(
        prints[0] == prints[1] && prints[0] == prints[3] && prints[0] != prints[2],
        "other fingerprints: {prints:?}"
    );
    ensure!(text(&lines[0], "/principal/identity/user")? == "analyst");
    ensure!(lines[3].pointer("/principal/identity").is_none());
    text(&lines[0], "/target")?;
    let opened = lab.daemon.audit().events("session.opened")?;
    ensure!(text(&opened[0], "/user")? == "shop_app", "another login");
    // Arguments are kept, and `psql` was told it in them: not so in its environment.
    let environment = lab.agent().with("PGPASSWORD", "only-in-the-environment");
    let by_environment = environment.psql(&lab.dsn(), &["select id from orders where id = 1"])?;
    by_environment.ok()?;
    ensure!(lab.daemon.audit().events("credential.presented")?.len() == 5);
    scene.nowhere("only-in-the-environment")?;
    // A scope's own throw-away password, which `interceptor run` sets, is no credential.
    let own = scene.psql(&[], "select id from orders where id = 1")?;
    own.ok()?;
    ensure!(lab.daemon.audit().events("credential.presented")?.len() == 5);
    Ok(())
}
