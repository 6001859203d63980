//! Clients, the request loop and a real server: a listener for stock clients, raw bytes for the rest.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{BufMut as _, Bytes, BytesMut};
use interceptor::masking::{Masks, Sensitive};
use interceptor::protocol::postgres::cancel::{Registry, Route};
use interceptor::protocol::postgres::facts::{self, Names};
use interceptor::protocol::postgres::inject::Injector;
use interceptor::protocol::postgres::mask::{Known, Schema, Watch, steers};
use interceptor::protocol::postgres::session::{End, Patience, Read, Start, relay};
use interceptor::protocol::postgres::terminate::{Greeting, Startup, Wish, greet, terminate};
use interceptor::protocol::postgres::wire::frontend::{self, Object};
use interceptor::protocol::postgres::wire::{self, HEADER, Header, put_string};
use interceptor::tls::{Authority, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bridge::{Target, dial};
use crate::loop_gate::{PolicyGate, Rules};
use crate::server::Server;

/// The engine with a part of it left out, to show that a test would notice: how texts are read, and what
/// is believed of a database.
#[derive(Clone, Copy)]
pub(crate) struct Parted {
    pub(crate) read: Read,
    pub(crate) believe: Option<fn(&Schema) -> Schema>,
}

/// The engine as it is.
pub(crate) const WHOLE: Parted = Parted {
    read: facts::read,
    believe: None,
};

impl Parted {
    /// What is known of a database, and how it is learned again.
    fn known(self, parts: &Arc<Parts>, known: Arc<Known>, asked: &Startup) -> Arc<Watch> {
        let believed = match self.believe {
            None => Arc::clone(&known),
            Some(believe) => {
                let believed = Arc::<Known>::default();
                believed.learn(believe(&known.current().unwrap()), believed.doubts());
                believed
            }
        };
        let (parts, asked) = (Arc::clone(parts), asked.clone());
        let learns = Arc::clone(&believed);
        let again = Box::new(move |reading| {
            let (parts, asked) = (Arc::clone(&parts), asked.clone());
            let learns = Arc::clone(&learns);
            tokio::spawn(async move {
                let doubts = learns.doubts();
                let login = parts.target.login_ahead(&parts.injector, &asked).await;
                if let Some(believe) = self.believe {
                    let known = login.unwrap().known.unwrap();
                    learns.learn(believe(&known.current().unwrap()), doubts);
                }
                drop(reading);
            });
        });
        Arc::new(Watch::new(believed, again))
    }
}

/// One session that went through the loop.
pub(crate) struct Done {
    pub(crate) end: End,
    pub(crate) gate: Arc<PolicyGate>,
}

/// A listener whose sessions go through the loop.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    done: Arc<Mutex<Vec<Done>>>,
    sessions: Arc<tokio::sync::Semaphore>,
    task: tokio::task::JoinHandle<()>,
    masks: Arc<Mutex<Arc<Masks>>>,
    gates: Arc<Mutex<Vec<Arc<PolicyGate>>>>,
    _state: tempfile::TempDir,
}

/// What a configuration says that masks these.
pub(crate) fn sensitive(masks: &Masks) -> Vec<Sensitive> {
    let columns = masks.columns();
    let sensitive = columns.map(|(relation, column, mask)| Sensitive {
        database: None,
        relation: relation.clone(),
        column: column.to_owned(),
        mask: mask.clone(),
    });
    sensitive.collect()
}

struct Parts {
    target: Target,
    authority: Authority,
    injector: Injector,
    registry: Arc<Registry<()>>,
    done: Arc<Mutex<Vec<Done>>>,
    rules: Rules,
    masks: Arc<Mutex<Arc<Masks>>>,
    gates: Arc<Mutex<Vec<Arc<PolicyGate>>>>,
    parted: Parted,
}

impl Front {
    pub(crate) async fn new(server: &Server, databases: &[&str]) -> Self {
        Self::with(server, databases, Rules::Denied).await
    }

    /// With a gate that is closed to function calls and to what comes late.
    pub(crate) async fn closed(server: &Server, databases: &[&str]) -> Self {
        Self::with(server, databases, Rules::Closed).await
    }

