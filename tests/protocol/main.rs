//! Protocol parts of the daemon against real servers and stock clients, over loopback.
//!
//! Needs PostgreSQL's server programs and `psql` (Debian: `postgresql`); missing, the tests fail.

#[cfg(test)]
mod around;
#[cfg(test)]
mod beyond;
#[cfg(test)]
mod bridge;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod login;
#[cfg(test)]
mod loop_combinations;
#[cfg(test)]
mod loop_data;
#[cfg(test)]
mod loop_gate;
#[cfg(test)]
mod loop_oracle;
#[cfg(test)]
mod loop_poison;
#[cfg(test)]
mod loop_rig;
#[cfg(test)]
mod masking;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod server;
#[cfg(test)]
mod startup;
#[cfg(test)]
mod statements;
