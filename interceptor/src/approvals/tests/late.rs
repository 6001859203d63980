//! What comes too late, or was weighed before something else came.

use super::*;

const ALONE: Choice = Choice {
    shape: None,
    times: 1,
};

#[tokio::test]
async fn nobody_answers_a_question_whose_time_is_over_though_nobody_has_swept_it_away() {
    let scene = Scene::new();
    let id = scene.open("delete = 1", &[need(&["dba"], 1)]).await;
    let late = says(person(1, &["dba"]), true);
    let error = scene.approvals.answer(id, late, ALONE, at(901)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no question"), "{error}");
}

#[tokio::test]
async fn an_answer_whose_time_is_over_is_not_used_though_somebody_holds_its_word() {
    let scene = Scene::new();
    let id = scene.open("delete = 1", &[need(&["dba"], 1)]).await;
    scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    assert!(!scene.approvals.take(id, at(2_000)).await.unwrap());
    assert!(scene.approvals.take(id, at(2)).await.unwrap());
}

#[tokio::test]
async fn of_two_answers_that_were_weighed_at_once_one_is_weighed_anew() {
    let scene = Scene::new();
    let id = scene.open("delete = 1", &[need(&["dba"], 3)]).await;
    let table = &scene.approvals.table;
    let weighed = |uid| {
        let said = says(person(uid, &["dba"]), true);
        table.weigh(id, said, ALONE, at(1)).unwrap()
    };
    let (first, second) = (weighed(1), weighed(2));
    assert_eq!(table.commit(first).unwrap().answers.len(), 1);
    let refused = table.commit(second).unwrap_err().unwrap();
    assert_eq!(refused.answers.len(), 1, "the other is not lost");
}

#[tokio::test]
async fn a_shape_covers_nothing_of_what_has_none_and_no_need_that_lets_it_cover_nothing() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let id = scene.open("delete = 1", &needs).await;
    let minute = Choice {
        shape: Some(Duration::from_secs(60)),
        times: 0,
    };
    let yes = || says(person(1, &["dba"]), true);
    let good = scene.approvals.answer(id, yes(), minute, at(1));
    good.await.unwrap();
    let mut other = question("delete = 2", &needs);
    other.varies = false;
    let found = scene.approvals.asks(other, at(2)).await.unwrap();
    assert!(matches!(found, Found::Open { new: true, .. }), "{found:?}");

    // Of two things that are wanted, one lets an answer cover what was shown alone.
    let mut both = question("update = 1", &needs);
    let strict = Need {
        shape: None,
        ..need(&["ops"], 1)
    };
    both.needs.push(BTreeSet::from([strict]));
    let id = both.id;
    scene.approvals.asks(both, at(2)).await.unwrap();
    let error = scene.approvals.answer(id, yes(), minute, at(3)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("nothing but what was shown"), "{error}");
}