    /// With a gate that lets everything through.
    pub(crate) async fn open(server: &Server, databases: &[&str]) -> Self {
        Self::with(server, databases, Rules::Open).await
    }

    /// With a gate that lets everything through, and limits what is named so.
    pub(crate) async fn limited(server: &Server, databases: &[&str]) -> Self {
        Self::with(server, databases, Rules::Limited).await
    }

    /// With a gate that lets everything through, and masks.
    pub(crate) async fn masked(server: &Server, databases: &[&str], masks: Masks) -> Self {
        Self::over(server, databases, Rules::Open, (masks, WHOLE)).await
    }

    /// The same with a gate that is closed to functions of others, and with a part left out.
    pub(crate) async fn parted(
        server: &Server,
        databases: &[&str],
        masks: Masks,
        parted: Parted,
    ) -> Self {
        Self::over(server, databases, Rules::Uncalled, (masks, parted)).await
    }

    async fn with(server: &Server, databases: &[&str], rules: Rules) -> Self {
        Self::over(server, databases, rules, (Masks::default(), WHOLE)).await
    }

    async fn over(
        server: &Server,
        databases: &[&str],
        rules: Rules,
        (masks, parted): (Masks, Parted),
    ) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut target = Target::new(server, "trusted");
        target.sensitive = sensitive(&masks);
        let masks = Arc::new(Mutex::new(Arc::new(masks)));
        let gates = Arc::<Mutex<Vec<Arc<PolicyGate>>>>::default();
        let databases = databases.iter().map(|name| (*name).to_owned());
        target.postgres.databases = databases.collect();
        let done = Arc::<Mutex<Vec<Done>>>::default();
        let parts = Arc::new(Parts {
            target,
            authority: Authority::open(state.path(), None).unwrap(),
            injector: Injector::new().unwrap(),
            registry: Arc::default(),
            done: Arc::clone(&done),
            rules,
            masks: Arc::clone(&masks),
            gates: Arc::clone(&gates),
            parted,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sessions = Arc::new(tokio::sync::Semaphore::new(0));
        let ended = Arc::clone(&sessions);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let (parts, ended) = (Arc::clone(&parts), Arc::clone(&ended));
                tokio::spawn(async move {
                    serve(parts, socket).await;
                    ended.add_permits(1);
                });
            }
        });
        Self {
            address,
            done,
            sessions,
            task,
            masks,
            gates,
            _state: state,
        }
    }

    /// Sessions that there are have other masks from now on.
    pub(crate) fn mask(&self, masks: Masks) {
        let masks = Arc::new(masks);
        for gate in &*self.gates.lock().unwrap() {
            *gate.masks.lock().unwrap() = Arc::clone(&masks);
        }
    }

    /// Sessions from now on see everything.
    pub(crate) fn reveal(&self) {
        *self.masks.lock().unwrap() = Arc::default();
    }

    /// Sessions from now on see what is left.
    pub(crate) fn conceal(&self, masks: Masks) {
        *self.masks.lock().unwrap() = Arc::new(masks);
    }

    /// Waits for the end of one more session.
    pub(crate) async fn ended(&self) -> Done {
        self.sessions.acquire().await.unwrap().forget();
        let done = self.done.lock().unwrap().pop().unwrap();
        done.gate.assert_balanced();
        let is_other = |gate: &Arc<PolicyGate>| !Arc::ptr_eq(gate, &done.gate);
        self.gates.lock().unwrap().retain(is_other);
        done
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(parts: Arc<Parts>, socket: TcpStream) {
    let dialled = socket.local_addr().unwrap().ip();
    let terminated = terminate(socket, &parts.authority, &dialled.into())
        .await
        .unwrap();
    match terminated.wish {
        Wish::Cancel(key) => {
            let to = |route: Arc<Route<()>>| dial(route.address.inet().unwrap());
            parts.registry.cancel(&key, 7, to).await.unwrap();
        }
        Wish::Session(startup) => session(&parts, terminated.client, startup).await,
    }
}

async fn session(parts: &Arc<Parts>, mut client: Stream, startup: Startup) {
    let login = parts.target.login(&parts.injector, &startup).await;
    let mut upstream = login.unwrap();
    let route = Route {
        way: (),
        address: upstream.address,
        host: parts.target.host.clone(),
        tls: Arc::clone(&parts.target.tls),
        key: upstream.key.take(),
    };
    let minted = parts.registry.mint(7, upstream.minor, route).unwrap();
    let negotiate = startup.negotiate(upstream.minor);
    let greeting = Greeting {
        negotiate: negotiate.as_ref(),
        notices: &upstream.notices,
        parameters: &upstream.parameters,
        key: minted.key(),
        status: upstream.status,
    };
    greet(&mut client, greeting).await.unwrap();
    let masks = Arc::clone(&parts.masks.lock().unwrap());
    let gate = Arc::new(PolicyGate::new(parts.rules, &masks));
    parts.gates.lock().unwrap().push(Arc::clone(&gate));
    let route = Arc::clone(minted.route());
    let cancel = Box::new(
        move || -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
            let route = Arc::clone(&route);
            Box::pin(async move {
                Route::cancel(&route, |to| dial(to.address.inet().unwrap()))
                    .await
                    .unwrap()
            })
        },
    );
    let mut settings = startup.settings.iter();
    let steered = settings.any(|setting| steers(&setting.name));
    let start = Start {
        names: Names {
            search_path: Some(parts.target.postgres.search_path.clone()),
            catalog: Arc::clone(&upstream.catalog.relations),
            utf8: true,
            ..Names::default()
        },
        read: parts.parted.read,
        known: upstream
            .known
            .map(|known| parts.parted.known(parts, known, &startup)),
        parameters: upstream.parameters,
        status: upstream.status,
        from_client: BytesMut::new(),
        from_upstream: upstream.unread,
        cancel,
        look: None,
        step_aside: Box::new(|| Box::pin(async {})),
        interrupted: Arc::default(),
        asked: Vec::new(),
        steered,
        patience: Patience::default(),
        detectors: None,
    };
    let end = relay(Arc::clone(&gate), client, upstream.stream, start).await;
    parts.done.lock().unwrap().push(Done { end, gate });
}

