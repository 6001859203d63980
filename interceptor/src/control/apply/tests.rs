//! What the file says of destinations is what the kernel is told.

use std::path::Path;

use super::*;

#[tokio::test]
async fn direct_rules_are_rows_of_those_whom_they_name_and_say_whether_they_need_the_daemon() {
    let text = "version: 1
targets:
  one:
    addresses: ['192.0.2.1:5432']
    postgres: { user: u, databases: [d] }
direct:
  - { network: 10.0.0.0/8 }
  - { network: 10.1.0.0/16, port: 443, needs_daemon: true }
  - { network: '2001:db8::/32', port: 80, agents: [a, c] }
resolvers:
  - { address: '192.0.2.53:53' }
";
    let config = config::parse(text, Path::new("/c.yaml")).unwrap();
    let targets = Targets::resolve(&config, &Targets::default()).await;
    let scope = |id, agent: &str| Scope {
        id,
        path: format!("/{agent}-{id}"),
        agent: agent.to_owned(),
    };
    let scopes = [scope(7, "a"), scope(8, "b"), scope(9, "a")];
    let row = |scope, network: &str, port, verdict| Rule {
        scope,
        network: network.parse().unwrap(),
        port,
        verdict,
    };
    let direct = |needs_daemon| Verdict::Direct { needs_daemon };
    let sites = |scope| row(Some(scope), "2001:db8::/32", Some(80), direct(false));
    let expected = [
        row(None, "192.0.2.1/32", Some(5432), Verdict::Redirect),
        row(None, "10.0.0.0/8", None, direct(false)),
        row(None, "10.1.0.0/16", Some(443), direct(true)),
        // Nobody is tagged `c`, and no scope of `b` may go there.
        sites(7),
        sites(9),
        row(None, "192.0.2.53/32", Some(53), Verdict::Resolver),
    ];
    assert_eq!(rows(&config, &targets, &scopes), expected);
}
