//! Names: what an agent may ask for, what it is told, and where that leads.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use support::agent::Dsn;
use support::daemon::{Settings, Target};
use support::netns::Netns;
use support::{Agent, DEADLINE, Postgres, place};

use crate::lab::{Lab, has, lacks, refused, text};

/// A resolver of a few names, which keeps what it was asked for.
pub(crate) struct Resolver {
    pub(crate) at: SocketAddr,
    names: Arc<Mutex<BTreeMap<&'static str, [u8; 4]>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Resolver {
    /// Serves until the process of the tests ends.
    pub(crate) fn start(at: SocketAddr, names: &[(&'static str, [u8; 4])]) -> Result<Self> {
        let resolver = Self {
            at,
            names: Arc::new(Mutex::new(names.iter().copied().collect())),
            asked: Arc::default(),
        };
        let socket = UdpSocket::bind(at).context("bind a resolver")?;
        let listener = TcpListener::bind(at).context("bind a resolver")?;
        let (names, asked) = (Arc::clone(&resolver.names), Arc::clone(&resolver.asked));
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let query = query.get(..length).unwrap_or_default();
                let answer = answer(query, &names, &asked, false);
                drop(answer.map(|answer| socket.send_to(&answer, from)));
            }
        });
        let (names, asked) = (Arc::clone(&resolver.names), Arc::clone(&resolver.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut length = [0; 2];
                let read = stream.read_exact(&mut length);
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                if read.and_then(|()| stream.read_exact(&mut query)).is_err() {
                    continue;
                }
                let Some(answer) = answer(&query, &names, &asked, true) else {
                    continue;
                };
                let length = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
                drop(stream.write_all(&[&length[..], &answer].concat()));
            }
        });
        Ok(resolver)
    }

    /// What an agent hears of its questions.
    pub(crate) fn asked_by(&self, agent: &Agent, words: &[&str]) -> Result<String> {
        let python = place::python()?;
        let (ip, port) = (self.at.ip().to_string(), self.at.port().to_string());
        let mut arguments = vec!["-c", ASK, &ip, &port];
        arguments.extend(words);
        agent.run(&python.to_string_lossy(), &arguments)?.ok()
    }

    fn moves(&self, name: &'static str, to: [u8; 4]) {
        held(&self.names).insert(name, to);
    }

    fn asked(&self) -> Vec<String> {
        held(&self.asked).clone()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to one question: its header and question again, and an address where the name has one. A
/// name that begins with `long` is answered by TCP alone.
fn answer(
    query: &[u8],
    names: &Mutex<BTreeMap<&'static str, [u8; 4]>>,
    asked: &Mutex<Vec<String>>,
    by_tcp: bool,
) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while *query.get(at)? != 0 {
        let end = at + 1 + usize::from(*query.get(at)?);
        labels.push(String::from_utf8_lossy(query.get(at + 1..end)?).to_lowercase());
        at = end;
    }
    let name = labels.join(".");
    let question = query.get(12..at + 5)?;
    let qtype = *query.get(at + 2)?;
    held(asked).push(name.clone());
    let cut = name.starts_with("long") && !by_tcp;
    let ip = held(names).get(name.as_str()).copied();
    let ip = ip.filter(|_| qtype == 1 && !cut);
    let flags = if cut { 0x83 } else { 0x81 };
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([flags, 0x80, 0, 1, 0, u8::from(ip.is_some()), 0, 0, 0, 0]);
    answer.extend(question);
    if let Some(ip) = ip {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
        answer.extend(ip);
    }
    Some(answer)
}

