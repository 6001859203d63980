//! Other people's clients and servers, and other ways in: dropbear, asyncssh, ansible; passwords, dialogues,
//! certificates of hosts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use support::ssh::LISTENS;
use support::{DEADLINE, Process, Sshd, place, port, wait};

use super::{ALL_BUT_RM, Lab};
use crate::lab::{has, lacks, refused};

fn all() -> Vec<(String, String)> {
    vec![("test.cedar".to_owned(), ALL_BUT_RM.to_owned())]
}

/// The plain line of `known_hosts` as clients have it that know no ports.
fn plain_line(lab: &Lab) -> Result<String> {
    let known = fs::read_to_string(&lab.known_hosts)?;
    let line = known.lines().find(|line| !line.starts_with('@'));
    let (_, key) = line
        .and_then(|line| line.split_once(' '))
        .context("no key")?;
    Ok(format!("127.0.0.1 {key}\n"))
}

#[test]
fn dropbears_client_logs_in_without_a_key() -> Result<()> {
    let lab = Lab::permitting()?;
    let own = lab.own()?;
    fs::create_dir(own.path().join(".ssh"))?;
    fs::write(own.path().join(".ssh/known_hosts"), plain_line(&lab)?)?;
    let agent = lab.agent().with("HOME", &own.path().display().to_string());
    let port = lab.server.address().port().to_string();
    let run = |command: &str| agent.run("dbclient", &["-p", &port, "x@127.0.0.1", command]);
    let out = run("cat /etc/hostname; echo err >&2; exit 3")?;
    ensure!(out.status.code() == Some(3), "{out:?}");
    has(&out.stderr, &["err"])?;
    // It closes the channel as soon as it has heard the end from both sides; the status comes after that.
    let late = run("exec >&- 2>&-; sleep 0.3; exit 4")?;
    ensure!(late.status.code() == Some(4), "{late:?}");
    let no = run("rm x")?;
    ensure!(no.status.code() == Some(126), "{no:?}");
    has(&no.stderr, &["rule no-rm"])
}

/// A namespace of its own, in which the user's home is another, with the key that logs in.
const DROPBEAR: &str = r#"
mount -t tmpfs tmpfs "$HOME_OF" && mkdir "$HOME_OF/.ssh" && cp "$AUTHORIZED" "$HOME_OF/.ssh/authorized_keys" &&
chown -R "$USER_OF" "$HOME_OF" && chmod 700 "$HOME_OF" "$HOME_OF/.ssh" &&
exec dropbear -F -E -s -p "127.0.0.1:$PORT" -r "$HOSTKEY" -P "$PIDFILE"
"#;

#[test]
fn dropbears_server_is_logged_in_to() -> Result<()> {
    let server = Sshd::start()?;
    let home = nix::unistd::User::from_name(server.user())?.context("a user")?;
    let key = server.at("dropbear");
    let made = |arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/dropbearkey");
        command.args(arguments).arg(&key).env_clear();
        Process::run(command, DEADLINE)?.ok()
    };
    made(&["-t", "ed25519", "-f"])?;
    let shown = made(&["-y", "-f"])?;
    let line = shown.lines().find(|line| line.starts_with("ssh-ed25519 "));
    let host_key: Vec<&str> = line.context("no key")?.split(' ').take(2).collect();
    let address = port::free()?;
    let mut dropbear = Command::new("unshare");
    dropbear
        .args(["-m", "sh", "-c", DROPBEAR])
        .env("HOME_OF", &home.dir)
        .env("USER_OF", server.user())
        .env("AUTHORIZED", server.at("authorized"))
        .env("PORT", address.port().to_string())
        .env("HOSTKEY", &key)
        .env("PIDFILE", server.at("dropbear.pid"));
    let dropbear = Process::start(dropbear)?;
    dropbear.await_text("Not backgrounding", DEADLINE)?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let target = server.target("web", &login, &[])?;
    let target = target.replace(&server.address().to_string(), &address.to_string());
    let target = target.replace(&server.host_key()?, &host_key.join(" "));
    let lab = Lab::over(server, &target, all())?;
    let run = lab.ssh_at(address.port(), &["id -un; echo err >&2; exit 7"])?;
    ensure!(run.status.code() == Some(7), "{run:?} {}", dropbear.log());
    ensure!(run.stdout == format!("{}\n", lab.server.user()), "{run:?}");
    ensure!(run.stderr == "err\n", "{run:?}");
    let sorted = lab.ssh_at(address.port(), &["-tt", "echo $TERM; tty"])?;
    has(&sorted.stdout, &["/dev/pts/"])
}

