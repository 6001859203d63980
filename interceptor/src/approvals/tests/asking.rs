//! How far an answer goes, how often people are asked, and who is asked after a while.

use super::*;

#[tokio::test]
async fn what_has_no_shape_is_covered_as_it_was_shown_alone() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let of = |text: &str| Question {
        varies: false,
        shape: "systemctl (2 arguments)".to_owned(),
        ..question(text, &needs)
    };
    let asked = of("systemctl status nginx");
    let id = asked.id;
    scene.approvals.asks(asked, at(0)).await.unwrap();
    let shape = Choice {
        shape: Some(Duration::from_secs(60)),
        times: 0,
    };
    let yes = says(person(1, &["dba"]), true);
    let error = scene.approvals.answer(id, yes.clone(), shape, at(1)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("covers what was shown"), "{error}");
    scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    let other = of("systemctl stop postgresql");
    let found = scene.approvals.asks(other, at(2)).await.unwrap();
    assert!(matches!(found, Found::Open { new: true, .. }), "{found:?}");
    // What an earlier version let be approved for its shape covers no more than what was shown.
    let mut standing = scene.approvals.get(id).unwrap();
    standing.state = State::Approved {
        left: 0,
        until: at(600),
        shape: true,
    };
    let scene = Scene::new();
    scene.approvals.table.enter(standing);
    let found = scene.approvals.asks(of("systemctl stop x"), at(2)).await;
    assert!(matches!(found.unwrap(), Found::Open { new: true, .. }));
}

#[tokio::test]
async fn a_no_to_what_cannot_be_told_apart_is_for_all_of_it() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let of = |text: &str, literals: Option<&str>| Question {
        fingerprint: "delete".to_owned(),
        literals: literals.map(str::to_owned),
        ..question(text, &needs)
    };
    let first = of("delete /* /* 1 */ */", None);
    let id = first.id;
    scene.approvals.asks(first, at(0)).await.unwrap();
    let no = says(person(1, &["dba"]), false);
    let said = scene
        .approvals
        .answer(id, no, Choice::default(), at(1))
        .await;
    said.unwrap();
    for other in [of("delete /* /* 2 */ */", None), of("delete 7", Some("7"))] {
        let found = scene.approvals.asks(other, at(2)).await.unwrap();
        assert!(matches!(found, Found::Denied(_)), "{found:?}");
    }
}

#[tokio::test]
async fn what_was_denied_three_times_is_not_asked_for_an_hour() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let of = |number: u64| Question {
        fingerprint: "delete".to_owned(),
        literals: Some(number.to_string()),
        ..question(&format!("delete where id = {number}"), &needs)
    };
    for number in 0..3 {
        let one = of(number);
        let id = one.id;
        let found = scene.approvals.asks(one, at(number)).await.unwrap();
        assert!(matches!(found, Found::Open { new: true, .. }), "{found:?}");
        let no = says(person(1, &["dba"]), false);
        let now = at(number);
        let said = scene.approvals.answer(id, no, Choice::default(), now).await;
        said.unwrap();
    }
    let closed = scene.approvals.asks(of(3), at(4)).await;
    assert!(matches!(closed, Err(Error::Closed { .. })), "{closed:?}");
    let other = question("update where id = 1", &needs);
    scene.approvals.asks(other, at(4)).await.unwrap();
    let mut later = of(3);
    later.until = at(5_000);
    scene.approvals.asks(later, at(3_700)).await.unwrap();
}

/// As another program, in another scope of the same agent and user.
fn elsewhere(mut asked: Question, number: u64) -> Question {
    asked.sha256 = format!("{number:064x}");
    asked.holder.scope = 100 + number;
    asked
}

async fn deny(scene: &Scene, id: ApprovalId, now: BootTime) {
    let no = says(person(1, &["dba"]), false);
    let said = scene.approvals.answer(id, no, Choice::default(), now).await;
    said.unwrap();
}

