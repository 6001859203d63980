//! Bad input: every mistake is said at once, with its place; nothing starts half; the old stays in force.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData};
use interceptor_ebpf::rule::{EXACT_BITS, RuleKey, State};
use interceptor_ebpf::{LAYOUT, MAX_RULES};
use support::daemon::Target;
use support::{DEADLINE, Daemon, Postgres};

use crate::lab::{self, Lab, has, refused, text};

#[test]
fn every_mistake_of_the_settings_is_said_at_once_with_its_line() -> Result<()> {
    let server = Postgres::start()?;
    let mut settings = lab::settings(&server)?;
    settings.durability = "sometimes";
    settings.limits = vec!["connections: 0".to_owned()];
    "colour: red\ndrain: soon\n".clone_into(&mut settings.more);
    for target in &mut settings.targets {
        target.tls = Some("{ mode: verify-full, ca: absent.pem }".to_owned());
    }
    let broken = ("broken.cedar".to_owned(), "\npermit (".to_owned());
    settings.policies.push(broken);
    let daemon = Daemon::prepare(settings)?;
    let finished = daemon.refuse()?;
    ensure!(
        finished.status.code() == Some(2),
        "exit code: {}",
        finished.status
    );
    has(
        &finished.stderr,
        &[
            "interceptor.yaml:",
            "durability",
            "connections",
            "colour",
            "drain",
            "targets.shop.tls.ca",
            "absent.pem",
            "broken.cedar:2",
        ],
    )?;
    // Each with the line on which its key stands.
    let file = fs::read_to_string(daemon.config())?;
    for key in [
        "durability: sometimes",
        "connections: 0",
        "colour: red",
        "drain: soon",
        "absent.pem",
    ] {
        let at = file.lines().position(|line| line.contains(key));
        let at = at.map(|at| format!("interceptor.yaml:{}:", at + 1));
        has(&finished.stderr, &[&at.unwrap_or_default()])?;
    }
    ensure!(
        !daemon.pins().exists(),
        "it attached something all the same"
    );
    ensure!(
        !daemon.run_directory().join("control.sock").exists(),
        "it listens all the same"
    );
    Ok(())
}

#[test]
fn a_policy_that_cannot_be_read_keeps_the_daemon_from_starting() -> Result<()> {
    let server = Postgres::start()?;
    let rows = [
        (
            "permit (principal, action, resource",
            "unexpected end of input",
        ),
        (
            "permit (principal, action == Action::\"Fly\", resource);",
            "Fly",
        ),
        (
            "permit (principal, action, resource) when { principal.colour == 1 };",
            "colour",
        ),
    ];
    for (policy, word) in rows {
        let mut settings = lab::settings(&server)?;
        settings
            .policies
            .push(("broken.cedar".to_owned(), policy.to_owned()));
        let daemon = Daemon::prepare(settings)?;
        let finished = daemon.refuse()?;
        ensure!(
            finished.status.code() == Some(2),
            "{word}: exit code {}",
            finished.status
        );
        has(&finished.stderr, &["broken.cedar:1:", word])?;
    }
    Ok(())
}

#[test]
fn a_signal_to_read_a_bad_file_changes_nothing_and_is_told_in_log_and_audit() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.daemon.change(|settings| {
        let broken = ("broken.cedar".to_owned(), "permit (".to_owned());
        settings.policies.push(broken);
        "drain: soon\n".clone_into(&mut settings.more);
    })?;
    let process = lab.daemon.process().context("no daemon")?;
    process.signal(nix::sys::signal::Signal::SIGHUP);
    let line = lab
        .daemon
        .audit()
        .wait_for("control", DEADLINE, |line| line["verb"] == "reload")?;
    ensure!(text(&line, "/result")? == "failed", "it was read: {line}");
    has(&line.to_string(), &["broken.cedar:1", "drain"])?;
    has(
        &lab.daemon.log(),
        &["everything old stays in force", "broken.cedar:1", "drain"],
    )?;
    lab.psql(&["select 1"])?.ok()?;
    let status = lab.daemon.cli(&["status"])?.ok()?;
    has(&status, &["policy generation 1"])
}

