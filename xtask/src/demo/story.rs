//! The story that the demo tells: each claim is looked at, and a claim that does not hold ends the demo.

use std::process::Command;

use anyhow::{Context as _, ensure};
use nix::unistd::{Uid, User};
use support::daemon::{Settings, Target};
use support::{Agent, Daemon, Finished, Postgres, place};

use super::left::Traces;
use super::records;
use super::show::{block, command, heading, plain, say};
use crate::guard::Guard;
use crate::shell;

/// The rule that this demo adds to the read-write pack.
const RULE: &str = r#"@id("salaries-are-private")
@hint("salaries are closed to agents; ask the people team for a summary")
forbid (principal, action, resource in Table::"shop/shop/public.salaries");
"#;

const READ: &str = "select id, name, email from customers order by id";
const PRIVATE: &str = "select * from salaries";
const DELETE: &str = "delete from customers";
const AFTERWARDS: &str = "select count(*) from customers";

/// What the demo has put up.
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    pub(super) server: Postgres,
}

/// The daemon's settings: one target, the pack `read-write` and one rule more.
pub(super) fn settings(server: &Postgres) -> anyhow::Result<Settings> {
    let mut target = Target::postgres("shop", server, server.address());
    let masked = "sensitive: { public.customers.email: email }";
    target.more.push(masked.to_owned());
    let mut settings = Settings::new(vec![target], RULE);
    settings.policies = place::pack("read-write")?;
    settings
        .policies
        .push(("salaries.cedar".to_owned(), RULE.to_owned()));
    Ok(settings)
}

/// Shows what the daemon is told, and how it is started.
pub(super) fn introduce(daemon: &Daemon) -> anyhow::Result<()> {
    let config = daemon.config();
    say("its settings:");
    block(&std::fs::read_to_string(&config).context("read the settings")?);
    say("its policy is the pack `policies/read-write` (deletes need a WHERE) and one rule more:");
    block(RULE);
    println!(
        "\x1b[36m$ interceptor daemon --config {}\x1b[0m",
        config.display()
    );
    Ok(())
}

/// Tells it all.
pub(super) fn tell(stage: &Stage, guard: &Guard) -> anyhow::Result<()> {
    let steps: [fn(&Stage) -> anyhow::Result<()>; 6] = [
        without_password,
        private_table,
        refused_delete,
        outside,
        records::audited,
        records::replayed,
    ];
    for step in steps {
        guard.go_on()?;
        step(stage)?;
    }
    Ok(())
}

fn without_password(stage: &Stage) -> anyhow::Result<()> {
    heading("a stock psql as an agent: no password anywhere, the ordinary host and port");
    let finished = stage.agent(&psql(stage, &[READ]))?;
    ensure!(finished.status.success(), "the query did not work");
    ensure!(
        finished.stdout.contains("Ada Lovelace"),
        "the rows are missing"
    );
    say("the daemon proved to the server who logs in; psql was asked for nothing");
    Ok(())
}

fn private_table(stage: &Stage) -> anyhow::Result<()> {
    heading("what policy lets be seen: customers yes, but for their addresses; salaries no");
    let finished = stage.agent(&psql(stage, &[READ]))?;
    ensure!(
        finished.stdout.contains("Ada Lovelace") && !finished.stdout.contains("ada@example.com"),
        "the row is not as policy lets it be seen"
    );
    say(
        "the column is `sensitive`: it is masked before it leaves the server, by the statement itself",
    );
    let finished = stage.agent(&psql(stage, &[PRIVATE]))?;
    ensure!(!finished.status.success(), "the private table was read");
    ensure!(
        !finished.stdout.contains("Charles"),
        "a private row came through"
    );
    ensure!(
        finished.stderr.contains("salaries-are-private"),
        "the refusal does not name its rule"
    );
    Ok(())
}

fn refused_delete(stage: &Stage) -> anyhow::Result<()> {
    heading("a DELETE without WHERE, started by a shell of the agent's, and the session after it");
    let words = psql(stage, &[DELETE, AFTERWARDS]);
    let inner = format!("{}; exit $?", quoted(&words));
    let finished = stage.agent(&["sh".to_owned(), "-c".to_owned(), inner])?;
    ensure!(
        finished.stderr.contains("require-where") && finished.stderr.contains("HINT"),
        "the refusal lacks its rule or its hint"
    );
    ensure!(
        finished.stdout.contains('3'),
        "the session was not usable after the refusal"
    );
    say(
        "told no by rule, with a next step; the session went on, and three customers are still there",
    );
    Ok(())
}

