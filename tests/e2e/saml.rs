//! Who stands behind an agent by SAML: assertions of a real identity provider, nanoidp, whose keys its own
//! metadata tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::{DEADLINE, Finished, Process, place, port};

use crate::lab::{Lab, has, lacks, refused, text};

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("staff") permit (principal is Agent, action in Action::"Read", resource in Table::"shop/shop/public.customers")
when { principal has identity && principal.identity.issuer == "http://localhost:8000/saml"
  && principal.identity.groups.contains("INTERNAL") };
"#;

const CUSTOMER: &str = "select name from customers where id = 1";
const RECIPIENT: &str = "https://interceptor.example/acs";

/// The identity provider, and a lab that knows it.
struct Scene {
    lab: Lab,
    url: String,
    directory: tempfile::TempDir,
    _process: Process,
}

fn python() -> Result<Command> {
    let mut python = Command::new(place::python()?);
    python.env_clear().env("PATH", "/usr/bin:/bin");
    Ok(python)
}

impl Scene {
    fn new() -> Result<Self> {
        let directory = place::temporary("saml")?;
        let url = format!("http://{}", port::free()?);
        let (host, port) = url
            .trim_start_matches("http://")
            .split_once(':')
            .context("an address without a port")?;
        let mut command = python()?;
        // Its keys and its users are those that it makes for itself.
        command
            .args(["-m", "nanoidp", "--host", host, "--port", port])
            .env("HOME", directory.path())
            .env("PYTHONUNBUFFERED", "1")
            .current_dir(directory.path());
        let process = Process::start(command)?;
        process.await_text("Running on", DEADLINE)?;
        let metadata = directory.path().join("idp.xml");
        let mut fetch = python()?;
        let script = "import sys, urllib.request as r
opener = r.build_opener(r.ProxyHandler({}))
open(sys.argv[2], 'wb').write(opener.open(sys.argv[1] + '/saml/metadata').read())";
        fetch.args(["-c", script, &url]).arg(&metadata);
        Process::run(fetch, DEADLINE)?.ok()?;
        let issuers = format!(
            "issuers:\n  office:\n    saml:\n      entity_id: http://localhost:8000/saml\n      \
             metadata: {}\n      audiences: [interceptor]\n      recipient: {RECIPIENT}\n      \
             claims: {{ user: email, groups: identity_class }}",
            metadata.display()
        );
        let lab = Lab::with(|settings| {
            settings.policies = vec![("rules.cedar".to_owned(), RULES.to_owned())];
            settings.more = issuers;
        })?;
        Ok(Self {
            lab,
            url,
            directory,
            _process: process,
        })
    }

    /// What the browser of the one who signs in would post.
    fn posted(&self) -> Result<String> {
        self.posted_to(RECIPIENT, "interceptor")
    }

    fn posted_to(&self, recipient: &str, audience: &str) -> Result<String> {
        let mut sign_in = python()?;
        sign_in
            .arg(place::workspace().join("tests/e2e/saml/sign_in.py"))
            .args([&self.url, recipient, audience, "admin", "admin"]);
        let posted = Process::run(sign_in, DEADLINE)?.ok()?;
        Ok(posted.trim().to_owned())
    }

    fn file(&self, text: &str) -> Result<PathBuf> {
        let path = self.directory.path().join("response");
        fs::write(&path, text)?;
        Ok(path)
    }

    /// The stock client under `interceptor run --as-saml`.
    fn psql(&self, response: &Path) -> Result<Finished> {
        let user = nix::unistd::User::from_uid(self.lab.agent().uid().into())?;
        let user = user.map_or_else(|| "nobody".to_owned(), |user| user.name);
        let mut run = Command::new(place::interceptor()?);
        run.env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["run", "--agent", "analyst", "--user", &user, "--socket"])
            .arg(self.lab.daemon.run_directory().join("control.sock"))
            .arg("--as-saml")
            .arg(response)
            .arg("--")
            .arg(place::postgres_programs()?.join("psql"))
            .args(["-X", "-A", "-t", "-w", "-d", &self.lab.dsn().conninfo()])
            .args(["-c", CUSTOMER])
            .current_dir("/");
        Process::run(run, DEADLINE)
    }
}

