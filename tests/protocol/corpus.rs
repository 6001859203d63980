//! What people and programs ordinarily ask, with masks on: it is answered, and as a database would answer
//! that holds the masks in the place of the values.
//!
//! Texts are in `corpus/*.sql`, in the style of the tools that they are named after: a name after `#`, with
//! `~` before it where the answer is another each time, and its parameters after bars. Those that are refused
//! are in `corpus/refused.exceptions`, each with its reason.

use std::collections::BTreeMap;

use interceptor::masking::{Joinable, Mask, Masks, Relation};
use interceptor::protocol::postgres::wire::{self, frontend};

use crate::loop_rig::{Front, Raw, bind};
use crate::server::Server;

const SETUP: &str = include_str!("corpus/setup.sql");
const TWIN: &str = include_str!("corpus/twin.sql");
const REFUSED: &str = include_str!("corpus/refused.exceptions");

/// How texts are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Simple,
    /// With the formats of results.
    Extended(i16),
}

/// A family, its texts, how they are sent, and the database that answers the same directly.
struct Family {
    name: &'static str,
    texts: &'static str,
    ways: &'static [Way],
    like: &'static str,
}

const ALL: &[Way] = &[Way::Simple, Way::Extended(0), Way::Extended(1)];
const EXTENDED: &[Way] = &[Way::Extended(0), Way::Extended(1)];

const FAMILIES: &[Family] = &[
    Family {
        name: "django",
        texts: include_str!("corpus/django.sql"),
        ways: &[Way::Simple, Way::Extended(0)],
        like: "corpus_twin",
    },
    Family {
        name: "sqlalchemy",
        texts: include_str!("corpus/sqlalchemy.sql"),
        ways: EXTENDED,
        like: "corpus_twin",
    },
    Family {
        name: "rails",
        texts: include_str!("corpus/rails.sql"),
        ways: EXTENDED,
        like: "corpus_twin",
    },
    Family {
        name: "hibernate",
        texts: include_str!("corpus/hibernate.sql"),
        ways: EXTENDED,
        like: "corpus_twin",
    },
    Family {
        name: "metabase",
        texts: include_str!("corpus/metabase.sql"),
        ways: ALL,
        like: "corpus_twin",
    },
    Family {
        name: "analyst",
        texts: include_str!("corpus/analyst.sql"),
        ways: ALL,
        like: "corpus_twin",
    },
    Family {
        name: "catalog",
        texts: include_str!("corpus/catalog.sql"),
        ways: &[Way::Simple, Way::Extended(0)],
        like: "corpus",
    },
];

/// One entry of a family.
struct Entry {
    name: &'static str,
    /// Whether its answer is the same each time.
    stable: bool,
    statements: Vec<&'static str>,
    parameters: Vec<&'static str>,
}

fn entries(texts: &'static str) -> Vec<Entry> {
    let parse = |entry: &'static str| {
        let (head, text) = entry.trim().split_once('\n').unwrap();
        let mut head = head.strip_prefix("# ").unwrap().split(" | ");
        let name = head.next().unwrap();
        Entry {
            name: name.trim_start_matches("~ "),
            stable: !name.starts_with('~'),
            statements: text.split(";;").map(str::trim).collect(),
            parameters: head.collect(),
        }
    };
    texts
        .split("\n\n")
        .filter(|entry| !entry.trim().is_empty())
        .map(parse)
        .collect()
}

fn masks() -> Masks {
    let mut masks = Masks::default();
    let hash = Mask::Hash(Joinable::Target);
    for (table, column, mask) in [
        ("customers", "email", Mask::Email),
        ("customers", "phone", Mask::Partial(3)),
        ("customers", "ssn", Mask::Last4),
        ("customers", "tax_id", hash.clone()),
        ("customers", "birthday", Mask::Year),
        ("customers", "pin", Mask::Hide),
        ("customers", "note", Mask::Constant("not shown".into())),
        ("loyalty", "tax_id", hash),
    ] {
        let relation = Relation {
            schema: "public".to_owned(),
            name: table.to_owned(),
        };
        let columns = masks.relations.entry(relation).or_default();
        columns.insert(column.to_owned(), mask);
    }
    let discount = ("public".to_owned(), "discount".to_owned());
    masks.functions.insert(discount);
    masks
}

fn set_up(server: &Server) {
    server.sql(
        "DROP DATABASE IF EXISTS corpus; DROP DATABASE IF EXISTS corpus_twin; \
         CREATE DATABASE corpus OWNER trusted;",
    );
    server.sql(&format!(
        "\\c corpus\nGRANT ALL ON SCHEMA public TO trusted;\n{SETUP}"
    ));
    server.sql("CREATE DATABASE corpus_twin TEMPLATE corpus OWNER trusted");
    server.sql(&format!("\\c corpus_twin\n{TWIN}"));
}

