//! What the kernel refuses half-way is taken back: the rules before hold, and a cgroup is not tagged.

use std::net::SocketAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData};
use interceptor::capture::{Error, Verdict};
use interceptor_ebpf::MAX_RULES;
use interceptor_ebpf::flow::Endpoint;
use interceptor_ebpf::rule::{EXACT_BITS, RuleKey, State};
use interceptor_ebpf::scope::Scope as Row;

use crate::foreign::{ALONE, Foreign, PERMIT};
use crate::scene::{Scene, is_idle, rule, server, unique};

/// Rows that are left free: fewer than the new rules have.
const LEFT: u16 = 3;

fn rules(scene: &Scene) -> LpmTrie<MapData, RuleKey, u32> {
    Map::LpmTrie(scene.pinned("RULES")).try_into().unwrap()
}

fn state(scene: &Scene) -> State {
    let state: Array<_, State> = Map::Array(scene.pinned("STATE")).try_into().unwrap();
    state.get(&0, 0).unwrap()
}

fn is_protected(scene: &Scene, at: SocketAddr) -> bool {
    let SocketAddr::V4(at) = at else {
        panic!("{at} is no IPv4 address");
    };
    let protected: HashMap<_, Endpoint, u32> =
        Map::HashMap(scene.pinned("PROTECTED")).try_into().unwrap();
    let at = Endpoint::v4(u32::from(*at.ip()).to_be(), at.port());
    protected.get(&at, 0).is_ok()
}

/// Rows of the set that holds, for a scope that there is not: until the map has room for no more than `LEFT`.
fn fill(scene: &Scene) -> Vec<Key<RuleKey>> {
    let mut rules = rules(scene);
    let generation = state(scene).generation;
    let has = u32::try_from(rules.keys().count()).unwrap();
    let row = |number: u32| RuleKey {
        generation,
        scope_low: u32::MAX,
        scope_high: u32::MAX,
        port: 0,
        address: [number; 4],
    };
    let keys = (0..MAX_RULES - has - u32::from(LEFT))
        .map(|number| Key::new(EXACT_BITS + 128, row(number)));
    keys.inspect(|key| rules.insert(key, 0, 0).unwrap())
        .collect()
}

#[test]
fn rules_that_do_not_fit_leave_those_before_in_force() {
    let scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    let (free, new) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let before = state(&scene).generation;
    let filling = fill(&scene);
    let more = (0..LEFT).map(|number| SocketAddr::from(([10, 77, 9, 9], 5000 + number)));
    let wanted: Vec<_> = [new]
        .into_iter()
        .chain(more)
        .map(|to| rule(to, Verdict::Redirect))
        .collect();
    let refused = scene.capture.set_rules(&wanted).unwrap_err();
    let told = refused.to_string();
    for word in ["RULES", "No space left", "restart the daemon"] {
        assert!(told.contains(word), "{told}");
    }

    assert_eq!(state(&scene).generation, before, "the set that holds");
    let is_old = |key: &Key<RuleKey>| {
        let RuleKey { generation, .. } = key.data();
        generation == before
    };
    let kept: Vec<_> = rules(&scene).keys().map(Result::unwrap).collect();
    assert!(kept.iter().all(is_old), "rows of the new set are left");
    assert!(is_protected(&scene, at) && !is_protected(&scene, new));
    let dial = "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))";
    let client = scene.client(dial, &[&at.port().to_string()]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
    assert_eq!(scene.run(dial, &[&new.port().to_string()]), "EPERM");
    assert!(is_idle(&target) && is_idle(&free));

    let mut rules = rules(&scene);
    for key in &filling {
        rules.remove(key).unwrap();
    }
    scene.capture.set_rules(&wanted).unwrap();
    assert!(is_protected(&scene, new) && !is_protected(&scene, at));
    let client = scene.client(dial, &[&new.port().to_string()]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), new);
    assert_eq!(client.finish(), "ok");
}

#[test]
fn a_cgroup_that_is_hooked_half_is_let_go() {
    let mut scene = Scene::new();
    let (target, at) = server("127.0.0.1:0");
    scene.redirect(&[at]);
    let above = scene.cgroup(&unique("above"));
    let below = scene.cgroup(&format!("{above}/below"));
    let id = scene.capture.hierarchy().id(&below).unwrap();
    // The last hook but one: nine are attached by then.
    let directory = scene.capture.hierarchy().directory(&above);
    let alone = Foreign::connect4(&directory, &PERMIT, ALONE).unwrap();
    let refused = scene.capture.tag(&below, "second").unwrap_err();
    assert!(
        matches!(refused, Error::Attach { hook, .. } if hook == "connect4"),
        "{refused}"
    );
    let told = refused.to_string();
    assert!(told.contains("allows no others above it"), "{told}");

    let tagged = |scene: &Scene| {
        let scopes: HashMap<_, u64, Row> = Map::HashMap(scene.pinned("SCOPES")).try_into().unwrap();
        scopes.get(&id, 0).is_ok()
    };
    let pins = scene.layout().join(format!("scopes/{id}"));
    assert!(!tagged(&scene) && !pins.exists(), "half of it is left");
    assert_eq!(scene.capture.scopes().unwrap().len(), 1);
    let port = at.port().to_string();
    let script = "outcome(tcp().connect, ('127.0.0.1', int(sys.argv[1])))";
    let client = scene.client_at(&below, script, &[&port]);
    assert_eq!(client.finish(), "ok", "a program of the scope still runs");
    assert!(!is_idle(&target), "it was redirected");

    drop(alone);
    scene.capture.tag(&below, "second").unwrap();
    assert!(tagged(&scene));
    let client = scene.client_at(&below, script, &[&port]);
    assert_eq!(scene.accept().1.destination.0.inet().unwrap(), at);
    assert_eq!(client.finish(), "ok");
}
