//! The life of a question, step by step, and what of it outlives the daemon.

mod asking;
mod back;
mod crash;
mod factor;
mod late;
mod telling;
mod who;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::clock::BootTime;
use crate::grants::Holder;
use crate::identity::Identity;
use crate::policy::{Approved as _, Later, RuleId};

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> BootTime {
    // Boot times are compared with the host's own: it has been up for a while.
    BootTime(crate::clock::boot().0 + seconds * SECOND)
}

fn groups(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn need(names: &[&str], count: u32) -> Need {
    Need {
        rule: RuleId("r".to_owned()),
        groups: groups(names),
        count,
        later: None,
        shape: Some(600),
        second_factor: false,
    }
}

fn question(text: &str, needs: &[Need]) -> Question {
    Question {
        id: ApprovalId(Uuid::now_v7()),
        holder: Holder {
            agent: "claude".to_owned(),
            scope: 7,
            cgroup: "/agents/claude".to_owned(),
            root: None,
        },
        principal: serde_json::Value::Null,
        uid: 1_000,
        owners: Default::default(),
        sha256: "00".to_owned(),
        target: "shop".to_owned(),
        database: "shop".to_owned(),
        summary: "DELETE".to_owned(),
        fingerprint: text.split('=').next().unwrap_or_default().to_owned(),
        shape: text.split('=').next().unwrap_or_default().to_owned(),
        varies: true,
        text: text.to_owned(),
        values: None,
        digest: None,
        under: Vec::new(),
        literals: None,
        on_behalf_of: None,
        needs: vec![needs.iter().cloned().collect()],
        asked: Timestamp::UNIX_EPOCH,
        expires: Timestamp::UNIX_EPOCH,
        from: at(0),
        until: at(900),
    }
}

fn person(uid: u32, of: &[&str]) -> Person {
    Person {
        uid: Some(uid),
        login: None,
        name: Some(format!("user{uid}")),
        groups: of.iter().map(|name| (*name).to_owned()).collect(),
        known_as: BTreeSet::new(),
    }
}

fn says(by: Person, yes: bool) -> Answer {
    Answer {
        by,
        yes,
        at: Timestamp::UNIX_EPOCH,
        reason: None,
        break_glass: false,
        in_place: None,
        factor: None,
    }
}

impl Approvals {
    /// Asks, and leaves an open question to whoever comes back.
    async fn asks(&self, question: Question, now: BootTime) -> Result<Found, Error> {
        let (found, ticket) = self.ask(question, now, |_| Ok(())).await?;
        if let Some(ticket) = ticket {
            ticket.leave();
        }
        Ok(found)
    }

    /// Waits for the answer of an open question, as one more.
    fn wait(&self, id: ApprovalId) -> Ticket<'_> {
        Ticket::joined(self, id, self.table.join(id).unwrap())
    }
}

struct Scene {
    approvals: Approvals,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let approvals = Approvals::open(&directory.path().join("approvals.db")).unwrap();
        Self {
            approvals,
            directory,
        }
    }

    fn again(self) -> Self {
        let Self {
            approvals,
            directory,
        } = self;
        drop(approvals);
        let approvals = Approvals::open(&directory.path().join("approvals.db")).unwrap();
        Self {
            approvals,
            directory,
        }
    }

    async fn asked(&self, text: &str, needs: &[Need]) -> Found {
        let question = question(text, needs);
        self.approvals.asks(question, at(0)).await.unwrap()
    }

    async fn open(&self, text: &str, needs: &[Need]) -> ApprovalId {
        match self.asked(text, needs).await {
            Found::Open { id, new: true } => id,
            other => panic!("{other:?}"),
        }
    }

    async fn yes(&self, id: ApprovalId, by: Person, waiting: u64) -> Result<Standing, Error> {
        let choice = Choice {
            shape: None,
            times: waiting,
        };
        self.approvals
            .answer(id, says(by, true), choice, at(1))
            .await
    }
}

