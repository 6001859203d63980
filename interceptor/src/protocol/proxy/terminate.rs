//! The client's side up to what it asks the proxy for. Whoever is silent decides nothing; the caller bounds time.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::facts::{self, Asked, Form};
use super::{head, refuse, wire};
use crate::config::Host;

/// The connection stands.
const OPENED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Why a client is not asked any further.
pub(super) enum Wrong {
    /// It is gone, or says what nobody can read.
    Io(io::Error),
    /// It is told this, where it says why.
    Said(&'static [u8], &'static str),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Hears what a client asks for.
pub(super) async fn ask(client: &mut TcpStream) -> Result<Asked, Wrong> {
    let mut first = [0];
    match (client.peek(&mut first).await?, first) {
        (0, _) => Err(Wrong::Io(io::ErrorKind::UnexpectedEof.into())),
        (_, [wire::SOCKS]) => by_socks(client).await,
        // Letters alone begin a request: nobody waits for the end of anything else.
        (_, [first]) if first.is_ascii_alphabetic() => by_http(client).await,
        _ => {
            let why = "what the client says is not spoken to proxies";
            Err(Wrong::Said(b"", why))
        }
    }
}

/// Tells a client that its connection stands; one whose request the proxy is to make waits for its answer alone.
pub(super) async fn open(client: &mut TcpStream, form: Form) -> io::Result<()> {
    match form {
        Form::Connect => client.write_all(OPENED).await,
        Form::Socks => client.write_all(&wire::reply(wire::DONE)).await,
        Form::Whole => Ok(()),
    }
}

async fn by_http(client: &mut TcpStream) -> Result<Asked, Wrong> {
    let head = match head::read(client).await {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let why = "what the client asks the proxy for has no end that all agree on";
            return Err(Wrong::Said(refuse::MALFORMED, why));
        }
        head => head?,
    };
    let Some(read) = wire::head(&head) else {
        let why = "what the client asks the proxy for cannot be read";
        return Err(Wrong::Said(refuse::MALFORMED, why));
    };
    let (form, place) = match read.method {
        "CONNECT" if read.has_body => (Form::Connect, None),
        "CONNECT" => (Form::Connect, facts::authority(read.target)),
        _ => (Form::Whole, facts::whole(read.target)),
    };
    let Some((host, port)) = place else {
        return Err(match form {
            Form::Whole => Wrong::Said(
                refuse::NOT_OFFERED,
                "the client asks the proxy for what is neither a connection nor a page in clear",
            ),
            Form::Connect | Form::Socks => Wrong::Said(
                refuse::MALFORMED,
                "what the client asks the proxy for is no host and port",
            ),
        });
    };
    let presented = read.login.filter(|_| form == Form::Connect);
    Ok(Asked {
        form,
        host,
        port,
        presented: presented.map(|login| {
            let login = Zeroizing::new(login.as_bytes().to_vec());
            ("proxy-authorization".to_owned(), login)
        }),
        // Where it is a request, what it presents is reported with it.
        first: match form {
            Form::Whole => head.to_vec(),
            Form::Connect | Form::Socks => Vec::new(),
        },
    })
}

async fn by_socks(client: &mut TcpStream) -> Result<Asked, Wrong> {
    let presented = greet(client).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let [version, command, zero, kind] = request;
    if version != wire::SOCKS || zero != 0 {
        return Err(Wrong::Said(b"", "what the client says is not SOCKS 5"));
    }
    let address = match kind {
        wire::IPV4 => vec![0; 4],
        wire::IPV6 => vec![0; 16],
        wire::NAME => vec![0; usize::from(client.read_u8().await?)],
        _ => {
            let why = "the client names a host as nobody does";
            return Err(Wrong::Said(&refuse::NO_ADDRESS, why));
        }
    };
    let (host, port) = place(client, kind, address).await?;
    if command != wire::CONNECT {
        let why = "the client asks the proxy for something else than a connection";
        return Err(Wrong::Said(&refuse::NO_COMMAND, why));
    }
    let why = "what the client asks the proxy for is no host";
    let host = host.ok_or(Wrong::Said(&refuse::FORBIDDEN, why))?;
    Ok(Asked {
        form: Form::Socks,
        host,
        port,
        presented,
        first: Vec::new(),
    })
}

/// The host and port of a request of SOCKS; an address is no name, however it is written.
async fn place(
    client: &mut TcpStream,
    kind: u8,
    mut address: Vec<u8>,
) -> io::Result<(Option<Host>, u16)> {
    client.read_exact(&mut address).await?;
    let port = client.read_u16().await?;
    let ip = |ip: std::net::IpAddr| Some(Host::Ip(ip.to_canonical()));
    let host = match (kind, address.as_slice()) {
        (wire::NAME, name) => std::str::from_utf8(name).ok().and_then(Host::read),
        (_, [a, b, c, d]) => ip([*a, *b, *c, *d].into()),
        (_, address) => <[u8; 16]>::try_from(address)
            .ok()
            .and_then(|at| ip(at.into())),
    };
    Ok((host, port))
}

/// Chooses how a client logs in: as nobody where it may, since whoever the kernel says it is, is in.
async fn greet(client: &mut TcpStream) -> Result<Option<(String, Zeroizing<Vec<u8>>)>, Wrong> {
    let mut version_and_count = [0; 2];
    client.read_exact(&mut version_and_count).await?;
    let [_version, count] = version_and_count;
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods).await?;
    let offers = |method: u8| methods.contains(&method);
    if offers(wire::BY_NOTHING) {
        client.write_all(&[wire::SOCKS, wire::BY_NOTHING]).await?;
        return Ok(None);
    }
    if offers(wire::BY_PASSWORD) {
        client.write_all(&[wire::SOCKS, wire::BY_PASSWORD]).await?;
        return login(client).await.map(Some);
    }
    let why = "the client offers no login that is known";
    Err(Wrong::Said(&[wire::SOCKS, wire::BY_NONE], why))
}

/// A login of SOCKS: it is read, and whatever it is, it is taken.
async fn login(client: &mut TcpStream) -> Result<(String, Zeroizing<Vec<u8>>), Wrong> {
    if client.read_u8().await? != wire::LOGIN {
        return Err(Wrong::Said(b"", "the client's login is none of SOCKS"));
    }
    let mut user = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut user).await?;
    let mut password = Zeroizing::new(vec![0; usize::from(client.read_u8().await?)]);
    client.read_exact(&mut password).await?;
    client.write_all(&[wire::LOGIN, wire::DONE]).await?;
    Ok((String::from_utf8_lossy(&user).into_owned(), password))
}

#[cfg(test)]
mod tests;
