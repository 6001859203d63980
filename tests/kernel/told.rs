//! What the kernel tells of its refusals: one by one up to a rate, in sum beyond it, and none is left out.

use std::net::SocketAddr;

use aya::maps::{HashMap as BpfMap, Map};
use interceptor::capture::{DenyReason, Event, Events, Folded};
use interceptor_ebpf::event::{Bucket, BucketKey};

use crate::scene::{Scene, unique};

/// Is refused as often as its third argument says, at addresses of the network that its first and second name.
const FLOOD: &str = "import sys
for i in range(int(sys.argv[3])):
    s = tcp()
    try: s.connect((sys.argv[1] if sys.argv[2] == 'one' else f'{sys.argv[1]}.{i}.1', 80))
    except PermissionError: pass
    s.close()";

const ONE: &str = "10.77.0.9";

/// Sums of what was told.
#[derive(Debug, Default)]
struct Told {
    lines: u64,
    folded: u64,
    lost: u64,
    /// Of those that were folded, how many were told without saying of what.
    unknown: u64,
}

impl Told {
    /// Hears one event, and says that it is told.
    fn hear(&mut self, scene: &Scene, events: &mut Events) {
        match scene.next(events) {
            Event::Denied(_) => self.lines += 1,
            Event::Folded(folded) => {
                let unknown = folded.iter().filter(|folded| folded.like.is_none());
                self.unknown += count(unknown);
                self.folded += count(folded.iter());
                events.told_folded(folded.iter()).unwrap();
            }
            Event::Lost(count) => {
                self.lost += count;
                events.told_lost(count).unwrap();
            }
        }
    }

    /// Hears all that were refused, and no more.
    fn all(mut self, scene: &Scene, events: &mut Events) -> Self {
        let all = refused(scene);
        while self.lines + self.folded + self.lost < all {
            self.hear(scene, events);
        }
        assert_eq!(self.lines + self.folded + self.lost, all, "{self:?}");
        self
    }
}

fn count<'a>(folded: impl Iterator<Item = &'a Folded>) -> u64 {
    folded.map(|folded| folded.count).sum()
}

/// All that the kernel has refused.
fn refused(scene: &Scene) -> u64 {
    let refusals = scene.capture.refusals().unwrap();
    refusals.iter().map(|(_, count)| count).sum()
}

/// The stream, which has looked once at what there was before.
fn watched(scene: &Scene) -> (Events, Told) {
    let mut events = scene.events();
    scene.run("outcome(tcp().connect, (sys.argv[1], 81))", &["10.77.0.8"]);
    let mut told = Told::default();
    while told.lines == 0 {
        told.hear(scene, &mut events);
    }
    (events, told)
}

/// The next sum of what was folded, which is not said to be told.
fn folded(scene: &Scene, events: &mut Events, told: &mut Told) -> Vec<Folded> {
    loop {
        match scene.next(events) {
            Event::Denied(_) => told.lines += 1,
            Event::Folded(folded) => return folded,
            Event::Lost(count) => panic!("{count} were lost"),
        }
    }
}

#[test]
fn a_flood_that_ends_is_told_to_the_last() {
    let scene = Scene::new();
    let (mut events, mut told) = watched(&scene);
    scene.run(FLOOD, &[ONE, "one", "500"]);
    let first = folded(&scene, &mut events, &mut told);
    let at: SocketAddr = format!("{ONE}:80").parse().unwrap();
    let like = |folded: &&Folded| {
        folded.like.as_ref().is_some_and(|like| {
            (like.scope, like.reason, like.destination)
                == (scene.scope.id, DenyReason::NoRule, Some(at))
        })
    };
    let of_flood = |folded: &[Folded]| count(folded.iter().filter(like));
    assert!(of_flood(&first) > 400, "{first:?}");
    // What nobody could write comes again.
    let again = folded(&scene, &mut events, &mut told);
    assert!(of_flood(&again) >= of_flood(&first), "{again:?}");
    let told = told.all(&scene, &mut events);
    assert_eq!((told.unknown, told.lost), (0, 0));
    assert!(told.lines < 60, "{told:?}");
    assert_eq!(scene.capture.refused(DenyReason::NoRule).unwrap(), 501);
}

#[test]
fn what_was_folded_and_not_told_is_told_by_the_next_daemon() {
    let mut scene = Scene::new();
    let (mut events, mut told) = watched(&scene);
    scene.run(FLOOD, &[ONE, "one", "300"]);
    let folded = count(folded(&scene, &mut events, &mut told).iter());
    drop(events);
    scene.restart();
    let mut events = scene.events();
    let told = told.all(&scene, &mut events);
    assert_eq!((told.folded, told.unknown), (folded, folded));
}

#[test]
fn what_was_folded_of_a_kind_that_the_kernel_forgot_is_told_in_sum() {
    let scene = Scene::new();
    let (mut events, told) = watched(&scene);
    // Nobody looks meanwhile.
    scene.run(FLOOD, &[ONE, "one", "500"]);
    let buckets = Map::LruHashMap(scene.pinned("BUCKETS"));
    let mut buckets: BpfMap<_, BucketKey, Bucket> = buckets.try_into().unwrap();
    // As the table does itself, where more kinds come than it has room for.
    let rows: Vec<_> = buckets.iter().map(Result::unwrap).collect();
    let folds = rows.iter().filter(|(_, bucket)| bucket.folded > 0);
    let folds: Vec<&BucketKey> = folds.map(|(key, _)| key).collect();
    assert!(!folds.is_empty(), "nothing was folded");
    for key in folds {
        buckets.remove(key).unwrap();
    }
    let told = told.all(&scene, &mut events);
    assert!(
        told.unknown > 400 && told.unknown == told.folded,
        "{told:?}"
    );
}

#[test]
fn refusals_that_do_not_fit_into_the_ring_are_told_as_a_gap() {
    const SCOPES: u64 = 48;
    let mut scene = Scene::new();
    // Nobody reads yet. Each destination is a kind of its own, and no scope reaches its own bound, so
    // that none is folded.
    for index in 0..SCOPES {
        let path = scene.cgroup(&unique("flood"));
        scene.capture.tag(&path, "tester").unwrap();
        let network = format!("10.{index}");
        let client = scene.client_at(&path, FLOOD, &[&network, "each", "100"]);
        client.finish();
    }
    assert_eq!(
        scene.capture.refused(DenyReason::NoRule).unwrap(),
        SCOPES * 100
    );
    let lost = scene.capture.lost().unwrap();
    assert!(lost > 0, "the ring was larger than thought");
    let mut told = Told::default();
    let mut events = scene.events();
    // A line that could not be written is tried again, also by the next daemon.
    for _ in 0..2 {
        let gap = loop {
            match scene.next(&mut events) {
                Event::Denied(_) => told.lines += 1,
                Event::Folded(folded) => panic!("{folded:?}"),
                Event::Lost(count) => break count,
            }
        };
        assert_eq!(gap, lost);
    }
    drop(events);
    scene.restart();
    let mut events = scene.events();
    let told = told.all(&scene, &mut events);
    assert_eq!((told.lost, told.folded), (lost, 0));
    drop(events);
    scene.restart();
    let mut events = scene.events();
    scene.run("outcome(tcp().connect, ('10.77.0.9', 80))", &[]);
    let mut after = Told::default();
    while after.lines == 0 {
        after.hear(&scene, &mut events);
    }
    assert_eq!(after.lost, 0, "it was told once more");
}