/// A client that knows authorities, with what others do not show: signals, both streams, files.
const ASYNCSSH: &str = r#"
import asyncio, os, asyncssh
async def main():
    async with asyncssh.connect("127.0.0.1", int(os.environ["PORT"]), username="x", config=None,
                                known_hosts=os.environ["KNOWN"], client_keys=None, agent_path=None) as conn:
        done = await conn.run("echo out; echo err >&2; exit 5")
        print(done.stdout.strip(), done.stderr.strip(), done.exit_status)
        done = await conn.run("kill -TERM $$")
        print(done.exit_signal[0], done.exit_status)
        done = await conn.run("sort", input="b\na\n")
        print(done.stdout.split())
        many = await asyncio.gather(*[conn.run(f"echo {n}") for n in range(20)])
        print(sum(int(one.stdout) for one in many))
        async with conn.start_sftp_client() as sftp:
            async with sftp.open(os.environ["FILE"], "w") as file:
                await file.write("x" * 200000)
            print((await sftp.stat(os.environ["FILE"])).size)
            print(len(await sftp.listdir(os.path.dirname(os.environ["FILE"]))) > 0)
asyncio.run(main())
"#;

#[test]
fn asyncssh_believes_the_authority_and_hears_signals() -> Result<()> {
    let lab = Lab::permitting()?;
    let own = lab.own()?;
    let agent = lab
        .agent()
        .with("HOME", &own.path().display().to_string())
        .with("KNOWN", &lab.known_hosts.display().to_string())
        .with("PORT", &lab.server.address().port().to_string())
        .with("FILE", &lab.at("by-asyncssh"));
    let python = place::python()?.display().to_string();
    let out = agent.run(&python, &["-c", ASYNCSSH])?.ok()?;
    let wanted = "out err 5\nTERM -1\n['a', 'b']\n190\n200000\nTrue\n";
    ensure!(out == wanted, "{out}");
    Ok(())
}

/// What an auditor of SSH has against what somebody offers, by algorithm.
fn faults(said: &str) -> BTreeSet<String> {
    let lines = said.lines().filter(|line| line.contains("[fail]"));
    let names = lines.filter_map(|line| line.split(' ').nth(1));
    names.map(str::to_owned).collect()
}

/// It calls the curves of NIST weak; servers have them as keys, and the daemon believes those.
fn is_of_nist(name: &str) -> bool {
    name.starts_with("ecdsa-sha2-nistp")
}