/// Asks for each of its arguments, `TYPE:name` or `tcp:TYPE:name`, and prints code and addresses.
const ASK: &str = r#"
import socket, struct, sys
at = (sys.argv[1], int(sys.argv[2]))
types = {"A": 1, "TXT": 16, "AAAA": 28}
for word in sys.argv[3:]:
    *tcp, kind, name = word.split(":")
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", types[kind], 1)
    try:
        if tcp:
            s = socket.create_connection(at, 20)
            s.settimeout(20)
            s.sendall(struct.pack("!H", len(query)) + query)
            answer = s.makefile("rb").read(struct.unpack("!H", s.makefile("rb", 0).read(2))[0])
        else:
            s = socket.socket(type=socket.SOCK_DGRAM)
            s.settimeout(20)
            s.sendto(query, at)
            answer, sender = s.recvfrom(4096)
            assert sender == at, sender
        assert answer[:2] == query[:2]
        count = struct.unpack("!H", answer[6:8])[0]
        ips, rest = [], answer[12 + len(labels) + 5:]
        for _ in range(count):
            length = struct.unpack("!H", rest[10:12])[0]
            ips.append(socket.inet_ntoa(rest[12:16]) if length == 4 else rest[12:12 + length].hex())
            rest = rest[12 + length:]
        print(word, "code", answer[3] & 15, *ips, flush=True)
    except OSError as error:
        print(word, type(error).__name__, error.errno, flush=True)
"#;

/// What the agent of a lab hears of its questions.
fn ask(lab: &Lab, resolver: &Resolver, words: &[&str]) -> Result<String> {
    resolver.asked_by(&lab.agent(), words)
}

fn lab(resolver: &Resolver, more: &str) -> Result<Lab> {
    lab_with(resolver, more, |_| {})
}

fn lab_with(resolver: &Resolver, more: &str, change: impl FnOnce(&mut Settings)) -> Result<Lab> {
    let server = Postgres::start()?;
    let port = server.address().port();
    Lab::over(server, |settings| {
        let at = resolver.at;
        settings.more = format!("resolvers: [{{ address: '{at}' }}]\n{more}");
        // The daemon's own look-up of this name is the host's file, whatever the resolver says.
        for target in &mut settings.targets {
            target.addresses.push(format!("localhost:{port}"));
        }
        settings.policies.push((
            "public.cedar".to_owned(),
            r#"@id("public") permit (principal is Agent, action == Action::"Resolve", resource in Name::"public.example");"#
                .to_owned(),
        ));
        change(settings);
    })
}

const NAMES: [(&str, [u8; 4]); 5] = [
    ("localhost", [198, 51, 100, 7]),
    ("www.public.example", [93, 184, 216, 34]),
    ("evil.public.example", [10, 0, 0, 5]),
    ("long.public.example", [93, 184, 216, 35]),
    ("secret.example", [93, 184, 216, 36]),
];

#[test]
fn names_are_judged_before_anybody_is_asked_and_answers_before_they_are_given() -> Result<()> {
    let resolver = Resolver::start(support::port::free()?, &NAMES)?;
    let lab = lab(&resolver, "")?;
    let words = [
        "A:localhost",
        "A:www.public.example",
        "tcp:A:www.public.example",
        "A:long.public.example",
        "A:secret.example",
        "tcp:A:secret.example",
        "TXT:www.public.example",
        "A:evil.public.example",
        "A:none.public.example",
    ];
    let heard = ask(&lab, &resolver, &words)?;
    let expected = [
        "A:localhost code 0 198.51.100.7",
        "A:www.public.example code 0 93.184.216.34",
        "tcp:A:www.public.example code 0 93.184.216.34",
        "A:long.public.example code 0 93.184.216.35",
        "A:secret.example code 5",
        "tcp:A:secret.example code 5",
        "TXT:www.public.example code 5",
        "A:evil.public.example code 5",
        "A:none.public.example code 0",
    ];
    ensure!(heard.trim() == expected.join("\n"), "{heard}");
    lacks(&format!("{:?}", resolver.asked()), &["secret"])?;
    let log = lab.daemon.audit();
    let of = |event: &str, name: &str| {
        log.wait_for(event, DEADLINE, |line| {
            line.pointer("/name").is_some_and(|of| of == name)
        })
    };
    let line = of("name.resolved", "www.public.example")?;
    ensure!(text(&line, "/rules/0")? == "public", "{line}");
    ensure!(text(&line, "/addresses/0")? == "93.184.216.34", "{line}");
    has(
        text(&line, "/principal/process/executable/path")?,
        &["python"],
    )?;
    let line = of("name.refused", "secret.example")?;
    ensure!(text(&line, "/refusal/kind")? == "not_permitted", "{line}");
    let line = of("name.refused", "evil.public.example")?;
    ensure!(text(&line, "/cause")? == "10.0.0.5", "{line}");
    Ok(())
}

