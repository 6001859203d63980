//! Answers that count only with a key, in a real browser with an authenticator of its own.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Browser, DEADLINE, Process, place, port};

use crate::console::{is_content, issuers, log_in, provider, root};
use crate::lab::{Lab, has, refused, text};

const RULES: &str = r#"
@id("reach") permit (principal is Agent, action in [Action::"Connect", Action::"Open", Action::"Session"], resource);
@id("salaries") @approve("games") @second_factor("webauthn")
permit (principal is Agent, action == Action::"Select", resource in Table::"shop/shop/public.salaries");
"#;

/// What the page's own scripts do, by hand.
const BY_HAND: &str = "
const { api } = await import('/page.js');
const { signed } = await import('/factor.js');
const pause = () => new Promise((go) => setTimeout(go, 20));
const open = async (text) => {
  for (;; await pause()) {
    const one = (await api('/api/approvals')).find((one) => one.text.includes(text) && one.state.is === 'open');
    if (one?.touches) return one;
  }
};
const say = (one) => ({ approval: one.id, yes: true, times: 1 });
const challenge = async (one, body = say(one)) => {
  const { shown } = await api('/api/approvals/show', { approval: one.id });
  return api('/api/factors/challenge', { say: body, shown });
};
const told = async (body) => {
  try {
    return (await api('/api/approvals/answer', body)).state.is;
  } catch (error) {
    return error.message;
  }
};
";

struct Scene {
    lab: Lab,
    url: String,
}

impl Scene {
    fn new() -> Result<Self> {
        let at = port::free()?;
        let url = format!("http://localhost:{}", at.port());
        Self::at(at, url, "", "")
    }

    /// The same with more words of the console, and of all.
    fn at(at: std::net::SocketAddr, url: String, console: &str, more: &str) -> Result<Self> {
        let lab = Lab::with(|settings| {
            settings.policies = vec![("rules.cedar".to_owned(), RULES.to_owned())];
            // Browsers make keys for names.
            settings.more = format!("console: {{ listen: '{at}', url: '{url}'{console} }}\n{more}");
        })?;
        Ok(Self { lab, url })
    }

    /// A psql that has asked for what waits for people.
    fn held(&self, what: &str) -> Result<Process> {
        let mut psql = self.lab.agent().open_psql(&self.lab.dsn())?;
        psql.send(&format!(
            "select 'row ' || 'arrived' from salaries limit {what};\n\\echo over :SQLSTATE\n"
        ))?;
        psql.await_text("waiting for approval", DEADLINE)?;
        Ok(psql)
    }

    /// A browser in which root is logged in, with an authenticator that knows who touches it.
    fn root(&self) -> Result<(Browser, String)> {
        let mut browser = root(&self.lab.daemon)?;
        let authenticator = authenticator(&mut browser)?;
        Ok((browser, authenticator))
    }
}

/// Gives a browser an authenticator that knows who touches it.
fn authenticator(browser: &mut Browser) -> Result<String> {
    browser.call("WebAuthn.enable", json!({}))?;
    let options = json!({
        "protocol": "ctap2", "transport": "usb", "hasUserVerification": true,
        "isUserVerified": true, "automaticPresenceSimulation": true,
    });
    let made = browser.call(
        "WebAuthn.addVirtualAuthenticator",
        json!({ "options": options }),
    )?;
    Ok(text(&made, "/authenticatorId")?.to_owned())
}

/// Registers a key in the page.
fn register(browser: &mut Browser, name: &str) -> Result<()> {
    browser.press("5")?;
    browser.click("#key-name")?;
    browser.value("document.querySelector('#key-name').focus()")?;
    browser.typed(name)?;
    browser.press("Enter")?;
    browser.shows(&format!("{name} is registered."))
}

/// What a piece of script by hand comes to.
fn by_hand(browser: &mut Browser, script: &str) -> Result<String> {
    let told = browser.value(&format!("(async () => {{ {BY_HAND} {script} }})()"))?;
    let told = told.as_str().map(str::to_owned);
    told.with_context(|| format!("nothing was told of {script}"))
}

