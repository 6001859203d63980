//! Inside and outside: who is intercepted, from when, and until when.

use anyhow::{Context as _, Result, ensure};
use support::cgroup::Cgroup;
use support::{Agent, Finished, Process, suffix};

use crate::lab::{Lab, has, lacks, refused, text};

#[test]
fn the_same_psql_outside_the_scope_is_not_touched() -> Result<()> {
    let lab = Lab::new()?;
    let connections = || -> Result<usize> {
        let log = lab.daemon.audit();
        Ok(log.events("connection.opened")?.len() + log.events("connection.refused")?.len())
    };
    let before = connections()?;
    let outside = Agent::outside();
    let error = refused(outside.psql(&lab.dsn(), &["select 1"])?)?;
    has(&error, &["no password supplied"])?;
    let mut dsn = lab.dsn().with_password(lab.server.password());
    lab.server.user().clone_into(&mut dsn.user);
    let output = outside
        .psql(&dsn, &["select count(*) from salaries"])?
        .ok()?;
    has(&output, &["2"])?;
    ensure!(connections()? == before, "an outsider was audited");
    Ok(())
}

#[test]
fn run_makes_a_scope_steps_down_and_leaves_no_cgroup_behind() -> Result<()> {
    let lab = Lab::new()?;
    let user = nix::unistd::User::from_uid(lab.agent().uid().into())?;
    let user = user.map_or_else(|| "nobody".to_owned(), |user| user.name);
    let psql = support::place::postgres_programs()?.join("psql");
    let conninfo = lab.dsn().conninfo();
    let words = [
        "run",
        "--agent",
        "passing",
        "--user",
        &user,
        "--",
        &psql.to_string_lossy(),
        "-X",
        "-A",
        "-t",
        "-w",
        "-d",
        &conninfo,
        "-c",
        "select name from customers where id = 1",
    ];
    has(&lab.daemon.cli(&words)?.ok()?, &["Ada Lovelace"])?;
    let line = lab
        .daemon
        .audit()
        .wait_for("session.opened", support::DEADLINE, |_| true)?;
    ensure!(
        text(&line, "/principal/agent")? == "passing",
        "another agent: {line}"
    );
    await_no_run(&lab)
}

/// Waits until no cgroup of `interceptor run` is left.
fn await_no_run(lab: &Lab) -> Result<()> {
    let parent = support::cgroup::mount()?.join(lab.daemon.run_parent());
    support::wait::for_fact("the end of the scope", support::DEADLINE, || {
        let left = std::fs::read_dir(&parent)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("run-"))
            .count();
        Ok((left == 0).then_some(()))
    })
}

#[test]
fn a_scope_that_is_taken_out_of_the_file_is_untagged_at_the_next_reload_and_start() -> Result<()> {
    for by_restart in [false, true] {
        let mut lab = Lab::new()?;
        let in_file = format!("{}-more", lab.daemon.scope());
        lab.daemon
            .change(|settings| settings.scopes.push(in_file.clone()))?;
        lab.daemon.reload()?.ok()?;
        let by_hand = Cgroup::make(&format!("{}-by-hand", lab.daemon.scope()))?;
        lab.daemon
            .cli(&["tag", by_hand.below(), "--agent", "demo"])?
            .ok()?;
        let status = lab.daemon.cli(&["status"])?.ok()?;
        has(&status, &[&in_file, by_hand.below()])?;
        lab.daemon.change(|settings| settings.scopes.clear())?;
        if by_restart {
            lab.daemon.kill();
            lab.daemon.resume()?;
        } else {
            let said = lab.daemon.reload()?.ok()?;
            has(&said, &[&format!("untagged /{in_file}")])?;
        }
        let status = lab.daemon.cli(&["status"])?.ok()?;
        lacks(&status, &[&in_file])?;
        has(&status, &[by_hand.below(), lab.daemon.scope()])?;
        let path = format!("/{in_file}");
        let untagged = |line: &serde_json::Value| {
            line["verb"] == "untag" && line["result"] == "ok" && line["detail"]["cgroup"] == path
        };
        lab.daemon
            .audit()
            .wait_for("control", support::DEADLINE, untagged)?;
        drop(Cgroup::adopt(&in_file)?);
    }
    Ok(())
}

