//! A yes that takes a proof.

use super::*;
use crate::factors::{Bytes, Factor};

#[tokio::test]
async fn where_a_second_factor_is_asked_for_no_yes_counts_without() {
    let scene = Scene::new();
    let proved = Need {
        second_factor: true,
        ..need(&["dba"], 1)
    };
    let id = scene
        .open("delete = 1", std::slice::from_ref(&proved))
        .await;
    let choice = Choice::default();
    let answer = |answer: Answer| scene.approvals.answer(id, answer, choice, at(1));
    let refused = |answered: Result<Standing, Error>| {
        let error = answered.unwrap_err().to_string();
        assert!(error.contains("second factor"), "{error}");
    };
    let bare = says(person(1, &["dba"]), true);
    refused(answer(bare.clone()).await);
    // Nor in an emergency, which is in place of other people's word, nor by root.
    let mut emergency = bare.clone();
    emergency.break_glass = true;
    refused(answer(emergency).await);
    refused(answer(says(person(0, &[]), true)).await);
    let factor = Some(Factor {
        key: Bytes(vec![1]),
        name: "mine".to_owned(),
        challenge: Bytes(vec![2]),
    });
    // Who is not asked for is not by having a key.
    let stranger = Answer {
        factor: factor.clone(),
        ..says(person(2, &["mail"]), true)
    };
    let error = answer(stranger).await.unwrap_err().to_string();
    assert!(error.contains("dba with a second factor"), "{error}");
    let after = answer(Answer { factor, ..bare }).await.unwrap();
    assert!(matches!(after.state, State::Approved { .. }), "{after:?}");

    // A no takes none; and what is shown is told by a digest.
    let id = scene.open("delete = 2", &[proved]).await;
    let before = scene.approvals.get(id).unwrap().shown();
    let no = says(person(1, &["dba"]), false);
    let after = scene.approvals.answer(id, no, choice, at(1)).await.unwrap();
    assert!(matches!(after.state, State::Denied { .. }), "{after:?}");
    assert_eq!(after.shown(), before);
}

#[tokio::test]
async fn where_one_of_two_rules_asks_for_a_proof_who_has_none_counts_for_the_other() {
    let scene = Scene::new();
    let proved = Need {
        second_factor: true,
        ..need(&["dba"], 1)
    };
    let mut question = question("delete = 1", &[need(&["dba"], 1)]);
    question.needs.push([proved].into());
    let id = question.id;
    scene.approvals.asks(question, at(0)).await.unwrap();
    let bare = says(person(1, &["dba"]), true);
    let after = scene
        .approvals
        .answer(id, bare, Choice::default(), at(1))
        .await
        .unwrap();
    assert_eq!(after.state, State::Open);
}
