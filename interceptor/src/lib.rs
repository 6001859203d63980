//! interceptor: who on this host connects where, may they, and what did they see.
//!
//! # Code map
//!
//! Everything is one of two loops.
//!
//! The **intercept path**, once per connection, is [`connection`]:
//! `capture → identify → admit → terminate → authorize → dial → relay → close`.
//!
//! The **request loop**, once per request, is an engine below [`protocol`] that holds one
//! [`session::Session`]: `decode → authorize → inject → forward → mask → record`.
//!
//! | question | home |
//! |---|---|
//! | where was this socket really going, who opened it | [`capture`] |
//! | which process, binary, ancestors, agent, user | [`identity`] |
//! | who stands behind an agent, by a token that was verified | [`tokens`] |
//! | which agent is a cgroup, which target an address | [`scopes`], [`targets`] |
//! | which names may an agent ask for, and whose are the answers | [`names`] |
//! | what do these bytes mean | `protocol/x/wire.rs` |
//! | what do they ask for, in policy's words | `protocol/x/facts.rs` |
//! | may they | [`policy`] |
//! | what were they granted for a while, what waits for people | [`grants`], [`approvals`] |
//! | what may they not see of it | [`masking`] (masks, detectors) and `protocol/x/mask.rs` |
//! | by which key was a server known that nobody pins | [`hosts`] |
//! | as whom upstream | [`secrets`] and `protocol/x/inject.rs` |
//! | how does "no" sound | `protocol/x/refuse.rs` |
//! | what is kept | [`audit`] (facts), [`recording`] (bytes) |
//! | how others hear of it, how it is found again | [`outputs`], [`search`] |
//! | who proves by a key that it is he who answers | [`factors`] |
//! | what can an operator do | [`control`], [`cli`], [`console`] |
//! | what may a file say | [`config`] |
//! | which certificates do we show, which do we trust | [`tls`] |
//! | how is what must last kept in SQLite | [`state`] |
//! | who builds whom | [`daemon`] |
//! | how do we dial, what time is it, what do we say of ourselves | [`socket`], [`clock`], [`telemetry`] |
//! | what would nobody see in a text | [`unseen`] |
//!
//! Absent on purpose: `policy`, `identity`, `secrets`, `audit` and `recording` know no protocol;
//! an engine reaches them only through its session; nothing imports `daemon`.

pub mod approvals;
pub mod audit;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod console;
pub mod control;
pub mod daemon;
pub mod factors;
pub mod grants;
pub mod hosts;
pub mod identity;
pub mod masking;
pub mod names;
pub mod outputs;
pub mod policy;
pub mod protocol;
pub mod recording;
pub mod scopes;
pub mod search;
pub mod secrets;
pub mod session;
pub mod socket;
pub mod state;
pub mod targets;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod unseen;

/// What the build script looks for; its tests run with the crate's.
#[cfg(test)]
#[path = "../build/needs.rs"]
mod needs;
