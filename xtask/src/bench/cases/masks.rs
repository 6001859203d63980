//! What masks cost: the same statements and the same rows without a mask and with one, the daemon told between.

use anyhow::Context as _;

use super::{Run, copy, statements};
use crate::bench::subjects::{Lab, Subject};

/// About 50 MB in the text form of `COPY`, in eight columns.
const ROWS: u32 = 240_000;
/// One column of the eight; and of the table of pgbench the one that its query asks for.
const SENSITIVE: [&str; 3] = [
    "sensitive:",
    "  public.wide.a: last4",
    "  public.pgbench_accounts.abalance: { mask: constant, text: \"0\" }",
];
const SUBJECT: &str = "interceptor, masked";

pub(super) fn measure(run: &mut Run<'_>) -> anyhow::Result<()> {
    let copied = "masks, COPY, 1 of 8 columns";
    // Before anything is masked: what the daemon knows of a database may be a minute old.
    if run.wants(copied) {
        fill(&run.lab)?;
    }
    for mode in ["simple", "prepared"] {
        for clients in [1, 8] {
            beside(run, &format!("masks, {mode}, c={clients}"), |subject| {
                statements::select(subject, mode, clients)
            })?;
        }
    }
    beside(run, copied, |subject| {
        copy::rows(subject, "copy wide to stdout")
    })
}

/// One case: all ways without masks, and then the daemon's with them.
fn beside(
    run: &mut Run<'_>,
    case: &str,
    measure: impl Fn(&Subject) -> anyhow::Result<Vec<super::Value>>,
) -> anyhow::Result<()> {
    if !run.wants(case) {
        return Ok(());
    }
    run.each(case, |_, subject| measure(subject))?;
    mask(&mut run.lab, true)?;
    let subject = run.lab.interceptor(SUBJECT);
    run.one(case, &subject, |_, subject| measure(subject))?;
    mask(&mut run.lab, false)
}

fn mask(lab: &mut Lab, masked: bool) -> anyhow::Result<()> {
    lab.daemon.change(|settings| {
        for target in &mut settings.targets {
            target.more = match masked {
                true => SENSITIVE.map(str::to_owned).to_vec(),
                false => Vec::new(),
            };
        }
    })?;
    let reloaded = lab.daemon.reload()?.ok();
    reloaded.map(drop).context("tell the daemon of its masks")
}

fn fill(lab: &Lab) -> anyhow::Result<()> {
    let columns =
        ["a", "b", "c", "d", "e", "f"].map(|name| format!("md5('{name}' || i) as {name}"));
    let columns = columns.join(", ");
    lab.server.admin(&format!(
        "create table wide as select i, i * 3 as n, {columns} from generate_series(1, {ROWS}) as i; \
         grant select on wide to public; analyze wide"
    ))?;
    Ok(())
}
