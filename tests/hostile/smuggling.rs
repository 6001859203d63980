//! Statements that policy does not permit, dressed as ones that it does.

use anyhow::{Result, ensure};

use crate::lab::{Lab, has, lacks, refused};

/// A function of the site that the agent may not call, and that shows when it was called.
const FUNCTION: &str = "
    create table marks (mark text);
    create function wipe(anyelement) returns int language sql as
        $$ insert into marks values ('called'); select 1 $$;
    create function wipe_row(customers) returns int language sql as
        $$ insert into marks values ('called'); select 1 $$;
    grant all on marks to public;
";

#[test]
fn a_function_written_as_a_field_is_a_call() -> Result<()> {
    let lab = Lab::new()?;
    lab.server.admin(FUNCTION)?;
    for statement in [
        "select wipe(1)",
        "select (1).wipe",
        "select ('x'::text).wipe",
        "select wipe_row(c) from customers c",
        "select c.wipe_row from customers c",
        "select (c).wipe_row from customers c",
        "select customers.wipe_row from customers",
        "select public.customers.wipe_row from customers",
        "update orders set amount = (select (1).wipe) where id = 1",
        "select 1 from customers c order by c.wipe_row",
        "select \"wipe_row\" from (select c.wipe_row from customers c) s",
    ] {
        let finished = lab.psql(&[statement])?;
        let marks = lab.server.admin("select count(*) from marks")?;
        ensure!(marks.trim() == "0", "{statement} called the function");
        has(&refused(finished)?, &["ERROR"])?;
    }
    // An ordinary column is what it was.
    let output = lab
        .psql(&["select c.name from customers c where c.id = 1"])?
        .ok()?;
    has(&output, &["Ada"])?;
    lacks(&output, &["ERROR"])
}
