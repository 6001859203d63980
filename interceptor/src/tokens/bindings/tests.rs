//! One token, one scope; one scope, one subject; and what outlives the daemon.

mod crash;

use super::*;
use crate::tokens::tests::identity;

fn binding(scope: u64, subject: &str, token: &str) -> Binding {
    Binding {
        scope,
        cgroup: format!("/a/{scope}"),
        agent: "claude".to_owned(),
        identity: Arc::new(identity(subject)),
        token: token.to_owned(),
        until: after(600),
    }
}

fn scope(id: u64) -> Scope {
    Scope {
        id,
        path: format!("/a/{id}"),
        agent: "claude".to_owned(),
    }
}

async fn bind(bindings: &Bindings, wanted: Binding) -> Result<bool, Error> {
    let binder = bindings.binder().await;
    let before = binder.may(&wanted, false).await?;
    binder.bind(wanted).await?;
    Ok(before.is_some())
}

#[tokio::test]
async fn a_token_binds_one_scope_and_a_scope_is_bound_to_one_subject() {
    let directory = tempfile::tempdir().unwrap();
    let bindings = Bindings::open(&directory.path().join("i.db")).unwrap();
    assert!(!bind(&bindings, binding(1, "jane", "t1")).await.unwrap());
    let number = bindings.number();
    let replayed = bind(&bindings, binding(2, "jane", "t1")).await;
    assert_eq!(replayed.unwrap_err(), Error::Replayed);
    let other = bind(&bindings, binding(1, "joe", "t2")).await;
    assert_eq!(other.unwrap_err().reason(), "bound");
    assert_eq!(bindings.of(&scope(1)).unwrap().subject, "jane");
    assert!(bindings.of(&scope(2)).is_none());
    assert_eq!(bindings.number(), number, "a refusal changed something");
    // A fresh token of the same subject, another scope's own token.
    assert!(bind(&bindings, binding(1, "jane", "t3")).await.unwrap());
    assert!(!bind(&bindings, binding(2, "joe", "t2")).await.unwrap());
    // The number or the name of another agent is not enough.
    let other = Scope {
        agent: "ci".to_owned(),
        ..scope(1)
    };
    assert!(bindings.of(&other).is_none());
}

#[tokio::test]
async fn a_token_that_is_exchanged_elsewhere_while_it_is_brought_binds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let bindings = Bindings::open(&directory.path().join("i.db")).unwrap();
    let wanted = binding(1, "jane", "t1");
    let issuer = wanted.identity.issuer.clone();
    let exchanged = async |scope, token: &str| {
        let ends = clock::wall();
        let named = (issuer.as_str(), token);
        bindings.use_up(named, scope, ends, false).await
    };
    let binder = bindings.binder().await;
    binder.may(&wanted, false).await.unwrap();
    // The audit is written here, which takes a while.
    exchanged(2, "t1").await.unwrap();
    let bound = binder.bind(wanted).await;
    assert_eq!(bound.unwrap_err(), Error::Replayed);
    assert!(bindings.of(&scope(1)).is_none());
    exchanged(2, "t1").await.unwrap();
    // For the same scope it may be.
    let wanted = binding(1, "jane", "t2");
    binder.may(&wanted, false).await.unwrap();
    exchanged(1, "t2").await.unwrap();
    binder.bind(wanted).await.unwrap();
    drop(binder);
    // Whichever is first has it.
    for round in 0..100 {
        let token = format!("r{round}");
        let wanted = binding(10 + round, "jane", &token);
        let (bound, used) = tokio::join!(bind(&bindings, wanted), exchanged(9, &token));
        assert!(bound.is_ok() != used.is_ok(), "{round}: {bound:?} {used:?}");
    }
}

#[tokio::test]
async fn what_is_good_for_once_is_not_taken_twice_by_the_same_scope_nor_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("i.db");
    let bindings = Bindings::open(&file).unwrap();
    bind(&bindings, binding(1, "jane", "t1")).await.unwrap();
    let again = async |bindings: &Bindings| {
        let binder = bindings.binder().await;
        binder.may(&binding(1, "jane", "t1"), true).await
    };
    assert_eq!(again(&bindings).await.unwrap_err(), Error::Replayed);
    let ended = bindings.all();
    bindings.end(&ended[0]).await.unwrap();
    assert_eq!(again(&bindings).await.unwrap_err(), Error::Replayed);
    drop(bindings);
    let bindings = Bindings::open(&file).unwrap();
    assert_eq!(again(&bindings).await.unwrap_err(), Error::Replayed);
}

