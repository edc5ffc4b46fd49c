//! The routes of a kernel as the device reads them: a tree in mapped memory that grows with their numbers.
//!
//! ```text
//! first leaf (routes 0 to 63) | root        part of the kernel's own memory
//! root -> page -> page -> leaf              4 KiB each, made when a number comes that needs them
//! ```
//! An entry of a leaf has 8 words: 4 bytes of the route and the route's number in each, so whoever finds a number in all of them has
//! the whole route (D18 in the device's header). The host is the only writer, under one lock.
//!
//! # Argument: a number never leads to another number's route
//! Numbers are not used again (`runtime/route.rs`), and every word of an entry says whose it is. A device that reads an entry while it
//! is written or zeroed, or whose way to a leaf is an old one, finds a word that is not its number's and has found nothing.
//!
//! # Argument: a route that is there is found
//! Its leaf hangs in the tree from before its number is told until after it has ended: a leaf is taken down only when it has no
//! route. So the whole way from the root leads there; a remembered leaf is tried first and proves itself, or the whole way is gone again.
//!
//! # Memory
//! A leaf without routes is taken down, unless the newest number is its, and is the next leaf that is needed: what is held follows the
//! routes that live, at worst one leaf for each. Leaves stay leaves and pages stay pages until the kernel's end, so that an old address
//! leads to a leaf or a page still. Pages above the leaves are never taken down: they are an eighth of a byte for each number.

use std::collections::HashMap;

use super::device::{Device, Kind, Piece};
use crate::error::Result;
use crate::layout::{ROUTE_ENTRY, ROUTE_LEAF, ROUTE_PAGE, ROUTE_ROOT};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

/// Bytes of a leaf and of a page.
const PAGE: usize = ROUTE_PAGE * 8;
/// What a kernel has from the beginning: the first leaf and the root.
pub(super) const FIRST: usize = PAGE + ROUTE_ROOT * 8;
/// Pages that are made at once: as many as there are, within these bounds.
const GROW_MIN: usize = 4;
const GROW_MAX: usize = 256;

const _: () = assert!(ROUTE_LEAF * ROUTE_ENTRY == PAGE);

/// Zeroed memory that the device sees.
pub(super) trait Area: Send {
    fn word(&self, offset: usize) -> &AtomicU64;
    /// Where the device sees it.
    fn address(&self) -> u64;
}

/// Gets memory for so many bytes.
type More = dyn Fn(usize) -> Result<Box<dyn Area>> + Send;

/// A part of a piece.
struct Part(Arc<Piece>, usize);

impl Area for Part {
    fn word(&self, offset: usize) -> &AtomicU64 {
        self.0.word(self.1 + offset)
    }

    fn address(&self) -> u64 {
        self.0.device + self.1 as u64
    }
}

/// Where a page is: an area and an offset in it.
#[derive(Clone, Copy)]
struct Place(usize, usize);

struct Leaf {
    place: Place,
    live: usize,
}

/// See the file's head.
struct Tree {
    /// The first has the first leaf and the root.
    areas: Vec<Box<dyn Area>>,
    more: Box<More>,
    /// Pages that nobody has had yet: of the last area, from there to its end.
    fresh: (usize, usize),
    spare: Vec<Place>,
    pages: HashMap<(u32, u32), Place>,
    leaves: HashMap<u32, Leaf>,
    newest: u32,
}

impl Tree {
    fn new(first: Box<dyn Area>, more: Box<More>) -> Self {
        Self {
            areas: vec![first],
            more,
            fresh: (0, 0),
            spare: Vec::new(),
            pages: HashMap::new(),
            leaves: HashMap::from([(0, Leaf { place: Place(0, 0), live: 0 })]),
            newest: 0,
        }
    }

    fn word(&self, place: Place, index: usize) -> &AtomicU64 {
        self.areas[place.0].word(place.1 + 8 * index)
    }

    fn address(&self, place: Place) -> u64 {
        self.areas[place.0].address() + place.1 as u64
    }

    /// A page of zeros.
    fn page(&mut self) -> Result<Place> {
        if self.fresh.0 == self.fresh.1 {
            let pages = (self.pages.len() + self.leaves.len()).clamp(GROW_MIN, GROW_MAX);
            self.areas.push((self.more)(pages * PAGE)?);
            self.fresh = (0, pages * PAGE);
        }
        let place = Place(self.areas.len() - 1, self.fresh.0);
        self.fresh.0 += PAGE;
        Ok(place)
    }

    /// The word that leads to a leaf; the pages above it are made if need be.
    fn way(&mut self, leaf: u32) -> Result<(Place, usize)> {
        let bits = ROUTE_PAGE.ilog2();
        let mut above = (Place(0, PAGE), (leaf >> (2 * bits)) as usize);
        for level in [2, 1] {
            let key = (level, leaf >> (level * bits));
            let place = match self.pages.get(&key) {
                Some(place) => *place,
                None => {
                    let place = self.page()?;
                    self.word(above.0, above.1).store(self.address(place), Ordering::Release);
                    self.pages.insert(key, place);
                    place
                }
            };
            above = (place, (leaf >> ((level - 1) * bits)) as usize % ROUTE_PAGE);
        }
        Ok(above)
    }

