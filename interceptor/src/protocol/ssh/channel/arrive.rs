//! What comes from the server's side: connections to where it listens for the client (`ssh -R`), to the client's
//! ssh-agent and to its screen. Each was permitted before, and is judged again when it comes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::facts::{self, Asked};
use super::super::inject::arrivals::{self, Arrival, Arrivals, Expected, Place, What};
use super::super::inject::lanes;
use super::super::server::answers;
use super::keep::Kept;
use super::{Channel, Events, Shared};
use crate::clock;
use crate::policy::{Action, Resource};
use crate::protocol::ssh::CHANNELS;
use crate::session::{Authorized, Gate as _, Hold, Outcome, Phase, Said, Shown};

/// Places where the server listens for one client.
const PLACES: usize = 16;
/// How long a client may take to open what comes for it, and a server to listen.
const PATIENCE: Duration = Duration::from_secs(8);

/// Whether something is permitted, without waiting for people: where policy leaves it to them, it is not.
pub(super) async fn at_once(shared: &Shared, asked: &Asked) -> Option<Authorized> {
    let hold = Hold::default();
    let shown = Shown::default();
    let said = Said::alone(&asked.text, Ok(&shown), &hold);
    let mut judged = pin!(
        shared
            .session
            .authorize(Phase::Execute, said, &asked.reading)
    );
    let mut waits = false;
    loop {
        tokio::select! {
            judged = &mut judged => return judged.ok(),
            _approval = hold.begun(), if !waits => {
                waits = true;
                hold.give_up();
            }
        }
    }
}

/// Lets in what comes, each by itself; to the end of whoever waits for this. What is open then is closed on both
/// sides soon: a client does not end while a channel of it stands open.
pub(super) async fn serve(shared: &Arc<Shared>, arrivals: &mut Arrivals) -> Infallible {
    let room = Arc::new(Semaphore::new(CHANNELS));
    let over = CancellationToken::new();
    let _ends = over.clone().drop_guard();
    loop {
        let arrival = arrivals.next().await;
        // A reply that is let go says no.
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let arrived = arrive(Arc::clone(shared), arrival, over.clone());
        tokio::spawn(async move {
            arrived.await;
            drop(place);
        });
    }
}

/// Has the server listen for the client, until `over`, or the session's end.
pub(in super::super) async fn listen(
    shared: Arc<Shared>,
    place: Place,
    reply: oneshot::Sender<u32>,
) {
    let asked = asked(
        &shared,
        &What::Connection(place.clone(), (String::new(), 0)),
    );
    let Some(authorized) = at_once(&shared, &asked).await else {
        return;
    };
    let (request, begun) = (authorized.request, clock::boot());
    // It is used up by the server's listening.
    drop(authorized.permit);
    let status = match begin(&shared, &place).await {
        Err(why) => why,
        Ok((mut lane, place, port)) => {
            shared.session.lasts(request);
            let over = CancellationToken::new();
            lock(&shared).push((place.clone(), over.clone()));
            if !answers(reply, port) {
                // It was told that nothing listens.
                unlisten(&shared, &place);
            }
            let (arrivals, lives) = lane.parts();
            tokio::select! {
                never = serve(&shared, arrivals) => match never {},
                never = lives => match never {},
                () = over.cancelled() => {}
            }
            // Its end takes what is open with it, as the connection's does.
            drop(lane);
            "ok"
        }
    };
    let outcome = Outcome {
        took: clock::boot().since(begun),
        status: status.to_owned(),
        ..Outcome::default()
    };
    shared.session.finish(request, &outcome);
}

/// The server listens no longer; whether it did.
pub(in super::super) fn unlisten(shared: &Shared, place: &Place) -> bool {
    let mut listening = lock(shared);
    let at = listening.iter().position(|(known, _)| known == place);
    let Some((_, over)) = at.map(|at| listening.swap_remove(at)) else {
        return false;
    };
    over.cancel();
    true
}

type Listening = (super::Lane, Place, u32);

