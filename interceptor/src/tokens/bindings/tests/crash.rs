//! A kill at any of the syncs of bindings: who was bound is bound, whose binding has ended is not, and no token
//! is good a second time.

use std::collections::HashSet;
use std::path::Path;

use super::*;
use crate::state::testing::{acknowledge, killed_at_each_sync};

/// Tells a process of this test binary that it is the one to be killed, and where its bindings are.
const CHILD: &str = "INTERCEPTOR_TEST_BINDINGS_SYNCS";

/// Runs in the killed process only: each step is said before it and after it.
#[tokio::test]
async fn the_child_that_is_killed_at_its_syncs_binds() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let bindings = Bindings::open(&Path::new(&place).join("i.db")).unwrap();
    for number in 1..=3_u64 {
        let token = format!("t{number}");
        bind(&bindings, binding(number, "jane", &token))
            .await
            .unwrap();
        acknowledge(&format!("bound {number}"));
        if number == 2 {
            continue;
        }
        acknowledge(&format!("ending {number}"));
        let all = bindings.all();
        let one = all.iter().find(|one| one.scope == number).unwrap();
        assert!(bindings.end(one).await.unwrap());
        acknowledge(&format!("ended {number}"));
    }
}

#[test]
fn a_kill_at_any_sync_loses_no_binding_and_no_token_is_good_again() {
    let test = "tokens::bindings::tests::crash::the_child_that_is_killed_at_its_syncs_binds";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let killed = killed_at_each_sync((test, CHILD), |place, lines| {
        let said: HashSet<&str> = lines.iter().map(String::as_str).collect();
        let has = |what: &str, number: u64| said.contains(format!("{what} {number}").as_str());
        let bindings = Bindings::open(&place.join("i.db")).unwrap();
        for number in 1..=3 {
            let is_bound = bindings.of(&scope(number)).is_some();
            let is_lost = has("bound", number) && !has("ending", number) && !is_bound;
            assert!(!is_lost, "{number} is lost: {lines:?}");
            assert!(
                !(has("ended", number) && is_bound),
                "{number} is back: {lines:?}"
            );
            if has("bound", number) {
                // By another scope.
                let wanted = binding(number + 10, "jane", &format!("t{number}"));
                let again = runtime.block_on(bind(&bindings, wanted));
                assert_eq!(again.unwrap_err(), Error::Replayed, "{number}: {lines:?}");
            }
        }
    });
    assert!(killed >= 2 * 5, "{killed} kills");
}
