//! As whom at the proxy: the daemon asks it for what the client has asked for, by the login that is the daemon's own. What
//! the client presented is not among what is said.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::facts::Form;
use super::{head, wire};
use crate::config::Host;
use crate::secrets::Secret;
use crate::session::opening::inside::{Ask, Asking};

/// Heads that come before the one that says whether the connection stands (RFC 9110, 15.2).
const INTERIM_MAX: usize = 8;

/// Who logs in, and with what.
pub(super) type Login = (String, Secret);

/// How a proxy is asked.
#[derive(Debug)]
pub(super) struct Way {
    form: Form,
    login: Option<Login>,
}

impl Ask for Way {
    fn ask<'a>(&'a self, mut proxy: TcpStream, place: (&'a Host, u16)) -> Asking<'a> {
        Box::pin(async move {
            match self.form {
                Form::Socks => self.socks(&mut proxy, place).await?,
                Form::Connect | Form::Whole => self.connect(&mut proxy, place).await?,
            }
            Ok(proxy)
        })
    }

    fn makes_requests(&self) -> bool {
        // What is given to it with a request, a server behind it may be shown, and show to the client.
        self.form == Form::Whole && self.login.is_none()
    }
}

impl Way {
    /// As the client asks.
    pub(super) fn new(form: Form, login: Option<Login>) -> Self {
        Self { form, login }
    }

    async fn connect(&self, proxy: &mut TcpStream, (host, port): (&Host, u16)) -> io::Result<()> {
        let place = match host {
            Host::Name(name) => format!("{name}:{port}"),
            Host::Ip(ip) => std::net::SocketAddr::new(*ip, port).to_string(),
        };
        let mut head = Zeroizing::new(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"));
        if let Some((user, password)) = &self.login {
            let login = Zeroizing::new(format!("{user}:{}", password.expose_secret()));
            let login = Zeroizing::new(BASE64_STANDARD.encode(login.as_bytes()));
            head.push_str("Proxy-Authorization: Basic ");
            head.push_str(&login);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        proxy.write_all(head.as_bytes()).await?;
        for _ in 0..INTERIM_MAX {
            // What comes behind the head is the server's own: no byte of it is read here.
            let head = head::read(proxy).await?;
            match wire::status(&head) {
                Some(200..=299) => return Ok(()),
                // It becomes nothing else.
                Some(101) => return Err(wrong("the proxy answered 101")),
                Some(100..=199) => {}
                Some(407) => return Err(wrong("the proxy did not take the login")),
                Some(status) => return Err(wrong(&format!("the proxy answered {status}"))),
                None => return Err(wrong("what the proxy answers is not HTTP")),
            }
        }
        Err(wrong("the proxy does not come to an answer"))
    }

    async fn socks(&self, proxy: &mut TcpStream, (host, port): (&Host, u16)) -> io::Result<()> {
        self.log_in(proxy).await?;
        let host = match host {
            Host::Ip(ip) => wire::Host::Ip(*ip),
            Host::Name(name) => wire::Host::Name(name),
        };
        let asked = wire::request(host, port).ok_or_else(|| wrong("the name is too long"))?;
        proxy.write_all(&asked).await?;
        let mut said = [0; 4];
        proxy.read_exact(&mut said).await?;
        let not_socks = || wrong("what the proxy answers is not SOCKS 5");
        let length = match said {
            [wire::SOCKS, wire::DONE, _, wire::IPV4] => 4,
            [wire::SOCKS, wire::DONE, _, wire::IPV6] => 16,
            [wire::SOCKS, wire::DONE, _, wire::NAME] => usize::from(proxy.read_u8().await?),
            [wire::SOCKS, wire::DONE, ..] => return Err(not_socks()),
            [wire::SOCKS, why, ..] => return Err(wrong(&format!("the proxy refused with {why}"))),
            _ => return Err(not_socks()),
        };
        // Where it is bound is of no use.
        let mut bound = vec![0; length.saturating_add(2)];
        proxy.read_exact(&mut bound).await.map(drop)
    }

    async fn log_in(&self, proxy: &mut TcpStream) -> io::Result<()> {
        let method = match self.login {
            Some(_) => wire::BY_PASSWORD,
            None => wire::BY_NOTHING,
        };
        proxy.write_all(&[wire::SOCKS, 1, method]).await?;
        let mut chosen = [0; 2];
        proxy.read_exact(&mut chosen).await?;
        if chosen != [wire::SOCKS, method] {
            return Err(wrong("the proxy wants another login"));
        }
        let Some((user, password)) = &self.login else {
            return Ok(());
        };
        let password = password.expose_secret();
        let mut login = Zeroizing::new(Vec::with_capacity(3 + 2 * wire::WORD_MAX));
        login.push(wire::LOGIN);
        let written = wire::word(&mut login, user.as_bytes())
            .and_then(|()| wire::word(&mut login, password.as_bytes()));
        written.ok_or_else(|| wrong("the login at the proxy is longer than SOCKS has it"))?;
        proxy.write_all(&login).await?;
        proxy.read_exact(&mut chosen).await?;
        match chosen {
            [_, wire::DONE] => Ok(()),
            _ => Err(wrong("the proxy did not take the login")),
        }
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

#[cfg(test)]
mod tests;
