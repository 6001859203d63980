//! A password asked of the client to see what it holds: whoever was given a credential that is nobody's any
//! more presents it here. It is looked at once, reported, and used for nothing.

use zeroize::Zeroizing;

use super::prove::{Unproved, answer, say, words};
use super::refuse;
use crate::protocol::postgres::wire::startup::{Authentication, Negotiate};
use crate::tls::Stream;

/// Longest password: some are whole tokens.
const MOST: usize = 16 << 10;

/// Asks for the password in clear, and gives it as it was sent; says `negotiate` first, where that is due.
/// Nothing but `AuthenticationOk` is due then. The caller bounds time, and asks only where nobody else hears
/// it.
///
/// # Errors
/// [`Unproved`]; the client, which claims to be `user`, has been told.
pub async fn present(
    client: &mut Stream,
    user: &str,
    negotiate: Option<&Negotiate>,
) -> Result<Zeroizing<Vec<u8>>, Unproved> {
    let asked = ask(client, negotiate).await;
    if let Err(error) = &asked
        && let Some(fields) = words(error, user)
    {
        // A client that is gone already loses nothing.
        drop(refuse(client, &fields).await);
    }
    asked
}

async fn ask(
    client: &mut Stream,
    negotiate: Option<&Negotiate>,
) -> Result<Zeroizing<Vec<u8>>, Unproved> {
    // As a server does it: before any request for a credential (`ProcessStartupPacket`).
    say(client, negotiate, Authentication::Cleartext).await?;
    let mut password = Zeroizing::new(answer(client, MOST).await?);
    match password.pop() {
        Some(0) => Ok(password),
        _ => Err(Unproved::Endless),
    }
}

#[cfg(test)]
mod tests;