/// A client that speaks bytes.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    input: BytesMut,
}

impl Raw {
    /// Logs in to `database` at a server or a front.
    pub(crate) async fn connect(address: SocketAddr, database: &str) -> Self {
        Self::set(address, database, ("application_name", "")).await
    }

    /// The same, and has it set something from the beginning.
    pub(crate) async fn set(
        address: SocketAddr,
        database: &str,
        (name, value): (&str, &str),
    ) -> Self {
        let mut stream = dial(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut startup = BytesMut::new();
        startup.put_i32(0x0003_0000);
        for text in [
            "user",
            "trusted",
            "database",
            database,
            "search_path",
            "public",
            name,
            value,
            "",
        ] {
            put_string(&mut startup, text.as_bytes());
        }
        let length = i32::try_from(startup.len() + 4).unwrap().to_be_bytes();
        stream.write_all(&length).await.unwrap();
        stream.write_all(&startup).await.unwrap();
        let mut raw = Self {
            stream,
            input: BytesMut::new(),
        };
        raw.read_until("Z:I").await;
        raw
    }

    pub(crate) async fn send(&mut self, script: &str) {
        self.stream.write_all(&script_bytes(script)).await.unwrap();
    }

    /// Sends a script while it reads, and tells replies until so many `ReadyForQuery` have come, or
    /// the end.
    pub(crate) async fn exchange(&mut self, script: &str) -> String {
        tell_all(&self.exchange_bytes(&script_bytes(script)).await)
    }

    /// The same with bytes, and what comes back as it came.
    pub(crate) async fn exchange_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (mut reads, mut writes) = self.stream.split();
        let send = async {
            drop(writes.write_all(bytes).await);
            drop(writes.shutdown().await);
        };
        let mut got = std::mem::take(&mut self.input).to_vec();
        let ((), read) = tokio::join!(send, reads.read_to_end(&mut got));
        // A server that throws the rest of the data away may reset the connection.
        drop(read);
        got
    }

    /// What a query gives, row by row.
    pub(crate) async fn rows(&mut self, text: &str) -> Vec<String> {
        let query = frontend::make_query(text);
        self.stream.write_all(&query).await.unwrap();
        let mut rows = Vec::new();
        while let Some((tag, body)) = self.next().await {
            match tag {
                b'D' => rows.push(String::from_utf8_lossy(&body[2..]).into_owned()),
                b'E' => panic!("{}", String::from_utf8_lossy(&body)),
                b'Z' => break,
                _ => {}
            }
        }
        rows
    }

