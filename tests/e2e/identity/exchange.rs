//! Tokens that mean something in one scope only, and grants in somebody's name.

use super::*;

/// `interceptor …` of the agent, with the agents' socket.
fn as_agent(scene: &Scene, words: &str) -> Result<Finished> {
    let socket = scene.lab.daemon.run_directory().join("agent.sock");
    let socket = socket.to_string_lossy();
    let mut words: Vec<_> = words.split_whitespace().collect();
    words.extend(["--socket", &socket]);
    let program = place::interceptor()?;
    scene.lab.agent().run(&program.to_string_lossy(), &words)
}

/// A shell of the agent, which is the topmost of its tree.
struct Tree<'a> {
    scene: &'a Scene,
    shell: Process,
    lines: usize,
}

impl<'a> Tree<'a> {
    fn grow(scene: &'a Scene) -> Result<Self> {
        let shell = scene.lab.agent().start("sh", &[])?;
        Ok(Self {
            scene,
            shell,
            lines: 0,
        })
    }

    /// `interceptor …` below it, with the agents' socket: what it says, and whether it ends well.
    fn asks(&mut self, words: &str) -> Result<(bool, String)> {
        let socket = self.scene.lab.daemon.run_directory().join("agent.sock");
        self.lines += 1;
        let line = self.lines;
        self.shell.send(&format!(
            "echo begun {line}; {} {words} --socket {} 2>&1; echo over {line} $?\n",
            place::interceptor()?.display(),
            socket.display()
        ))?;
        self.shell.await_text(&format!("over {line} "), DEADLINE)?;
        let log = self.shell.log();
        let (_, told) = log
            .split_once(&format!("begun {line}\n"))
            .context("no begin")?;
        let (told, end) = told
            .split_once(&format!("over {line} "))
            .context("no end")?;
        Ok((end.starts_with('0'), told.to_owned()))
    }

    fn has(&mut self, words: &str) -> Result<String> {
        let (is_good, told) = self.asks(words)?;
        ensure!(is_good, "{words}: {told}");
        Ok(told)
    }

    fn is_refused(&mut self, words: &str) -> Result<String> {
        let (is_good, told) = self.asks(words)?;
        ensure!(!is_good, "{words} is granted: {told}");
        Ok(told)
    }
}

/// A file that the agent may read.
fn readable(scene: &Scene, token: &str) -> Result<String> {
    use std::os::unix::fs::PermissionsExt as _;

    let path = scene.file(token)?;
    for path in [scene.directory.path(), &path] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(path.to_string_lossy().into_owned())
}

const REQUEST: &str = "request --target shop --database shop --table public.orders --action Insert --for 1h \
    --reason test --json --on-behalf-of";

#[test]
fn a_token_is_exchanged_for_one_of_this_scope_and_a_grant_in_that_name_is_issued_once() -> Result<()>
{
    let scene = Scene::new(&[])?;
    let token = scene.provider.token("analyst")?;
    let file = readable(&scene, &token)?;
    // What nobody in its scope started has no tree, and no token is made for all that runs there.
    let alone = as_agent(&scene, &format!("exchange --token {file}"))?;
    has(&refused(alone)?, &["the whole scope's", "; exit $?"])?;
    let mut tree = Tree::grow(&scene)?;
    let given = tree.has(&format!("exchange --token {file} --for 5m --json"))?;
    let given: Value = serde_json::from_str(&given)?;
    ensure!(
        given["token_type"] == "N_A" && given["expires_in"] == 300,
        "{given}"
    );
    let log = scene.lab.daemon.audit();
    let written = log.wait_for("token.exchanged", DEADLINE, |_| true)?;
    ensure!(text(&written, "/identity/user")? == "analyst", "{written}");
    let own = text(&given, "/access_token")?.to_owned();

    // What was brought is not what is given out, and the daemon's own keys tell who signed.
    let file = readable(&scene, &token)?;
    tree.is_refused(&format!("{REQUEST} {file}"))?;
    scene.refusal("issuer")?;
    let file = readable(&scene, &own)?;
    // Neither another tree nor what is in none can do anything with it.
    Tree::grow(&scene)?.is_refused(&format!("{REQUEST} {file}"))?;
    refused(as_agent(&scene, &format!("{REQUEST} {file}"))?)?;
    scene.refusal("elsewhere")?;
    let granted = tree.has(&format!("{REQUEST} {file}"))?;
    let granted: Value = serde_json::from_str(&granted)?;
    ensure!(
        text(&granted, "/on_behalf_of/user")? == "analyst",
        "{granted}"
    );
    // It lasts no longer than the token, of which five minutes were asked for.
    let (from, until) = (&granted["from"], &granted["until"]);
    let lasts = until
        .as_u64()
        .zip(from.as_u64())
        .map(|(until, from)| until - from);
    ensure!(
        lasts.is_some_and(|nanos| nanos <= 300_000_000_000),
        "{granted}"
    );
    has(
        &scene.lab.daemon.cli(&["grants"])?.ok()?,
        &["for analyst of"],
    )?;
    let told = tree.is_refused(&format!("{REQUEST} {file}"))?;
    has(&told, &["could not be verified"])?;
    let line = scene.refusal("replayed")?;
    ensure!(text(&line, "/how")? == "on_behalf_of", "{line}");

    // One for another scope, by whoever may bind it: the agent of this one can do nothing with it.
    let other = scene.provider.token("brief")?;
    let file = readable(&scene, &other)?;
    let socket = scene.lab.daemon.run_directory().join("control.sock");
    ensure!(socket.exists(), "no control socket");
    let scope = scene.lab.daemon.scope().to_owned();
    let words = [
        "exchange",
        "--token",
        &file,
        "--scope",
        &scope,
        "--audience",
        "others",
    ];
    let for_others = scene.lab.daemon.cli(&words)?.ok()?;
    let file = readable(&scene, for_others.trim())?;
    tree.is_refused(&format!("{REQUEST} {file}"))?;
    scene.refusal("audience")?;
    scene.nowhere(&own)
}