#[tokio::test]
async fn a_yes_is_used_once_and_the_next_is_a_new_question() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let id = scene.open("delete = 1", &needs).await;
    scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    let Found::Approved(word) = scene.asked("delete = 1", &needs).await else {
        panic!("not found");
    };
    assert!(word.covers(&BTreeSet::from(needs.clone())));
    assert!(!word.covers(&BTreeSet::from([need(&["ops"], 1)])));
    assert!(scene.approvals.take(id, at(2)).await.unwrap());
    assert!(!scene.approvals.take(id, at(2)).await.unwrap());
    scene.open("delete = 1", &needs).await;
}

#[tokio::test]
async fn an_answer_is_for_the_same_text_values_settings_user_and_place_alone() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let id = scene.open("delete = 1", &needs).await;
    scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    let others: [fn(&mut Question); 10] = [
        |q| q.principal = serde_json::json!({ "identity": { "issuer": "i", "subject": "s" } }),
        |q| q.text = "delete = 2".to_owned(),
        |q| q.digest = Some("aa".to_owned()),
        |q| q.under = vec!["set role x".to_owned()],
        |q| q.uid = 1_001,
        |q| q.sha256 = "11".to_owned(),
        |q| q.target = "crm".to_owned(),
        |q| q.database = "archive".to_owned(),
        |q| q.holder.scope = 8,
        |q| q.holder.agent = "other".to_owned(),
    ];
    for change in others {
        let mut other = question("delete = 1", &needs);
        change(&mut other);
        let found = scene.approvals.asks(other, at(1)).await.unwrap();
        assert!(matches!(found, Found::Open { new: true, .. }), "{found:?}");
    }
    let found = scene.asked("delete = 1", &needs).await;
    assert!(matches!(found, Found::Approved(_)), "{found:?}");
}

#[tokio::test]
async fn people_count_by_their_groups_and_each_once() {
    let scene = Scene::new();
    let id = scene.open("update = 1", &[need(&["dba", "ops"], 2)]).await;
    let error = scene.yes(id, person(9, &["mail"]), 0).await.unwrap_err();
    assert!(error.to_string().contains("2 of dba or ops"), "{error}");
    let error = scene.yes(id, person(1_000, &["dba"]), 0).await.unwrap_err();
    assert!(error.to_string().contains("the same user"), "{error}");
    let mut own = question("update = 2", &[need(&["dba"], 1)]);
    own.principal = serde_json::json!({ "identity": { "user": "user7" } });
    let of = own.id;
    scene.approvals.asks(own, at(0)).await.unwrap();
    let error = scene.yes(of, person(7, &["dba"]), 0).await.unwrap_err();
    assert!(error.to_string().contains("his own behalf"), "{error}");
    let first = scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    assert_eq!(first.state, State::Open);
    let error = scene.yes(id, person(1, &["dba"]), 0).await.unwrap_err();
    assert!(error.to_string().contains("answered already"), "{error}");
    let second = scene.yes(id, person(2, &["ops"]), 0).await.unwrap();
    assert!(matches!(second.state, State::Approved { left: 1, .. }));
    let error = scene.yes(id, person(3, &["ops"]), 0).await.unwrap_err();
    assert!(error.to_string().contains("no question"), "{error}");
}

fn logged_in(subject: &str, user: &str, groups: &[&str]) -> Person {
    let identity = Identity {
        issuer: "https://staff.example".to_owned(),
        subject: subject.to_owned(),
        user: Some(user.to_owned()),
        groups: Default::default(),
        acr: None,
        amr: Default::default(),
        claims: Default::default(),
        expires: Timestamp::UNIX_EPOCH,
    };
    let login = LoggedIn {
        by: "staff".to_owned(),
        identity: Arc::new(identity),
        until: at(900),
    };
    Person {
        uid: None,
        name: Some(user.to_owned()),
        login: Some(login),
        groups: groups.iter().map(|name| (*name).to_owned()).collect(),
        known_as: BTreeSet::new(),
    }
}

