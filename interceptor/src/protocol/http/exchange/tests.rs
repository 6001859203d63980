//! What is made of a request before it goes on.

use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Frame;

use super::forward::relative;
use super::lane::lane;
use super::*;
use crate::session::meter::{Meters, Room};

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let builder = Request::builder().method(method).uri(uri);
    let builder = headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    builder.body(()).unwrap().into_parts().0
}

#[test]
fn a_host_that_stands_in_the_line_alone_goes_on() {
    let mut named = parts("GET", "http://tenant-a.internal:8080/x?y=1", &[]);
    relative(&mut named);
    assert_eq!(named.uri, "/x?y=1");
    assert_eq!(named.headers[header::HOST], "tenant-a.internal:8080");
    let mut both = parts("GET", "http://a.internal/", &[("host", "A.internal")]);
    relative(&mut both);
    assert_eq!(both.headers[header::HOST], "A.internal");
    assert_eq!(both.headers.len(), 1);
}

#[test]
fn people_are_shown_which_host_a_request_is_for() {
    let shown = |host: &str| {
        let parts = parts("POST", "/deploy", &[("host", host), ("x-mode", "fast")]);
        let http = crate::policy::HttpFacts {
            host: host.to_owned(),
            ..Default::default()
        };
        let facts = Facts {
            actions: Default::default(),
            http,
            wrong: None,
            cluster: None,
            around: None,
        };
        shows(&parts, &facts, &Bytes::new()).under
    };
    assert_eq!(
        shown("staging.internal"),
        ["host: staging.internal", "x-mode: fast"]
    );
    assert_ne!(shown("staging.internal"), shown("prod.internal"));
}

#[tokio::test]
async fn bodies_that_are_held_are_bounded_together() {
    const MOST: usize = 16 << 20;
    const BOUNDS: (usize, Duration) = (MOST, held::COMES);
    let piece = || Full::new(Bytes::from(vec![b'x'; MOST]));
    let meters = Meters::default();
    let mut held = Vec::new();
    for agent in ["a", "b", "c", "d"] {
        for _ in 0..4 {
            let room = meters.of(agent).room();
            held.push(held::collect(piece(), BOUNDS, room).await.unwrap());
        }
        let more = held::collect(piece(), BOUNDS, meters.of(agent).room()).await;
        assert_eq!(more, Err(Wrong::Crowded), "{agent}");
    }
    let more = held::collect(piece(), BOUNDS, meters.of("e").room()).await;
    assert_eq!(more, Err(Wrong::Crowded), "for all agents together");
    // A part of one keeps the room of the whole.
    let part = held.pop().unwrap().slice(..1);
    drop(held.pop());
    assert!(
        held::collect(piece(), BOUNDS, meters.of("d").room())
            .await
            .is_ok()
    );
    drop(part);
    drop(held);
    assert!(
        held::collect(piece(), BOUNDS, meters.of("e").room())
            .await
            .is_ok()
    );
    let longer = held::collect(piece(), (MOST - 1, held::COMES), Room::default()).await;
    assert!(matches!(longer, Err(Wrong::Unreadable(_))));
    let empty = held::collect(Empty::new(), BOUNDS, Room::default()).await;
    assert_eq!(empty, Ok(Bytes::new()));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let meter = Meters::default().of("a");
    let (to, body) = lane();
    let all_but_one = Bytes::from(vec![b'x'; (1 << 20) - 1]);
    assert!(to.send(Frame::data(all_but_one)).await);
    let bounds = (1 << 20, Duration::ZERO);
    let read = held::collect(body, bounds, meter.room()).await;
    assert_eq!(read, Err(Wrong::Late));
    let last = Frame::data(Bytes::from_static(b"x"));
    assert!(!to.send(last).await, "nobody waits");
    let mut room = meter.room();
    assert!(room.grow(64 << 20).is_ok(), "its room is given back");
}