#[test]
fn an_ordinary_user_may_run_only_where_policy_lets_that_user() -> Result<()> {
    let mut lab = Lab::new()?;
    let program = support::place::interceptor()?;
    let program = program.to_string_lossy();
    let socket = lab.daemon.run_directory().join("control.sock");
    let socket = socket.to_string_lossy();
    let user = Agent::outside();
    let words = [
        "run",
        "--agent",
        "guest",
        "--socket",
        &socket,
        "--",
        "/bin/echo",
        "inside",
    ];
    refused(user.run(&program, &words)?)?;
    let rule = format!(
        "@id(\"guests\") permit (principal == User::\"{}\", action == Action::\"Run\", resource in Agent::\"guest\");",
        user.uid()
    );
    lab.daemon
        .change(|settings| settings.policies.push(("guests.cedar".to_owned(), rule)))?;
    lab.daemon.reload()?.ok()?;
    has(&user.run(&program, &words)?.ok()?, &["inside"])?;
    // What runs there is intercepted, as the agent's and the user's, and nothing of it is left.
    let psql = support::place::postgres_programs()?.join("psql");
    let (psql, dsn) = (psql.to_string_lossy(), lab.dsn().conninfo());
    let query = [&*psql, "-XAtw", "-d", &dsn, "-c", "select 'thr' || 'ough'"];
    let asks: Vec<&str> = words.into_iter().take(6).chain(query).collect();
    has(&user.run(&program, &asks)?.ok()?, &["through"])?;
    let log = lab.daemon.audit();
    let line = log.wait_for("session.opened", support::DEADLINE, |_| true)?;
    ensure!(text(&line, "/principal/agent")? == "guest", "{line}");
    for pointer in ["/principal/user/uid", "/principal/process/uid"] {
        let uid = line.pointer(pointer).and_then(serde_json::Value::as_u64);
        ensure!(uid == Some(user.uid().into()), "{pointer}: {line}");
    }
    await_no_run(&lab)?;
    let other = [
        "run",
        "--agent",
        "demo",
        "--socket",
        &socket,
        "--",
        "/bin/echo",
        "inside",
    ];
    refused(user.run(&program, &other)?).map(drop)
}

#[test]
fn an_ordinary_user_tags_cgroups_of_its_own_only() -> Result<()> {
    let mut lab = Lab::new()?;
    let user = Agent::outside();
    let rule = format!(
        "@id(\"own\") permit (principal == User::\"{}\", action in [Action::\"Tag\", Action::\"Untag\"], resource);",
        user.uid()
    );
    lab.daemon
        .change(|settings| settings.policies.push(("own.cedar".to_owned(), rule)))?;
    lab.daemon.reload()?.ok()?;
    let program = support::place::interceptor()?;
    let program = program.to_string_lossy();
    let socket = lab.daemon.run_directory().join("control.sock");
    let socket = socket.to_string_lossy();
    let tag = |cgroup: &Cgroup| {
        let words = ["tag", cgroup.below(), "--agent", "own", "--socket", &socket];
        user.run(&program, &words)
    };
    let other = Cgroup::make(&format!("ic-{}-other", suffix()?))?;
    // Nothing lives there yet: it is whoever's the directory is.
    let error = refused(tag(&other)?)?;
    has(&error, &["only root can tag"])?;
    let path = format!("/{}", other.below());
    lab.daemon
        .audit()
        .wait_for("control", support::DEADLINE, |line| {
            line["verb"] == "tag" && line["result"] == "refused" && line["detail"]["cgroup"] == path
        })?;
    let own = Cgroup::make(&format!("ic-{}-own", suffix()?))?;
    std::os::unix::fs::chown(own.path(), Some(user.uid()), None)?;
    tag(&own)?.ok()?;
    // Once somebody else's process is in it, it is not.
    let mut shell = Agent::inside(own.path()).as_uid(0).start("sh", &[])?;
    shell.send("echo up\n")?;
    shell.await_text("up", support::DEADLINE)?;
    let words = ["untag", own.below(), "--socket", &socket];
    has(&refused(user.run(&program, &words)?)?, &["only root can"])?;
    lab.daemon.cli(&["untag", own.below()])?.ok().map(drop)
}

