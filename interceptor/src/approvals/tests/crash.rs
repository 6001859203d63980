//! A kill at any of the syncs of questions and answers: no question, no answer and no use of one is lost, and
//! none counts twice.

use std::collections::HashSet;
use std::path::Path;

use super::*;
use crate::state::testing::{acknowledge, killed_at_each_sync};

/// Tells a process of this test binary that it is the one to be killed, and where its questions are.
const CHILD: &str = "INTERCEPTOR_TEST_APPROVALS_SYNCS";

const WORDS: [&str; 4] = ["used", "kept", "denied", "open"];

/// Runs in the killed process only: each step is said before it and after it.
#[tokio::test]
async fn the_child_that_is_killed_at_its_syncs_asks_and_answers() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let approvals = Approvals::open(&Path::new(&place).join("approvals.db")).unwrap();
    for word in WORDS {
        let question = question(word, &[need(&["dba"], 1)]);
        let id = question.id;
        approvals.asks(question, at(1)).await.unwrap();
        acknowledge(&format!("asked {word}"));
        if word == "open" {
            continue;
        }
        acknowledge(&format!("answering {word}"));
        let answer = says(person(2, &["dba"]), word != "denied");
        let choice = Choice {
            shape: None,
            times: 1,
        };
        approvals.answer(id, answer, choice, at(2)).await.unwrap();
        acknowledge(&format!("answered {word}"));
        if word == "used" {
            acknowledge("taking used");
            assert!(approvals.take(id, at(3)).await.unwrap());
            acknowledge("taken used");
        }
    }
}

/// How the question of this text stands after a restart.
fn stands(approvals: &Approvals, word: &str) -> Option<Standing> {
    let all = approvals.all(None);
    all.into_iter().find(|one| one.question.text == word)
}

#[test]
fn a_kill_at_any_sync_loses_no_question_no_answer_and_no_use() {
    let test = "approvals::tests::crash::the_child_that_is_killed_at_its_syncs_asks_and_answers";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let killed = killed_at_each_sync((test, CHILD), |place, lines| {
        let file = place.join("approvals.db");
        let said: HashSet<&str> = lines.iter().map(String::as_str).collect();
        let has = |what: &str, word: &str| said.contains(format!("{what} {word}").as_str());
        let approvals = Approvals::open(&file).unwrap();
        for word in WORDS {
            let Some(one) = stands(&approvals, word) else {
                let is_gone = !has("asked", word) || has("taking", word);
                assert!(is_gone, "{word} is lost: {lines:?}");
                continue;
            };
            let is_answered = one.state != State::Open;
            assert!(is_answered || !has("answered", word), "{word}: {lines:?}");
            assert!(!is_answered || has("answering", word), "{word}: {lines:?}");
            assert_eq!(one.answers.len(), usize::from(is_answered), "{word}");
            assert!(!has("taken", word), "{word} is back: {lines:?}");
            if let State::Approved { left, .. } = one.state {
                assert_eq!(left, 1, "{word}: {lines:?}");
                // It is used once, whatever was killed, and not once more after another restart.
                let id = one.question.id;
                assert!(runtime.block_on(approvals.take(id, at(4))).unwrap());
                assert!(!runtime.block_on(approvals.take(id, at(4))).unwrap());
            }
            assert!(word != "denied" || !matches!(one.state, State::Approved { .. }));
        }
        drop(approvals);
        let again = Approvals::open(&file).unwrap();
        for word in ["used", "kept"] {
            let left = stands(&again, word).map(|one| one.state);
            assert!(
                !matches!(left, Some(State::Approved { .. })),
                "{word}: {left:?}"
            );
        }
    });
    assert!(killed >= 2 * 8, "{killed} kills");
}

/// Tells a process of this test binary that it is the one to be killed, and where its delegations are.
const DELEGATES: &str = "INTERCEPTOR_TEST_DELEGATIONS_SYNCS";

/// Runs in the killed process only: of two delegations one is taken back.
#[tokio::test]
async fn the_child_that_is_killed_at_its_syncs_delegates_and_takes_back() {
    let Ok(place) = std::env::var(DELEGATES) else {
        return;
    };
    let approvals = Approvals::open(&Path::new(&place).join("approvals.db")).unwrap();
    for word in ["stays", "goes"] {
        let one = delegation(1, StandIn::User(word.to_owned()), 600);
        let id = one.id;
        acknowledge(&format!("delegating {word}"));
        approvals.delegate(one).await.unwrap();
        acknowledge(&format!("delegated {word}"));
        if word == "goes" {
            acknowledge("taking goes");
            assert!(approvals.undelegate(id).await.unwrap());
            acknowledge("taken goes");
        }
    }
}

#[test]
fn a_kill_at_any_sync_loses_no_delegation_and_brings_none_back_that_was_taken_back() {
    let test =
        "approvals::tests::crash::the_child_that_is_killed_at_its_syncs_delegates_and_takes_back";
    let killed = killed_at_each_sync((test, DELEGATES), |place, lines| {
        let said: HashSet<&str> = lines.iter().map(String::as_str).collect();
        let has = |what: &str, word: &str| said.contains(format!("{what} {word}").as_str());
        let approvals = Approvals::open(&place.join("approvals.db")).unwrap();
        let live = approvals.delegations(at(1));
        for word in ["stays", "goes"] {
            let mut live = live.iter();
            let stands = live.any(|one| one.to == StandIn::User(word.to_owned()));
            let must = has("delegated", word) && !has("taking", word);
            assert!(stands || !must, "{word} is lost: {lines:?}");
            let may = has("delegating", word) && !has("taken", word);
            assert!(may || !stands, "{word} is back: {lines:?}");
        }
    });
    assert!(killed >= 2 * 3, "{killed} kills");
}
