//! Refusals that the rate limit kept out of the ring: counted by kind in the kernel, and told from there.
//!
//! The daemon keeps in mind how much of each row it has told. Rows are forgotten, and two processors may count one
//! refusal in them; the sum over all kinds is exact. No more than it is ever told, and what it has beyond the rows
//! is told once nothing is under way.

use std::collections::HashMap;
use std::net::SocketAddr;

use aya::maps::{self, MapData};
use interceptor_ebpf::MAX_BUCKETS;
use interceptor_ebpf::door::Door;
use interceptor_ebpf::event::{BY_DOOR, Bucket, BucketKey, EVERY_KIND};
use interceptor_ebpf::flow::Endpoint;

use super as events;
use super::super::pins::Pins;
use super::super::rules::{self, address};
use super::super::{DenyReason, Error, map_error};

/// Refusals that the rate limit kept from being told one by one: so many of one kind since they were last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// What they were; none where more kinds came than the kernel remembers.
    pub like: Option<Like>,
    /// How many.
    pub count: u64,
    /// How many the kernel's row of that kind has by now.
    of_row: u64,
}

/// A kind of refusals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Like {
    /// Scope root's cgroup id.
    pub scope: u64,
    /// Why.
    pub reason: DenyReason,
    /// Where it wanted to go (or bind), where it is about an address.
    pub destination: Option<SocketAddr>,
    /// The kernel's row.
    key: BucketKey,
}

/// The sum over all kinds.
#[derive(Clone, Copy)]
pub(super) struct Owed {
    /// Since the pins were made.
    pub(super) all: u64,
    /// Of those, how many were not told.
    pub(super) untold: u64,
}

/// What has been told, by kind.
pub(super) struct Folds {
    buckets: maps::HashMap<MapData, BucketKey, Bucket>,
    /// None before the first look: what the rows have by then is as good as forgotten.
    told: Option<HashMap<BucketKey, u64>>,
    /// All that were folded, at the last look.
    all: u64,
}

impl Folds {
    /// Looks at the pinned table.
    pub(super) fn open(pins: &Pins) -> Result<Self, Error> {
        let buckets = MapData::from_pin(pins.map("BUCKETS"))
            .and_then(|map| maps::HashMap::try_from(maps::Map::LruHashMap(map)))
            .map_err(map_error("open", "BUCKETS"))?;
        Ok(Self {
            buckets,
            told: None,
            all: u64::MAX,
        })
    }

    /// What was folded and is not told yet.
    pub(super) fn look(
        &mut self,
        owed: impl Fn() -> Result<Owed, Error>,
    ) -> Result<Vec<Folded>, Error> {
        let Owed { all, untold } = owed()?;
        let is_still = std::mem::replace(&mut self.all, all) == all;
        if untold == 0 && self.told.is_some() {
            return Ok(Vec::new());
        }
        let rows = self.rows()?;
        // The kernel counts the sum first: by now it has all that the rows have.
        let Owed { mut untold, .. } = owed()?;
        let Some(told) = self.told.as_mut() else {
            self.told = Some(rows);
            return Ok(Vec::new());
        };
        told.retain(|key, _| rows.contains_key(key));
        let mut found = Vec::new();
        for (key, of_row) in rows {
            // Fewer than before: the row was forgotten, and is another now.
            let before = told.entry(key).or_insert(0);
            *before = of_row.min(*before);
            let count = of_row.saturating_sub(*before).min(untold);
            untold = untold.saturating_sub(count);
            if count > 0 {
                found.push(Folded {
                    like: like(key),
                    count,
                    of_row,
                });
            }
        }
        if found.is_empty() && is_still && untold > 0 {
            found.push(Folded {
                like: None,
                count: untold,
                of_row: 0,
            });
        }
        Ok(found)
    }

    /// Keeps in mind that these were told; how many refusals they are.
    pub(super) fn told<'a>(&mut self, told: impl Iterator<Item = &'a Folded>) -> u64 {
        let rows = self.told.get_or_insert_default();
        let mut count = 0_u64;
        for folded in told {
            count = count.saturating_add(folded.count);
            if let Some(like) = &folded.like {
                rows.insert(like.key, folded.of_row);
            }
        }
        count
    }

    /// Every kind that something was folded of. Rows come and go meanwhile.
    fn rows(&self) -> Result<HashMap<BucketKey, u64>, Error> {
        let most = usize::try_from(MAX_BUCKETS).unwrap_or(0).saturating_mul(2);
        let rows = self.buckets.iter().take(most);
        let folded = rows.filter_map(|row| match row {
            Ok((key, bucket)) => {
                (bucket.folded > 0 && like(key).is_some()).then_some(Ok((key, bucket.folded)))
            }
            Err(error) => Some(Err(error)),
        });
        let folded: Result<_, _> = folded.collect();
        folded.map_err(map_error("read", "BUCKETS"))
    }
}

impl Like {
    /// Whether it is about the UNIX socket of this name.
    #[must_use]
    pub fn is_of_door(&self, name: &str) -> bool {
        let Some((length, path)) = rules::row(name) else {
            return false;
        };
        let number = Door { length, path }.number();
        self.key.kind & BY_DOOR != 0 && self.key.destination.address == number
    }
}

/// What a row is about; none where this version cannot read it.
fn like(key: BucketKey) -> Option<Like> {
    if key.kind == EVERY_KIND {
        return None;
    }
    let is_address = key.kind & BY_DOOR == 0 && !key.destination.same(&Endpoint::default());
    Some(Like {
        scope: key.scope,
        reason: events::reason(key.kind & 0xffff)?,
        destination: is_address.then(|| address(&key.destination)),
        key,
    })
}
