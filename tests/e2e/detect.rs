//! Value detectors before a real server: in text, in binary, in copies, one value at a time.

use anyhow::{Result, ensure};
use support::DEADLINE;

use crate::lab::{Lab, has, lacks, refused};

/// Values in columns of several types; the number is a card's too, and stays what it is.
const HELD: &str = "
create table held (id int8 primary key, card text, mail varchar(80), facts jsonb, number int8);
insert into held values
    (1, 'card 4111 1111 1111 1111.', 'ada@example.org', '{\"ip\": \"10.20.30.40\"}', 4111111111111111),
    (2, null, 'nobody', '{}', 2),
    (3, repeat('long and harmless, ', 50000) || '5555555555554444', null, '[]', 3);
grant select on held to public;
";

const VALUES: [&str; 4] = [
    "4111 1111",
    "ada@example",
    "10.20.30.40",
    "5555555555554444",
];

fn lab(detect: &str) -> Result<Lab> {
    let lab = Lab::with(|settings| {
        for target in &mut settings.targets {
            target.more.push(format!("detect: {detect}"));
        }
    })?;
    lab.server.admin(HELD)?;
    Ok(lab)
}

#[test]
fn values_are_masked_in_text_and_in_copies_and_counted_in_the_audit() -> Result<()> {
    let lab = lab("{ default: mask }")?;
    for statement in [
        "select * from held order by id",
        "copy (select * from held) to stdout",
        "copy (select * from held) to stdout (format csv)",
        "copy (select * from held) to stdout (format binary)",
    ] {
        let told = lab.psql(&[statement])?.ok()?;
        lacks(&told, &VALUES)?;
        has(&told, &["***", "nobody", "harmless"])?;
        if !statement.contains("binary") && !statement.starts_with("copy") {
            has(&told, &["4111111111111111"])?;
        }
        let line = lab
            .daemon
            .audit()
            .wait_for("request.finished", DEADLINE, |line| {
                line.pointer("/found/card").is_some()
            })?;
        lacks(&line.to_string(), &VALUES)?;
    }
    Ok(())
}

#[test]
fn drivers_read_masked_values_in_text_and_in_binary() -> Result<()> {
    let program = r#"
import os, psycopg
with psycopg.connect(os.environ["DSN"]) as connection:
    for binary in (False, True):
        for name in (None, "by name"):
            cursor = connection.cursor(binary=binary)
            rows = cursor.execute(
                "select id, card, mail, facts, number from held order by id", prepare=name is not None
            ).fetchall()
            assert rows[0][1] == "card *******************.", rows[0]
            assert rows[0][2] == "*" * 15, rows[0]
            assert rows[0][3] == {"ip": "*" * 11}, rows[0]
            assert rows[0][4] == 4111111111111111, rows[0]
            assert rows[1] == (2, None, "nobody", {}, 2), rows[1]
            assert rows[2][1].endswith(", ****************"), rows[2][1][-40:]
            assert len(rows[2][1]) == 19 * 50000 + 16
print("done")
"#;
    let lab = lab("{ default: mask }")?;
    has(&lab.agent().python(&lab.dsn(), program)?.ok()?, &["done"])
}

#[test]
fn a_report_changes_nothing_and_names_no_value() -> Result<()> {
    let lab = lab("{ card: report, email: report }")?;
    let told = lab.psql(&["select * from held"])?.ok()?;
    has(&told, &VALUES)?;
    let line = lab
        .daemon
        .audit()
        .wait_for("request.finished", DEADLINE, |line| {
            line.pointer("/found").is_some()
        })?;
    ensure!(
        line.pointer("/found") == Some(&serde_json::json!({ "card": 2, "email": 1 })),
        "found: {line}"
    );
    Ok(())
}

#[test]
fn a_refused_value_ends_the_session_and_nothing_of_its_row_is_told() -> Result<()> {
    let lab = lab("{ card: refuse }")?;
    let told = refused(lab.psql(&["select card, mail from held where id = 1"])?)?;
    has(&told, &["FATAL", "a value of the kind card"])?;
    lacks(&told, &VALUES)?;
    lab.daemon
        .audit()
        .wait_for("session.closed", DEADLINE, |line| {
            line.pointer("/reason") == Some(&"detected".into())
        })?;
    lab.psql(&["select mail from held where id = 2"])?.ok()?;
    Ok(())
}
