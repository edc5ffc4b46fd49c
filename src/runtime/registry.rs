//! Which kernels there are: by id, in the order of their launch, and those that are gone but for a handler.
//!
//! An id is claimed before its kernel is made and filled in afterwards, so of several launches at once exactly one gets past the
//! claim, and nobody can get a kernel that is not complete. Everything here is under the lock of `core.rs`.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::kernel::Kernel;
use crate::metrics::Sums;
use crate::sync::{Arc, Ordering};

/// A live kernel, with the hash of its id: a table that grows does not look at the kernels.
struct Named {
    hash: u64,
    kernel: Arc<Kernel>,
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Registry {
    live: HashTable<Named>,
    hasher: RandomState,
    /// Ids whose kernels are being made; as many as launches are in progress.
    claims: Vec<Arc<str>>,
    /// Everything that was not destroyed, in the order of launch, with holes; each kernel knows its place.
    launched: Vec<Option<Arc<Kernel>>>,
    holes: usize,
    /// Destroyed while a handler was still running: a shutdown waits for these too.
    pub(super) lingering: Vec<Arc<Kernel>>,
    /// Sums of what was destroyed.
    pub(super) past: Sums,
}

impl Registry {
    /// The live kernel of an id.
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Kernel>> {
        let hash = self.hasher.hash_one(id);
        self.live.find(hash, |named| named.hash == hash && *named.kernel.id == *id).map(|named| &named.kernel)
    }

    /// Ids that are taken.
    pub(super) fn taken(&self) -> usize {
        self.live.len() + self.claims.len()
    }

    /// Claims an id; false when it is taken.
    pub(super) fn claim(&mut self, id: &Arc<str>) -> bool {
        let is_free = self.get(id).is_none() && !self.claims.contains(id);
        if is_free {
            self.claims.push(Arc::clone(id));
        }
        is_free
    }

    /// Gives a claim up.
    pub(super) fn unclaim(&mut self, id: &Arc<str>) {
        if let Some(place) = self.claims.iter().position(|claim| claim == id) {
            self.claims.swap_remove(place);
        }
    }

    /// The kernel of an id that was claimed.
    pub(super) fn fill(&mut self, kernel: &Arc<Kernel>) {
        self.unclaim(&kernel.id);
        let hash = self.hasher.hash_one(&*kernel.id);
        self.live.insert_unique(hash, Named { hash, kernel: Arc::clone(kernel) }, |named| named.hash);
        kernel.place.store(self.launched.len() as u32, Ordering::Relaxed);
        self.launched.push(Some(Arc::clone(kernel)));
    }

    /// Frees the id of a kernel, if it is still its.
    pub(super) fn free(&mut self, kernel: &Kernel) {
        let hash = self.hasher.hash_one(&*kernel.id);
        if let Ok(entry) = self.live.find_entry(hash, |named| named.kernel.handle == kernel.handle) {
            entry.remove();
        }
    }

    /// Everything that was not destroyed, in the order of launch.
    pub(super) fn launched(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.launched.iter().flatten()
    }

    /// Takes out a kernel that is destroyed; `None`: it was not in there any more.
    pub(super) fn take(&mut self, kernel: &Kernel) -> Option<Arc<Kernel>> {
        let place = self.launched.get_mut(kernel.place.load(Ordering::Relaxed) as usize)?;
        let taken = place.take_if(|found| found.handle == kernel.handle)?;
        self.holes += 1;
        // Half of it at least: each destroy has paid for one step of this.
        if self.holes > 64 && self.holes > self.launched.len() / 2 {
            self.launched.retain(Option::is_some);
            self.launched.shrink_to(2 * self.launched.len());
            self.launched()
                .enumerate()
                .for_each(|(place, kernel)| kernel.place.store(place as u32, Ordering::Relaxed));
            self.holes = 0;
        }
        Some(taken)
    }
}