#[tokio::test]
async fn who_logged_in_counts_by_the_issuers_groups_once_and_never_for_himself() {
    let scene = Scene::new();
    let id = scene
        .open("update = 1", &[need(&["staff:dba", "ops"], 2)])
        .await;
    let jane = || logged_in("1", "jane", &["staff:dba"]);
    let wrong = logged_in("2", "joe", &["dba"]);
    let error = scene.yes(id, wrong, 0).await.unwrap_err();
    assert!(error.to_string().contains("staff:dba"), "{error}");
    let first = scene.yes(id, jane(), 0).await.unwrap();
    assert_eq!(first.state, State::Open);
    assert_eq!(first.answers[0].by.shown(), "staff:jane");
    let other_name = logged_in("1", "other", &["staff:dba"]);
    let same_name = logged_in("3", "jane", &["staff:dba"]);
    let mut user = person(1, &["ops"]);
    user.name = Some("jane".to_owned());
    for again in [jane(), other_name, same_name, user] {
        let error = scene.yes(id, again, 0).await.unwrap_err();
        assert!(error.to_string().contains("answered already"), "{error}");
    }
    let second = scene.yes(id, person(2, &["ops"]), 0).await.unwrap();
    assert!(matches!(second.state, State::Approved { .. }));

    for (text, principal, told) in [
        (
            "update = 2",
            serde_json::json!({ "user": { "name": "jane" } }),
            "the same user",
        ),
        (
            "update = 3",
            serde_json::json!({ "identity": { "user": "jane" } }),
            "his own behalf",
        ),
        (
            "update = 4",
            serde_json::json!({ "identity": { "issuer": "https://staff.example", "subject": "1" } }),
            "his own behalf",
        ),
    ] {
        let mut own = question(text, &[need(&["staff:dba"], 1)]);
        own.principal = principal;
        let id = own.id;
        scene.approvals.asks(own, at(0)).await.unwrap();
        let error = scene.yes(id, jane(), 0).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    // A name is no right: one that is called root is not root.
    let id = scene.open("update = 5", &[need(&["ops"], 1)]).await;
    assert!(scene.yes(id, logged_in("0", "root", &[]), 0).await.is_err());
}

#[tokio::test]
async fn each_thing_that_is_wanted_takes_a_word_of_its_own() {
    let scene = Scene::new();
    let mut both = question("delete = 1", &[need(&["dba"], 1)]);
    both.needs.push(BTreeSet::from([need(&["ops"], 1)]));
    let id = both.id;
    scene.approvals.asks(both, at(0)).await.unwrap();
    let first = scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    assert_eq!(first.state, State::Open);
    let second = scene.yes(id, person(2, &["ops"]), 0).await.unwrap();
    assert!(matches!(second.state, State::Approved { .. }));
}

#[tokio::test]
async fn others_may_answer_once_nobody_has_for_a_while() {
    let scene = Scene::new();
    let mut late = need(&["dba"], 1);
    late.later = Some(Later {
        groups: groups(&["cto"]),
        after: 120,
    });
    let id = scene.open("delete = 1", &[late]).await;
    let says = |seconds| {
        let (answer, choice) = (says(person(5, &["cto"]), true), Choice::default());
        scene.approvals.answer(id, answer, choice, at(seconds))
    };
    assert!(says(60).await.is_err());
    assert!(says(130).await.is_ok());
}

#[tokio::test]
async fn of_several_answers_the_one_that_covers_least_counts() {
    let scene = Scene::new();
    let id = scene.open("delete = 1", &[need(&["dba"], 2)]).await;
    let _waiting: Vec<_> = (0..5).map(|_| scene.approvals.wait(id)).collect();
    scene.yes(id, person(1, &["dba"]), 2).await.unwrap();
    let after = scene.yes(id, person(2, &["dba"]), 4).await.unwrap();
    assert!(matches!(after.state, State::Approved { left: 2, .. }));
}

#[tokio::test]
async fn an_emergency_covers_nothing_but_what_was_shown() {
    let scene = Scene::new();
    let id = scene.open("delete = 1", &[need(&["dba"], 1)]).await;
    let mut answer = says(person(9, &[]), true);
    answer.break_glass = true;
    let shape = Choice {
        shape: Some(Duration::from_secs(60)),
        times: 1,
    };
    let wide = scene.approvals.answer(id, answer.clone(), shape, at(1));
    assert!(wide.await.is_err());
    let one = scene.approvals.answer(id, answer, Choice::default(), at(1));
    assert!(matches!(
        one.await.unwrap().state,
        State::Approved { left: 1, .. }
    ));
}

#[tokio::test]
async fn a_yes_covers_as_many_as_were_seen_to_wait_and_a_no_all() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let id = scene.open("delete = 1", &needs).await;
    let mut tickets: Vec<_> = (0..3).map(|_| scene.approvals.wait(id)).collect();
    // Two were shown; a third has come since.
    let after = scene.yes(id, person(1, &["dba"]), 2).await.unwrap();
    assert!(matches!(after.state, State::Approved { left: 2, .. }));
    let mut used = 0;
    for ticket in &mut tickets {
        if let Outcome::Approved(word) = ticket.answered().await {
            used += u32::from(scene.approvals.take(word.id, at(1)).await.unwrap());
        }
    }
    assert_eq!(used, 2);
    drop(tickets);

    let id = scene.open("delete = 2", &needs).await;
    let mut tickets: Vec<_> = (0..3).map(|_| scene.approvals.wait(id)).collect();
    let answer = says(person(1, &["dba"]), false);
    let denied = scene.approvals.answer(id, answer, Choice::default(), at(1));
    denied.await.unwrap();
    for ticket in &mut tickets {
        assert!(matches!(ticket.answered().await, Outcome::Denied(_)));
    }
    let again = scene.asked("delete = 2", &needs).await;
    assert!(matches!(again, Found::Denied(_)), "{again:?}");
}