#[test]
fn who_signed_in_at_an_identity_provider_is_who_stands_behind_the_agent_once() -> Result<()> {
    let scene = Scene::new()?;
    let posted = scene.posted()?;
    let file = scene.file(&posted)?;
    has(&scene.psql(&file)?.ok()?, &["Ada Lovelace"])?;
    ensure!(!file.exists(), "the assertion is still there");
    let log = scene.lab.daemon.audit();
    let bound = log.wait_for("identity.bound", DEADLINE, |line| line["how"] == "saml")?;
    ensure!(
        text(&bound, "/identity/user")? == "admin@example.org"
            && text(&bound, "/identity/issuer")? == "http://localhost:8000/saml",
        "{bound}"
    );
    ensure!(text(&bound, "/token")?.starts_with('_'), "no name: {bound}");
    let opened = log.wait_for("session.opened", DEADLINE, |_| true)?;
    ensure!(
        text(&opened, "/principal/identity/acr")?.ends_with("PasswordProtectedTransport"),
        "{opened}"
    );
    // The same once more, for another scope; and a second one for a scope that is bound.
    let told = refused(scene.psql(&scene.file(&posted)?)?)?;
    has(&told, &["could not be verified"])?;
    lacks(&told, &["used"])?;
    log.wait_for("identity.refused", DEADLINE, |line| {
        line["reason"] == "replayed" && line["how"] == "saml"
    })?;
    Ok(())
}

#[test]
fn what_was_changed_or_is_for_others_starts_nothing_and_a_scope_is_bound_once_by_one() -> Result<()>
{
    let mut scene = Scene::new()?;
    let posted = scene.posted()?;
    let xml = String::from_utf8(STANDARD.decode(&posted)?)?;
    let twice = {
        let (from, to) = (xml.find("<saml2:Assertion"), xml.find("</saml2:Assertion>"));
        let (from, to) = (from.context("no assertion")?, to.context("no end")?);
        let assertion = xml.get(from..to).unwrap_or_default();
        xml.replacen(
            "<saml2:Assertion",
            &format!("{assertion}</saml2:Assertion><saml2:Assertion"),
            1,
        )
    };
    let rows = [
        (xml.replace("admin@example", "root@example"), "signature"),
        (twice, "wrapping"),
        (
            xml.replace("<saml2:NameID ", "<saml2:NameID x=\"<!-- -->\" "),
            "malformed",
        ),
        (
            scene.posted_to("https://evil.example/acs", "interceptor")?,
            "recipient",
        ),
        (scene.posted_to(RECIPIENT, "others")?, "audience"),
    ];
    let log = scene.lab.daemon.audit();
    for (text, reason) in rows {
        refused(scene.psql(&scene.file(&text)?)?).context(reason)?;
        log.wait_for("identity.refused", DEADLINE, |line| {
            line["reason"] == reason
        })?;
    }
    ensure!(log.events("session.opened")?.is_empty(), "a session");
    let scope = scene.lab.daemon.scope().to_owned();
    let bind = |scene: &Scene| {
        let file = scene.file(&posted)?;
        let words = ["bind", &scope, "--as-saml", &file.to_string_lossy()].map(str::to_owned);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        scene.lab.daemon.cli(&words)
    };
    has(&bind(&scene)?.ok()?, &["bound to admin@example.org of"])?;
    // One that is good for once is good for once, also where the daemon was killed in between.
    refused(bind(&scene)?)?;
    scene.lab.daemon.kill();
    scene.lab.daemon.resume()?;
    refused(bind(&scene)?)?;
    has(&scene.lab.psql(&[CUSTOMER])?.ok()?, &["Ada Lovelace"]).map(drop)
}