/// One statement's messages.
fn messages(statement: &str, parameters: &[&str], way: Way) -> Vec<u8> {
    let Way::Extended(format) = way else {
        return frontend::make_query(statement).to_vec();
    };
    [
        frontend::make_parse("", statement).as_ref(),
        bind(parameters, format).as_ref(),
        frontend::make_describe_portal(b"").as_ref(),
        frontend::make_execute("", 0).as_ref(),
        frontend::make_bare(b'S').as_ref(),
    ]
    .concat()
}

/// What one side answers: everything but where columns are from; or the first error.
async fn answer(raw: &mut Raw, entry: &Entry, way: Way) -> Result<Vec<(u8, Vec<u8>)>, String> {
    use tokio::io::AsyncWriteExt as _;
    let mut answer = Vec::new();
    let mut error = None;
    let mut open = false;
    for statement in &entry.statements {
        let bytes = messages(statement, &entry.parameters, way);
        raw.stream.write_all(&bytes).await.unwrap();
        loop {
            let (tag, body) = raw.next().await.expect("the session goes on");
            match tag {
                b'E' => {
                    let fields = wire::error::ErrorFields::read(&body).unwrap();
                    let text = |code| String::from_utf8_lossy(fields.get(code).unwrap_or_default());
                    let told = format!("{} {}", text(b'C'), text(b'M'));
                    error.get_or_insert_with(|| format!("{told} ({statement})"));
                }
                b'T' => {}
                b'Z' => {
                    open = body[0] != b'I';
                    break;
                }
                tag => answer.push((tag, without_hashes(body.to_vec()))),
            }
        }
    }
    if open {
        raw.rows("ROLLBACK").await;
    }
    match error {
        Some(error) => Err(error),
        None => Ok(answer),
    }
}

/// A hash has another value on each side: what counts is that equal ones stay equal, which joins tell.
fn without_hashes(mut body: Vec<u8>) -> Vec<u8> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut at = 0;
    while at < body.len() {
        let run = body[at..].iter().take_while(|byte| is_digit(byte)).count();
        if run == 16 {
            body[at..at + run].fill(b'-');
        }
        at += run.max(1);
    }
    body
}

fn exceptions() -> BTreeMap<&'static str, &'static str> {
    REFUSED
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            line.split_once(": ")
                .unwrap_or_else(|| panic!("no reason: {line}"))
        })
        .collect()
}

/// What of one family is answered, and what is not as it should be.
async fn run(family: &Family, (server, front): (&Server, &Front)) -> (usize, usize, Vec<String>) {
    let known = exceptions();
    let mut wrong = Vec::new();
    let (mut answered, mut all) = (0, 0);
    for entry in entries(family.texts) {
        let name = format!("{}, {}", family.name, entry.name);
        let (mut refused, mut asked) = (None, 0);
        for way in family.ways {
            if !entry.parameters.is_empty() && *way == Way::Simple {
                continue;
            }
            let mut direct = Raw::connect(server.address(), family.like).await;
            let mut masked = Raw::connect(front.address, "corpus").await;
            let directly = answer(&mut direct, &entry, *way).await;
            let directly = directly.unwrap_or_else(|error| panic!("{name}, directly: {error}"));
            asked += 1;
            match answer(&mut masked, &entry, *way).await {
                Err(error) => refused = Some(error),
                Ok(told) if entry.stable && told != directly => {
                    let at = told.iter().zip(&directly).find(|(one, other)| one != other);
                    let shown = at.map(|((_, one), (_, other))| {
                        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                        format!("{:?} for {:?}", text(one), text(other))
                    });
                    wrong.push(format!("{name}, {way:?}: another answer: {shown:?}"));
                }
                Ok(_) => {}
            }
        }
        assert!(asked > 0, "{name} is never asked");
        all += 1;
        match (refused, known.contains_key(name.as_str())) {
            (None, false) => answered += 1,
            (None, true) => wrong.push(format!("{name}: an exception that is none")),
            (Some(_), true) => {}
            (Some(error), false) => wrong.push(format!("{name}: refused: {error}")),
        }
    }
    (answered, all, wrong)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ordinarily_asked_is_answered_as_if_the_masks_were_the_values() {
    let server = Server::shared();
    set_up(&server);
    let front = Front::masked(&server, &["corpus"], masks()).await;
    let (mut answered, mut all, mut wrong) = (0, 0, Vec::new());
    for family in FAMILIES {
        let (of_it, in_it, faults) = run(family, (&server, &front)).await;
        println!("{:<12} {of_it} of {in_it} answered", family.name);
        answered += of_it;
        all += in_it;
        wrong.extend(faults);
    }
    println!(
        "{answered} of {all} answered: {}.{} %",
        answered * 100 / all,
        answered * 1_000 / all % 10
    );
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(all >= 200, "only {all} texts");
    assert!(answered * 100 >= all * 98, "{answered} of {all}");
}
