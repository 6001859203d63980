//! A yes that is taken back, by hand or with its agent.

use super::*;

const REVOKED: State = State::Over { why: Over::Revoked };

/// A yes for the shape of `text`.
async fn shaped(scene: &Scene, text: &str) -> ApprovalId {
    let id = scene.open(text, &[need(&["dba"], 1)]).await;
    let shape = Choice {
        shape: Some(Duration::from_secs(600)),
        times: 0,
    };
    let yes = says(person(1, &["dba"]), true);
    scene.approvals.answer(id, yes, shape, at(1)).await.unwrap();
    id
}

/// A word that something goes on by.
async fn word(scene: &Scene, text: &str) -> Word {
    match scene.asked(text, &[need(&["dba"], 1)]).await {
        Found::Approved(word) => word,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_yes_that_is_taken_back_covers_nothing_any_more_also_after_a_restart() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let ways = BTreeSet::from(needs.clone());
    let id = shaped(&scene, "delete = 1").await;
    let begun = word(&scene, "delete = 2").await;
    assert!(begun.covers(&ways));
    let after = scene.approvals.take_back(id).unwrap();
    assert_eq!(after.state, REVOKED);
    scene.approvals.keep(after).await.unwrap();
    // What goes on by it has none either, and what was about to begin cannot use it.
    assert!(begun.is_taken_back() && !begun.covers(&ways));
    assert!(!scene.approvals.take(id, at(2)).await.unwrap());
    assert!(scene.approvals.take_back(id).is_none());
    let scene = scene.again();
    scene.open("delete = 2", &needs).await;
}

#[tokio::test]
async fn what_is_used_up_is_taken_from_what_goes_on_by_it_and_what_nobody_said_is_not() {
    let scene = Scene::new();
    let id = scene.open("delete = 1", &[need(&["dba"], 1)]).await;
    assert!(scene.approvals.take_back(id).is_none());
    scene.yes(id, person(1, &["dba"]), 1).await.unwrap();
    let begun = word(&scene, "delete = 1").await;
    assert!(scene.approvals.take(id, at(2)).await.unwrap());
    // Whether its end was told of, or not yet.
    for _ in 0..2 {
        let after = scene.approvals.take_back(id).unwrap();
        assert_eq!(after.state, State::Over { why: Over::Used });
        drop(scene.approvals.ended(at(3)));
    }
    assert!(begun.is_taken_back());
    let denied = scene.open("delete = 2", &[need(&["dba"], 1)]).await;
    let no = says(person(1, &["dba"]), false);
    let said = scene.approvals.answer(denied, no, Choice::default(), at(1));
    said.await.unwrap();
    assert!(scene.approvals.take_back(denied).is_none());
    let unknown = ApprovalId(Uuid::now_v7());
    assert!(scene.approvals.take_back(unknown).is_none());
}

#[tokio::test]
async fn with_an_agent_goes_what_people_let_it_do_and_a_no_stays() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    shaped(&scene, "delete = 1").await;
    let begun = word(&scene, "delete = 1").await;
    let open = scene.open("update = 1", &needs).await;
    let mut waits = scene.approvals.wait(open);
    let denied = scene.open("insert = 1", &needs).await;
    let no = says(person(1, &["dba"]), false);
    let said = scene.approvals.answer(denied, no, Choice::default(), at(1));
    said.await.unwrap();
    let mut others = question("delete = 1", &needs);
    others.holder.agent = "other".to_owned();
    let of_other = others.id;
    scene.approvals.asks(others, at(1)).await.unwrap();
    let ended = scene.approvals.end_agent("claude");
    assert_eq!(ended.len(), 2);
    for standing in ended {
        scene.approvals.keep(standing).await.unwrap();
    }
    assert!(begun.is_taken_back());
    assert_eq!(waits.answered().await, Outcome::Over(Some(Over::Revoked)));
    let found = scene.asked("insert = 1", &needs).await;
    assert!(matches!(found, Found::Denied(_)), "{found:?}");
    assert_eq!(scene.approvals.get(of_other).unwrap().state, State::Open);
    drop(waits);
    let scene = scene.again();
    scene.open("delete = 1", &needs).await;
}

#[tokio::test]
async fn who_has_said_yes_may_still_say_no_and_not_yes_again() {
    let scene = Scene::new();
    let id = scene.open("update = 1", &[need(&["dba"], 2)]).await;
    scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    assert!(scene.yes(id, person(1, &["dba"]), 0).await.is_err());
    let no = says(person(1, &["dba"]), false);
    let said = scene.approvals.answer(id, no, Choice::default(), at(1));
    assert!(matches!(said.await.unwrap().state, State::Denied { .. }));
    let found = scene.asked("update = 1", &[need(&["dba"], 2)]).await;
    let Found::Denied(by) = found else {
        panic!("{found:?}");
    };
    assert!(!by.yes);
}
