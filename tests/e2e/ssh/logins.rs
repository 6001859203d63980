//! Logins beside the first: each channel that is open at the same time has one, whatever became of the credential since,
//! and however few a server lets stand at its door.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use support::ssh::{LISTENS, keygen};
use support::{DEADLINE, Process, Sshd, place, port, wait};

use super::{ALL_BUT_RM, Lab};
use crate::lab::{has, lacks};

fn all() -> Vec<(String, String)> {
    vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())]
}

/// A connection of a client whose first channel goes on; others come by its socket.
struct Master {
    socket: String,
    first: Process,
    _own: tempfile::TempDir,
}

impl Master {
    fn new(lab: &Lab) -> Result<Self> {
        let own = lab.own()?;
        let path = own.path().join("mux");
        let socket = format!("-oControlPath={}", path.display());
        let port = lab.server.address().port().to_string();
        let options = lab.options();
        let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
        words.extend(["-oControlMaster=yes", &socket, "-p", &port]);
        words.extend(["x@127.0.0.1", "echo first; cat"]);
        let first = lab.agent().start("ssh", &words)?;
        first.await_text("first", DEADLINE)?;
        wait::for_fact("the master", DEADLINE, || Ok(path.exists().then_some(())))?;
        Ok(Self {
            socket,
            first,
            _own: own,
        })
    }

    /// A second channel on the same connection.
    fn also(&self, lab: &Lab) -> Result<()> {
        // There is no other way than by the socket.
        let run = lab.ssh(&[&self.socket, "-oProxyCommand=false", "echo also"])?;
        ensure!(run.stdout == "also\n", "{run:?} {}", lab.server.log());
        Ok(())
    }

    fn ends(mut self) -> Result<()> {
        self.first.close_input();
        self.first.finish(DEADLINE)?.ok().map(drop)
    }
}

/// Signs, and names each certificate by its number.
const SIGNS: &str = r#"
dir=$(mktemp -d) && echo x >> "$4" && printf '%s\n' "$2" > "$dir/key.pub" &&
ssh-keygen -q -s "$1" -I "number-$(wc -l < "$4")" -n "$3" "$dir/key.pub" && cat "$dir/key-cert.pub"; rm -rf "$dir"
"#;

#[test]
fn a_certificate_that_is_good_no_more_is_made_again_for_the_next_channel() -> Result<()> {
    let lines = [
        "AuthorizedKeysFile none",
        "TrustedUserCAKeys %ca",
        "RevokedKeys %revoked",
    ];
    let server = Sshd::start_with(&lines)?;
    let revoked = server.at("revoked");
    keygen(&["-q", "-k", "-f"], &revoked)?;
    let signer = server.authority().display().to_string();
    let count = server.at("count").display().to_string();
    let words = [
        "/bin/sh",
        "-c",
        SIGNS,
        "sh",
        &signer,
        "{key}",
        server.user(),
        &count,
    ];
    let words = serde_json::to_string(&words)?;
    let login = format!("sign: {{ by: {{ exec: {{ command: {words}, ttl: 0s }} }} }}");
    let target = server.target("web", &login, &[])?;
    let lab = Lab::over(server, &target, all())?;
    let master = Master::new(&lab)?;
    has(&lab.server.log(), &["number-1"])?;
    // From here on nobody takes it, as behind its end.
    let which = lab.server.at("which");
    fs::write(&which, "id: number-1\n")?;
    let authority = format!("{signer}.pub");
    let revoke = [
        "-q",
        "-k",
        "-s",
        &authority,
        "-f",
        &revoked.display().to_string(),
    ];
    keygen(&revoke, &which)?;
    master.also(&lab)?;
    has(&lab.server.log(), &["number-2"])?;
    master.ends()
}

/// Puts a new key in the place of the one that logs in, on both sides.
fn rotate(server: &Sshd) -> Result<()> {
    let fresh = server.at("fresh");
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f"], &fresh)?;
    fs::copy(server.at("fresh.pub"), server.at("authorized"))?;
    fs::copy(fresh, server.key())?;
    Ok(())
}

