//! Connections that are dialled anew.

use std::path::Path;
use std::sync::Mutex;

use tokio::task::JoinSet;

use super::*;
use crate::config;
use crate::tls::testing::pair;

/// Servers that accept, and say nothing.
#[derive(Default)]
struct Silent(Mutex<Vec<TcpStream>>);

impl Silent {
    fn dialled(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Way for Silent {
    async fn dial(&self, _to: SocketAddr) -> io::Result<TcpStream> {
        let (ours, theirs) = pair().await;
        self.0.lock().unwrap().push(theirs);
        Ok(ours)
    }
}

fn target() -> Arc<Target> {
    let text = "version: 1\ntargets:\n  api:\n    addresses: [\"127.0.0.1:80\"]\n    \
                tls: { mode: disable }\n    http: {}\n";
    let config = config::parse(text, Path::new("/c.yaml")).unwrap();
    Arc::clone(&config.targets["api"])
}

#[tokio::test]
async fn many_requests_that_come_back_from_a_connection_dial_one() {
    let target = target();
    let tls = Arc::new(tls::Upstream::new(&target.tls, None).unwrap());
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let places = Arc::new([(Host::Ip(address.ip()), address)]);
    let way = Arc::new(Silent::default());
    let reach = Reach::new(target, tls, places, None);
    let reach = reach.begin(&*way, &[Spoken::Two]).await;
    let reach = Arc::new(reach.map_err(|(refusal, _)| refusal).unwrap());
    let gone = reach.sender(&*way, None).await.ok().unwrap().life;
    assert_eq!(way.dialled(), 1);
    gone.end();
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let (reach, way, gone) = (Arc::clone(&reach), Arc::clone(&way), Arc::clone(&gone));
        asking.spawn(async move { reach.sender(&*way, Some(&gone)).await.is_ok() });
    }
    assert!(asking.join_all().await.into_iter().all(|is_ok| is_ok));
    assert_eq!(way.dialled(), 2);
}
