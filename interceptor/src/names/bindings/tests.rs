//! An answer binds a name before it is given, as long as it is known and a target's.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

const CONFIG: &str = "version: 1
targets:
  crm:
    addresses: ['crm.db.internal:5432', '*.replicas.internal:5433']
    postgres: { user: u, databases: [d] }
  shop:
    addresses: ['shop.db.internal:5432']
    postgres: { user: u, databases: [d] }
";

fn config(text: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(&path, text).unwrap();
    crate::config::load(Path::new(&path)).unwrap()
}

/// What the kernel has been told.
#[derive(Default)]
struct Table {
    rows: Mutex<BTreeSet<(u64, SocketAddr)>>,
    is_full: bool,
}

impl Kernel for Table {
    fn name(&self, scope: u64, addresses: &[SocketAddr]) -> Result<(), capture::Error> {
        if self.is_full {
            return Err(capture::Error::NoRecord);
        }
        let mut rows = self.rows.lock().unwrap();
        rows.extend(addresses.iter().map(|at| (scope, *at)));
        Ok(())
    }

    fn unname(&self, scope: u64, addresses: &[SocketAddr]) -> Result<(), capture::Error> {
        let mut rows = self.rows.lock().unwrap();
        rows.retain(|(of, at)| *of != scope || !addresses.contains(at));
        Ok(())
    }
}

impl Table {
    fn has(&self, scope: u64, at: &str) -> bool {
        let row = (scope, at.parse().unwrap());
        self.rows.lock().unwrap().contains(&row)
    }
}

fn told<'a>(name: &'a str, addresses: &'a [IpAddr], seconds: u64) -> Told<'a> {
    Told {
        scope: 1,
        name,
        addresses,
        ttl: Duration::from_secs(30),
        now: BootTime(seconds * 1_000_000_000),
    }
}

#[test]
fn an_answer_binds_the_name_for_its_scope_alone() {
    let (bindings, table, config) = (Bindings::default(), Table::default(), config(CONFIG));
    let one = [
        "10.0.0.1".parse().unwrap(),
        "::ffff:10.0.0.2".parse().unwrap(),
    ];
    bindings
        .bind(&table, &config, told("crm.db.internal", &one, 1))
        .unwrap();
    for at in ["10.0.0.1:5432", "10.0.0.2:5432"] {
        assert!(table.has(1, at), "{at}");
        let (target, name) = bindings.of(&config, 1, at.parse().unwrap()).unwrap();
        assert_eq!(
            (target.name.as_str(), name.as_str()),
            ("crm", "crm.db.internal")
        );
        assert!(bindings.of(&config, 2, at.parse().unwrap()).is_none());
    }
    assert!(
        bindings
            .of(&config, 1, "10.0.0.1:5433".parse().unwrap())
            .is_none()
    );
    // The name that was asked for last is meant, and under a domain each is its own.
    let same = ["10.0.0.1".parse().unwrap()];
    bindings
        .bind(&table, &config, told("shop.db.internal", &same, 2))
        .unwrap();
    let (target, _) = bindings
        .of(&config, 1, "10.0.0.1:5432".parse().unwrap())
        .unwrap();
    assert_eq!(target.name, "shop");
    bindings
        .bind(&table, &config, told("b.a.replicas.internal", &same, 2))
        .unwrap();
    let (target, name) = bindings
        .of(&config, 1, "10.0.0.1:5433".parse().unwrap())
        .unwrap();
    assert_eq!(
        (target.name.as_str(), name.as_str()),
        ("crm", "b.a.replicas.internal")
    );
    for no in [
        "replicas.internal",
        "evilreplicas.internal",
        "other.internal",
    ] {
        let ip = ["10.9.9.9".parse().unwrap()];
        bindings.bind(&table, &config, told(no, &ip, 2)).unwrap();
        assert!(!table.has(1, "10.9.9.9:5433"), "{no}");
    }
}

#[test]
fn an_answer_that_the_kernel_does_not_take_binds_nothing() {
    let table = Table {
        is_full: true,
        ..Table::default()
    };
    let (bindings, config) = (Bindings::default(), config(CONFIG));
    let ip = ["10.0.0.1".parse().unwrap()];
    let bound = bindings.bind(&table, &config, told("crm.db.internal", &ip, 1));
    assert!(bound.is_err());
    assert!(
        bindings
            .of(&config, 1, "10.0.0.1:5432".parse().unwrap())
            .is_none()
    );
}

#[test]
fn the_first_to_expire_makes_room() {
    let (bindings, table, config) = (Bindings::default(), Table::default(), config(CONFIG));
    let ip = |n: usize| {
        IpAddr::from([
            10,
            1,
            u8::try_from(n / 250).unwrap(),
            u8::try_from(n % 250).unwrap(),
        ])
    };
    for n in 0..MOST + 10 {
        let own = [ip(n)];
        bindings
            .bind(&table, &config, told("crm.db.internal", &own, n as u64))
            .unwrap();
    }
    assert_eq!(table.rows.lock().unwrap().len(), MOST);
    assert!(!table.has(1, "10.1.0.9:5432"));
    assert!(table.has(1, "10.1.0.10:5432"));
}

#[test]
fn what_is_known_no_more_is_taken_back() {
    let (bindings, table, config) = (Bindings::default(), Table::default(), config(CONFIG));
    let (one, two) = (["10.0.0.1".parse().unwrap()], ["10.0.0.2".parse().unwrap()]);
    bindings
        .bind(&table, &config, told("crm.db.internal", &one, 1))
        .unwrap();
    bindings
        .bind(&table, &config, told("shop.db.internal", &two, 1))
        .unwrap();
    let late = |seconds: u64| BootTime(seconds * 1_000_000_000);
    // Long after the answer has expired, a client that kept it is still known.
    bindings
        .sweep(&table, &config, |_| true, late(3600))
        .unwrap();
    assert!(table.has(1, "10.0.0.1:5432"));
    let less = self::config(&CONFIG.replace("shop.db.internal", "elsewhere.internal"));
    assert!(
        bindings
            .of(&less, 1, "10.0.0.2:5432".parse().unwrap())
            .is_none()
    );
    bindings.sweep(&table, &less, |_| true, late(3600)).unwrap();
    assert!(table.has(1, "10.0.0.1:5432") && !table.has(1, "10.0.0.2:5432"));
    bindings
        .sweep(&table, &less, |_| true, late(2 * 24 * 3600))
        .unwrap();
    assert!(table.rows.lock().unwrap().is_empty());
    bindings
        .bind(&table, &config, told("crm.db.internal", &one, 1))
        .unwrap();
    bindings.sweep(&table, &config, |_| false, late(2)).unwrap();
    assert!(table.rows.lock().unwrap().is_empty());
}