#[test]
fn data_that_is_written_into_names_does_not_come_to_who_answers_for_their_domain() -> Result<()> {
    let resolver = Resolver::start(support::port::free()?, &NAMES)?;
    let lab = lab(&resolver, "names: { queries_per_second: 1000 }\n")?;
    // A secret in base32, as tunnels write it; and one by many short names.
    let secret = "mzxw6ytboi4tcnzxgq2dsnjqgu3tqmbu";
    let more = "k7w2qh5vxr3dcj6tpzan4sgfbe7ylomu";
    let long: Vec<String> = (0..3).map(|n| format!("A:{secret}{more}{n}")).collect();
    let parts = long
        .iter()
        .map(|word| word.replace(more, &format!(".{more}")));
    let parts = parts.map(|word| format!("{word}.public.example"));
    let short = (0..320).map(|n| format!("A:w{n}.public.example"));
    let texts = (0..3).map(|n| format!("TXT:t{n}.public.example"));
    let words: Vec<String> = parts.chain(texts).chain(short).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let heard = ask(&lab, &resolver, &words)?;
    has(
        &heard,
        &["A:w0.public.example code 0", "A:w319.public.example code 5"],
    )?;
    let asked = resolver.asked();
    lacks(&asked.join(" "), &[secret, more, "t0", "t1", "t2"])?;
    let different: std::collections::BTreeSet<&String> = asked.iter().collect();
    ensure!(different.len() <= 256, "{} names came out", different.len());
    let refused = lab.daemon.audit().events("name.refused")?;
    has(&format!("{refused:?}"), &[secret])
}

#[test]
fn a_target_is_found_where_its_scope_was_told_and_dialled_by_its_name() -> Result<()> {
    let resolver = Resolver::start(support::port::free()?, &NAMES)?;
    let mut lab = lab(&resolver, "")?;
    let port = lab.server.address().port();
    let dsn = |ip: &str| Dsn {
        host: ip.to_owned(),
        ..Dsn::of(([127, 0, 0, 1], port).into(), "anybody", "shop")
    };
    let statement = ["select name from customers where id = 1"];
    let before = refused(lab.agent().psql(&dsn("198.51.100.7"), &statement)?)?;
    has(&before, &["not permitted"])?;
    ask(&lab, &resolver, &["A:localhost"])?;
    has(
        &lab.agent().psql(&dsn("198.51.100.7"), &statement)?.ok()?,
        &["Ada"],
    )?;
    // The name moves: who kept the old answer is still known.
    resolver.moves("localhost", [198, 51, 100, 8]);
    ask(&lab, &resolver, &["A:localhost"])?;
    for ip in ["198.51.100.7", "198.51.100.8"] {
        has(&lab.agent().psql(&dsn(ip), &statement)?.ok()?, &["Ada"])?;
    }
    refused(lab.agent().psql(&dsn("198.51.100.9"), &statement)?)?;
    lab.daemon.kill();
    let asked = resolver.asked().len();
    let heard = ask(&lab, &resolver, &["A:localhost", "tcp:A:localhost"])?;
    has(
        &heard,
        &[
            "A:localhost ConnectionRefusedError",
            "tcp:A:localhost ConnectionRefusedError",
        ],
    )?;
    ensure!(
        resolver.asked().len() == asked,
        "a question left without a daemon"
    );
    Ok(())
}

