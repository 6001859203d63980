//! People are asked nothing that the audit does not tell of, and nothing that nobody waits for.

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rusqlite::Connection;

use super::*;

/// What else has the file open.
fn other(scene: &Scene) -> Connection {
    Connection::open(scene.directory.path().join("approvals.db")).unwrap()
}

#[tokio::test]
async fn what_cannot_be_written_is_not_asked() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let full = |_: &Question| Err("no space left".to_owned());
    let asked = scene
        .approvals
        .ask(question("delete = 1", &needs), at(0), full);
    assert!(matches!(asked.await, Err(Error::Untold(_))));
    assert_eq!(scene.approvals.open_now(), 0);
    // It is as new when it is asked again.
    scene.open("delete = 1", &needs).await;
}

#[tokio::test]
async fn whoever_goes_away_while_the_question_is_kept_leaves_none_behind() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let (busy, told) = (other(&scene), Cell::new(0));
    busy.execute_batch("begin immediate").unwrap();
    let asked = question("delete = 1", &needs);
    let id = asked.id;
    {
        let tell = |new: &Question| {
            assert_eq!(new.id, id);
            told.set(told.get() + 1);
            Ok(())
        };
        let mut asking = pin!(scene.approvals.ask(asked, at(0), tell));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(asking.as_mut().poll(&mut context), Poll::Pending));
        // The same of somebody else is the same question, which is told of once.
        let same = || {
            scene
                .approvals
                .ask(question("delete = 1", &needs), at(0), |_| panic!())
        };
        let (found, ticket) = same().await.unwrap();
        assert_eq!(found, Found::Open { id, new: false });
        drop(ticket);
        assert_eq!(scene.approvals.open_now(), 1);
    }
    assert_eq!(told.get(), 1);
    assert_eq!(scene.approvals.open_now(), 0, "nobody waits for it");
    let yes = scene.yes(id, person(1, &["dba"]), 1).await;
    assert!(yes.is_err(), "{yes:?}");
    let (over, _) = scene.approvals.ended(at(1));
    let why = Over::Withdrawn;
    assert_eq!(over[0].state, State::Over { why });
    busy.execute_batch("rollback").unwrap();
    scene.open("delete = 1", &needs).await;
    let scene = scene.again();
    assert!(
        scene
            .approvals
            .all(None)
            .iter()
            .all(|one| one.question.id != id)
    );
}

#[tokio::test]
async fn what_cannot_be_kept_stays_no_open_question() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let file = other(&scene);
    file.execute_batch("alter table approvals rename to aside")
        .unwrap();
    let asked = question("delete = 1", &needs);
    let failed = scene.approvals.asks(asked, at(0)).await;
    assert!(matches!(failed, Err(Error::State(_))), "{failed:?}");
    assert_eq!(scene.approvals.open_now(), 0);
    file.execute_batch("alter table aside rename to approvals")
        .unwrap();
    scene.open("delete = 1", &needs).await;
}