#[tokio::test]
async fn who_goes_takes_its_part_along_and_who_comes_back_finds_it() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let id = scene.open("delete = 1", &needs).await;
    let gone = scene.approvals.wait(id);
    scene.yes(id, person(1, &["dba"]), 1).await.unwrap();
    drop(gone);
    assert!(!scene.approvals.take(id, at(1)).await.unwrap());

    let id = scene.open("delete = 4", &needs).await;
    let (gone, _stays) = (scene.approvals.wait(id), scene.approvals.wait(id));
    scene.yes(id, person(1, &["dba"]), 2).await.unwrap();
    drop(gone);
    let left = scene.approvals.get(id).unwrap().state;
    assert!(matches!(left, State::Approved { left: 1, .. }), "{left:?}");

    let id = scene.open("delete = 2", &needs).await;
    let mut late = scene.approvals.wait(id);
    assert!(late.last_look().is_none());
    drop(late);
    scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    let found = scene.asked("delete = 2", &needs).await;
    assert!(matches!(found, Found::Approved(_)), "{found:?}");

    let id = scene.open("delete = 3", &needs).await;
    drop(scene.approvals.wait(id));
    let (over, _) = scene.approvals.ended(at(1));
    assert!(
        over.iter().any(|one| one.question.id == id
            && one.state
                == State::Over {
                    why: Over::Withdrawn
                }),
        "{over:?}"
    );
}

#[tokio::test]
async fn what_policy_asks_for_now_is_what_counts() {
    let scene = Scene::new();
    let id = scene.open("delete = 1", &[need(&["dba"], 1)]).await;
    scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    scene.open("delete = 1", &[need(&["ops"], 1)]).await;
    let found = scene.asked("delete = 1", &[need(&["dba"], 1)]).await;
    assert!(matches!(found, Found::Approved(_)), "{found:?}");
}

#[tokio::test]
async fn a_shape_is_covered_for_as_long_as_every_rule_lets_it() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let id = scene.open("delete = 1", &needs).await;
    let shape = |seconds| Choice {
        shape: Some(Duration::from_secs(seconds)),
        times: 0,
    };
    let answer = || says(person(1, &["dba"]), true);
    let long = scene.approvals.answer(id, answer(), shape(601), at(1));
    assert!(long.await.is_err());
    let good = scene.approvals.answer(id, answer(), shape(60), at(1));
    good.await.unwrap();
    for _ in 0..3 {
        let found = scene.asked("delete = 2", &needs).await;
        assert!(matches!(found, Found::Approved(_)), "{found:?}");
        assert!(scene.approvals.take(id, at(2)).await.unwrap());
    }
    let other = question("update = 2", &needs);
    let found = scene.approvals.asks(other, at(2)).await.unwrap();
    assert!(matches!(found, Found::Open { .. }), "{found:?}");
    let late = question("delete = 2", &needs);
    let found = scene.approvals.asks(late, at(62)).await.unwrap();
    assert!(matches!(found, Found::Open { .. }), "{found:?}");
}