const BELOW: [(&str, [u8; 4]); 6] = [
    ("here.wild.example", [127, 0, 0, 1]),
    ("link.wild.example", [169, 254, 169, 254]),
    ("crm.wild.example", [10, 77, 0, 9]),
    ("far.wild.example", [10, 77, 0, 7]),
    ("own.wild.example", [127, 0, 0, 1]),
    ("box.lab.wild.example", [127, 0, 0, 1]),
];

#[test]
fn names_below_a_domain_lead_neither_here_nor_to_another_target() -> Result<()> {
    let resolver = Resolver::start(support::port::free()?, &BELOW)?;
    let lab = lab_with(
        &resolver,
        "names: { private: [lab.wild.example] }\n",
        |settings| {
            let port = support::port::free().map_or(1, |at| at.port());
            let shop = settings.targets.first().cloned();
            let more = [
                (
                    "wild",
                    vec![
                        format!("*.wild.example:{port}"),
                        format!("own.wild.example:{port}"),
                    ],
                ),
                ("crm", vec![format!("10.77.0.9:{port}")]),
            ];
            settings
                .targets
                .extend(more.into_iter().filter_map(|(name, addresses)| {
                    Some(Target {
                        name: name.to_owned(),
                        addresses,
                        ..shop.clone()?
                    })
                }));
        },
    )?;
    let long = format!("A:{}.wild.example", vec!["a".repeat(30); 5].join("."));
    let words = [
        "A:here.wild.example",
        "A:link.wild.example",
        "A:crm.wild.example",
        "A:far.wild.example",
        "A:own.wild.example",
        "A:box.lab.wild.example",
        long.as_str(),
    ];
    let heard = ask(&lab, &resolver, &words)?;
    let expected = [
        "A:here.wild.example code 5",
        "A:link.wild.example code 5",
        "A:crm.wild.example code 5",
        "A:far.wild.example code 0 10.77.0.7",
        "A:own.wild.example code 0 127.0.0.1",
        "A:box.lab.wild.example code 0 127.0.0.1",
        &format!("{long} code 5"),
    ];
    ensure!(heard.trim() == expected.join("\n"), "{heard}");
    lacks(&format!("{:?}", resolver.asked()), &["aaaa"])?;
    let refused = lab
        .daemon
        .audit()
        .wait_for("name.refused", DEADLINE, |line| {
            line.pointer("/name")
                .is_some_and(|of| of == "link.wild.example")
        })?;
    ensure!(text(&refused, "/cause")? == "169.254.169.254", "{refused}");
    Ok(())
}

#[test]
fn the_systems_own_resolver_asks_the_stub_through_the_daemon() -> Result<()> {
    let [one, two, ..] = support::suffix()?.into_bytes()[..] else {
        anyhow::bail!("no random numbers");
    };
    let stub = SocketAddr::from(([127, one, two, 53], 53));
    let resolver = Resolver::start(stub, &[("crm.corp.example", [10, 1, 2, 3])])?;
    let lab = lab(&resolver, "names: { private: [corp.example] }\n")?;
    let netns = Netns::new()?;
    let etc = std::path::Path::new("/etc/netns").join(netns.name());
    let had_any = etc.parent().is_some_and(std::path::Path::exists);
    std::fs::create_dir_all(&etc)?;
    std::fs::write(
        etc.join("resolv.conf"),
        format!("nameserver {}\n", stub.ip()),
    )?;
    let agent = lab.agent().in_netns(netns.name());
    let found = support::wait::for_fact("an answer in a namespace", DEADLINE, || {
        let finished = agent.run("getent", &["hosts", "crm.corp.example"])?;
        Ok(finished.status.success().then_some(finished.stdout))
    });
    let unknown = agent.run("getent", &["hosts", "other.example"]);
    std::fs::remove_dir_all(&etc)?;
    if !had_any {
        drop(std::fs::remove_dir("/etc/netns"));
    }
    let found = found.with_context(|| format!("{:#?}", lab.daemon.audit().lines()));
    has(&found?, &["10.1.2.3"])?;
    ensure!(
        !unknown?.status.success(),
        "a name that no rule names was resolved"
    );
    lacks(&format!("{:?}", resolver.asked()), &["other"])
}
