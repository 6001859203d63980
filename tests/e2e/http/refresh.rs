//! A target whose credential is a token in somebody's name: each refresh token is good once, and the newest outlives
//! the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use support::process::Process;
use support::{DEADLINE, place, port};

use super::Shop;
use crate::lab::{has, lacks, text};

#[test]
fn each_refresh_token_is_used_once_and_the_newest_is_kept() -> Result<()> {
    let port = port::free()?.port();
    let mut command = std::process::Command::new("node");
    command
        .arg(place::workspace().join("tests/e2e/http/refresh/provider.mjs"))
        .arg(port.to_string())
        .env("INTERCEPTOR_NODE_MODULES", place::node_modules()?);
    let provider = Process::start(command)?;
    provider.await_text(" .\n", DEADLINE)?;
    let log = provider.log();
    let said = log.lines().find_map(|line| line.strip_prefix("ready "));
    let said: Vec<_> = said.context("tokens")?.split(' ').collect();
    let secrets = place::temporary("client")?;
    let secret = secrets.path().join("secret");
    fs::write(&secret, "secret-of-the-client")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let proved = format!(
        ", id: confidential, secret: {{ file: {} }}",
        secret.display()
    );
    for (first, client) in [(said[0], proved.as_str()), (said[1], ", id: public")] {
        let inject = format!(
            "{{ secret: SECRET, as: client, client: {{ grant: refresh_token, url: 'http://127.0.0.1:{port}/token', \
             allow_http: true{client} }} }}"
        );
        let mut shop = Shop::given(&inject, first, &[])?;
        let mut tokens = Vec::new();
        for _start in 0..3 {
            let said = shop.curl(&["--parallel"], "/v1/customers?[1-4]")?;
            has(&said, &["\n200 "])?;
            let arrived = shop.arrived()?;
            tokens.push(text(&arrived, "/headers/authorization")?.to_owned());
            // A token that has come before would end the grant.
            shop.daemon.kill();
            shop.daemon.resume()?;
        }
        tokens.sort();
        tokens.dedup();
        ensure!(
            tokens.len() == 3 && tokens.iter().all(|token| token.starts_with("Bearer ")),
            "{tokens:?}"
        );
        let kept = shop.daemon.state().join("refresh.db");
        ensure!(
            fs::metadata(&kept)?.permissions().mode() & 0o777 == 0o600,
            "others may read it"
        );
        for line in shop.daemon.audit().lines()? {
            lacks(&line.to_string(), &[first, "secret-of-the-client"])?;
        }
        lacks(&shop.daemon.log(), &[first, "secret-of-the-client"])?;
    }
    Ok(())
}