#[tokio::test]
async fn questions_are_bounded_in_number_and_bytes() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    for number in 0..16 {
        scene.open(&format!("delete = {number}"), &needs).await;
    }
    let more = scene.approvals.asks(question("delete = 16", &needs), at(1));
    assert!(matches!(more.await, Err(Error::Full(_))));
    // The same again is no more.
    let same = scene.asked("delete = 1", &needs).await;
    assert!(matches!(same, Found::Open { new: false, .. }), "{same:?}");
    let (over, _) = scene.approvals.ended(at(901));
    assert_eq!(over.len(), 16);
    assert!(
        over.iter()
            .all(|one| one.state == State::Over { why: Over::Expired })
    );
    let mut large = 0;
    for scope in 100..3_000 {
        let mut one = question(&"x".repeat(60 << 10), &needs);
        one.holder.scope = scope;
        // Of one agent fewer questions are taken.
        one.holder.agent = scope.to_string();
        match scene.approvals.asks(one, at(1)).await {
            Ok(_) => large += 1,
            Err(Error::Full(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((500..1_100).contains(&large), "{large}");
}

#[tokio::test]
async fn questions_and_answers_outlive_the_daemon_and_so_does_a_use() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let one = scene.open("delete = 1", &needs).await;
    let two = scene.open("delete = 2", &needs).await;
    let three = scene.open("delete = 3", &needs).await;
    scene.yes(two, person(1, &["dba"]), 0).await.unwrap();
    scene.yes(three, person(1, &["dba"]), 0).await.unwrap();
    assert!(scene.approvals.take(three, at(1)).await.unwrap());
    let scene = scene.again();
    let found = scene.asked("delete = 1", &needs).await;
    assert_eq!(
        found,
        Found::Open {
            id: one,
            new: false
        }
    );
    let found = scene.asked("delete = 2", &needs).await;
    assert!(matches!(found, Found::Approved(_)), "{found:?}");
    let found = scene.asked("delete = 3", &needs).await;
    assert!(matches!(found, Found::Open { new: true, .. }), "{found:?}");
    let about = question("delete = 9", &needs);
    let before = scene.approvals.before(&about, 2).await.unwrap();
    let texts: Vec<_> = before
        .iter()
        .map(|one| one.question.text.as_str())
        .collect();
    assert_eq!(texts, ["delete = 3", "delete = 3"]);
}

#[tokio::test]
async fn what_somebody_took_along_is_not_there_after_a_restart() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let id = scene.open("delete = 1", &needs).await;
    let gone = scene.approvals.wait(id);
    scene.yes(id, person(1, &["dba"]), 1).await.unwrap();
    drop(gone);
    // What is told later is written after it.
    scene.open("delete = 2", &needs).await;
    let scene = scene.again();
    let found = scene.asked("delete = 1", &needs).await;
    assert!(matches!(found, Found::Open { new: true, .. }), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_at_once_one_uses_one_yes() {
    let scene = Arc::new(Scene::new());
    let id = scene.open("delete = 1", &[need(&["dba"], 1)]).await;
    scene.yes(id, person(1, &["dba"]), 0).await.unwrap();
    let all = (0..100).map(|_| {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move { scene.approvals.take(id, at(1)).await.unwrap() })
    });
    let mut used = 0;
    for one in all.collect::<Vec<_>>() {
        used += u32::from(one.await.unwrap());
    }
    assert_eq!(used, 1);
}

#[tokio::test]
async fn what_was_denied_is_not_asked_again_however_it_is_spelled() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let of = |text: &str, literals: Option<&str>, under: &str| Question {
        fingerprint: "delete".to_owned(),
        literals: literals.map(str::to_owned),
        under: vec![under.to_owned()],
        ..question(text, &needs)
    };
    let ask = async |question: Question, at: BootTime| scene.approvals.asks(question, at).await;
    let first = of("delete where id = 1", Some("1"), "a");
    let id = first.id;
    ask(first, at(0)).await.unwrap();
    let no = says(person(1, &["dba"]), false);
    let choice = Choice::default();
    scene.approvals.answer(id, no, choice, at(1)).await.unwrap();
    for spelled in [
        of("delete  where (id=1)", Some("1"), "a"),
        of("delete where id = 1", Some("1"), "b"),
    ] {
        let found = ask(spelled, at(2)).await.unwrap();
        assert!(matches!(found, Found::Denied(_)), "{found:?}");
    }
    let values = Question {
        digest: Some("other".to_owned()),
        ..of("delete where id=1", Some("1"), "a")
    };
    for other in [of("delete where id=2", Some("2"), "a"), values] {
        let found = ask(other, at(2)).await.unwrap();
        assert!(matches!(found, Found::Open { new: true, .. }), "{found:?}");
    }
    // Where nobody can tell the literals it may be the same.
    let unread = of("delete where id = E'1'", None, "a");
    let found = ask(unread, at(2)).await.unwrap();
    assert!(matches!(found, Found::Denied(_)), "{found:?}");
    let scene = scene.again();
    let again = of("delete   where id=1", Some("1"), "a");
    let found = scene.approvals.asks(again, at(3)).await.unwrap();
    assert!(matches!(found, Found::Denied(_)), "{found:?}");
    let late = of("delete   where id=1", Some("1"), "a");
    let found = scene.approvals.asks(late, at(902)).await.unwrap();
    assert!(matches!(found, Found::Open { .. }), "{found:?}");
}

#[tokio::test]
async fn what_cannot_be_told_from_several_that_were_denied_is_not_asked_while_any_no_holds() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let of = |text: &str, literals: Option<&str>| Question {
        fingerprint: "delete".to_owned(),
        literals: literals.map(str::to_owned),
        ..question(text, &needs)
    };
    for (literal, when) in [("1", 1), ("2", 841)] {
        let asked = of(&format!("delete where id = {literal}"), Some(literal));
        let id = asked.id;
        scene.approvals.asks(asked, at(when)).await.unwrap();
        let no = says(person(1, &["dba"]), false);
        let choice = Choice::default();
        let answered = scene.approvals.answer(id, no, choice, at(when));
        answered.await.unwrap();
    }
    // The first no has ended, be it let go of or not.
    for _ in 0..2 {
        let unread = of("delete where id = E'2'", None);
        let found = scene.approvals.asks(unread, at(902)).await.unwrap();
        assert!(matches!(found, Found::Denied(_)), "{found:?}");
        scene.approvals.table.ended(at(902));
    }
    let unread = of("delete where id = E'2'", None);
    let found = scene.approvals.asks(unread, at(1742)).await.unwrap();
    assert!(matches!(found, Found::Open { .. }), "{found:?}");
}

