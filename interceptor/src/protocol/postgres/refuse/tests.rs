//! What clients are told of refusals, and that poison is something no grammar takes.

use super::*;
use crate::policy::{Refusal, RuleId};
use crate::protocol::postgres::wire::error::code;
use crate::session::RequestId;

fn text(fields: &ErrorFields, code: u8) -> String {
    String::from_utf8(fields.get(code).unwrap().to_vec()).unwrap()
}

#[test]
fn a_refusal_names_its_rules_its_request_and_the_next_step() {
    let request = RequestId(uuid::Uuid::nil());
    for (rules, hint, detail, next) in [
        (
            vec!["a", "b"],
            Some("ask dba"),
            "rule a, b; request ",
            "ask dba",
        ),
        (
            vec![],
            None,
            "rule none; request ",
            "ask the operator for access, and name the request ",
        ),
    ] {
        let refusal = Refusal {
            kind: RefusalKind::Forbidden,
            rules: rules
                .into_iter()
                .map(|rule| RuleId(rule.to_owned()))
                .collect(),
            message: "no".to_owned(),
            hint: hint.map(str::to_owned),
        };
        let fields = refused(&Refused { request, refusal });
        assert_eq!(fields.sqlstate(), Some("42501"));
        assert_eq!(fields.severity(), Severity::Error);
        assert_eq!(
            text(&fields, code::DETAIL),
            format!("{detail}{}", request.0)
        );
        assert!(text(&fields, code::HINT).starts_with(next));
    }
}

#[test]
fn a_server_would_say_the_same_of_names_that_it_does_not_have() {
    let rows = [
        (
            unknown_statement(b""),
            "26000",
            "unnamed prepared statement does not exist",
        ),
        (
            unknown_statement(b"s"),
            "26000",
            "prepared statement \"s\" does not exist",
        ),
        (unknown_portal(b""), "34000", "portal \"\" does not exist"),
    ];
    for (fields, sqlstate, message) in rows {
        assert_eq!(fields.sqlstate(), Some(sqlstate));
        assert_eq!(text(&fields, code::MESSAGE), message);
    }
}

#[test]
fn the_poison_is_the_same_for_everything() {
    assert_eq!(&*poison_query(), b"Q\0\0\0\x1d) refused by interceptor\0");
    assert!(poison_parse(true).ends_with(b"\0) refused by interceptor\0\0\0"));
    assert!(poison_parse(false).ends_with(b"interceptor\0) refused by interceptor\0\0\0"));
    assert!(pg_query::parse(POISON, pg_query::ParserOptions::DEFAULT).is_err());
}

#[test]
fn the_last_words_end_the_session() {
    for reason in [
        EndReason::Policy,
        EndReason::Killed,
        EndReason::Drain,
        EndReason::Idle,
        EndReason::Storage,
    ] {
        assert_eq!(ended(reason).severity(), Severity::Fatal);
    }
    assert_eq!(violation("x").sqlstate(), Some("08P01"));
    assert_eq!(upstream().sqlstate(), Some("08006"));
}
