//! What must hold of any text that is read while columns are masked. Shared by the fuzzer and by a test of a fixed
//! number of texts.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use interceptor::masking::{Mask, Masks, Relation};
use interceptor::policy::{Ask, Resource};
use interceptor::protocol::postgres::facts::{self, Facts, Names};
use interceptor::protocol::postgres::mask::schema::{Column, Schema, Table};
use interceptor::protocol::postgres::mask::{Masking, Rewrite};

/// What texts are made of, so that many of them are statements.
const WORDS: [&str; 193] = [
    "SELECT",
    "SELECT",
    "SELECT *",
    "SELECT id FROM p",
    "FROM",
    "FROM",
    "FROM p",
    "FROM public.p",
    "FROM ONLY p",
    "FROM \"p\" AS x",
    "FROM v",
    "FROM above",
    "TABLE p",
    "p",
    "p",
    "q",
    "x",
    "v",
    "above",
    "public.p",
    "only (p)",
    "a.p",
    "ssn",
    "ssn",
    "id",
    "id",
    "name",
    "p.ssn",
    "x.ssn",
    "public.p.id",
    "(p).ssn",
    "p.*",
    "*",
    "*",
    ",",
    ",",
    ",",
    "(",
    "(",
    "(",
    ")",
    ")",
    ")",
    "()",
    ";",
    ";",
    "AS",
    "AS",
    "AS x",
    "AS x(a, b, c)",
    "WHERE",
    "WHERE true",
    "WHERE id = 1",
    "AND",
    "OR",
    "NOT",
    "=",
    "=",
    "<",
    ">=",
    "<>",
    "||",
    "::text",
    "::int",
    "IN",
    "EXISTS",
    "ANY",
    "ALL",
    "UNION",
    "UNION ALL",
    "EXCEPT",
    "INTERSECT",
    "JOIN",
    "JOIN q USING (id)",
    "LEFT JOIN",
    "CROSS JOIN",
    "NATURAL JOIN",
    "ON",
    "ON true",
    "USING (id)",
    "LATERAL",
    "WITH",
    "WITH x AS (",
    "WITH RECURSIVE x AS (",
    "WITH p AS (SELECT 1)",
    "GROUP BY",
    "GROUP BY id",
    "HAVING",
    "ORDER BY",
    "ORDER BY 1",
    "LIMIT",
    "LIMIT 1",
    "OFFSET 2",
    "FETCH FIRST ROW ONLY",
    "DISTINCT",
    "DISTINCT ON (id)",
    "FOR UPDATE",
    "FOR UPDATE OF p",
    "TABLESAMPLE system (10)",
    "REPEATABLE (7)",
    "OVER ()",
    "FILTER (WHERE true)",
    "WINDOW w AS ()",
    "CASE WHEN",
    "THEN",
    "ELSE",
    "END",
    "NULL",
    "IS NULL",
    "IS DISTINCT FROM",
    "BETWEEN",
    "LIKE",
    "SIMILAR TO",
    "COLLATE \"C\"",
    "AT TIME ZONE 'utc'",
    "CAST(",
    "ROW(",
    "ARRAY[",
    "]",
    "COALESCE(",
    "count(*)",
    "max(",
    "lower(",
    "row_to_json(",
    "to_jsonb(p)",
    "GROUPING SETS (",
    "ROLLUP (id)",
    "1",
    "2",
    "-3",
    "4.5",
    "5e6",
    "0x7",
    "'a'",
    "'b''c'",
    "'d'",
    "''",
    "E'e\\n'",
    "$$f$$",
    "U&'g'",
    "B'1'",
    "$1",
    "$2",
    "true",
    "-- c\n",
    "/* d */",
    "/*+ e */",
    "/* /* f */ */",
    "INSERT INTO q",
    "INSERT INTO p (id)",
    "VALUES (1)",
    "VALUES",
    "DEFAULT VALUES",
    "ON CONFLICT DO NOTHING",
    "ON CONFLICT (id) DO UPDATE SET",
    "RETURNING",
    "RETURNING *",
    "RETURNING WITH (OLD AS o)",
    "UPDATE p",
    "UPDATE q",
    "SET",
    "SET id = 1",
    "DELETE FROM q",
    "DELETE FROM p",
    "USING p",
    "MERGE INTO q",
    "USING p ON true",
    "WHEN MATCHED THEN DELETE",
    "WHEN NOT MATCHED THEN DO NOTHING",
    "COPY p",
    "COPY (",
    "TO STDOUT",
    "FROM STDIN",
    "CSV",
    "EXPLAIN",
    "EXPLAIN (ANALYZE, BUFFERS OFF)",
    "PREPARE s AS",
    "EXECUTE s",
    "DECLARE c CURSOR FOR",
    "FETCH c",
    "CREATE VIEW z AS",
    "CREATE TEMP TABLE z AS",
    "CREATE TABLE z AS",
    "BEGIN",
    "COMMIT",
    "SHOW work_mem",
    "SET x.y = 'z'",
    "SET search_path = public",
    "set_config('x.y', 'z', false)",
    "XMLTABLE('/' PASSING",
    "COLUMNS a text)",
    "JSON_TABLE(",
    "\u{e9}",
];

/// Text from bytes: as they are after a zero, else one word each.
pub(crate) fn text(bytes: &[u8]) -> String {
    match bytes.split_first() {
        Some((0, raw)) => String::from_utf8_lossy(raw).replace('\0', ""),
        Some((_, words)) => {
            let words = words
                .iter()
                .map(|byte| WORDS[usize::from(*byte) % WORDS.len()]);
            words.collect::<Vec<_>>().join(" ")
        }
        None => String::new(),
    }
}