#[tokio::test]
async fn a_copy_of_the_program_or_the_next_scope_does_not_ask_again_what_was_denied() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let of = |literals: Option<&str>| Question {
        fingerprint: "delete".to_owned(),
        literals: literals.map(str::to_owned),
        ..question(&format!("delete {literals:?}"), &needs)
    };
    let first = of(Some("1"));
    let id = first.id;
    scene.approvals.asks(first, at(0)).await.unwrap();
    deny(&scene, id, at(0)).await;
    // The scope that asked is no more.
    assert!(scene.approvals.scopes().is_empty());
    scene.approvals.end_scope(7);
    drop(scene.approvals.ended(at(1)));
    for asked in [of(Some("1")), of(None)] {
        let found = scene.approvals.asks(elsewhere(asked, 1), at(1)).await;
        assert!(matches!(found, Ok(Found::Denied(_))), "{found:?}");
    }
    // Of another agent, user or person it is another question.
    let others: [fn(&mut Question); 3] = [
        |one| one.holder.agent = "other".to_owned(),
        |one| one.uid = 1_001,
        |one| {
            one.principal = serde_json::json!({ "identity": { "issuer": "i", "subject": "s" } });
        },
    ];
    for change in others {
        let mut other = of(Some("1"));
        change(&mut other);
        let found = scene.approvals.asks(other, at(1)).await.unwrap();
        assert!(matches!(found, Found::Open { new: true, .. }), "{found:?}");
    }
}

#[tokio::test]
async fn noes_and_questions_count_wherever_they_come_from() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let of = |kind: &str, number: u64| {
        let asked = Question {
            fingerprint: kind.to_owned(),
            literals: Some(number.to_string()),
            ..question(&format!("{kind} {number}"), &needs)
        };
        elsewhere(asked, number)
    };
    let ask = async |asked: Question| scene.approvals.asks(asked, at(1)).await;
    for number in 0..3 {
        let asked = of("delete", number);
        let id = asked.id;
        ask(asked).await.unwrap();
        deny(&scene, id, at(1)).await;
    }
    let closed = ask(of("delete", 3)).await;
    assert!(matches!(closed, Err(Error::Closed { .. })), "{closed:?}");
    for number in 3..30 {
        ask(of("update", number)).await.unwrap();
    }
    let often = ask(of("update", 30)).await;
    assert!(matches!(often, Err(Error::Often { .. })), "{often:?}");
    // The noes that hold are counted by the next daemon, too.
    let scene = scene.again();
    let closed = scene.approvals.asks(of("delete", 4), at(2)).await;
    assert!(matches!(closed, Err(Error::Closed { .. })), "{closed:?}");
}

#[tokio::test]
async fn new_questions_of_an_agent_are_counted_by_time() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let ask = async |scope: u64, number: u64, now| {
        let mut one = question(&format!("delete {scope} {number}"), &needs);
        one.holder.scope = scope;
        let id = one.id;
        let found = scene.approvals.asks(one, now).await;
        // Whoever asks cancels, and asks something else.
        scene.approvals.void(id);
        drop(scene.approvals.ended(now));
        found
    };
    for number in 0..30 {
        ask(1, number, at(number)).await.unwrap();
    }
    let often = ask(1, 30, at(31)).await;
    let Err(Error::Often { wait }) = often else {
        panic!("{often:?}");
    };
    assert!((569..=571).contains(&wait), "{wait}");
    // Another scope of the same agent is no other.
    assert!(ask(2, 0, at(31)).await.is_err());
    ask(1, 31, at(31 + wait)).await.unwrap();
}

#[tokio::test]
async fn a_question_that_nobody_answers_is_told_to_others_once() {
    let scene = Scene::new();
    let mut need = need(&["dba"], 1);
    need.later = Some(Later {
        groups: groups(&["cto"]),
        after: 300,
    });
    let id = scene.open("delete = 1", &[need]).await;
    let told = |seconds| {
        let (more, next) = scene.approvals.escalated(at(seconds));
        let groups = |one: &Arc<Question>| {
            let groups = one.escalated(at(seconds)).into_iter();
            groups.map(str::to_owned).collect::<Vec<_>>()
        };
        (more.iter().map(groups).collect::<Vec<_>>(), next)
    };
    let (more, next) = told(1);
    assert!(more.is_empty() && next.is_some(), "{next:?}");
    let changes = scene.approvals.changes();
    let before = *changes.borrow();
    assert_eq!(told(301), (vec![vec!["cto".to_owned()]], None));
    assert_ne!(*changes.borrow(), before, "nobody is woken");
    assert_eq!(told(302), (Vec::new(), None));
    scene.yes(id, person(3, &["dba"]), 0).await.unwrap();
    assert_eq!(told(303), (Vec::new(), None));
}