    /// Where the entries of a leaf are; it hangs in the tree afterwards.
    fn leaf(&mut self, leaf: u32) -> Result<Place> {
        if let Some(known) = self.leaves.get(&leaf) {
            return Ok(known.place);
        }
        let (above, index) = self.way(leaf)?;
        let place = match self.spare.pop() {
            Some(place) => place,
            None => self.page()?,
        };
        self.word(above, index).store(self.address(place), Ordering::Release);
        self.leaves.insert(leaf, Leaf { place, live: 0 });
        Ok(place)
    }

    /// Takes a leaf down that has no routes.
    fn prune(&mut self, leaf: u32) {
        let newest = self.newest / ROUTE_LEAF as u32;
        let is_bare = |of: &Leaf| of.live == 0 && leaf != 0 && leaf != newest;
        if !self.leaves.get(&leaf).is_some_and(is_bare) {
            return;
        }
        if let Ok((above, index)) = self.way(leaf)
            && let Some(Leaf { place, .. }) = self.leaves.remove(&leaf)
        {
            self.word(above, index).store(0, Ordering::Release);
            self.spare.push(place);
        }
    }

    fn add(&mut self, route: u32, words: &[u32; 8]) -> Result<()> {
        let number = route / ROUTE_LEAF as u32;
        let place = self.leaf(number)?;
        let first = route as usize % ROUTE_LEAF * 8;
        for (at, word) in words.iter().enumerate() {
            let word = u64::from(route + 1) << 32 | u64::from(*word);
            self.word(place, first + at).store(word, Ordering::Release);
        }
        if let Some(leaf) = self.leaves.get_mut(&number) {
            leaf.live += 1;
        }
        if route > self.newest {
            let before = std::mem::replace(&mut self.newest, route);
            self.prune(before / ROUTE_LEAF as u32);
        }
        Ok(())
    }

    fn remove(&mut self, route: u32) {
        let (number, first) = (route / ROUTE_LEAF as u32, route as usize % ROUTE_LEAF * 8);
        let Some(place) = self.leaves.get(&number).map(|leaf| leaf.place) else { return };
        if self.word(place, first).load(Ordering::Relaxed) >> 32 != u64::from(route) + 1 {
            return;
        }
        (first..first + 8).for_each(|at| self.word(place, at).store(0, Ordering::Release));
        if let Some(leaf) = self.leaves.get_mut(&number) {
            leaf.live -= 1;
        }
        self.prune(number);
    }
}

/// The tree of a kernel, for as long as its blocks may read it.
pub(super) struct RouteTable(Mutex<Option<Tree>>);

impl std::fmt::Debug for RouteTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RouteTable")
    }
}

impl RouteTable {
    /// An empty one that begins at an offset of a piece.
    pub(super) fn new(device: &Arc<Device>, mapped: &Arc<Piece>, offset: usize) -> Self {
        let device = Arc::clone(device);
        let more = move |bytes| {
            let piece = Arc::new(device.allocate(Kind::Mapped, bytes)?);
            Ok(Box::new(Part(piece, 0)) as Box<dyn Area>)
        };
        let first = Box::new(Part(Arc::clone(mapped), offset));
        Self(Mutex::new(Some(Tree::new(first, Box::new(more)))))
    }

    /// Writes a route, unless it has ended meanwhile: who ends it says so first and comes here after.
    pub(super) fn add(&self, route: u32, words: &[u32; 8], is_live: impl Fn() -> bool) -> Result<()> {
        match &mut *lock(&self.0) {
            Some(tree) if is_live() => tree.add(route, words),
            _ => Ok(()),
        }
    }

    /// Ends one.
    pub(super) fn remove(&self, route: u32) {
        if let Some(tree) = &mut *lock(&self.0) {
            tree.remove(route);
        }
    }

    /// Bytes beyond what the kernel has from the beginning.
    pub(super) fn bytes(&self) -> usize {
        lock(&self.0).as_ref().map_or(0, |tree| {
            let fresh = (tree.fresh.1 - tree.fresh.0) / PAGE;
            (tree.pages.len() + tree.leaves.len() - 1 + tree.spare.len() + fresh) * PAGE
        })
    }