#[test]
fn tag_and_untag_take_a_path_and_hold_for_what_lives_there() -> Result<()> {
    let lab = Lab::new()?;
    let cgroup = Cgroup::make(&format!("ic-{}-tagged", suffix()?))?;
    let inside = Agent::inside(cgroup.path());
    let ask = || inside.psql(&lab.dsn(), &["select 'through'"]);
    has(&refused(ask()?)?, &["no password supplied"])?;
    lab.daemon
        .cli(&["tag", cgroup.below(), "--agent", "late"])?
        .ok()?;
    has(&ask()?.ok()?, &["through"])?;
    lab.daemon.cli(&["untag", cgroup.below()])?.ok()?;
    has(&refused(ask()?)?, &["no password supplied"]).map(drop)
}

#[test]
fn tag_takes_a_process_and_its_children_are_caught_too() -> Result<()> {
    let lab = Lab::new()?;
    let cgroup = Cgroup::make(&format!("ic-{}-pid", suffix()?))?;
    let inside = Agent::inside(cgroup.path());
    let mut shell = inside.start("sh", &[])?;
    shell.send("echo up\n")?;
    shell.await_text("up", support::DEADLINE)?;
    let pid = shell.pid().to_string();
    lab.daemon
        .cli(&["tag", "--pid", &pid, "--agent", "late"])?
        .ok()?;
    let psql = support::place::postgres_programs()?.join("psql");
    let line = format!(
        "{} -X -A -t -w -d '{}' -c \"select 'thr' || 'ough'\"\n",
        psql.display(),
        lab.dsn().conninfo()
    );
    shell.send(&line)?;
    shell.await_text("through", support::DEADLINE)?;
    lab.daemon.cli(&["untag", "--pid", &pid])?.ok().map(drop)
}

#[test]
fn tag_takes_a_unit_whose_name_only_one_cgroup_has() -> Result<()> {
    let lab = Lab::new()?;
    let unit = format!("ic-{}-job.service", suffix()?);
    let cgroup = Cgroup::make(&unit)?;
    let inside = Agent::inside(cgroup.path());
    let ask = || inside.psql(&lab.dsn(), &["select 'through'"]);
    let tag = |verb| -> Result<Finished> {
        let agent: &[&str] = if verb == "tag" {
            &["--agent", "late"]
        } else {
            &[]
        };
        lab.daemon.cli(&[&[verb, "--unit", &unit], agent].concat())
    };
    tag("tag")?.ok()?;
    has(&ask()?.ok()?, &["through"])?;
    tag("untag")?.ok()?;
    has(&refused(ask()?)?, &["no password supplied"])?;
    // An agent names a cgroup of its own after somebody's unit.
    let _squatter = Cgroup::make(&format!("{}/{unit}", lab.daemon.scope()))?;
    let error = refused(tag("tag")?)?;
    has(&error, &["are both named", lab.daemon.scope()])?;
    has(&refused(ask()?)?, &["no password supplied"]).map(drop)
}

