//! Clients come to trust the daemon's authority by the host's store, or by what a command of `run` is told.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use support::process::Process;
use support::{DEADLINE, place};

use super::Shop;
use super::clients::compiled;
use crate::lab::{has, lacks};

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

/// A verb of the daemon's, by which a command runs as an ordinary user.
const RUN: [&str; 6] = ["run", "--agent", "demo", "--user", "nobody", "--"];

#[test]
fn a_command_of_run_trusts_the_authority_by_whatever_bundle_it_brings() -> Result<()> {
    let shop = Shop::new(&[])?;
    let url = shop.url("/v1/customers");
    let python = place::python()?.to_string_lossy().into_owned();
    let script = place::workspace().join("tests/e2e/http/clients/bundles.py");
    let words = [python.as_str(), "-I", &script.to_string_lossy(), &url];
    let said = shop.daemon.cli(&[&RUN[..], &words].concat())?.ok()?;
    let clients = ["urllib", "requests", "httpx", "botocore", "curl"];
    for client in clients {
        has(&said, &[&format!("{client} True\n")])?;
    }
    // On the command's own mounts alone: what others read is as it was.
    let said = shop.agent().run(words[0], &words[1..])?.ok()?;
    for client in clients {
        lacks(&said, &[&format!("{client} True")])?;
    }
    Ok(())
}

#[test]
fn a_command_of_run_trusts_the_authority_where_java_looks() -> Result<()> {
    let shop = Shop::new(&[])?;
    let directory = compiled()?;
    let classes = directory.path().to_string_lossy().into_owned();
    let url = shop.url("/v1/customers");
    let words = ["java", "-cp", &classes, "Ask", &url];
    let said = shop.daemon.cli(&[&RUN[..], &words].concat())?.ok()?;
    has(&said, &["HTTP_1_1 200 true\n", "HTTP_2 200 true\n"])?;
    let outside = shop.agent().run(words[0], &words[1..])?;
    ensure!(!outside.status.success(), "{outside:?}");
    Ok(())
}

/// Has the user `nobody` read a file by an access control list (`include/uapi/linux/posix_acl_xattr.h`).
const LISTS: &str = r#"
import os, pwd, struct, sys
os.chmod(sys.argv[1], 0o600)
none, user = 0xffffffff, pwd.getpwnam("nobody").pw_uid
rows = (1, 6, none), (2, 4, user), (4, 0, none), (16, 4, none), (32, 0, none)
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)
os.setxattr(sys.argv[1], "system.posix_acl_access", acl)
"#;

#[test]
fn bundles_are_read_as_the_commands_user_and_kept_from_nobody_else() -> Result<()> {
    let directory = place::temporary("bundles")?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    let bundles = format!("{}/*.pem", directory.path().display());
    let mut shop = Shop::new(&[])?;
    let trusting = format!("launcher: {{ bundles: [\"{bundles}\"] }}\n");
    shop.daemon
        .change(|settings| settings.more.push_str(&trusting))?;
    shop.daemon.reload()?.ok()?;
    let certificate = std::fs::read_to_string(shop.daemon.authority())?;
    let at = |name: &str| directory.path().join(name);
    let secret = format!("{certificate}secret of root's\n").replacen('M', "N", 1);
    std::fs::write(at("secret"), secret)?;
    std::fs::set_permissions(at("secret"), std::fs::Permissions::from_mode(0o600))?;
    std::os::unix::fs::symlink(at("secret"), at("link.pem"))?;
    std::fs::write(at("own.pem"), certificate.replacen('M', "N", 1))?;
    std::fs::set_permissions(at("own.pem"), std::fs::Permissions::from_mode(0o644))?;
    // Neither owner nor mode says that the user may read this one.
    std::fs::write(at("listed.pem"), certificate.replacen('M', "N", 1))?;
    let mut lists = std::process::Command::new("/usr/bin/python3");
    lists.args(["-c", LISTS]).arg(at("listed.pem"));
    Process::run(lists, DEADLINE)?.ok()?;
    let script = "cd \"$1\"; grep -c BEGIN own.pem; grep -c BEGIN listed.pem; cat link.pem; echo x >> own.pem";
    let place = directory.path().to_string_lossy().into_owned();
    let words = ["sh", "-c", script, "sh", &place];
    let done = shop.daemon.cli(&[&RUN[..], &words].concat())?;
    ensure!(done.stdout == "2\n2\n", "{done:?}");
    has(
        &done.stderr,
        &["link.pem: Permission denied", "own.pem: Permission denied"],
    )
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
