//! What receivers get: everything, at least once, in the form that was asked for.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::audit::{Event, Log, Sink as _};
use crate::config::{OutputFormat, OutputTo, OutputWeb, SecretSource, Url};

mod events;

fn lost(count: u64) -> Event<'static> {
    Event::KernelLost { count }
}

/// What a receiver was sent: the head and the body of each request.
type Got = Arc<Mutex<Vec<(String, String)>>>;

/// A receiver of HTTP that answers with these in turn, the last again and again.
async fn receiver(answers: &'static [&'static str]) -> (String, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let got = Got::default();
    let seen = Arc::clone(&got);
    tokio::spawn(async move {
        let mut answers = answers.iter().peekable();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (head, body) = loop {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).await.unwrap();
                bytes.extend_from_slice(&piece[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.to_lowercase();
                let length = length.split("content-length: ").nth(1).unwrap();
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if body.len() >= length {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let answer = match answers.len() {
                0 | 1 => answers.peek().copied(),
                _ => answers.next(),
            };
            let (status, text) = answer.unwrap().split_once(' ').unwrap();
            let answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            seen.lock().unwrap().push((head, body));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, got)
}

/// A log, what reads it, and a file that holds a secret.
fn log(state: &Path) -> (Arc<Log>, From, SecretSource) {
    use std::os::unix::fs::PermissionsExt as _;
    let log = audit::tests::log(state);
    let from = From::below(state, &log);
    let secret = state.join("secret");
    std::fs::write(&secret, "shared").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    (log, from, SecretSource::File(secret))
}

fn web(url: &str) -> OutputWeb {
    OutputWeb {
        url: Url::read(url).unwrap(),
        ca: None,
        allow_http: true,
    }
}

fn output(to: OutputTo) -> Output {
    Output {
        events: Vec::new(),
        format: OutputFormat::Json,
        to,
    }
}

async fn lane(output: Output, from: &From) -> Lane {
    Lane::open("one", output, from.clone(), Arc::default())
        .await
        .unwrap()
}

/// The lines that a body has, as sequences.
fn seqs(body: &str) -> Vec<u64> {
    let seq = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["seq"]
            .as_u64()
            .unwrap()
    };
    body.lines().map(seq).collect()
}

#[tokio::test]
async fn a_webhook_gets_every_line_signed_and_again_until_it_takes_them() {
    let state = tempfile::tempdir().unwrap();
    let (log, from, secret) = log(state.path());
    let (url, got) = receiver(&["503 later", "200 ok"]).await;
    let to = OutputTo::Webhook {
        web: web(&url),
        secret,
    };
    let mut one = lane(output(to.clone()), &from).await;
    let begun = one.sent();
    let first = log.append(&lost(1)).unwrap();
    log.append(&lost(2)).unwrap();
    log.durable(Sequence(first.0 + 1)).await.unwrap();
    let refused = one.step().await.unwrap_err();
    assert!(refused.contains("answers 503"), "{refused}");
    assert_eq!(one.sent(), begun, "nothing counts as taken");
    // A daemon that starts again goes on where it was.
    let mut again = lane(output(to), &from).await;
    assert_eq!(again.sent(), begun);
    let mut taken = 0;
    while again.sent() < first.0 + 1 {
        taken += again.step().await.unwrap();
    }
    assert!(taken >= 2);
    let got = got.lock().unwrap();
    let sent: Vec<u64> = got[1..].iter().flat_map(|(_, body)| seqs(body)).collect();
    assert_eq!(sent, (begun + 1..=first.0 + 1).collect::<Vec<_>>());
    let (head, body) = &got[1];
    let header = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_lowercase().starts_with(name))
            .unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    let signature = header("x-interceptor-signature");
    let (time, mac) = signature
        .strip_prefix("t=")
        .unwrap()
        .split_once(",v1=")
        .unwrap();
    // Made here by another way: HMAC-SHA256 of RFC 2104 by its definition.
    let hash =
        |parts: &[&[u8]]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parts.concat());
    let pad = |with: u8| -> Vec<u8> {
        let mut key = b"shared".to_vec();
        key.resize(64, 0);
        key.iter().map(|byte| byte ^ with).collect()
    };
    let inner = hash(&[&pad(0x36), time.as_bytes(), b".", body.as_bytes()]);
    assert_eq!(
        mac,
        hex::encode(hash(&[&pad(0x5c), inner.as_ref()]).as_ref())
    );
    let last = seqs(body).last().copied().unwrap();
    assert_eq!(
        header("x-interceptor-lines"),
        format!("{}-{last}", begun + 1)
    );
}

#[tokio::test]
async fn a_collector_gets_records_and_what_it_rejects_is_not_taken() {
    let state = tempfile::tempdir().unwrap();
    let (log, from, secret) = log(state.path());
    let (url, got) = receiver(&[
        r#"200 {"partialSuccess":{"rejectedLogRecords":"1"}}"#,
        "200 {}",
    ])
    .await;
    let to = OutputTo::Otlp {
        web: web(&url),
        token: Some(secret),
    };
    let mut one = lane(output(to), &from).await;
    let begun = one.sent();
    let last = log.append(&lost(7)).unwrap();
    log.durable(last).await.unwrap();
    let refused = one.step().await.unwrap_err();
    assert!(refused.contains("rejects 1"), "{refused}");
    assert_eq!(one.sent(), begun);
    while one.sent() < last.0 {
        one.step().await.unwrap();
    }
    let got = got.lock().unwrap();
    let (head, body) = &got[1];
    assert!(
        head.to_lowercase().contains("authorization: bearer shared"),
        "{head}"
    );
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body["resourceLogs"][0]["resource"]["attributes"][0]["value"]["stringValue"],
        "interceptor"
    );
    let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        .as_array()
        .unwrap();
    let record = records.last().unwrap();
    let line: Value =
        serde_json::from_str(record["body"]["stringValue"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&line["event"], &record["severityText"]),
        (&"kernel.lost".into(), &"ERROR".into())
    );
    let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
    assert_eq!(record["timeUnixNano"], time.as_nanosecond().to_string());
}

