//! How long targets are refused where a daemon ends and is started again at once.

use std::time::{Duration, Instant};

use anyhow::ensure;
use support::{Daemon, Process, place};

use super::{DEADLINE, Run, value};
use crate::bench::subjects::Lab;

type Restart = fn(&mut Daemon) -> anyhow::Result<()>;

/// From the end to the first statement that is answered to a client that is started anew, psql's own start
/// included; and that start alone, beside it.
pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let ways: [(&str, Restart); 3] = [
        ("first answer, not ended", |_| Ok(())),
        ("first answer, killed and started", |daemon| {
            daemon.kill();
            daemon.resume()
        }),
        ("first answer, stopped and started", |daemon| {
            daemon.stop()?;
            daemon.resume()
        }),
    ];
    for (case, restart) in ways {
        if !run.wants(case) {
            continue;
        }
        run.guard.go_on()?;
        let since = Instant::now();
        restart(&mut run.lab.daemon)?;
        answered(&run.lab)?;
        let took = since.elapsed();
        let subject = run.lab.interceptor("interceptor");
        run.one(case, &subject, |_, _| {
            Ok(vec![value("after", 1e3 * took.as_secs_f64(), "ms")])
        })?;
    }
    Ok(())
}

/// Asks until an answer comes.
fn answered(lab: &Lab) -> anyhow::Result<()> {
    let psql = place::postgres_programs()?.join("psql");
    let subject = lab.interceptor("interceptor");
    let conninfo = subject.dsn.conninfo();
    let begun = Instant::now();
    loop {
        let words = ["-X", "-A", "-t", "-c", "select 1", conninfo.as_str()];
        let client = subject.client.command(&psql.to_string_lossy(), &words);
        let finished = Process::run(client, DEADLINE)?;
        match finished.ok() {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(begun.elapsed() < DEADLINE, "no answer: {error:#}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
