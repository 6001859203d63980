//! sqlsmith through the engine: what the server answers it is searched on its way.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::search::Search;
use crate::bridge::dial;

/// Longer than any form of a value.
const KEPT: usize = 128;

/// What came through a tap.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) sessions: u64,
    pub(super) bytes: u64,
    pub(super) leaks: Vec<String>,
}

/// Where sqlsmith is.
pub(super) fn program() -> Option<&'static str> {
    ["/usr/bin/sqlsmith", "/usr/local/bin/sqlsmith"]
        .into_iter()
        .find(|path| std::path::Path::new(path).is_file())
}

/// Runs it for a while against a front; what it was told.
pub(super) async fn run(
    front: SocketAddr,
    database: &str,
    search: Arc<Search>,
    seconds: u64,
    seed: u64,
) -> Seen {
    let seen = Arc::<Mutex<Seen>>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let noted = Arc::clone(&seen);
    let tap = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            noted.lock().unwrap().sessions += 1;
            tokio::spawn(through(
                socket,
                front,
                Arc::clone(&search),
                Arc::clone(&noted),
            ));
        }
    });
    let target = format!(
        "--target=host=127.0.0.1 port={port} user=trusted dbname={database} sslmode=disable"
    );
    let limit = seconds.to_string();
    // It reads the seed as a signed number.
    let seed = format!("--seed={}", seed & 0x7fff_ffff);
    let status = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new("timeout");
        command.args(["-s", "TERM", &limit, program().unwrap(), &seed, &target]);
        crate::server::bare(&mut command);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap()
    });
    let status = status.await.unwrap();
    tap.abort();
    // 124: it went on to its end.
    assert_eq!(status.code(), Some(124), "sqlsmith");
    std::mem::take(&mut *seen.lock().unwrap())
}

async fn through(
    client: TcpStream,
    front: SocketAddr,
    search: Arc<Search>,
    seen: Arc<Mutex<Seen>>,
) {
    let server = dial(front).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asks = async {
        drop(tokio::io::copy(&mut from_client, &mut to_server).await);
        drop(to_server.shutdown().await);
    };
    let told = async {
        let mut window = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from_server.read(&mut buffer).await
            && count > 0
        {
            window.extend_from_slice(&buffer[..count]);
            let leak = search.find(&window);
            window.drain(..window.len().saturating_sub(KEPT));
            {
                let mut seen = seen.lock().unwrap();
                seen.bytes += u64::try_from(count).unwrap();
                if seen.leaks.len() < 20 {
                    seen.leaks.extend(leak);
                }
            }
            if to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(asks, told);
}