#[tokio::test]
async fn an_answer_counts_once_it_is_kept_and_not_where_the_question_is_over_by_then() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let table = &scene.approvals.table;
    let weigh = |id| {
        table.weigh(
            id,
            says(person(1, &["dba"]), true),
            Choice::default(),
            at(1),
        )
    };
    let id = scene.open("delete = 1", &needs).await;
    let after = weigh(id).unwrap();
    assert!(
        table.said(id, at(1)).is_none(),
        "it counts before it is kept"
    );
    assert!(
        table.take(id, at(1)).is_none(),
        "it is used before it is kept"
    );
    table.commit(after).unwrap();
    assert!(table.said(id, at(1)).is_some());
    // Whoever waited goes away while it is written.
    let id = scene.open("delete = 2", &needs).await;
    let ticket = scene.approvals.wait(id);
    let after = weigh(id).unwrap();
    drop(ticket);
    let now = table.commit(after.clone()).unwrap_err().unwrap();
    assert_eq!(
        now.state,
        State::Over {
            why: Over::Withdrawn
        }
    );
    assert!(
        now.version > after.version,
        "what is kept of it would stay an answer"
    );
    // Two of the three who waited go away.
    let id = scene.open("delete = 3", &needs).await;
    let tickets = [(); 3].map(|()| scene.approvals.wait(id));
    let three = Choice {
        times: 3,
        ..Choice::default()
    };
    let after = table.weigh(id, says(person(1, &["dba"]), true), three, at(1));
    let [stays, goes, goes_too] = tickets;
    drop((goes, goes_too));
    let after = table.commit(after.unwrap()).unwrap();
    assert!(
        matches!(after.state, State::Approved { left: 1, .. }),
        "{after:?}"
    );
    drop(stays);
}

