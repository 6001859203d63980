//! Clients come to trust the daemon's authority by the host's store, or by what a command of `run` is told.

use anyhow::{Context as _, Result, ensure};
use support::process::Process;
use support::{DEADLINE, place};

use super::Shop;
use crate::lab::has;

#[test]
fn clients_trust_the_authority_while_it_stands_in_the_hosts_store() -> Result<()> {
    let shop = Shop::new(&[])?;
    let directory = place::temporary("store")?;
    let (certificates, store) = (directory.path().join("own"), directory.path().join("store"));
    for path in [&certificates, &store] {
        std::fs::create_dir(path)?;
    }
    let bundle = store.join("ca-certificates.crt");
    let ca = |verb: &str| -> Result<String> {
        let mut command = std::process::Command::new(place::interceptor()?);
        command.args(["ca", verb, "--config"]);
        command.arg(shop.daemon.config());
        if verb != "show" {
            command.arg("--certificates").arg(&certificates);
            command.arg("--store").arg(&store);
        }
        Process::run(command, DEADLINE)?.ok()
    };
    let ask = || {
        let (bundle, url) = (
            bundle.to_string_lossy().into_owned(),
            shop.url("/v1/customers"),
        );
        let agent = shop.agent().with("SSL_CERT_FILE", &bundle);
        agent.run("curl", &["-sS", "-4", &url])
    };
    has(&ca("show")?, &["BEGIN CERTIFICATE"])?;
    ca("uninstall")?;
    ensure!(!ask()?.status.success(), "it was trusted before");
    ca("install")?;
    ca("install")?;
    has(&ask()?.ok()?, &["Ann"])?;
    ca("uninstall")?;
    ensure!(!ask()?.status.success(), "it is trusted still");
    Ok(())
}

#[test]
fn a_command_of_run_trusts_the_authority_where_node_looks() -> Result<()> {
    let shop = Shop::new(&[])?;
    let node = "const a = await fetch(process.argv[1]); console.log(a.status, await a.text())";
    let url = shop.url("/v1/customers");
    let line = [
        "run",
        "--agent",
        "demo",
        "--user",
        "nobody",
        "--",
        "node",
        "--input-type=module",
        "-e",
        node,
        &url,
    ];
    let said = shop.daemon.cli(&line)?.ok()?;
    has(&said, &["200", "Ann"])
}

#[test]
fn a_client_that_does_not_trust_the_authority_is_named_by_doctor() -> Result<()> {
    let shop = Shop::new(&[])?;
    let url = shop.url("/v1/customers");
    for _time in 0..2 {
        let said = shop.agent().run("curl", &["-sS", "-4", &url])?;
        ensure!(!said.status.success(), "it was trusted");
    }
    let node = "fetch(process.argv[1]).then(console.log, (error) => console.log(error.cause.code))";
    let said = shop.agent().run("node", &["-e", node, &url])?;
    ensure!(!said.stdout.contains("200"), "{said:?}");
    // A client that trusts is none of them.
    has(&shop.curl(&[], "/v1/customers")?, &["200"])?;
    let mut command = std::process::Command::new(place::interceptor()?);
    command
        .args(["doctor", "--config"])
        .arg(shop.daemon.config());
    let said = Process::run(command, DEADLINE)?.stdout;
    let of = |program: &str| {
        said.lines()
            .find(|line| line.contains("trust of") && line.contains(program))
    };
    let curl = of("/curl").with_context(|| said.clone())?;
    has(
        curl,
        &["2 connections to localhost (target api)", "unknown_ca"],
    )?;
    has(
        of("/node").with_context(|| said.clone())?,
        &["1 connection to localhost"],
    )?;
    ensure!(said.matches("trust of").count() == 2, "{said}");
    Ok(())
}