#[test]
fn an_auditor_finds_nothing_broken_in_what_either_side_is_offered() -> Result<()> {
    let lab = Lab::permitting()?;
    let port = lab.server.address().port().to_string();
    let audit = ["-n", "-b", "-p", &port, "127.0.0.1"];
    let run = lab.agent().run("/usr/bin/ssh-audit", &audit)?;
    has(
        &run.stdout,
        &["SSH-2.0-interceptor", "kex-strict-s-v00@openssh.com"],
    )?;
    ensure!(faults(&run.stdout).is_empty(), "{}", run.stdout);
    // To the server the daemon is a client.
    let server = Sshd::start()?;
    let login = format!("key: {{ file: {} }}", server.key().display());
    let address = port::free()?;
    let mut command = Command::new("/usr/bin/ssh-audit");
    let port = address.port().to_string();
    command
        .args(["-n", "-b", "-c", "-p", &port])
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    let mut auditor = Process::start(command)?;
    wait::for_fact("the auditor", DEADLINE, || {
        let sockets = fs::read_to_string("/proc/net/tcp")?;
        let listens = format!(":{:04X} 00000000:0000 0A", address.port());
        Ok(sockets.contains(&listens).then_some(()))
    })?;
    let target = server.target("web", &login, &[])?;
    let target = target.replace(&server.address().to_string(), &address.to_string());
    let target = target.replace(&server.host_key()?, "learn");
    let lab = Lab::over(server, &target, all())?;
    lab.ssh_at(address.port(), &["true"])?;
    let said = auditor.finish(DEADLINE)?.stdout;
    has(
        &said,
        &["SSH-2.0-interceptor", "kex-strict-c-v00@openssh.com"],
    )?;
    let faults = faults(&said);
    ensure!(faults.iter().all(|name| is_of_nist(name)), "{faults:?}");
    Ok(())
}

const PLAYBOOK: &str = r#"
- hosts: all
  gather_facts: true
  tasks:
    - ansible.builtin.copy: { content: "from a playbook\n", dest: "{{ files }}/played", mode: "0640" }
    - ansible.builtin.lineinfile: { path: "{{ files }}/played", line: "and a line" }
    - ansible.builtin.command: cat {{ files }}/played
      register: read
    - ansible.builtin.fetch: { src: "{{ files }}/played", dest: "{{ own }}/fetched", flat: true }
    - ansible.builtin.assert:
        that: ["read.stdout_lines == ['from a playbook', 'and a line']", "ansible_facts.user_id == user"]
"#;