#[tokio::test]
async fn what_is_over_takes_nobodys_place() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 1)];
    let large = |scope: u64| {
        let mut one = question(&"x".repeat(20 << 20), &needs);
        one.holder.scope = scope;
        one
    };
    let mut ids = Vec::new();
    for scope in 0..3 {
        let one = large(scope);
        ids.push(one.id);
        scene.approvals.table.ask(one, at(0), |_| Ok(())).unwrap();
    }
    let more = |scope| scene.approvals.table.ask(large(scope), at(0), |_| Ok(()));
    assert!(matches!(more(3), Err(Error::Full(_))));
    scene.approvals.void(ids[0]);
    more(3).unwrap();
    // But what is over is there until somebody has told of it: it does not pile up for ever.
    for id in &ids[1..] {
        scene.approvals.void(*id);
    }
    more(4).unwrap();
    more(5).unwrap();
    assert!(matches!(more(6), Err(Error::Full(_))));
    drop(scene.approvals.ended(at(1)));
}

fn delegation(by: u32, to: StandIn, seconds: u64) -> Delegation {
    Delegation {
        id: Uuid::new_v4(),
        by: person(by, &[]),
        to,
        issued: Timestamp::UNIX_EPOCH,
        expires: Timestamp::UNIX_EPOCH,
        until: at(seconds),
    }
}