    /// The blocks have ended, or (`leak`) may read it for ever.
    pub(super) fn close(&self, leak: bool) {
        let tree = lock(&self.0).take();
        if leak {
            std::mem::forget(tree);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::AtomicBool;

    struct Words(Vec<AtomicU64>);

    impl Area for Arc<Words> {
        fn word(&self, offset: usize) -> &AtomicU64 {
            &self.0[offset / 8]
        }

        fn address(&self) -> u64 {
            self.0.as_ptr() as u64
        }
    }

    type Made = Arc<Mutex<Vec<Arc<Words>>>>;

    fn area(made: &Made, bytes: usize) -> Arc<Words> {
        let words = Arc::new(Words((0..bytes / 8).map(|_| AtomicU64::new(0)).collect()));
        lock(made).push(Arc::clone(&words));
        words
    }

    fn tree() -> (Tree, Made) {
        let made = Made::default();
        let (first, from) = (area(&made, FIRST), Arc::clone(&made));
        let more = move |bytes| Ok(Box::new(area(&from, bytes)) as Box<dyn Area>);
        (Tree::new(Box::new(first), Box::new(more)), made)
    }

    /// What the device does, with the leaf that it remembers.
    struct Walker {
        made: Made,
        leaf: u64,
    }

    impl Walker {
        fn read(&self, address: u64) -> u64 {
            let made = lock(&self.made);
            let found = made.iter().find_map(|words| {
                let offset = address.checked_sub(words.address())? as usize;
                words.0.get(offset / 8)
            });
            found.expect("an address of ours").load(Ordering::Acquire)
        }

        fn entry(&self, leaf: u64, route: u32) -> Option<[u32; 8]> {
            let first = leaf + route as u64 % 64 * 64;
            let words: Vec<u64> = (0..8).map(|at| self.read(first + 8 * at)).collect();
            let is_whole = words.iter().all(|word| word >> 32 == u64::from(route) + 1);
            is_whole.then(|| std::array::from_fn(|at| words[at] as u32))
        }

        fn find(&mut self, route: u32) -> Option<[u32; 8]> {
            let first = lock(&self.made)[0].address();
            if route < 64 {
                return self.entry(first, route);
            }
            if self.leaf != 0
                && let Some(found) = self.entry(self.leaf, route)
            {
                return Some(found);
            }
            let mut page = first + 4096 + 8 * u64::from(route >> 24);
            for shift in [15, 6] {
                page = self.read(page);
                if page == 0 {
                    return None;
                }
                page += 8 * u64::from(route >> shift & 511);
            }
            let leaf = self.read(page);
            let found = if leaf == 0 { None } else { self.entry(leaf, route) };
            if found.is_some() {
                self.leaf = leaf;
            }
            found
        }
    }

    fn words(route: u32) -> [u32; 8] {
        std::array::from_fn(|at| route.wrapping_mul(31).wrapping_add(at as u32))
    }

    #[test]
    fn as_many_routes_live_as_memory_allows_and_numbers_go_to_the_end() {
        let (mut tree, made) = tree();
        let mut walker = Walker { made, leaf: 0 };
        let far = [1 << 15, 1 << 24, (1 << 24) + (1 << 15) + 64, (1 << 29) - 1];
        let numbers: Vec<u32> = (0..3000).chain(69_000..69_100).chain(far).collect();
        for route in &numbers {
            assert_eq!(walker.find(*route), None);
            tree.add(*route, &words(*route)).expect("memory");
            assert_eq!(walker.find(*route), Some(words(*route)));
        }
        assert!(numbers.iter().all(|route| walker.find(*route) == Some(words(*route))));
        for route in numbers.iter().filter(|route| *route % 3 != 0) {
            tree.remove(*route);
            tree.remove(*route);
            assert_eq!(walker.find(*route), None);
        }
        for route in numbers.iter().filter(|route| *route % 3 == 0) {
            assert_eq!(walker.find(*route), Some(words(*route)));
        }
    }

    #[test]
    fn routes_that_come_and_go_for_ever_take_no_memory() {
        let (mut tree, made) = tree();
        tree.add(0, &words(0)).expect("memory");
        for route in 1..300_000 {
            tree.add(route, &words(route)).expect("memory");
            tree.remove(route - 1);
        }
        let pages = lock(&made).iter().map(|words| words.0.len() * 8 / PAGE).sum::<usize>();
        // A page for each 32768 numbers, one above, two leaves.
        assert!(pages <= 1 + 300_000 / 32_768 + 1 + 2 + GROW_MIN * 4, "{pages}");
    }

    #[test]
    fn who_walks_while_leaves_are_hung_up_elsewhere_finds_its_own_route_or_none() {
        let (mut tree, made) = tree();
        let newest = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        tree.add(7, &words(7)).expect("memory");
        tree.add(64, &words(64)).expect("memory");
        let walkers: Vec<_> = (0..2)
            .map(|_| {
                let (newest, stop, made) = (Arc::clone(&newest), Arc::clone(&stop), Arc::clone(&made));
                std::thread::spawn(move || {
                    let mut walker = Walker { made, leaf: 0 };
                    let mut found = 0u64;
                    while !stop.load(Ordering::Relaxed) || found == 0 {
                        // Stays all the time, beside a leaf that moves.
                        assert_eq!(walker.find(64), Some(words(64)));
                        for back in 0..130 {
                            let last = newest.load(Ordering::Acquire) as u32;
                            let route = last.saturating_sub(back);
                            if let Some(read) = walker.find(route) {
                                assert_eq!(read, words(route));
                                found += 1;
                            }
                        }
                    }
                })
            })
            .collect();
        for route in 65..20_000 {
            tree.add(route, &words(route)).expect("memory");
            newest.store(u64::from(route), Ordering::Release);
            if route > 65 {
                tree.remove(route - 1);
            }
        }
        stop.store(true, Ordering::Relaxed);
        walkers.into_iter().for_each(|walker| walker.join().expect("no walker was misled"));
    }
}
