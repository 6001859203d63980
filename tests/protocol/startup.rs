//! Stock `psql` through the daemon's two startup legs.

use std::process::{Command, Stdio};

use interceptor::config::TlsMode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bridge::{Bridge, Target};
use crate::server::{Server, bare, done, programs};

fn psql(bridge: &Bridge, conninfo: &str, sql: &str) -> Command {
    let mut psql = Command::new(programs().join("psql"));
    psql.args(["-X", "-A", "-t", "-w", "-c", sql]).arg(format!(
        "hostaddr=127.0.0.1 port={} user=agent dbname=postgres {conninfo}",
        bridge.address.port()
    ));
    psql
}

async fn run(command: Command) -> String {
    tokio::task::spawn_blocking(move || done(command))
        .await
        .unwrap()
}

async fn fails(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || bare(&mut command).output().unwrap());
    let output = output.await.unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn psql_logs_in_without_a_password_under_every_sslmode() {
    let server = Server::shared();
    let target = Target::new(&server, "scram").tls(TlsMode::VerifyFull, Some(server.ca()));
    let bridge = Bridge::new(target).await;
    let ca = bridge.ca().display().to_string();
    let rows = [
        ("sslmode=disable".to_owned(), false),
        ("sslmode=allow".to_owned(), false),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=require".to_owned(), true),
        (
            format!("sslmode=verify-ca host=db.example sslrootcert={ca}"),
            true,
        ),
        (
            format!("sslmode=verify-full host=db.example sslrootcert={ca}"),
            true,
        ),
        (
            format!("sslmode=verify-full host=127.0.0.1 sslrootcert={ca}"),
            true,
        ),
        (
            format!("sslmode=verify-full host=db.example sslsni=0 sslrootcert={ca}"),
            false,
        ),
    ];
    for (conninfo, tls) in rows {
        let last = conninfo.contains("sslsni=0");
        let command = psql(&bridge, &conninfo, "SELECT current_user\\conninfo");
        if last {
            // Without a name the leaf is for the address, which is not the name that it verifies.
            let said = fails(command).await;
            assert!(said.contains("does not match host name"), "{said}");
            continue;
        }
        let mut command = psql(&bridge, &conninfo, "SELECT current_user");
        command.args(["-c", "\\conninfo"]);
        let said = run(command).await;
        assert!(said.starts_with("scram\n"), "{conninfo}: {said}");
        assert_eq!(said.contains("SSL connection"), tls, "{conninfo}: {said}");
        assert_eq!(bridge.seen().user, "agent");
        assert_eq!(bridge.seen().database, "postgres");
    }
}

#[tokio::test]
async fn psql_is_told_of_the_server_what_the_server_told() {
    let server = Server::shared();
    let bridge = Bridge::new(Target::new(&server, "trusted")).await;
    let sql = "SELECT name || setting FROM pg_settings WHERE name IN
        ('TimeZone', 'DateStyle', 'IntervalStyle', 'client_encoding', 'search_path')";
    let asked = "PGTZ=UTC";
    let (name, value) = asked.split_once('=').unwrap();
    let ask = |mut command: Command| {
        command.env(name, value).args([
            "-c",
            "\\echo :SERVER_VERSION_NAME :ENCODING",
            "-c",
            "\\encoding",
        ]);
        command
    };
    let through = run(ask(psql(&bridge, "sslmode=disable", sql))).await;
    let mut direct = Command::new(programs().join("psql"));
    direct.args(["-X", "-A", "-t", "-c", sql]).arg(format!(
        "hostaddr=127.0.0.1 port={} user=trusted dbname=postgres options='-c search_path=public'",
        server.address().port()
    ));
    assert_eq!(through, run(ask(direct)).await);
    let settings = bridge.seen().settings;
    assert!(
        settings
            .iter()
            .any(|s| s.name == "timezone" && s.value == "UTC"),
        "{settings:?}"
    );
}

#[tokio::test]
async fn options_of_psql_are_seen_as_the_server_sees_them() {
    let server = Server::shared();
    let bridge = Bridge::new(Target::new(&server, "scram")).await;
    let rows = [
        ("-c search_path=evil", "search_path", "evil", 1),
        ("--search_path=evil", "search_path", "evil", 1),
        ("-csearch_path=evil", "search_path", "evil", 1),
        (
            "-c search_path=\"a\\ b\",\\ c",
            "search_path",
            "\"a b\", c",
            1,
        ),
        ("-c geqo=off", "geqo", "off", 0),
        ("-c application_name=x\\\\y", "application_name", "x\\y", 0),
        ("-S 128 -e", "work_mem", "128kB", 1),
    ];
    for (options, name, value, judged) in rows {
        let mut command = psql(&bridge, "sslmode=disable", &format!("SHOW {name}"));
        command.env("PGOPTIONS", options).env("PGAPPNAME", "");
        assert_eq!(run(command).await, value, "{options}");
        assert_eq!(bridge.seen().asks().len(), judged, "{options}");
    }
    for options in ["-c search_path", "evil", "-d 5"] {
        let mut command = psql(&bridge, "sslmode=disable", "SELECT 1");
        command.env("PGOPTIONS", options);
        let said = fails(command).await;
        assert!(said.contains("FATAL:"), "{options}: {said}");
    }
}

#[tokio::test]
async fn a_failed_login_is_told_without_names() {
    let server = Server::shared();
    let bridge = Bridge::new(Target::new(&server, "nobody")).await;
    for conninfo in ["sslmode=disable", "sslmode=require"] {
        let said = fails(psql(&bridge, conninfo, "SELECT 1")).await;
        assert!(
            said.contains("FATAL:  the login at this target failed"),
            "{said}"
        );
        assert!(!said.contains("nobody"), "{said}");
    }
}

#[tokio::test]
async fn an_interrupt_of_psql_cancels_what_it_runs() {
    let server = Server::shared();
    for mode in [TlsMode::Disable, TlsMode::VerifyFull] {
        let ca = Some(server.ca()).filter(|_| mode != TlsMode::Disable);
        let bridge = Bridge::new(Target::new(&server, "scram").tls(mode, ca)).await;
        let mark = format!("slept_{}", bridge.address.port());
        let sql = format!("SELECT pg_sleep(600) AS {mark}");
        let mut command = psql(&bridge, "sslmode=require", &sql);
        bare(&mut command)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        let running = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{sql}'"
        );
        let (server, bridge_) = (std::sync::Arc::clone(&server), &bridge);
        let output = tokio::task::spawn_blocking(move || {
            // Each turn asks the server; it ends when the query runs, or psql has given up.
            while server.sql(&running) == "0" && child.try_wait().unwrap().is_none() {}
            kill(pid, Signal::SIGINT).unwrap();
            child.wait_with_output().unwrap()
        });
        let said = String::from_utf8(output.await.unwrap().stderr).unwrap();
        assert!(
            said.contains("canceling statement due to user request"),
            "{said}"
        );
        assert_eq!(bridge_.seen().user, "agent");
    }
}
