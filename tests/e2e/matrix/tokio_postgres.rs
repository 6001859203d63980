//! What tokio-postgres does, with a protocol of its own. Each step that is right is named on a line.
//!
//! A program of its own, as it must run as the agent, in the agent's cgroup. It knows libpq's variables.
#![expect(
    clippy::print_stdout,
    reason = "the lines are what the test's checker reads"
)]

use std::env;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

const BY_ID: &str = "select name from customers where id = $1";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let way = Way::from_environment()?;
    let (mut client, encrypted) = way.connect().await?;
    println!("{}", if encrypted { "encrypted" } else { "clear" });
    statements(&mut client).await?;
    data(&mut client).await?;
    cancel(&client, &way).await?;
    refused(&mut client).await
}

fn step(name: &str, good: bool) -> Result<()> {
    ensure!(good, "{name} went wrong");
    println!("{name}");
    Ok(())
}

/// The error that must have come.
fn fails<T>(state: &str, result: Result<T, Error>) -> Result<Error> {
    let error = result
        .err()
        .with_context(|| format!("{state} did not come"))?;
    let code = error.code().map_or("none", |code| code.code());
    ensure!(code == state, "{code} in place of {state}: {error}");
    Ok(error)
}

async fn name(client: &Client, number: i32) -> Result<String> {
    Ok(client.query_one(BY_ID, &[&number]).await?.get(0))
}

async fn number(client: &Client, text: &str) -> Result<i64> {
    Ok(client.query_one(text, &[]).await?.get(0))
}

async fn statements(client: &mut Client) -> Result<()> {
    let rows = client.simple_query("select 1; select 2").await?;
    let rows = rows
        .iter()
        .filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
    step("simple", rows.count() == 2)?;
    step("parameter", name(client, 1).await? == "Ada Lovelace")?;
    let by_id = client.prepare(BY_ID).await?;
    let mut names = Vec::new();
    for number in [1_i32, 2, 1] {
        names.push(
            client
                .query_one(&by_id, &[&number])
                .await?
                .get::<_, String>(0),
        );
    }
    step(
        "prepared",
        names == ["Ada Lovelace", "Grace Hopper", "Ada Lovelace"],
    )?;

    let block = client.transaction().await?;
    let changed = block
        .execute("update orders set item = $1 where id = $2", &[&"x", &100])
        .await?;
    block.rollback().await?;
    let item = client
        .query_one("select item from orders where id = 100", &[])
        .await?;
    let item: &str = item.get(0);
    step("rollback", changed == 1 && item == "analytical engine")?;

    fails("22012", client.query_one("select 1 / $1::int", &[&0]).await)?;
    step("error", number(client, "select 1::bigint").await? == 1)?;
    let block = client.transaction().await?;
    fails(
        "42703",
        block
            .query("select no_such_column from customers", &[])
            .await,
    )?;
    fails("25P02", block.query("select 1", &[]).await)?;
    block.rollback().await?;
    step("aborted", number(client, "select 2::bigint").await? == 2)
}

async fn data(client: &mut Client) -> Result<()> {
    let raw: Vec<u8> = (0..=255).cycle().take(10_240).collect();
    let text = "quo'te \\ back\nline Žluťoučký";
    let (ints, texts) = (
        vec![Some(1), None, Some(3)],
        vec![Some("a"), Some(""), Some("b\"c,{}"), None],
    );
    let values: [&(dyn ToSql + Sync); 8] = [
        &None::<&str>,
        &i32::MIN,
        &i64::MAX,
        &text,
        &raw,
        &true,
        &ints,
        &texts,
    ];
    let kinds = "select $1::text, $2::int, $3::bigint, $4::text, $5::bytea, $6::bool, $7::int[], $8::text[]";
    let row = client.query_one(kinds, &values).await?;
    let same = row.get::<_, Option<&str>>(0).is_none()
        && row.get::<_, i32>(1) == i32::MIN
        && row.get::<_, i64>(2) == i64::MAX
        && row.get::<_, &str>(3) == text
        && row.get::<_, &[u8]>(4) == raw
        && row.get::<_, bool>(5)
        && row.get::<_, Vec<Option<i32>>>(6) == ints
        && row.get::<_, Vec<Option<&str>>>(7) == texts;
    step("types", same)?;
    let large = "x".repeat(3 << 20);
    let row = client.query_one("select $1::text", &[&large]).await?;
    step("large", row.get::<_, &str>(0) == large)?;

    client
        .batch_execute("create temp table kept (n int, t text)")
        .await?;
    let rows: String = (0..20_000).map(|n| format!("{n}\trow {n}\n")).collect();
    let mut sink = pin!(client.copy_in("copy kept from stdin").await?);
    sink.send(Bytes::from(rows.clone())).await?;
    let came = sink.finish().await?;
    let out = client.copy_out("copy kept to stdout").await?;
    let out: Vec<Bytes> = out.try_collect().await?;
    step("copy", came == 20_000 && out.concat() == rows.as_bytes())?;
    let mut sink = pin!(client.copy_in("copy kept from stdin").await?);
    sink.send(Bytes::from_static(b"no number\tx\n")).await?;
    fails("22P02", sink.finish().await)?;
    step(
        "broken copy",
        number(client, "select count(*) from kept").await? == 20_000,
    )?;

    let block = client.transaction().await?;
    let portal = block
        .bind("select id from orders where id > $1 order by id", &[&0])
        .await?;
    let mut ids: Vec<i32> = Vec::new();
    for _ in 0..2 {
        let rows = block.query_portal(&portal, 2).await?;
        ids.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
    }
    block.commit().await?;
    step("cursor", ids == [100, 101, 102, 103])?;

    // Both are sent before either is answered.
    let (first, second) = tokio::try_join!(name(client, 1), name(client, 2))?;
    step(
        "pipeline",
        first == "Ada Lovelace" && second == "Grace Hopper",
    )
}

