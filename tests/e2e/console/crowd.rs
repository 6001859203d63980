//! A user of the host who crowds the console, and the others, who come in all the same.

use anyhow::{Result, ensure};
use support::{Agent, Browser, DEADLINE};

use super::{Scene, WATCHER, log_in};
use crate::lab::has;

/// Who crowds it; in no scope.
const MAIL: u32 = 8;

/// Tries to log in until that is refused, then takes as many connections as it is given, and holds them.
const CROWD: &str = "
import http.client, socket, sys
at = sys.argv[1]
def begin():
    connection = http.client.HTTPConnection(at, timeout=30)
    connection.request('POST', '/login/begin', '{}', {'Origin': f'http://{at}', 'Content-Type': 'application/json'})
    return connection.getresponse().status
tries = 0
while begin() == 200:
    tries += 1
host, port = at.split(':')
held = []
for _ in range(300):
    one = socket.create_connection((host, int(port)), 30)
    one.sendall(b'G')
    held.append(one)
print('tried', tries, flush=True)
sys.stdin.read()
";

#[test]
fn a_user_of_the_host_who_crowds_the_console_keeps_nobody_else_out() -> Result<()> {
    let (_provider, _issuer, scene) = Scene::by_issuer("")?;
    let at = scene.url.trim_start_matches("http://");
    let crowd = Agent::outside()
        .as_uid(MAIL)
        .start("/usr/bin/python3", &["-c", CROWD, at])?;
    crowd.await_text("tried", DEADLINE)?;
    let told = crowd.log();
    let tries: u32 = told
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    ensure!((30..100).contains(&tries), "another count: {told}");
    let mut browser = Browser::start(WATCHER)?;
    log_in(&mut browser, &scene.url, "jane")?;
    has(&browser.text()?, &["idp:jane"])
}