#[test]
fn a_yes_takes_the_key_of_who_says_it_and_the_row_arrives() -> Result<()> {
    let scene = Scene::new()?;
    let (mut browser, _) = scene.root()?;
    let psql = scene.held("1")?;
    browser.click("a[href^='#/approvals/']")?;
    browser.shows("A yes takes your key.")?;
    browser.wait("document.querySelector('#touches').textContent.includes('1 row')")?;
    browser.click("#approve")?;
    browser.shows("this takes a key, and you have none")?;
    // Nor without the page, by root of the host.
    let audit = scene.lab.daemon.audit();
    let asked = audit.wait_for("approval.asked", DEADLINE, |_| true)?;
    let id = text(&asked, "/approval")?;
    let told = refused(scene.lab.daemon.cli(&["approvals", "approve", id])?)?;
    has(&told, &["takes a second factor"])?;
    let emergency = [
        "approvals",
        "approve",
        id,
        "--break-glass",
        "--reason",
        "fire",
    ];
    let told = refused(scene.lab.daemon.cli(&emergency)?)?;
    has(&told, &["takes a second factor"])?;

    register(&mut browser, "the blue one")?;
    let made = audit.wait_for("control", DEADLINE, |line| {
        line["verb"] == "factor" && line["result"] == "ok"
    })?;
    ensure!(made["result"] == "ok", "another line: {made}");
    let key = text(&made, "/detail/add")?.to_owned();
    browser.press("1")?;
    browser.click("a[href^='#/approvals/']")?;
    browser.wait("document.querySelector('#touches').textContent.includes('1 row')")?;
    browser.click("#approve")?;
    psql.await_text("row arrived", DEADLINE)?;
    psql.await_text("over 00000", DEADLINE)?;
    let said = audit.wait_for("approval.answered", DEADLINE, |_| true)?;
    ensure!(
        said["answer"]["factor"]["key"] == key
            && said["answer"]["factor"]["name"] == "the blue one",
        "another answer: {said}"
    );
    // A no takes none.
    let psql = scene.held("2")?;
    let asked = audit.wait_for("approval.asked", DEADLINE, |line| line["approval"] != id)?;
    let second = text(&asked, "/approval")?;
    let no = ["approvals", "deny", second, "--reason", "not today"];
    scene.lab.daemon.cli(&no)?.ok()?;
    psql.await_text("not today", DEADLINE)?;
    is_content(&browser)
}

/// What is told to an answer that a key signed for another page of the same host.
fn by_another_page(scene: &Scene, browser: &mut Browser) -> Result<String> {
    let at = port::free()?;
    let directory = place::temporary("page")?;
    let mut server = Command::new("python3");
    server
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .args(["-u", "-m", "http.server", &at.port().to_string()])
        .args(["--bind", "127.0.0.1", "--directory"])
        .arg(directory.path());
    let server = Process::start(server)?;
    server.await_text("Serving HTTP", DEADLINE)?;
    let given = by_hand(
        browser,
        "const one = await open('limit 1'); \
         return JSON.stringify({ given: await challenge(one), body: say(one) });",
    )?;
    browser.open(&format!("http://localhost:{}/", at.port()))?;
    browser.wait(&format!("location.port === '{}'", at.port()))?;
    let script = include_str!("../../interceptor/src/console/assets/factor.js");
    let script = script
        .replace("import {", "// import {")
        .replace("export ", "");
    let given: Value = serde_json::from_str(&given)?;
    let factor = browser.value(&format!(
        "(async () => {{ {script}\n return JSON.stringify(await signed({})); }})()",
        given.pointer("/given").unwrap_or(&Value::Null)
    ))?;
    let factor = factor.as_str().context("nothing was signed")?;
    browser.open(&format!("{}/#/approvals", scene.url))?;
    browser.shows("What waits for people")?;
    by_hand(
        browser,
        &format!(
            "return told({{ ...{}, factor: {factor} }});",
            given.pointer("/body").unwrap_or(&Value::Null)
        ),
    )
}

