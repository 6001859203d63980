//! What another version kept of who comes from which scope. Nothing else holds who has left, so it is taken over before
//! that version's programs go.

use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo, MapType};
use interceptor_ebpf::MAX_LINEAGE;
use interceptor_ebpf::process::{Lineage, TICK};

use super::{ROUNDS, Tagged, processes, started};
use crate::capture::pins::{self, Pins, pin_error};
use crate::capture::programs::HOST_MAP;
use crate::capture::{Capture, Error, Settings, map_error, syscall};

/// The map of another version.
enum Rows {
    /// A row for each number, which holds whatever becomes of the scope.
    All(Array<MapData, Lineage>),
    /// Rows of some, before layout 6: they held while the scope was tagged.
    Some(HashMap<MapData, u32, Lineage>),
}

impl Rows {
    fn open(pin: &Path) -> Result<Self, Error> {
        let map = MapData::from_pin(pin).and_then(Map::from_map_data);
        let rows = map.and_then(|map| match map {
            Map::HashMap(_) => HashMap::try_from(map).map(Self::Some),
            map => Array::try_from(map).map(Self::All),
        });
        rows.map_err(map_error("open", HOST_MAP))
    }

    fn of(&self, pid: u32) -> Result<Lineage, Error> {
        let row = match self {
            Self::All(rows) => rows.get(&pid, 0),
            Self::Some(rows) => rows.get(&pid, 0),
        };
        match row {
            Err(MapError::KeyNotFound) => Ok(Lineage::default()),
            row => row.map_err(map_error("read", HOST_MAP)),
        }
    }
}

/// Has the programs use the map of another version where its rows are of the same form: then not one is missing at any
/// moment.
pub(in crate::capture) fn share(pins: &Pins, settings: &Settings) -> Result<(), Error> {
    let own = pins.map(HOST_MAP);
    if !settings.host || own.exists() {
        return Ok(());
    }
    for layout in pins.other_layouts()? {
        let pin = map_in(&layout);
        if pin.exists() && is_alike(&pin).map_err(map_error("look at", HOST_MAP))? {
            let map = syscall::open_pin(&pin).map_err(pin_error("open", &pin))?;
            return syscall::pin(&map, &own).map_err(pin_error("pin", &own));
        }
    }
    Ok(())
}

fn map_in(layout: &Path) -> PathBuf {
    pins::map_in(layout, HOST_MAP)
}

fn is_alike(pin: &Path) -> Result<bool, MapError> {
    let map = MapInfo::from_pin(pin)?;
    let sizes = [map.key_size(), map.value_size(), map.max_entries()];
    let own = [4, 16, MAX_LINEAGE];
    Ok(matches!(map.map_type()?, MapType::Array) && sizes == own)
}

impl Capture {
    /// Takes over what the map of another version has, while that version's programs still run.
    pub(in crate::capture) fn inherit(&self, layout: &Path) -> Result<(), Error> {
        let pin = map_in(layout);
        if !self.guards_host() || !pin.exists() {
            return Ok(());
        }
        let rows = Rows::open(&pin)?;
        let mut tagged = self.tagged();
        // Children of those that are known here are told of by the new programs, of others by the old: after a round
        // that finds none, there are no others.
        for _ in 0..ROUNDS {
            let mut is_done = true;
            for pid in processes()? {
                is_done &= !self.take_over(pid, &rows, &mut tagged)?;
            }
            if is_done {
                return Ok(());
            }
        }
        tracing::error!(
            "processes that have left their scope are made faster than they are taken over from another version: some may make sockets"
        );
        Ok(())
    }

    /// Whether the process was not known here yet.
    fn take_over(&self, pid: u32, rows: &Rows, tagged: &mut Tagged<'_>) -> Result<bool, Error> {
        let row = rows.of(pid)?;
        if row.scope == 0 {
            return Ok(false);
        }
        let Some(began) = started(pid) else {
            return Ok(false);
        };
        let is_its = |row: Lineage| row.started - row.started % TICK == began;
        // Layout 5 did not know the start of all.
        let is_its_own = row.started == 0 || is_its(row);
        let known = self.kept(pid)?;
        let is_known = known.scope != 0 && is_its(known);
        let is_held = match rows {
            Rows::All(_) => true,
            Rows::Some(_) => tagged.ids.contains(&row.scope),
        };
        if !is_its_own || is_known || !is_held {
            return Ok(false);
        }
        let scope = tagged.of(pid).unwrap_or(row.scope);
        let started = if row.started == 0 { began } else { row.started };
        self.keep(pid, Lineage { scope, started })?;
        self.keep_where_it_is(pid, scope, tagged)?;
        Ok(true)
    }
}