#[test]
fn a_token_that_an_operator_exchanges_for_a_scope_is_good_for_what_runs_in_it_once() -> Result<()> {
    let scene = Scene::new(&[])?;
    let file = readable(&scene, &scene.provider.token("analyst")?)?;
    let scope = scene.lab.daemon.scope().to_owned();
    let words = ["exchange", "--token", &file, "--scope", &scope];
    let own = scene.lab.daemon.cli(&words)?.ok()?;
    let file = readable(&scene, own.trim())?;
    // As agents run it: by a shell, which is the topmost of their tree.
    let socket = scene.lab.daemon.run_directory().join("agent.sock");
    let line = format!(
        "{} {REQUEST} {file} --socket {}; exit $?",
        place::interceptor()?.display(),
        socket.display()
    );
    let agent = scene.lab.agent();
    let granted: Value = serde_json::from_str(&agent.run("sh", &["-c", &line])?.ok()?)?;
    ensure!(
        text(&granted, "/on_behalf_of/user")? == "analyst",
        "{granted}"
    );
    refused(agent.run("sh", &["-c", &line])?)?;
    scene.refusal("replayed").map(drop)
}

#[test]
fn a_grant_ends_with_whom_the_scope_was_bound_to() -> Result<()> {
    let scene = Scene::new(&[])?;
    scene.bind(&scene.provider.token("analyst")?)?.ok()?;
    let words = REQUEST.replace(" --on-behalf-of", "");
    let granted: Value = serde_json::from_str(&as_agent(&scene, &words)?.ok()?)?;
    ensure!(
        text(&granted, "/on_behalf_of/user")? == "analyst",
        "{granted}"
    );
    // A fresh token of the same subject changes nothing.
    scene.bind(&scene.provider.token("analyst")?)?.ok()?;
    let insert = "insert into orders (item) values ('x')";
    let log = scene.lab.daemon.audit();
    ensure!(log.events("grant.ended")?.is_empty(), "it has ended");
    let scope = scene.lab.daemon.scope().to_owned();
    scene.lab.daemon.cli(&["unbind", &scope])?.ok()?;
    let ended = log.wait_for("grant.ended", DEADLINE, |line| line["why"] == "identity")?;
    ensure!(ended["grant"] == granted["id"], "another: {ended}");
    refused(scene.lab.psql(&[insert])?).map(drop)
}

#[test]
fn what_would_begin_after_whom_it_is_asked_for_is_gone_is_refused_and_uses_nothing_up() -> Result<()>
{
    let scene = Scene::new(&[])?;
    let file = readable(&scene, &scene.provider.token("analyst")?)?;
    let mut tree = Tree::grow(&scene)?;
    let own = tree.has(&format!("exchange --token {file} --for 5m"))?;
    let file = readable(&scene, own.trim())?;
    let told = tree.is_refused(&format!("{REQUEST} {file} --after 2h"))?;
    has(&told, &["token", "before the grant begins"])?;
    let log = scene.lab.daemon.audit();
    ensure!(log.events("grant.issued")?.is_empty(), "it was issued");
    // Sooner it begins in time, with the same token.
    let granted = tree.has(&format!("{REQUEST} {file} --after 1m"))?;
    let granted: Value = serde_json::from_str(&granted)?;
    ensure!(
        granted["until"].as_u64() > granted["from"].as_u64(),
        "of no length: {granted}"
    );

    scene.bind(&scene.provider.token("analyst")?)?.ok()?;
    let words = REQUEST.replace(" --on-behalf-of", "");
    let told = tree.is_refused(&format!("{words} --after 23h"))?;
    has(&told, &["bound to", "before the grant begins"]).map(drop)
}

#[test]
fn a_token_is_exchanged_for_no_audience_that_is_not_named_for_its_issuer() -> Result<()> {
    let scene = Scene::new(&[])?;
    let file = readable(&scene, &scene.provider.token("analyst")?)?;
    let mut tree = Tree::grow(&scene)?;
    let asked = |audience: &str| format!("exchange --token {file} --audience {audience}");
    tree.is_refused(&asked("strangers"))?;
    let line = scene.refusal("audience")?;
    has(text(&line, "/cause")?, &["strangers"])?;
    tree.has(&asked("others")).map(drop)
}