#[test]
fn an_ordinary_user_tags_only_cgroups_of_its_own_processes() -> Result<()> {
    let mut lab = Lab::new()?;
    let user = Agent::outside();
    let rule = format!(
        "@id(\"guests\") permit (principal == User::\"{}\", action == Action::\"Tag\", resource in Agent::\"guest\");",
        user.uid()
    );
    lab.daemon
        .change(|settings| settings.policies.push(("guests.cedar".to_owned(), rule)))?;
    lab.daemon.reload()?.ok()?;
    let program = support::place::interceptor()?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let tag = |cgroup: &Cgroup| {
        let socket = socket.to_string_lossy();
        let words = [
            "tag",
            cgroup.below(),
            "--agent",
            "guest",
            "--socket",
            &socket,
        ];
        user.run(&program.to_string_lossy(), &words)
    };
    let inhabited = |what: &str, uid: u32| -> Result<(Cgroup, Process)> {
        let cgroup = Cgroup::make(&format!("ic-{}-{what}", suffix()?))?;
        let mut process = Agent::inside(cgroup.path()).as_uid(uid).start("cat", &[])?;
        process.send("in\n")?;
        process.await_text("in", support::DEADLINE)?;
        Ok((cgroup, process))
    };
    let (own, _mine) = inhabited("own", user.uid())?;
    let (others, _theirs) = inhabited("others", 0)?;
    has(&refused(tag(&others)?)?, &["other users' processes"])?;
    tag(&own)?.ok()?;
    let status = lab.daemon.cli(&["status"])?.ok()?;
    has(&status, &[own.below()])?;
    lacks(&status, &[others.below()])
}

#[test]
fn whom_nothing_is_permitted_is_told_nothing_of_units_nor_names_a_cgroup_in_two_ways() -> Result<()>
{
    let mut lab = Lab::new()?;
    let user = Agent::outside();
    let program = support::place::interceptor()?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let ask = |words: &[&str]| {
        let socket = ["--socket", &*socket.to_string_lossy()];
        user.run(&program.to_string_lossy(), &[words, &socket].concat())
    };
    has(
        &refused(ask(&["untag", "--unit", "no-such.service"])?)?,
        &["Untag on this host is not permitted"],
    )?;
    let rule = format!(
        "@id(\"guests\") permit (principal == User::\"{}\", action in [Action::\"Tag\", Action::\"Untag\"], resource in Agent::\"guest\");",
        user.uid()
    );
    lab.daemon
        .change(|settings| settings.policies.push(("guests.cedar".to_owned(), rule)))?;
    lab.daemon.reload()?.ok()?;
    has(
        &refused(ask(&["untag", "--unit", "no-such.service"])?)?,
        &["no cgroup is named"],
    )?;
    for path in [
        format!("{}//", lab.daemon.scope()),
        format!("./{}", lab.daemon.scope()),
    ] {
        has(
            &refused(ask(&["tag", &path, "--agent", "guest"])?)?,
            &["a cgroup's path has no"],
        )?;
    }
    Ok(())
}

#[test]
fn what_is_asked_about_counts_as_a_request() -> Result<()> {
    let lab = Lab::with(|settings| settings.limits = vec!["requests_per_second: 1".to_owned()])?;
    let socket = lab.daemon.run_directory().join("agent.sock");
    // All are sent before one is answered: no clock decides how many come in a second.
    let script = r#"
import socket, sys
body = b'{"target":"shop","database":"shop","statement":"select 1"}'
head = b'POST /v1/why HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n'
sockets = []
for _ in range(30):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(head % len(body) + body)
    sockets.append(s)
print(*[s.recv(65536).split(b' ')[1].decode() for s in sockets])
"#;
    let socket = socket.to_string_lossy();
    let said = lab
        .agent()
        .run("/usr/bin/python3", &["-c", script, &socket])?
        .ok()?;
    has(&said, &["200", "403"])
}

#[test]
fn nobody_tags_what_the_daemon_lives_in() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = lab.daemon.process().context("the daemon runs")?.pid();
    let home = std::fs::read_to_string(format!("/proc/{daemon}/cgroup"))?;
    let home = home.lines().find_map(|line| line.strip_prefix("0::"));
    let home = home.context("the daemon's cgroup")?;
    let pid = daemon.to_string();
    // Not the root, which is as much above it: a test that fails must not take the host with it.
    for which in [&[home][..], &["--pid", &pid]] {
        let words = [&["tag"], which, &["--agent", "everybody"]].concat();
        let error = refused(lab.daemon.cli(&words)?)?;
        has(&error, &["the daemon itself lives in"])?;
    }
    has(&lab.psql(&["select 'served'"])?.ok()?, &["served"])
}

