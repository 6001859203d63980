//! What the kernel counts of our programs while it is asked to (`BPF_ENABLE_STATS`, Linux 5.8).

use std::collections::BTreeSet;
use std::time::Duration;

use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

/// Programs that were loaded since.
pub(crate) struct Programs(BTreeSet<u32>);

/// What they took, together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    pub(crate) runs: u64,
}

impl Cost {
    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            time: self.time.saturating_sub(before.time),
            runs: self.runs.saturating_sub(before.runs),
        }
    }
}

/// The programs that are there; others may come and go meanwhile.
pub(crate) fn all() -> BTreeSet<u32> {
    let found = loaded_programs().flatten();
    found.map(|program| program.id()).collect()
}

impl Programs {
    pub(crate) fn since(before: &BTreeSet<u32>) -> Self {
        let ours = loaded_programs().flatten().filter(|program| {
            let name = program.name_as_str().unwrap_or_default();
            !before.contains(&program.id()) && name.starts_with("interceptor")
        });
        Self(ours.map(|program| program.id()).collect())
    }

    /// What they have taken so far, of what was counted.
    pub(crate) fn read(&self) -> anyhow::Result<Cost> {
        let mut sum = Cost::default();
        for program in loaded_programs().flatten() {
            if self.0.contains(&program.id()) {
                sum.time = sum.time.saturating_add(program.run_time());
                sum.runs = sum.runs.saturating_add(program.run_count());
            }
        }
        Ok(sum)
    }

    /// What they take while `f` runs.
    pub(crate) fn counted<T>(
        &self,
        f: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(Cost, T)> {
        let _counting = enable_stats(Stats::RunTime)?;
        let before = self.read()?;
        let done = f()?;
        Ok((self.read()?.since(&before), done))
    }
}
