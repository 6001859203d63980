//! Policy sees fields of JSON where the target says on which paths.

use anyhow::{Result, ensure};

use super::{POLICY, Shop};
use crate::lab::{has, text};

const READ: &str = "fields: [{ path: /v1/orders, read: [currency, customer.country] }]";

#[test]
fn a_body_is_judged_by_its_fields_and_goes_nowhere_where_they_cannot_be_read() -> Result<()> {
    let policy = format!(
        r#"{POLICY}
@id("embargo") @hint("ask the trade desk") forbid (principal, action == Action::"HttpPost", resource in Path::"api/v1/orders")
when {{ context.fields.contains("customer.country=KP") }};
"#
    );
    let shop = Shop::made(("", ""), &[READ], &policy, &[])?;
    let post = |kind: &str, body: &str| {
        let kind = format!("content-type: {kind}");
        shop.curl(&["-H", &kind, "-d", body], "/v1/orders")
    };
    let json = "application/json";
    let good = r#"{"currency":"EUR","customer":{"country":"DE"},"amount":1.5}"#;
    has(&post(json, good)?, &["\n20"])?;
    ensure!(shop.arrivals() == 1, "it did not arrive");
    let bad = r#"{"currency":"EUR","customer":{"country":"KP"}}"#;
    has(&post(json, bad)?, &["\n403 ", "ask the trade desk"])?;
    let twice = r#"{"currency":"EUR","customer":{"country":"DE","Country":"KP"}}"#;
    for (kind, body) in [(json, twice), ("text/plain", good), (json, "currency=EUR")] {
        has(&post(kind, body)?, &["\n403 ", "body"])?;
    }
    ensure!(shop.arrivals() == 1, "something else arrived");
    let refused = shop.daemon.audit().events("request.refused")?;
    ensure!(refused.len() == 4, "{refused:?}");
    for line in refused.iter().skip(1) {
        ensure!(text(line, "/refusal/kind")? == "unreadable", "{line}");
    }
    Ok(())
}
