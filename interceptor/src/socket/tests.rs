//! Dialling: options, and words for what fails.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::SockRef;

use super::{Error, From, dial};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_dialled_connection_has_its_options() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let stream = dial(at, From::Daemon, LONG).await.unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(
        socket.tcp_user_timeout().unwrap(),
        Some(super::USER_TIMEOUT)
    );
    assert_eq!(stream.peer_addr().unwrap(), at);
}

#[tokio::test]
async fn a_closed_port_is_told_with_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let refused = dial(at, From::Daemon, LONG).await.unwrap_err();
    assert!(matches!(refused, Error::Dial { ref address, .. } if **address == at.into()));
    assert!(refused.to_string().starts_with(&format!("dial {at}: ")));
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_given_up() {
    // The backlog of a listener that accepts nobody fills; the next SYN gets no answer.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let _first = dial(at, From::Daemon, LONG).await.unwrap();
    let short = Duration::from_millis(50);
    let unanswered = dial(at, From::Daemon, short).await.unwrap_err();
    assert!(matches!(unanswered, Error::Timeout { .. }), "{unanswered}");
}