#[test]
fn a_reload_with_a_mistake_keeps_the_old_policy_and_says_so() -> Result<()> {
    let mut lab = Lab::new()?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select 'opened';\n")?;
    psql.await_text("opened", DEADLINE)?;
    lab.daemon.change(|settings| {
        settings
            .policies
            .push(("broken.cedar".to_owned(), "permit (".to_owned()));
    })?;
    let error = refused(lab.daemon.reload()?)?;
    has(&error, &["broken.cedar"])?;
    psql.send("select 'still ' || 'open';\n")?;
    psql.await_text("still open", DEADLINE)?;
    has(
        &lab.psql(&["delete from customers"])?.stderr,
        &["require-where"],
    )?;
    let file = lab.daemon.policies().join("broken.cedar");
    fs::remove_file(file)?;
    Ok(())
}

#[test]
fn a_reload_that_the_kernel_refuses_changes_nothing() -> Result<()> {
    let mut lab = Lab::new()?;
    // A cgroup cannot be made below a file.
    let below_a_file = format!("{}/cgroup.procs/below", lab.daemon.scope());
    lab.daemon.change(|settings| {
        settings.scopes.push(below_a_file);
        let rule = "@id(\"closed\") forbid (principal, action == Action::\"Open\", resource);";
        let closed = ("closed.cedar".to_owned(), rule.to_owned());
        settings.policies.push(closed);
        for target in &mut settings.targets {
            "other".clone_into(&mut target.name);
        }
    })?;
    let finished = lab.daemon.reload()?;
    ensure!(
        finished.status.code() == Some(2),
        "exit code: {}",
        finished.status
    );
    has(&finished.stderr, &["cgroup.procs", "nothing was changed"])?;
    lab.psql(&["select 1"])?.ok()?;
    let status = lab.daemon.cli(&["status"])?.ok()?;
    has(&status, &["policy generation 1", "target   shop "])
}

#[test]
fn a_reload_whose_rules_do_not_fit_into_the_kernel_changes_nothing() -> Result<()> {
    let mut lab = Lab::new()?;
    fill(&lab.daemon.pins().join(format!("v{LAYOUT}/maps")))?;
    lab.daemon.change(|settings| {
        let rule = "@id(\"closed\") forbid (principal, action == Action::\"Open\", resource);";
        let closed = ("closed.cedar".to_owned(), rule.to_owned());
        settings.policies.push(closed);
        for target in &mut settings.targets {
            "other".clone_into(&mut target.name);
        }
    })?;
    let finished = lab.daemon.reload()?;
    ensure!(
        finished.status.code() == Some(2),
        "exit code: {}",
        finished.status
    );
    has(
        &finished.stderr,
        &["RULES", "it is full", "nothing was changed"],
    )?;
    lab.psql(&["select 1"])?.ok()?;
    let status = lab.daemon.cli(&["status"])?.ok()?;
    has(&status, &["policy generation 1", "target   shop "])
}

/// Leaves no room in the kernel's table of rules, by rows of the set that holds for a scope that there is not.
fn fill(maps: &Path) -> Result<()> {
    let pinned = |name: &str| MapData::from_pin(maps.join(name));
    let state: Array<_, State> = Map::Array(pinned("STATE")?).try_into()?;
    let generation = state.get(&0, 0)?.generation;
    let mut rules: LpmTrie<_, RuleKey, u32> = Map::LpmTrie(pinned("RULES")?).try_into()?;
    let has = u32::try_from(rules.keys().count())?;
    for number in has..MAX_RULES {
        let row = RuleKey {
            generation,
            scope_low: u32::MAX,
            scope_high: u32::MAX,
            port: 0,
            address: [number; 4],
        };
        rules.insert(&Key::new(EXACT_BITS + 128, row), 0, 0)?;
    }
    Ok(())
}