    /// Reads replies until one is `last`, as told.
    pub(crate) async fn read_until(&mut self, last: &str) -> String {
        let mut told = Vec::new();
        while told.last().is_none_or(|one| one != last)
            && let Some((tag, body)) = self.next().await
        {
            told.push(tell(tag, &body));
        }
        told.join(" ")
    }

    pub(crate) async fn next(&mut self) -> Option<(u8, BytesMut)> {
        loop {
            if let Some(header) = Header::read(&self.input).unwrap()
                && self.input.len() >= header.whole()
            {
                let mut message = self.input.split_to(header.whole());
                return Some((header.tag, message.split_off(HEADER)));
            }
            if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }
}

fn tell_all(mut bytes: &[u8]) -> String {
    let mut told = Vec::new();
    while let Some(header) = Header::read(bytes).unwrap()
        && bytes.len() >= header.whole()
    {
        told.push(tell(header.tag, &bytes[HEADER..header.whole()]));
        bytes = &bytes[header.whole()..];
    }
    told.join(" ")
}

fn tell(tag: u8, body: &[u8]) -> String {
    let tag = char::from(tag);
    match tag {
        'E' => {
            let fields = wire::error::ErrorFields::read(body).unwrap();
            format!("E:{}", fields.sqlstate().unwrap_or("none"))
        }
        'Z' => format!("Z:{}", char::from(body[0])),
        'C' => {
            let text = String::from_utf8_lossy(&body[..body.len() - 1]);
            format!("C:{}", text.replace(' ', "_"))
        }
        _ => tag.to_string(),
    }
}

/// Messages of a script: `Q text`, `P name text`, `B portal name`, `D S|P name`, `E portal [rows]`,
/// `C S|P name`, `S`, `H`, `F`, `d data`, `c`, `f`, `X`, parted by bars. `-` is the empty name.
pub(crate) fn script_bytes(script: &str) -> Vec<u8> {
    let messages = script.split('|').map(str::trim);
    messages
        .filter(|one| !one.is_empty())
        .flat_map(message)
        .collect()
}

fn message(one: &str) -> Vec<u8> {
    let (tag, rest) = one.split_once(' ').unwrap_or((one, ""));
    let name = |name: &str| {
        if name == "-" {
            String::new()
        } else {
            name.to_owned()
        }
    };
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let object = if first == "S" {
        Object::Statement
    } else {
        Object::Portal
    };
    let bytes = match tag {
        "Q" => frontend::make_query(rest),
        "P" => frontend::make_parse(&name(first), second),
        "B" => frontend::make_bind(&name(first), &name(second)),
        "D" => frontend::make_about(b'D', object, &name(second)),
        "C" => frontend::make_about(b'C', object, &name(second)),
        "E" => frontend::make_execute(&name(first), second.parse().unwrap_or(0)),
        // By a number that no function has.
        "F" if !rest.is_empty() => {
            wire::message(b'F', |to| to.put_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
        }
        // pg_backend_pid(), by its number.
        "F" => wire::message(b'F', |to| to.put_slice(&[0, 0, 7, 0xea, 0, 0, 0, 0, 0, 0])),
        "d" => wire::message(b'd', |to| {
            to.put_slice(rest.as_bytes());
            to.put_u8(b'\n');
        }),
        "f" => wire::message(b'f', |to| put_string(to, rest.as_bytes())),
        bare => frontend::make_bare(bare.as_bytes()[0]),
    };
    bytes.to_vec()
}

/// A `Bind` of the unnamed statement to the unnamed portal: parameters as text, all columns in one format.
pub(crate) fn bind(parameters: &[&str], format: i16) -> Bytes {
    wire::message(b'B', |to| {
        put_string(to, b"");
        put_string(to, b"");
        to.put_i16(0);
        to.put_i16(i16::try_from(parameters.len()).unwrap());
        for value in parameters {
            to.put_i32(i32::try_from(value.len()).unwrap());
            to.put_slice(value.as_bytes());
        }
        to.put_i16(1);
        to.put_i16(format);
    })
}
