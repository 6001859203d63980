//! A request that waits for people: the client is told so, may cancel it or go away, and is held until they
//! have answered.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

use super::super::super::refuse;
use super::super::Why;
use super::super::entry::{Entry, Kind, Statement};
use super::super::pipe;
use super::Requests;
use crate::session::{Authorized, Gate, Hold, Look, Phase, Refused, Said, Shown};

/// What is read of a client meanwhile: enough to see that it closes.
const AHEAD: usize = 64 << 10;

type Answer = Result<Authorized, Refused>;

impl<R, W, G> Requests<'_, R, W, G>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    G: Gate,
{
    /// Asks the gate. What was decided before goes on while it thinks.
    pub(super) async fn ask(
        &mut self,
        (phase, is_portal): (Phase, bool),
        statement: &Statement,
    ) -> Result<Answer, Why> {
        let gate = Arc::clone(&self.gate);
        let shown: Result<Shown, &'static str> = match (gate.asks_people(), phase) {
            (true, Phase::Execute) => statement.shown(is_portal, self.asked),
            (true, Phase::Prepare) | (false, _) => Err("policy asks nobody"),
        };
        let hold = Hold::default();
        let begun = self.shared.ledger().has_run();
        let look = self.look.map(|look| move || look(statement.asked()));
        let said = Said {
            text: &statement.text,
            shown: shown.as_ref().map_err(|why| *why),
            word: statement.given.as_ref().and_then(|given| given.word.get()),
            begun,
            patience: self.own_timeout.now(),
            look: look.as_ref().map(|look| Look(look)),
            hold: &hold,
        };
        let mut asked = pin!(gate.authorize(phase, said, &statement.reading));
        let answer = match pipe::poll_once(asked.as_mut()).await {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                self.flush().await?;
                self.held(asked, &hold).await?
            }
        };
        if let (
            Ok(Authorized {
                word: Some(word), ..
            }),
            Some(given),
        ) = (&answer, &statement.given)
        {
            // What is fetched of the portal later has it too; the first stays.
            given.word.get_or_init(|| Arc::clone(word));
        }
        Ok(answer)
    }

    /// Waits for the gate, and for people where the gate does.
    async fn held(
        &mut self,
        mut asked: Pin<&mut impl Future<Output = Answer>>,
        hold: &Hold,
    ) -> Result<Answer, Why> {
        let interrupted = self.shared.interrupted.notified();
        let mut interrupted = pin!(interrupted);
        // A cancel counts from here on, whatever is polled when.
        interrupted.as_mut().enable();
        let id = tokio::select! {
            biased;
            answer = &mut asked => return Ok(answer),
            id = hold.begun() => id,
        };
        let notice = refuse::waits(id).notice();
        self.shared.ledger().owe(Entry::local(Kind::Close, notice));
        self.shared.local.notify_one();
        let most = self.pipe.front().len().saturating_add(AHEAD);
        loop {
            let need = self.pipe.front().len().saturating_add(1);
            let more = async {
                match need <= most {
                    true => self.pipe.read(&mut self.client, need).await,
                    // Whether it closes could not be seen any more.
                    false => Ok(false),
                }
            };
            tokio::select! {
                biased;
                answer = &mut asked => return Ok(answer),
                () = &mut interrupted => {
                    hold.give_up();
                    return Ok(asked.await);
                }
                more = more => match more {
                    Ok(true) => {}
                    Ok(false) => {
                        hold.give_up();
                        return Ok(asked.await);
                    }
                    Err(error) => {
                        hold.give_up();
                        drop(asked.await);
                        return Err(Why::ClientLost(error));
                    }
                },
            }
        }
    }
}