#[test]
fn what_no_rule_covers_fails_at_once_and_is_audited() -> Result<()> {
    let lab = Lab::new()?;
    let stranger = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = stranger.local_addr()?.port();
    let program = format!(
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', {port}), 30)\n    print('connected')\n\
         except PermissionError:\n    print('not permitted')\n"
    );
    let output = lab
        .agent()
        .run("/usr/bin/python3", &["-c", &program])?
        .ok()?;
    has(&output, &["not permitted"])?;
    let line = lab
        .daemon
        .audit()
        .wait_for("kernel.denied", support::DEADLINE, |line| {
            line.to_string().contains(&port.to_string())
        })?;
    ensure!(text(&line, "/agent")? == "demo", "no agent: {line}");
    Ok(())
}

#[test]
fn control_is_hidden_from_processes_inside_a_scope() -> Result<()> {
    let lab = Lab::new()?;
    let program = support::place::interceptor()?;
    let socket = lab.daemon.run_directory().join("control.sock");
    let socket = socket.to_string_lossy();
    for words in [
        &["status"][..],
        &["metrics"],
        &["sessions", "ls"],
        &["audit", "tail"],
        &["reload"],
    ] {
        let words: Vec<&str> = words.iter().copied().chain(["--socket", &socket]).collect();
        // As root on both sides: it is the place that counts, not the user.
        let outside = Agent::outside().as_uid(0);
        outside.run(&program.to_string_lossy(), &words)?.ok()?;
        let inside = lab.agent().as_uid(0);
        let error = refused(inside.run(&program.to_string_lossy(), &words)?)?;
        has(&error, &["the control socket does not answer agents"])?;
    }
    Ok(())
}

#[test]
fn an_agent_is_told_who_it_is_and_what_policy_says_of_its_statement() -> Result<()> {
    let lab = Lab::new()?;
    let program = support::place::interceptor()?;
    let socket = lab.daemon.run_directory().join("agent.sock");
    let (program, socket) = (program.to_string_lossy(), socket.to_string_lossy());
    let ask = |verb: &[&str], statement: &[&str]| {
        let words = [verb, &["--own", "--socket", &*socket], statement].concat();
        // The program may lie where ordinary users cannot reach it.
        lab.agent().as_uid(0).run(&program, &words)
    };
    has(&ask(&["status"], &[])?.ok()?, &["agent demo", "shop"])?;
    let at = ["why", "--target", "shop", "--database", "shop"];
    has(
        &ask(&at, &["select 1 from customers"])?.ok()?,
        &["permitted"],
    )?;
    let refused = ask(&at, &["drop table customers"])?;
    has(
        &refused.stdout,
        &["refused:", "on public.customers is not permitted"],
    )?;
    ensure!(!refused.status.success(), "a refusal is exit code 1");
    let mut outside = std::process::Command::new(&*program);
    outside
        .args(at)
        .args(["--own", "--socket", &socket, "select 1"]);
    ensure!(!outside.status()?.success(), "an outsider is no agent");
    Ok(())
}

#[test]
fn run_says_which_user_it_lacks() -> Result<()> {
    let lab = Lab::new()?;
    for (user, word) in [
        ("", "--user is empty"),
        ("no-such-user", "no user is named no-such-user"),
    ] {
        let words = ["run", "--agent", "passing", "--user", user, "--", "true"];
        has(&refused(lab.daemon.cli(&words)?)?, &[word])?;
    }
    Ok(())
}