#[test]
fn what_cannot_be_bound_is_found_before_anything_is_attached() -> Result<()> {
    let server = Postgres::start()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let mut settings = lab::settings(&server)?;
    settings.metrics = Some(taken.local_addr()?);
    let daemon = Daemon::prepare(settings)?;
    let finished = daemon.refuse()?;
    ensure!(
        finished.status.code() == Some(2),
        "exit code: {}",
        finished.status
    );
    has(&finished.stderr, &["metrics", "taken"])?;
    ensure!(
        !daemon.pins().exists(),
        "it attached something all the same"
    );
    Ok(())
}

#[test]
fn a_reload_that_withdraws_a_permission_ends_the_session_that_stood_on_it() -> Result<()> {
    for by_signal in [false, true] {
        let mut lab = Lab::new()?;
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send("select 'opened';\n")?;
        psql.await_text("opened", DEADLINE)?;
        let rule = "@id(\"closed\") forbid (principal, action == Action::\"Open\", resource);";
        lab.daemon.change(|settings| {
            settings
                .policies
                .push(("closed.cedar".to_owned(), rule.to_owned()))
        })?;
        if by_signal {
            if let Some(process) = lab.daemon.process() {
                process.signal(nix::sys::signal::Signal::SIGHUP);
            }
        } else {
            lab.daemon.reload()?.ok()?;
        }
        let closed = lab
            .daemon
            .audit()
            .wait_for("session.closed", DEADLINE, |_| true)?;
        ensure!(text(&closed, "/reason")? == "policy", "reason: {closed}");
        psql.send("select 1;\n")?;
        psql.close_input();
        ensure!(
            !psql.finish(DEADLINE)?.status.success(),
            "the session went on"
        );
        refused(lab.psql(&["select 1"])?)?;
    }
    Ok(())
}

#[test]
fn a_reload_that_takes_away_what_a_session_is_on_ends_it() -> Result<()> {
    let renamed = |target: &mut Target| "other".clone_into(&mut target.name);
    let other_database = |target: &mut Target| target.databases = vec!["other".to_owned()];
    for take_away in [renamed, other_database] {
        let mut lab = Lab::new()?;
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send("select 'opened';\n")?;
        psql.await_text("opened", DEADLINE)?;
        lab.daemon
            .change(|settings| settings.targets.iter_mut().for_each(take_away))?;
        lab.daemon.reload()?.ok()?;
        let closed = lab
            .daemon
            .audit()
            .wait_for("session.closed", DEADLINE, |_| true)?;
        ensure!(text(&closed, "/reason")? == "policy", "reason: {closed}");
    }
    Ok(())
}

#[test]
fn a_reload_is_seen_by_the_next_statement_of_an_open_session() -> Result<()> {
    let mut lab = Lab::new()?;
    let mut psql = lab.agent().open_psql(&lab.dsn())?;
    psql.send("select count(*) || ' orders' from orders;\n")?;
    psql.await_text("4 orders", DEADLINE)?;
    let rule = "@id(\"no-orders\") forbid (principal, action, resource in Table::\"shop/shop/public.orders\");";
    lab.daemon.change(|settings| {
        settings
            .policies
            .push(("orders.cedar".to_owned(), rule.to_owned()))
    })?;
    lab.daemon.reload()?.ok()?;
    psql.send("select count(*) from orders;\nselect 'alive';\n")?;
    psql.await_text("no-orders", DEADLINE)?;
    psql.await_text("alive", DEADLINE)
}

#[test]
fn verbs_without_a_daemon_say_so_and_end_with_two() -> Result<()> {
    let server = Postgres::start()?;
    let daemon = Daemon::prepare(lab::settings(&server)?)?;
    for words in [
        &["status"][..],
        &["reload"],
        &["kill", "demo"],
        &["metrics"],
    ] {
        let finished = daemon.cli(words)?;
        ensure!(
            finished.status.code() == Some(2),
            "{words:?}: {}",
            finished.status
        );
        has(
            &finished.stderr,
            &["control.sock", "`interceptor daemon`", "systemctl status"],
        )?;
    }
    let finished = daemon.cli(&["version"]);
    ensure!(finished.is_ok(), "version needs no daemon");
    Ok(())
}
