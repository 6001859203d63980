//! The intercept path's PostgreSQL steps in a row, without capture and policy: terminate, login,
//! greet, and a plain copy behind them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use interceptor::config::{
    ClientAuth, Host, Pooler, Postgres, SessionAttrs, TlsMode, UpstreamTls, Warm,
};
use interceptor::masking::Sensitive;
use interceptor::protocol::postgres::cancel::{Registry, Route};
use interceptor::protocol::postgres::inject::{self, Injector, Login, Masked, Upstream};
use interceptor::protocol::postgres::terminate::{
    Greeting, Startup, Wish, greet, refuse, terminate,
};
use interceptor::protocol::postgres::wire::error::{ErrorFields, Severity};
use interceptor::secrets::Secret;
use interceptor::tls::{self, Authority, Stream};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::server::{PASSWORD, Server};

/// One target, as configured.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: Host,
    pub(crate) tls: Arc<tls::Upstream>,
    pub(crate) postgres: Postgres,
    pub(crate) password: Option<Secret>,
    /// Its sensitive columns.
    pub(crate) sensitive: Vec<Sensitive>,
}

impl Target {
    /// `user` at `server`, in clear.
    pub(crate) fn new(server: &Server, user: &str) -> Self {
        Self {
            address: server.address(),
            host: Host::Ip(server.address().ip()),
            tls: upstream(TlsMode::Disable, None),
            postgres: Postgres {
                user: user.to_owned(),
                password: None,
                databases: vec!["postgres".to_owned()],
                search_path: vec!["public".to_owned()],
                functions: std::collections::BTreeSet::new(),
                allow_md5: false,
                require_scram: false,
                warm: Warm::default(),
                client_auth: ClientAuth::Trust,
                ask_password: false,
                session_attrs: SessionAttrs::Any,
                pooler: Pooler::None,
            },
            password: Some(Secret::from(PASSWORD)),
            sensitive: Vec::new(),
        }
    }

    pub(crate) fn tls(mut self, mode: TlsMode, ca: Option<PathBuf>) -> Self {
        self.tls = upstream(mode, ca);
        self
    }

    /// Verifies in full, and shows this client certificate.
    pub(crate) fn showing(mut self, ca: PathBuf, pem: &str) -> Self {
        let settings = UpstreamTls {
            ca: Some(ca),
            ..UpstreamTls::default()
        };
        let tls = tls::Upstream::new(&settings, Some(&Secret::from(pem)));
        self.tls = Arc::new(tls.unwrap());
        self
    }

    pub(crate) async fn login(
        &self,
        injector: &Injector,
        startup: &Startup,
    ) -> Result<Upstream, inject::Error> {
        let socket = dial(self.address).await.unwrap();
        injector.login(socket, self.as_login(startup)).await
    }

    /// The same for nobody yet.
    pub(crate) async fn login_ahead(
        &self,
        injector: &Injector,
        startup: &Startup,
    ) -> Result<Upstream, inject::Error> {
        let socket = dial(self.address).await.unwrap();
        injector.login_ahead(socket, self.as_login(startup)).await
    }

    fn as_login<'a>(&'a self, startup: &'a Startup) -> Login<'a> {
        Login {
            apart: None,
            target: "db",
            host: &self.host,
            tls: &self.tls,
            postgres: &self.postgres,
            password: self.password.as_ref(),
            database: &startup.database,
            settings: &startup.settings,
            minor: startup.upstream_minor(),
            replication: startup.replication,
            attrs: SessionAttrs::Any,
            masked: (!self.sensitive.is_empty()).then_some(Masked {
                target_key: self.password.as_ref(),
                sensitive: &self.sensitive,
            }),
        }
    }
}

fn upstream(mode: TlsMode, ca: Option<PathBuf>) -> Arc<tls::Upstream> {
    let settings = UpstreamTls {
        mode,
        ca,
        ..UpstreamTls::default()
    };
    Arc::new(tls::Upstream::new(&settings, None).unwrap())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own loopback connection"
)]
pub(crate) async fn dial(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// A listener that takes clients through to one target.
pub(crate) struct Bridge {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Startup>>>,
    state: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

struct Parts {
    target: Target,
    authority: Authority,
    injector: Injector,
    registry: Arc<Registry<()>>,
    seen: Arc<Mutex<Vec<Startup>>>,
}

impl Bridge {
    pub(crate) async fn new(target: Target) -> Self {
        let state = tempfile::tempdir().unwrap();
        let seen = Arc::<Mutex<Vec<Startup>>>::default();
        let parts = Arc::new(Parts {
            target,
            authority: Authority::open(state.path(), None).unwrap(),
            injector: Injector::new().unwrap(),
            registry: Arc::default(),
            seen: Arc::clone(&seen),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(Arc::clone(&parts), socket));
            }
        });
        Self {
            address,
            seen,
            state,
            task,
        }
    }

    /// What the last client asked for.
    pub(crate) fn seen(&self) -> Startup {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    /// The certificate that clients trust.
    pub(crate) fn ca(&self) -> PathBuf {
        Path::new(self.state.path()).join("ca.pem")
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const SCOPE: u64 = 7;

async fn serve(parts: Arc<Parts>, socket: TcpStream) {
    let dialled = socket.local_addr().unwrap().ip();
    let terminated = match terminate(socket, &parts.authority, &dialled.into()).await {
        Ok(terminated) => terminated,
        // A client may break the connection to try another way (`sslmode=verify-full`).
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    match terminated.wish {
        Wish::Cancel(key) => {
            let to = |route: Arc<Route<()>>| dial(route.address.inet().unwrap());
            parts.registry.cancel(&key, SCOPE, to).await.unwrap();
        }
        Wish::Session(startup) => session(&parts, terminated.client, startup).await,
    }
}

async fn session(parts: &Parts, mut client: Stream, startup: Startup) {
    parts.seen.lock().unwrap().push(startup.clone());
    let mut upstream = match parts.target.login(&parts.injector, &startup).await {
        Ok(upstream) => upstream,
        Err(error) => {
            let refusal = error.refusal();
            let fields = ErrorFields::new(Severity::Fatal, error.sqlstate(), &refusal.message);
            return refuse(&mut client, &fields).await.unwrap();
        }
    };
    let route = Route {
        way: (),
        address: upstream.address,
        host: parts.target.host.clone(),
        tls: Arc::clone(&parts.target.tls),
        key: upstream.key.take(),
    };
    let minted = parts.registry.mint(SCOPE, upstream.minor, route).unwrap();
    let negotiate = startup.negotiate(upstream.minor);
    let greeting = Greeting {
        negotiate: negotiate.as_ref(),
        notices: &upstream.notices,
        parameters: &upstream.parameters,
        key: minted.key(),
        status: upstream.status,
    };
    greet(&mut client, greeting).await.unwrap();
    client.write_all(&upstream.unread).await.unwrap();
    // A client that is killed ends this with an error, as it should.
    let _end = tokio::io::copy_bidirectional(&mut client, &mut upstream.stream).await;
}