#[test]
fn what_a_key_signed_for_something_else_answers_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let (mut browser, authenticator) = scene.root()?;
    register(&mut browser, "mine")?;
    let psql = scene.held("1")?;
    let _other = scene.held("2")?;

    let told = by_hand(
        &mut browser,
        "const one = await open('limit 1'); return told(say(one));",
    )?;
    has(&told, &["takes a second factor"])?;
    let told = by_hand(
        &mut browser,
        "const [one, other] = [await open('limit 1'), await open('limit 2')]; \
         const factor = await signed(await challenge(one)); \
         const wrong = await told({ ...say(other), factor }); \
         const again = await told({ ...say(one), factor }); \
         return `${wrong}|${again}`;",
    )?;
    let (wrong, again) = told.split_once('|').context("no two answers")?;
    has(wrong, &["given for something else"])?;
    has(again, &["used already"])?;
    // Signed for one request, and said of more.
    let told = by_hand(
        &mut browser,
        "const one = await open('limit 1'); \
         const factor = await signed(await challenge(one)); \
         return told({ ...say(one), times: 9, factor });",
    )?;
    has(&told, &["given for something else"])?;
    has(
        &by_another_page(&scene, &mut browser)?,
        &["made for another page"],
    )?;
    // A key that does not see to it who touches it.
    let verified = json!({ "authenticatorId": authenticator, "isUserVerified": false });
    browser.call("WebAuthn.setUserVerified", verified)?;
    let told = by_hand(
        &mut browser,
        "const get = navigator.credentials.get.bind(navigator.credentials); \
         navigator.credentials.get = ({ publicKey }) => get({ publicKey: { ...publicKey, userVerification: 'discouraged' } }); \
         const one = await open('limit 1'); \
         const factor = await signed(await challenge(one)); \
         return told({ ...say(one), factor });",
    )?;
    has(&told, &["did not verify who touched it"])?;
    let refusals = scene.lab.daemon.audit().events("control")?;
    let refusals = refusals
        .iter()
        .filter(|line| line["verb"] == "factor" && line["result"] == "refused");
    ensure!(refusals.count() == 5, "not every refusal is in the audit");
    ensure!(!psql.log().contains("row arrived"), "it was let through");
    Ok(())
}

/// The page's form for a key, filled and sent.
fn asked(browser: &mut Browser, name: &str, code: Option<&str>) -> Result<()> {
    browser.press("5")?;
    browser.shows("Register a key")?;
    let code = code.map_or_else(String::new, |code| {
        format!("document.querySelector('#key-code').value = '{code}';")
    });
    browser.value(&format!(
        "document.querySelector('#key-name').value = '{name}'; {code}"
    ))?;
    browser.click("#register")
}

#[test]
fn a_first_key_of_who_logs_in_takes_the_code_that_root_gave_them_once() -> Result<()> {
    let at = port::free()?;
    let url = format!("http://localhost:{}", at.port());
    let (_provider, issuer) = provider(&format!("{url}/login/done"))?;
    let login = ", login: { issuer: idp }";
    let scene = Scene::at(at, url, login, &issuers(&issuer))?;
    let code = |person: &str| -> Result<String> {
        let words = ["console", "--enrol", person, "--json"];
        let said: Value = serde_json::from_str(&scene.lab.daemon.cli(&words)?.ok()?)?;
        Ok(text(&said, "/code")?.to_owned())
    };
    let mut browser = Browser::start(2)?;
    log_in(&mut browser, &scene.url, "jane")?;
    authenticator(&mut browser)?;
    let needed = "interceptor console --enrol idp:jane";
    browser.press("5")?;
    browser.shows(needed)?;
    // Neither a guess, nor somebody else's, nor none by hand.
    for wrong in ["01234-56789-abcde-f0123", &code("idp:joe")?] {
        asked(&mut browser, "hers", Some(wrong))?;
        browser.shows("a first key takes the code that root of this host gives you")?;
    }
    let refused_line = scene
        .lab
        .daemon
        .audit()
        .wait_for("control", DEADLINE, |line| {
            line["verb"] == "factor" && line["result"] == "refused"
        })?;
    has(text(&refused_line, "/detail/error")?, &["takes the code"])?;
    for nobody in ["jane", "idp:", "other:jane"] {
        refused(scene.lab.daemon.cli(&["console", "--enrol", nobody])?)?;
    }
    let good = code("idp:jane")?;
    asked(&mut browser, "hers", Some(&good))?;
    browser.shows("hers is registered.")?;
    // The next one takes the key that is there, and no code.
    browser.wait("document.querySelector('#key-code') === null")?;
    is_content(&browser)
}