/// Names in a small database, with masks and without.
pub(crate) struct Reader {
    masked: Names,
    plain: Names,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let catalog: Arc<HashSet<String>> = Arc::new(["pg_class".to_owned()].into());
        let masks = Arc::new(masks());
        let masking = Masking::new(Some(Arc::new(schema())), masks, Arc::clone(&catalog));
        let plain = Names {
            search_path: Some(vec!["public".to_owned()]),
            catalog,
            utf8: true,
            ..Names::default()
        };
        let masked = Names {
            masking: Some(Arc::new(masking)),
            ..plain.clone()
        };
        Self { masked, plain }
    }

    /// Reads a text; whether another one goes upstream. Panics where something does not hold.
    pub(crate) fn check(&self, text: &str) -> bool {
        let plain = facts::read(text, &self.plain);
        let facts = facts::read(text, &self.masked);
        // Masks change nothing of what is asked for.
        assert_eq!(facts.reading.asks, plain.reading.asks, "{text}");
        assert_eq!(facts.effects, plain.effects, "{text}");
        assert_eq!(facts.statements, plain.statements, "{text}");
        assert!(plain.rewrite.is_none() && plain.reading.veto.is_none());
        assert!(facts.readable || facts.reading.veto.is_some(), "{text}");
        let Some(rewrite) = &facts.rewrite else {
            return false;
        };
        assert!(facts.reading.veto.is_none(), "{text}");
        self.stands_for(text, &plain, rewrite);
        if facts.of_its_shape {
            self.of_its_shape(text, rewrite);
        }
        true
    }

    /// What goes upstream is as many statements, asks for the same, and has the same literals in the same order.
    fn stands_for(&self, text: &str, plain: &Facts, rewrite: &Rewrite) {
        let sent = facts::read(&rewrite.text, &self.plain);
        let both = format!("{text}\n{}", rewrite.text);
        assert!(sent.readable, "{both}");
        assert_eq!(sent.statements, plain.statements, "{both}");
        for (sent, asked) in sent.reading.asks.iter().zip(&plain.reading.asks) {
            // A table that is copied out is read by a query then.
            let about = |ask: &Ask| -> BTreeSet<Resource> {
                let resources = ask.accesses.iter().map(|access| access.resource.clone());
                resources.filter(|one| !is_vague(one)).collect()
            };
            assert!(about(sent).is_subset(&about(asked)), "{both}");
        }
        let literals = [text, &rewrite.text].map(facts::literals);
        if let [Some(before), Some(after)] = &literals {
            // The conditions have numbers of their own.
            let mut after = after.split('\0');
            let mut before = before.split('\0').filter(|one| !one.is_empty());
            assert!(before.all(|one| after.any(|other| other == one)), "{both}");
        }
    }

    /// The same around other literals.
    fn of_its_shape(&self, text: &str, rewrite: &Rewrite) {
        let (mut shape, mut ends) = (String::new(), Vec::new());
        if !facts::ends(text, &mut shape, &mut ends) {
            return;
        }
        let same = rewrite.again(text, &ends).expect("the same text");
        assert_eq!(same.text, rewrite.text, "{text}");
        let plain = |letter| match letter {
            '\0' => String::new(),
            '\u{1}' => "1234567".to_owned(),
            '\u{2}' => "8.9".to_owned(),
            '\u{3}' => "'o''o'".to_owned(),
            letter => letter.to_string(),
        };
        let other: String = shape.chars().map(plain).collect();
        let mut again = String::new();
        assert!(
            facts::ends(&other, &mut again, &mut ends) && again == shape,
            "{other}"
        );
        let other_facts = facts::read(&other, &self.masked);
        let from_memory = rewrite.again(&other, &ends).expect("a text of its shape");
        let read = other_facts.rewrite.expect("it is masked, too");
        assert_eq!(from_memory.text, read.text, "{text}\n{other}");
    }
}

/// What is in no schema of the path is said to be a temporary relation then, and a query asks for the database where it
/// has no table.
fn is_vague(resource: &Resource) -> bool {
    match resource {
        Resource::Table { schema, .. } => schema == "pg_temp",
        Resource::Database => true,
        _ => false,
    }
}

fn table(oid: u32, name: &str, columns: &[&str]) -> Table {
    let numbered = columns.iter().zip(1..);
    let columns = numbered.map(|(name, number)| Column {
        number,
        name: (*name).to_owned(),
        type_oid: 25,
        type_name: "text".to_owned(),
        ..Column::default()
    });
    Table {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind: b'r',
        columns: columns.collect(),
        ..Table::default()
    }
}

fn schema() -> Schema {
    let mut schema = Schema::default();
    schema.add(table(1, "p", &["id", "name", "ssn"]));
    schema.add(table(2, "q", &["id", "code"]));
    schema.add(table(3, "above", &["id", "name"]));
    let mut child = table(4, "child", &["id", "name", "ssn"]);
    child.parents = vec![3];
    child.guard("i1", 3);
    child.guard("i1", 1);
    child.index(1, (1, 3), false);
    child.index(1, (2, 1), false);
    schema.add(child);
    let mut view = table(5, "v", &["id", "ssn"]);
    view.kind = b'v';
    view.depends = vec![(1, 1), (1, 3)];
    view.definition = " SELECT p.id, p.ssn FROM public.p;".to_owned();
    schema.add(view);
    schema
}

fn masks() -> Masks {
    let mut masks = Masks::default();
    for name in ["p", "child"] {
        let relation = Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert("ssn".to_owned(), Mask::Null);
    }
    masks
}
