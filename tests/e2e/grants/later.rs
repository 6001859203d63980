//! Grants that begin later than they are asked for.

use anyhow::Result;
use support::{DEADLINE, wait};

use super::{ORDERS, granted, lab};
use crate::lab::{has, refused, text};

#[test]
fn a_grant_that_begins_later_covers_nothing_before_and_is_there_when_it_begins() -> Result<()> {
    let lab = lab()?;
    let later = granted(&lab, "--action Select --for 5m --after 1h")?;
    has(&refused(lab.psql(&[ORDERS])?)?, &["without a grant"])?;
    let listed = lab.daemon.cli(&["grants"])?.ok()?;
    has(&listed, &[text(&later, "/id")?, "from "])?;
    // Nobody looks at it as it begins but who asks.
    let soon = granted(&lab, "--action Select --for 5m --after 1s")?;
    wait::for_fact("the beginning of a grant", DEADLINE, || {
        Ok(lab.psql(&[ORDERS])?.status.success().then_some(()))
    })?;
    let id = text(&soon, "/id")?;
    let log = lab.daemon.audit();
    let stands = |line: &serde_json::Value| line["grants"][0] == id;
    log.wait_for("request.permitted", DEADLINE, stands)
        .map(drop)
}
