//! A kill at any of the syncs of second factors: no key and no count of one is lost, since a proof with a count that
//! was there before may be a copy's; and none comes back that was removed.

use std::path::Path;

use super::*;
use crate::state::testing::{acknowledge, killed_at_each_sync};

/// Tells a process of this test binary that it is the one to be killed, and where its keys are.
const CHILD: &str = "INTERCEPTOR_TEST_FACTORS_SYNCS";

/// Runs in the killed process only: each step is said before it and after it.
#[tokio::test]
async fn the_child_that_is_killed_at_its_syncs_proves_and_removes() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let scene = Scene {
        factors: Factors::open(&Path::new(&place).join("factors.db")).unwrap(),
        ..Scene::new()
    };
    let secret = Secret::p256();
    let id = scene.register(&secret, 1, None).await.unwrap();
    acknowledge("count 0");
    for count in 1..=3 {
        let challenge = scene.factors.challenge(&scene.login, answer(1)).unwrap();
        let proof = Said::get(count).signs(&secret, &id, &challenge);
        scene.prove(&answer(1), &proof).await.unwrap();
        acknowledge(&format!("count {count}"));
    }
    acknowledge("removing");
    assert!(scene.factors.remove(&id).await.unwrap().is_some());
    acknowledge("removed");
}

#[test]
fn a_kill_at_any_sync_loses_no_key_and_no_count_and_brings_none_back() {
    let test = "factors::tests::crash::the_child_that_is_killed_at_its_syncs_proves_and_removes";
    let killed = killed_at_each_sync((test, CHILD), |place, lines| {
        let factors = Factors::open(&place.join("factors.db")).unwrap();
        let has = |what: &str| lines.iter().any(|line| line == what);
        let counts = lines.iter().filter_map(|line| line.strip_prefix("count "));
        let said: Option<u32> = counts.map(|count| count.parse().unwrap()).max();
        match factors.of(None).first() {
            None => assert!(said.is_none() || has("removing"), "it is lost: {lines:?}"),
            Some(key) => {
                assert!(!has("removed"), "it is back: {lines:?}");
                // One more may have been kept that it could not say any more.
                let least = said.unwrap_or_default();
                assert!(
                    (least..=least + 1).contains(&key.count),
                    "{key:?} {lines:?}"
                );
            }
        }
    });
    assert!(killed >= 2 * 5, "{killed} kills");
}