#[test]
fn a_privileged_process_gets_no_credential() -> Result<()> {
    let lab = Lab::new()?;
    let error = refused(lab.agent().as_uid(0).psql(&lab.dsn(), &["select 1"])?)?;
    has(&error, &["FATAL", "interceptor run --user NAME"])?;
    let line = lab
        .daemon
        .audit()
        .wait_for("connection.refused", support::DEADLINE, |_| true)?;
    ensure!(
        line.pointer("/principal/privileged") == Some(&true.into()),
        "not marked: {line}"
    );
    // Nor one that has given up what it held.
    let dsn = lab.dsn();
    let psql = format!(
        "psql -qAtX -h {} -p {} -U anybody {}",
        dsn.host, dsn.port, dsn.database
    );
    let drop = "setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all";
    for around in [drop, "unshare --user"] {
        let script = format!("{around} {psql} -c 'select 1'; exit $?");
        let finished = lab.agent().as_uid(0).run("/bin/sh", &["-c", &script])?;
        let error = refused(finished).with_context(|| around.to_owned())?;
        has(&error, &["FATAL", "interceptor run --user NAME"]).context(around)?;
    }
    // Where the configuration says so, it gets one, and is marked all the same.
    let lab = Lab::with(|settings| {
        "agents: { demo: { allow_privileged: true } }\n".clone_into(&mut settings.more);
    })?;
    lab.agent()
        .as_uid(0)
        .psql(&lab.dsn(), &["select 1"])?
        .ok()?;
    let line = lab.daemon.audit();
    let line = line.wait_for("session.opened", support::DEADLINE, |_| true)?;
    ensure!(
        line.pointer("/principal/privileged") == Some(&true.into()),
        "not marked: {line}"
    );
    Ok(())
}

#[test]
fn freeze_stops_kill_ends_and_both_end_the_sessions() -> Result<()> {
    let lab = Lab::new()?;
    let open = || -> Result<Process> {
        let mut psql = lab.agent().open_psql(&lab.dsn())?;
        psql.send("select 'opened';\n")?;
        psql.await_text("opened", support::DEADLINE)?;
        Ok(psql)
    };
    let mount = support::cgroup::mount()?.join(lab.daemon.scope());
    let frozen = open()?;
    lab.daemon.cli(&["freeze", "demo"])?.ok()?;
    // Its processes stop one by one.
    support::wait::for_fact("a frozen cgroup", support::DEADLINE, || {
        let events = std::fs::read_to_string(mount.join("cgroup.events"))?;
        Ok(events.contains("frozen 1").then_some(()))
    })?;
    ensure!(!frozen.is_over(), "a frozen process stays to be looked at");
    // What the agent gets later is stopped too.
    let stopped = |cgroup: &Cgroup| -> Result<()> {
        lab.daemon
            .cli(&["tag", cgroup.below(), "--agent", "demo"])?
            .ok()?;
        let said = std::fs::read_to_string(cgroup.path().join("cgroup.freeze"))?;
        ensure!(said.trim() == "1", "what it got later runs: {said}");
        Ok(())
    };
    let later = Cgroup::make(&format!("{}-later", lab.daemon.scope()))?;
    stopped(&later)?;
    lab.daemon
        .audit()
        .wait_for("session.closed", support::DEADLINE, |_| true)?;
    lab.daemon.cli(&["thaw", "demo"])?.ok()?;
    has(
        &std::fs::read_to_string(mount.join("cgroup.events"))?,
        &["frozen 0"],
    )?;
    let said = std::fs::read_to_string(later.path().join("cgroup.freeze"))?;
    ensure!(
        said.trim() == "0",
        "what it got later is not let go: {said}"
    );
    let after = Cgroup::make(&format!("{}-after", lab.daemon.scope()))?;
    lab.daemon
        .cli(&["tag", after.below(), "--agent", "demo"])?
        .ok()?;
    let said = std::fs::read_to_string(after.path().join("cgroup.freeze"))?;
    ensure!(said.trim() == "0", "it is frozen still: {said}");
    let mut killed = open()?;
    lab.daemon.cli(&["kill", "demo"])?.ok()?;
    ensure!(
        !killed.finish(support::DEADLINE)?.status.success(),
        "it ended by itself"
    );
    Ok(())
}