async fn cancel(client: &Client, way: &Way) -> Result<()> {
    let (bystander, _) = way.connect().await?;
    let asleep = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
    let token = client.cancel_token();
    let cancel = async {
        while number(&bystander, asleep).await? == 0 {}
        token
            .cancel_query(way.tls.clone())
            .await
            .context("cancel it")
    };
    let (slept, cancelled) = tokio::join!(client.batch_execute("select pg_sleep(600)"), cancel);
    cancelled?;
    fails("57014", slept)?;
    step("cancel", number(client, "select 3::bigint").await? == 3)
}

async fn refused(client: &mut Client) -> Result<()> {
    let asked = client.query("select * from salaries where amount > $1", &[&0]);
    let error = fails("42501", asked.await)?;
    let said = error.as_db_error().context("no words of the server")?;
    let named = said
        .detail()
        .is_some_and(|detail| detail.contains("salaries-are-private"));
    step("refused", named && said.hint().is_some())?;
    let block = client.transaction().await?;
    block
        .execute("insert into kept values (-1, 'never')", &[])
        .await?;
    fails("42501", block.query("select * from salaries", &[]).await)?;
    fails("25P02", block.query("select 1", &[]).await)?;
    block.rollback().await?;
    let kept = number(client, "select count(*) from kept where n < 0").await?;
    step("refused in a transaction", kept == 0)?;
    step("usable", number(client, "select 4::bigint").await? == 4)
}

/// How to connect.
struct Way {
    config: Config,
    tls: Tls,
}

impl Way {
    fn from_environment() -> Result<Self> {
        let said = |name: &str| env::var(name).with_context(|| format!("no {name}"));
        let (mode, direct) = (
            said("PGSSLMODE")?,
            env::var_os("PGSSLNEGOTIATION").is_some(),
        );
        let mut config = Config::new();
        config
            .host(said("PGHOST")?)
            .port(said("PGPORT")?.parse()?)
            .user(said("PGUSER")?)
            .dbname(said("PGDATABASE")?)
            .ssl_mode(match mode.as_str() {
                "disable" => SslMode::Disable,
                "prefer" => SslMode::Prefer,
                _ => SslMode::Require,
            });
        if direct {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        let root = (mode == "verify-full")
            .then(|| said("PGSSLROOTCERT"))
            .transpose()?;
        let tls = Tls::new(root.as_deref(), direct)?;
        Ok(Self { config, tls })
    }

    /// A session, and whether it is encrypted.
    async fn connect(&self) -> Result<(Client, bool)> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        // Its errors are the client's, too.
        tokio::spawn(async { drop(connection.await) });
        let encrypted = self.tls.used.load(Ordering::Relaxed);
        Ok((client, encrypted))
    }
}

/// TLS by rustls, whether or not it verifies.
#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    used: Arc<AtomicBool>,
}

impl Tls {
    fn new(root: Option<&str>, direct: bool) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let mut config = match root {
            Some(file) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(file)?)?;
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone::new(&provider)))
                .with_no_client_auth(),
        };
        if direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            used: Arc::default(),
        })
    }
}

impl MakeTlsConnect<tokio_postgres::Socket> for Tls {
    type Stream = Encrypted<tokio_postgres::Socket>;
    type TlsConnect = To;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<To, Self::Error> {
        Ok(To {
            tls: self.clone(),
            name: ServerName::try_from(domain.to_owned())?,
        })
    }
}

/// TLS to one server.
struct To {
    tls: Tls,
    name: ServerName<'static>,
}

impl TlsConnect<tokio_postgres::Socket> for To {
    type Stream = Encrypted<tokio_postgres::Socket>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, stream: tokio_postgres::Socket) -> Self::Future {
        Box::pin(async move {
            let stream = self.tls.connector.connect(self.name, stream).await?;
            self.tls.used.store(true, Ordering::Relaxed);
            Ok(Encrypted(stream))
        })
    }
}

/// An encrypted stream that binds no channel: no password is asked for.
struct Encrypted<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// `sslmode=require` without a root: whoever answers is taken.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl Anyone {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