#[tokio::test]
async fn a_delegation_lasts_for_its_time_across_a_restart_and_until_it_is_taken_back() {
    let scene = Scene::new();
    let ops = StandIn::Group("ops".to_owned());
    let (short, long) = (
        delegation(1, ops.clone(), 60),
        delegation(1, ops.clone(), 600),
    );
    for one in [&short, &long] {
        scene.approvals.delegate(one.clone()).await.unwrap();
    }
    let scene = scene.again();
    assert_eq!(scene.approvals.delegations(at(0)).len(), 2);
    assert!(ops.is(Some("ops"), &["ops", "dba"]));
    assert!(!ops.is(Some("ops"), &["dba"]));
    assert!(StandIn::User("joe".to_owned()).is(Some("joe"), &[]));
    assert!(!StandIn::User("joe".to_owned()).is(None, &["joe"]));
    let left = scene.approvals.delegations(at(61));
    assert_eq!(left.len(), 1);
    assert_eq!(*left[0], long);
    assert!(scene.approvals.undelegate(long.id).await.unwrap());
    assert!(!scene.approvals.undelegate(long.id).await.unwrap());
    assert!(scene.approvals.delegations(at(0)).is_empty());
    let scene = scene.again();
    assert!(!scene.approvals.delegations(at(0)).contains(&Arc::new(long)));
    // The short one still counts.
    for _ in 0..7 {
        let one = delegation(1, ops.clone(), 600);
        scene.approvals.delegate(one).await.unwrap();
    }
    let more = scene
        .approvals
        .delegate(delegation(1, ops.clone(), 600))
        .await;
    assert!(matches!(more, Err(Error::Full(_))), "{more:?}");
    scene
        .approvals
        .delegate(delegation(2, ops, 600))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_delegation_of_who_logged_in_is_as_the_issuer_says_of_them_last() {
    let scene = Scene::new();
    let by = |subject: &str, login: &LoggedIn| Delegation {
        by: Person {
            login: Some(login.clone()),
            ..logged_in(subject, "jane", &[])
        },
        ..delegation(1, StandIn::User("staff:2".to_owned()), 600)
    };
    let of = |subject: &str, groups: &[&str]| {
        let login = logged_in(subject, "jane", &[]).login.unwrap();
        let mut identity = Identity::clone(&login.identity);
        identity.groups = groups.iter().map(|name| (*name).to_owned()).collect();
        LoggedIn {
            identity: Arc::new(identity),
            ..login
        }
    };
    let (one, other) = (by("1", &of("1", &["dba"])), by("3", &of("3", &["dba"])));
    let gone = by("1", &of("1", &["dba"]));
    for one in [&one, &other, &gone] {
        scene.approvals.delegate(one.clone()).await.unwrap();
    }
    scene.approvals.undelegate(gone.id).await.unwrap();
    scene.approvals.renew(&of("1", &["ops"])).await.unwrap();
    let groups = |scene: &Scene, id| {
        let all = scene.approvals.delegations(at(0));
        let one = all.iter().find(|one| one.id == id).unwrap();
        one.by.login.as_ref().unwrap().groups().collect::<Vec<_>>()
    };
    assert_eq!(groups(&scene, one.id), ["staff:ops"]);
    assert_eq!(groups(&scene, other.id), ["staff:dba"]);
    let scene = scene.again();
    assert_eq!(scene.approvals.delegations(at(0)).len(), 2);
    assert_eq!(groups(&scene, one.id), ["staff:ops"]);
}

#[tokio::test]
async fn a_stand_in_counts_as_the_approver_and_neither_of_the_two_counts_again() {
    let scene = Scene::new();
    let needs = [need(&["dba"], 2)];
    let in_place = |by: u32, of: Person| Answer {
        in_place: Some(InPlace {
            of,
            delegation: Uuid::new_v4(),
        }),
        ..says(person(by, &[]), true)
    };
    let answer = async |id, answer| {
        scene
            .approvals
            .answer(id, answer, Choice::default(), at(1))
            .await
    };
    let id = scene.open("delete = 1", &needs).await;
    // By whoever has no such right nothing is gained.
    assert!(answer(id, in_place(5, person(6, &["ops"]))).await.is_err());
    let standing = answer(id, in_place(5, person(1, &["dba"]))).await.unwrap();
    assert_eq!(standing.state, State::Open);
    assert!(answer(id, says(person(1, &["dba"]), true)).await.is_err());
    assert!(answer(id, says(person(5, &["dba"]), true)).await.is_err());
    assert!(answer(id, in_place(5, person(2, &["dba"]))).await.is_err());
    assert!(answer(id, in_place(7, person(1, &["dba"]))).await.is_err());
    let standing = answer(id, in_place(8, person(2, &["dba"]))).await.unwrap();
    assert!(
        matches!(standing.state, State::Approved { .. }),
        "{standing:?}"
    );
    // Nobody answers his own by somebody else's right, nor by his own through somebody else.
    let id = scene.open("delete = 2", &needs).await;
    assert!(
        answer(id, in_place(1_000, person(1, &["dba"])))
            .await
            .is_err()
    );
    assert!(
        answer(id, in_place(5, person(1_000, &["dba"])))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_a_request_would_touch_is_told_while_it_waits_and_kept_with_the_answer() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.db");
    let approvals = Approvals::open(&file).unwrap();
    let asked = question("delete=1", &[need(&["dba"], 2)]);
    let id = asked.id;
    approvals.asks(asked, at(1)).await.unwrap();
    let touches = |rows| Touches {
        rows: Rows::Counted(rows),
        plan: vec!["Delete on orders".to_owned()],
    };
    let choice = Choice {
        shape: None,
        times: 1,
    };
    approvals.touches(id, touches(2));
    let yes = |uid| says(person(uid, &["dba"]), true);
    approvals.answer(id, yes(2), choice, at(2)).await.unwrap();
    let seen = approvals.get(id).unwrap();
    assert_eq!((seen.touches, seen.state), (Some(touches(2)), State::Open));
    // It comes between two answers, and makes neither of them void.
    approvals.touches(id, touches(3));
    let after = approvals.answer(id, yes(3), choice, at(3)).await.unwrap();
    assert_eq!(after.touches, Some(touches(3)));
    assert!(matches!(after.state, State::Approved { .. }));
    // What was answered is not told of any more.
    approvals.touches(id, touches(4));
    drop(approvals);
    let again = Approvals::open(&file).unwrap();
    assert_eq!(again.get(id).unwrap().touches, Some(touches(3)));
}