#[tokio::test]
async fn a_file_gets_what_it_wants_in_the_form_it_wants() {
    let state = tempfile::tempdir().unwrap();
    let (log, from, _) = log(state.path());
    let file = state.path().join("out.jsonl");
    let mut wanted = output(OutputTo::File(file.clone()));
    wanted.events = vec!["kernel".to_owned()];
    wanted.format = OutputFormat::Ocsf;
    let mut one = lane(wanted, &from).await;
    for count in 1..=3 {
        log.append(&lost(count)).unwrap();
    }
    let denied = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
    let last = log.append(&Event::KernelDenied {
        agent: Some("a"),
        denied: &denied,
        principal: None,
        unproven: None,
        cause: None,
    });
    let last = last.unwrap();
    log.durable(last).await.unwrap();
    while one.sent() < last.0 {
        one.step().await.unwrap();
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let codes: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["metadata"]["event_code"].clone())
        .collect();
    assert_eq!(
        codes,
        ["kernel.lost", "kernel.lost", "kernel.lost", "kernel.denied"]
    );
}

#[tokio::test]
async fn an_output_that_cannot_be_reached_is_tried_again_later_each_time_and_seen() {
    let state = tempfile::tempdir().unwrap();
    let (log, from, secret) = log(state.path());
    let (url, got) = receiver(&["500 no", "500 no", "200 ok"]).await;
    let (board, stop) = (Board::default(), CancellationToken::new());
    let to = OutputTo::Webhook {
        web: web(&url),
        secret,
    };
    let run = run(
        ("one".to_owned(), output(to)),
        from,
        Arc::default(),
        (board.clone(), stop.clone()),
    );
    let running = tokio::spawn(run);
    while board.all().is_empty() {
        tokio::task::yield_now().await;
    }
    let last = log.append(&lost(1)).unwrap();
    log.durable(last).await.unwrap();
    let mut failed = None;
    loop {
        let standing = board.all()["one"].clone();
        if standing.failing.is_some() {
            failed = standing.failing;
        } else if standing.sent >= last.0 {
            assert_eq!(standing.failures, 2);
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(failed.unwrap().contains("answers 500"));
    assert!(got.lock().unwrap().len() >= 3);
    stop.cancel();
    running.await.unwrap();
    let mut patience = Patience::default();
    let pauses: Vec<_> = (0..10).map(|_| patience.next().as_millis()).collect();
    assert_eq!(pauses[..3], [500, 1000, 2000]);
    assert_eq!(pauses[9], 60_000);
}

#[tokio::test]
async fn syslog_is_framed_by_length_and_goes_over_tls() {
    let state = tempfile::tempdir().unwrap();
    let (log, from, _) = log(state.path());
    let authority = crate::tls::Authority::open(state.path(), None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let dialled = crate::tls::Dialled::from(address.ip());
        let mut stream = authority.accept(stream, &dialled).await.unwrap().stream;
        let mut text = String::new();
        while !text.contains("\"count\":4") {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        text
    });
    let to = OutputTo::Syslog {
        address: crate::config::Address {
            host: crate::config::Host::Ip(address.ip()),
            port: address.port(),
        },
        ca: Some(state.path().join("ca.pem")),
    };
    let mut one = lane(output(to), &from).await;
    for count in [3, 4] {
        let last = log.append(&lost(count)).unwrap();
        log.durable(last).await.unwrap();
        while one.sent() < last.0 {
            one.step().await.unwrap();
        }
    }
    let text = received.await.unwrap();
    let mut rest = text.as_str();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let (length, more) = rest.split_once(' ').unwrap();
        let (message, behind) = more.split_at(length.parse().unwrap());
        let (head, line) = message.split_once('\u{feff}').unwrap();
        let fields: Vec<&str> = head.split(' ').collect();
        assert_eq!(fields[3], "interceptor");
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(fields[1], line["time"]);
        assert_eq!(fields[5], line["event"]);
        // Facility 13, and how grave it is (RFC 5424 section 6.2.1).
        let grave = if line["event"] == "kernel.lost" { 3 } else { 6 };
        assert_eq!(fields[0], format!("<{}>1", 13 * 8 + grave));
        events.push(line["count"].clone());
        rest = behind;
    }
    assert!(events.ends_with(&[3.into(), 4.into()]), "{events:?}");
}