#[test]
fn a_playbook_of_ansible_is_played() -> Result<()> {
    let lab = Lab::permitting()?;
    let own = lab.own()?;
    let playbook = own.path().join("site.yml");
    fs::write(&playbook, PLAYBOOK)?;
    let at = |name: &str| own.path().join(name).display().to_string();
    let options = lab.options().join(" ");
    let agent = lab
        .agent()
        .with("HOME", &at("home"))
        .with("ANSIBLE_LOCAL_TEMP", &at("tmp"))
        .with("ANSIBLE_REMOTE_TEMP", &lab.at("ansible"))
        .with("ANSIBLE_SSH_ARGS", &format!("{options} -oControlMaster=no"));
    let port = lab.server.address().port().to_string();
    let files = lab.server.files().display().to_string();
    let playbook = playbook.display().to_string();
    let pairs = [
        ("files", files),
        ("own", at("")),
        ("user", lab.server.user().to_owned()),
        ("ansible_port", port),
        ("ansible_user", "x".to_owned()),
        ("ansible_python_interpreter", "/usr/bin/python3".to_owned()),
    ];
    let mut words: Vec<String> = ["-m", "ansible", "playbook", "-i", "127.0.0.1,", &playbook]
        .map(str::to_owned)
        .into();
    for (name, value) in pairs {
        words.extend(["-e".to_owned(), format!("{name}={value}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let python = place::python()?.display().to_string();
    let run = agent.run(&python, &words)?;
    ensure!(run.status.success(), "{run:?}");
    has(&run.stdout, &["failed=0", "changed=4", "unreachable=0"])?;
    let fetched = fs::read_to_string(own.path().join("fetched"))?;
    ensure!(fetched == "from a playbook\nand a line\n", "{fetched}");
    Ok(())
}

/// A server that takes one password, in one way.
const PASSWORDS: &str = r#"
import os, socket, threading, paramiko
key = paramiko.Ed25519Key(filename=os.environ["HOSTKEY"])
right, way = "correct horse", os.environ["WAY"]
class Face(paramiko.ServerInterface):
    def get_allowed_auths(self, user):
        return way
    def check_auth_password(self, user, password):
        print("shown", flush=True)
        fine = way == "password" and password == right
        return paramiko.AUTH_SUCCESSFUL if fine else paramiko.AUTH_FAILED
    def check_auth_interactive(self, user, methods):
        return paramiko.InteractiveQuery("", "", ("Password: ", False))
    def check_auth_interactive_response(self, responses):
        fine = way == "keyboard-interactive" and list(responses) == [right]
        return paramiko.AUTH_SUCCESSFUL if fine else paramiko.AUTH_FAILED
    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_exec_request(self, channel, command):
        def run():
            channel.sendall(f"in by {way}\n".encode())
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

#[test]
fn a_password_logs_in_whether_it_is_shown_or_asked_for() -> Result<()> {
    for way in ["password", "keyboard-interactive"] {
        let server = Sshd::start()?;
        let address = port::free()?;
        let secret = server.at("password");
        fs::write(&secret, "correct horse\n")?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        let login = format!("password: {{ file: {} }}", secret.display());
        let target = server.target("web", &login, &[])?;
        let target = target.replace(&server.address().to_string(), &address.to_string());
        let mut command = Command::new(place::python()?);
        command
            .args(["-c", &format!("{PASSWORDS}{LISTENS}")])
            .env_clear()
            .env("HOSTKEY", server.at("host"))
            .env("PORT", address.port().to_string())
            .env("WAY", way);
        let taker = Process::start(command)?;
        taker.await_text("ready", DEADLINE)?;
        let lab = Lab::over(server, &target, all())?;
        let run = lab.ssh_at(address.port(), &["anything"])?;
        ensure!(run.stdout == format!("in by {way}\n"), "{run:?}");
        let all = serde_json::to_string(&lab.daemon.audit().lines()?)?;
        lacks(&all, &["correct horse"])?;
    }
    Ok(())
}

#[test]
fn a_server_that_was_learned_is_shown_no_password() -> Result<()> {
    let server = Sshd::start()?;
    let secret = server.at("password");
    fs::write(&secret, "correct horse\n")?;
    let login = format!("password: {{ file: {} }}", secret.display());
    let target = server.target("web", &login, &[])?;
    let target = target.replace(&server.host_key()?, "learn");
    let Err(no) = Lab::over(server, &target, all()) else {
        anyhow::bail!("a daemon took a password for a server that nobody knows");
    };
    has(&format!("{no:?}"), &["learn", "password"])
}

/// A lab whose daemon has its certificates made by a command.
fn signed_by(server: Sshd, command: &[&str]) -> Result<Lab> {
    let words = serde_json::to_string(command)?;
    let login = format!("sign: {{ by: {{ exec: {{ command: {words}, ttl: 0s }} }} }}");
    let target = server.target("web", &login, &[])?;
    Lab::over(server, &target, all())
}

/// Signs as whoever has the key of an authority does.
const SIGNS: &str = r#"
dir=$(mktemp -d) && printf '%s\n' "$2" > "$dir/key.pub" &&
ssh-keygen -q -s "$1" -I by-command -n "$3" -V +5m "$dir/key.pub" && cat "$dir/key-cert.pub"; rm -rf "$dir"
"#;

#[test]
fn a_certificate_that_a_command_makes_logs_in() -> Result<()> {
    for is_right in [true, false] {
        let server = Sshd::start_with(&["AuthorizedKeysFile none", "TrustedUserCAKeys %ca"])?;
        let signer = server.authority().display().to_string();
        let user = server.user().to_owned();
        let other = fs::read_to_string(server.at("host.pub"))?;
        let key = if is_right {
            "{key}".to_owned()
        } else {
            format!("{} #{{key}}", other.trim())
        };
        let lab = signed_by(
            server,
            &["/bin/sh", "-c", SIGNS, "sh", &signer, &key, &user],
        )?;
        let run = lab.ssh(&["id -un"])?;
        if is_right {
            ensure!(run.stdout.trim() == user, "{run:?} {}", lab.server.log());
            has(&lab.server.log(), &["CERT", "by-command"])?;
        } else {
            refused(run)?;
            let no = lab.daemon.audit().events("connection.refused")?;
            has(&serde_json::to_string(&no)?, &["which is for another key"])?;
        }
    }
    Ok(())
}

/// What is asked of OpenBao: an engine for SSH, its authority, and a role for one user.
const BAO: [&[&str]; 3] = [
    &["secrets", "enable", "ssh"],
    &["write", "ssh/config/ca", "generate_signing_key=true"],
    &["write", "ssh/roles/agents", "-"],
];

#[test]
fn openbaos_engine_for_ssh_makes_the_certificates() -> Result<()> {
    let bao = place::python()?.with_file_name("bao").display().to_string();
    let address = port::free()?;
    let run = |words: &[&str], input: &str| {
        let mut line = vec!["-c", r#"printf %s "$IN" | exec "$@""#, "sh", &bao];
        line.extend(words);
        let mut command = Command::new("sh");
        command
            .args(line)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("IN", input)
            .env("BAO_ADDR", format!("http://{address}"))
            .env("BAO_TOKEN", "root");
        Process::run(command, DEADLINE)?.ok()
    };
    let mut dev = Command::new(&bao);
    let listens = format!("-dev-listen-address={address}");
    dev.args([
        "server",
        "-dev",
        "-dev-root-token-id=root",
        "-dev-no-store-token",
        &listens,
    ])
    .env_clear()
    .env("PATH", "/usr/bin:/bin")
    .env("HOME", "/nonexistent");
    let dev = Process::start(dev)?;
    dev.await_text("Development mode should NOT be used", DEADLINE)?;
    let server = Sshd::start_with(&["AuthorizedKeysFile none", "TrustedUserCAKeys %ca"])?;
    let user = server.user().to_owned();
    let role = serde_json::json!({
        "key_type": "ca", "allow_user_certificates": true, "allowed_users": user, "default_user": user,
        "ttl": "5m", "default_extensions": { "permit-pty": "" },
    });
    for words in BAO {
        run(words, &role.to_string())?;
    }
    let authority = run(&["read", "-field=public_key", "ssh/config/ca"], "")?;
    fs::write(server.at("ca.pub"), authority)?;
    let script = format!(
        "BAO_ADDR=http://{address} BAO_TOKEN=root HOME=/ exec {bao} write -field=signed_key ssh/sign/agents public_key=\"$1\""
    );
    let lab = signed_by(server, &["/bin/sh", "-c", &script, "sh", "{key}"])?;
    let run = lab.ssh(&["id -un"])?;
    ensure!(run.stdout.trim() == user, "{run:?} {}", lab.server.log());
    has(&lab.server.log(), &["CERT", "vault-token"]).or_else(|_| has(&lab.server.log(), &["CERT"]))
}

#[test]
fn a_server_is_known_by_who_signs_its_certificate() -> Result<()> {
    let other = Sshd::start()?;
    for is_right in [true, false] {
        let server = Sshd::start_with(&["HostCertificate %certificate"])?;
        let signer = if is_right { &server } else { &other };
        let signer = fs::read_to_string(signer.at("ca.pub"))?;
        let signer: Vec<&str> = signer.split(' ').take(2).collect();
        let login = format!("key: {{ file: {} }}", server.key().display());
        let target = server.target("web", &login, &[])?;
        let authority = format!("@cert-authority {}", signer.join(" "));
        let target = target.replace(&server.host_key()?, &authority);
        let lab = Lab::over(server, &target, all())?;
        let run = lab.ssh(&["echo known"])?;
        if is_right {
            ensure!(run.stdout == "known\n", "{run:?} {}", lab.server.log());
        } else {
            has(&refused(run)?, &["did not show the host key"])?;
        }
    }
    Ok(())
}