/// Has a connection of its own listen; where it does in the end.
async fn begin(shared: &Shared, place: &Place) -> Result<Listening, &'static str> {
    if lock(shared).len() >= PLACES {
        return Err("too many");
    }
    let lane = shared.lanes.lane(&shared.session).await;
    let lane = lane.map_err(|_no| "not begun")?;
    // What comes may come before the answer is heard.
    let expects = |place: &Place| Expected {
        listens: Some(place.clone()),
        ..Expected::default()
    };
    lane.arrivals.expect(expects(place));
    let bound = timeout(PATIENCE, async {
        match place {
            Place::Tcp(address, port) => {
                let bound = lane.handle.tcpip_forward(address.as_str(), *port).await?;
                let port = if *port == 0 { bound } else { *port };
                Ok((Place::Tcp(address.clone(), port), port))
            }
            Place::Socket(path) => {
                lane.handle.streamlocal_forward(path.as_str()).await?;
                Ok::<_, russh::Error>((place.clone(), 0))
            }
        }
    });
    match bound.await {
        Ok(Ok((place, port))) => {
            lane.arrivals.expect(expects(&place));
            Ok((lane, place, port))
        }
        Ok(Err(_)) | Err(_) => Err("not begun"),
    }
}

/// One channel that the server opens, to its end or soon after what it came beside is `over`.
async fn arrive(shared: Arc<Shared>, arrival: Arrival, over: CancellationToken) {
    let Arrival {
        what,
        channel,
        reply,
        backlog,
    } = arrival;
    let asked = asked(&shared, &what);
    let Some(authorized) = at_once(&shared, &asked).await else {
        return arrivals::no(reply).await;
    };
    let begun = clock::boot();
    let opened = timeout(PATIENCE, towards(&shared, what)).await;
    let ear = match &opened {
        Ok(Ok(opened)) => shared.heard.listen(opened.id()),
        Ok(Err(_)) | Err(_) => None,
    };
    let (Ok(Ok(opened)), Some((events, gone))) = (opened, ear) else {
        let outcome = Outcome {
            took: clock::boot().since(begun),
            status: "not begun".to_owned(),
            ..Outcome::default()
        };
        shared.session.finish(authorized.request, &outcome);
        return arrivals::no(reply).await;
    };
    let id = opened.id();
    let (_, out) = opened.split();
    let gone = gone.child_token();
    let ends = async {
        over.cancelled().await;
        gone.cancel();
        std::future::pending::<Infallible>().await
    };
    let number = shared.channels.fetch_add(1, super::Ordering::Relaxed);
    let mut ours = Channel {
        id,
        out,
        events: Events(events),
        gone: gone.clone(),
        common: shared.common(),
        terminal: None,
        variables: Vec::new(),
        forwards: 0,
        agent: None,
        screen: None,
        kept: Kept::new(number, shared.recorded),
        is_open: true,
        shared: Arc::clone(&shared),
    };
    let kept = async {
        ours.kept.carries(&shared, asked.text.clone()).await?;
        ours.kept.permitted(&shared, authorized.request).await
    };
    if kept.await.is_err() {
        return arrivals::no(reply).await;
    }
    reply.accept().await;
    tokio::select! {
        _closed = ours.carry(authorized, lanes::halves(channel, &backlog)) => {}
        never = ends => match never {},
    }
    drop(ours.out.close().await);
}

/// Opens towards the client what the server has opened.
async fn towards(
    shared: &Shared,
    what: What,
) -> Result<russh::Channel<russh::server::Msg>, russh::Error> {
    let client = &shared.handle;
    match what {
        What::Agent => client.channel_open_agent().await,
        What::Screen((from, port)) => client.channel_open_x11(from, port).await,
        What::Connection(Place::Tcp(at, port), from) => {
            let opened = client.channel_open_forwarded_tcpip(at, port, from.0, from.1);
            opened.await
        }
        What::Connection(Place::Socket(path), _) => {
            client.channel_open_forwarded_streamlocal(path).await
        }
    }
}

/// What that asks of policy.
fn asked(shared: &Shared, what: &What) -> Asked {
    let common = shared.common();
    match what {
        What::Agent => common.forward(Action::ForwardAgent, Resource::Target, "forward agent"),
        What::Screen(_) => common.forward(Action::ForwardX11, Resource::Target, "forward X11"),
        What::Connection(place, _) => {
            let (host, port) = match place {
                // No address is every address.
                Place::Tcp(address, port) if address.is_empty() => ("*".to_owned(), *port),
                Place::Tcp(address, port) => (facts::host(address), *port),
                Place::Socket(path) => {
                    let path = facts::socket(path).unwrap_or_else(|| path.clone());
                    (path, 0)
                }
            };
            let said = format!("forward from {host}:{port}");
            let resource = Resource::Forward { host, port };
            common.forward(Action::ForwardFrom, resource, &said)
        }
    }
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Vec<(Place, CancellationToken)>> {
    let listening = shared.listening.lock();
    listening.unwrap_or_else(PoisonError::into_inner)
}