#[test]
fn a_key_that_was_changed_meanwhile_is_fetched_again_for_the_next_channel() -> Result<()> {
    let lab = Lab::permitting()?;
    let master = Master::new(&lab)?;
    rotate(&lab.server)?;
    master.also(&lab)?;
    master.ends()
}

/// Many channels that are open at the same moment.
const MANY: &str = r#"
import asyncio, os, asyncssh
async def main():
    async with asyncssh.connect("127.0.0.1", int(os.environ["PORT"]), username="x", config=None,
                                known_hosts=os.environ["KNOWN"], client_keys=None, agent_path=None) as conn:
        async def says(n):
            run = await conn.create_process(f"echo {n}; cat")
            return run, int(await run.stdout.readline())
        many = await asyncio.gather(*[says(n) for n in range(30)])
        print(sum(n for _, n in many))
asyncio.run(main())
"#;

#[test]
fn many_channels_at_once_do_not_crowd_a_server_that_lets_few_stand_at_its_door() -> Result<()> {
    let server = Sshd::start_with(&["MaxStartups 8:100:8"])?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = server.target("web", &login, &[])?;
    let lab = Lab::over(server, &target, all())?;
    let own = lab.own()?;
    let agent = lab
        .agent()
        .with("HOME", &own.path().display().to_string())
        .with("KNOWN", &lab.known_hosts.display().to_string())
        .with("PORT", &lab.server.address().port().to_string());
    let python = place::python()?.display().to_string();
    let out = agent.run(&python, &["-c", MANY])?.ok()?;
    ensure!(out == "435\n", "{out} {}", lab.server.log());
    Ok(())
}

/// A server that has no terminals, and runs whatever is asked without doing it.
const BARE: &str = r#"
import os, socket, threading, paramiko
key = paramiko.Ed25519Key(filename=os.environ["HOSTKEY"])
class Face(paramiko.ServerInterface):
    def get_allowed_auths(self, user):
        return "publickey"
    def check_auth_publickey(self, user, key):
        return paramiko.AUTH_SUCCESSFUL
    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_exec_request(self, channel, command):
        def run():
            channel.sendall(b"it ran\n")
            channel.send_exit_status(0)
            channel.close()
        threading.Thread(target=run, daemon=True).start()
        return True
def serves(client):
    transport = paramiko.Transport(client)
    transport.add_server_key(key)
    try:
        transport.start_server(server=Face())
    except Exception:
        pass
"#;

fn bare(key: &Path, port: u16) -> Result<Process> {
    let mut command = std::process::Command::new(place::python()?);
    command
        .args(["-c", &format!("{BARE}{LISTENS}")])
        .env_clear()
        .env("HOSTKEY", key)
        .env("PORT", port.to_string());
    let server = Process::start(command)?;
    server.await_text("ready", DEADLINE)?;
    Ok(server)
}

#[test]
fn a_terminal_that_the_server_does_not_give_is_no_terminal_to_the_client_either() -> Result<()> {
    let keys = Sshd::start()?;
    let address = port::free()?;
    let _bare = bare(&keys.at("host"), address.port())?;
    let login = format!("key: {{ file: {} }}", keys.key().display());
    let target = keys.target("web", &login, &[])?;
    let target = target.replace(&keys.address().to_string(), &address.to_string());
    let lab = Lab::over(keys, &target, all())?;
    let plain = lab.ssh_at(address.port(), &["-T", "x"])?;
    ensure!(plain.stdout == "it ran\n", "{plain:?}");
    let no = lab.ssh_at(address.port(), &["-tt", "x"])?;
    ensure!(no.status.code() == Some(255), "{no:?}");
    has(&no.stderr, &["ERROR:  the server gives no terminal"])?;
    lacks(&no.stdout, &["it ran"])?;
    let finished = lab
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |line| {
            line.pointer("/status")
                .is_some_and(|status| status == "not begun")
        });
    finished.map(drop).context("the end of what never began")
}