fn outside(stage: &Stage) -> anyhow::Result<()> {
    heading("the same psql outside the cgroup: not touched at all");
    let before = connections(stage)?;
    let words = psql(stage, &[READ]);
    let finished = stage.outside(&words, None)?;
    ensure!(
        !finished.status.success() && finished.stderr.contains("password"),
        "the server did not ask the outsider for a password"
    );
    say("the server itself asks for a password, as it always did. With the password:");
    let mut words = psql(stage, &[READ]);
    if let Some(user) = words.iter_mut().find(|word| *word == "anybody") {
        stage.server.user().clone_into(user);
    }
    let finished = stage.outside(&words, Some(stage.server.password()))?;
    ensure!(finished.status.success(), "the outsider's own login failed");
    let after = connections(stage)?;
    ensure!(before == after, "something outside the scope was audited");
    say("and the daemon saw none of it: its log has no connection more");
    Ok(())
}

/// How many connections the log has, admitted or refused.
fn connections(stage: &Stage) -> anyhow::Result<usize> {
    let log = stage.daemon.audit();
    Ok(log.events("connection.opened")?.len() + log.events("connection.refused")?.len())
}

/// What `--keep` prints.
pub(super) fn play(stage: &Stage) {
    heading("it stays up; Ctrl-C ends it");
    let socket = stage.socket();
    say("as root, in another terminal:");
    let program = place::interceptor().unwrap_or_default();
    let program = program.display();
    let words = quoted(&psql(stage, &[]));
    block(&format!(
        "{program} run --agent demo --user {} --socket {socket} -- {words}\n\
         {program} status --socket {socket}\n\
         {program} sessions ls --socket {socket}\n\
         $EDITOR {}; {program} reload --socket {socket}",
        user(),
        stage.daemon.policies().join("salaries.cedar").display(),
    ));
    say(&format!(
        "outside, the role is {} and its password {}",
        stage.server.user(),
        stage.server.password()
    ));
}

impl Stage {
    /// `interceptor run` as root, which steps down to the ordinary user before it becomes `words`.
    fn agent(&self, words: &[String]) -> anyhow::Result<Finished> {
        let socket = self.socket();
        let user = user();
        let mut line = vec![
            "run", "--agent", "demo", "--user", &user, "--socket", &socket, "--",
        ];
        line.extend(words.iter().map(String::as_str));
        let mut program = clean(&place::interceptor()?.to_string_lossy());
        program.args(&line);
        plain(program)
    }

    /// The same user, not in any scope.
    fn outside(&self, words: &[String], password: Option<&str>) -> anyhow::Result<Finished> {
        let mut agent = Agent::outside();
        let mut line = quoted(words);
        if let Some(password) = password {
            agent = agent.with("PGPASSWORD", password);
            line = format!("PGPASSWORD=… {line}");
        }
        let (program, arguments) = words.split_first().context("no command")?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        command(&line, agent.command(program, &arguments))
    }

    /// A verb of the program against this daemon.
    pub(super) fn verb(&self, words: &[&str]) -> anyhow::Result<Finished> {
        let socket = self.socket();
        let mut program = clean(&place::interceptor()?.to_string_lossy());
        program.args(words).args(["--socket", &socket]);
        plain(program)
    }

    fn socket(&self) -> String {
        shell::text(&self.daemon.run_directory().join("control.sock"))
    }

    /// Takes everything down and looks whether it is gone.
    pub(super) fn take_down(self) -> anyhow::Result<()> {
        heading("the end");
        let traces = Traces::of(&self)?;
        drop(self);
        traces.are_gone()
    }
}

/// `psql` with each of `statements`; `-w`: it must never ask.
fn psql(stage: &Stage, statements: &[&str]) -> Vec<String> {
    let port = stage.server.address().port().to_string();
    let mut words: Vec<String> = [
        "psql",
        "-X",
        "-w",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "anybody",
    ]
    .map(str::to_owned)
    .to_vec();
    words.push(stage.server.database().to_owned());
    for statement in statements {
        words.extend(["-c".to_owned(), (*statement).to_owned()]);
    }
    words
}

fn quoted(words: &[String]) -> String {
    let mut command = Command::new(words.first().map_or("", String::as_str));
    command.args(words.iter().skip(1));
    shell::line(&command)
}

/// A program under an environment that carries nothing in.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    command
}

/// The ordinary user's name.
fn user() -> String {
    match User::from_uid(Uid::from_raw(place::agent_uid())) {
        Ok(Some(user)) => user.name,
        _ => "nobody".to_owned(),
    }
}