#[tokio::test]
async fn a_binding_ends_by_the_boot_clock_and_with_it_what_was_opened_under_it() {
    let directory = tempfile::tempdir().unwrap();
    let bindings = Bindings::open(&directory.path().join("i.db")).unwrap();
    let mut short = binding(1, "jane", "t1");
    short.until = BootTime(clock::boot().0 + 1);
    let identity = Arc::clone(&short.identity);
    bind(&bindings, short).await.unwrap();
    bind(&bindings, binding(2, "jane", "t2")).await.unwrap();
    assert!(bindings.of(&scope(1)).is_none(), "it is over");
    assert!(!bindings.holds(1, &identity));
    assert!(bindings.holds(2, &identity), "the same is said of both");
    let mut promoted = (*identity).clone();
    promoted.groups.insert("dba".to_owned());
    assert!(!bindings.holds(2, &Arc::new(promoted)));
    let (over, next) = bindings.due(clock::boot());
    assert_eq!(over.len(), 1);
    assert!(next.is_some_and(|next| next > clock::boot()));
    assert!(bindings.end(&over[0]).await.unwrap());
    assert!(!bindings.end(&over[0]).await.unwrap(), "it ended twice");
    // Somebody else may have the scope then.
    bind(&bindings, binding(1, "joe", "t3")).await.unwrap();
}

#[tokio::test]
async fn an_end_that_cannot_be_kept_is_owed_until_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("i.db");
    let bindings = Bindings::open(&file).unwrap();
    bind(&bindings, binding(1, "jane", "t1")).await.unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    let full =
        "create trigger full before delete on bindings begin select raise(abort, 'full'); end";
    other.execute_batch(full).unwrap();
    let bound = bindings.all();
    bindings.end(&bound[0]).await.unwrap_err();
    assert!(bindings.all().is_empty() && bindings.owes(1));
    bindings.keep_ends().await.unwrap_err();
    other.execute_batch("drop trigger full").unwrap();
    bindings.keep_ends().await.unwrap();
    assert!(!bindings.owes(1) && !bindings.owes_any());
    drop(bindings);
    assert!(Bindings::open(&file).unwrap().all().is_empty());
}

#[tokio::test]
async fn what_is_bound_and_which_tokens_were_used_outlive_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("i.db");
    {
        let bindings = Bindings::open(&file).unwrap();
        bind(&bindings, binding(1, "jane", "t1")).await.unwrap();
        bind(&bindings, binding(2, "joe", "t2")).await.unwrap();
        let all = bindings.all();
        let second = all.iter().find(|one| one.scope == 2).unwrap();
        assert!(bindings.end(second).await.unwrap());
        // What ends late does not take away what came meanwhile.
        bind(&bindings, binding(2, "joe", "t4")).await.unwrap();
        assert!(!bindings.end(second).await.unwrap());
    }
    let bindings = Bindings::open(&file).unwrap();
    let mut kept: Vec<_> = bindings.all().iter().map(|one| one.token.clone()).collect();
    kept.sort();
    assert_eq!(kept, ["t1", "t4"]);
    let replayed = bind(&bindings, binding(3, "jane", "t1")).await;
    assert_eq!(replayed.unwrap_err(), Error::Replayed);
    let of_an_ended_scope = bind(&bindings, binding(3, "joe", "t2")).await;
    assert_eq!(of_an_ended_scope.unwrap_err(), Error::Replayed);
    drop(bindings);
    // Of an earlier boot nothing is bound, and what was used stays used.
    let database = rusqlite::Connection::open(&file).unwrap();
    for table in ["tokens", "bindings"] {
        database
            .execute(&format!("update {table} set boot = 'another'"), [])
            .unwrap();
    }
    drop(database);
    let bindings = Bindings::open(&file).unwrap();
    assert!(bindings.all().is_empty());
    let replayed = bind(&bindings, binding(1, "jane", "t1")).await;
    assert_eq!(replayed.unwrap_err(), Error::Replayed);
}
