//! Leases: what the application holds of our memory, and how it gives it back.
//!
//! A lease is a number: kind (2 bits), index (22 bits), position (40 bits). For views of output and for loans
//! the index names a ring in the table below and the position one message of it; for replies it names a
//! call's place and its generation; for dead letters the position is the letter's number. So a lease that was
//! given back, or never issued, is recognised by what it names no longer being out: the turn of the slot, the
//! token of the loan, the generation of the place. The payload pointer is compared as well.
//!
//! # Loans
//! Reserving claims a slot and writes the lease into its token; whoever wins the compare-and-swap of that token
//! settles the loan, exactly once: commit and abort (→ 0) publish the slot, the end of the kernel (→ revoked)
//! steps past it. Who finds its token revoked is told and sets it to 0. Winning is all the token is for: the
//! payload is handed over by the publication (W3), and a revoked slot's payload is read by nobody.
//!
//! # Memory that outlives its kernel
//! The table owns a share of the kernel for each ring with leases. Destroying a kernel takes the shares out
//! if nothing is out; else the kernel is marked, and each return looks again. The mark and the return are a
//! Dekker pair (heavy and light fence), so the last return or the destroy sees the other, and the lock makes
//! them take turns.
#![allow(unsafe_code)]

use super::calls;
use super::dead;
use super::kernel::Kernel;
use super::message::Outgoing;
use super::table::Table;
use crate::error::{Error, Result};
use crate::layout::*;
use crate::limits::{BATCH_MAX, LEASE_INDEX_BITS, LEASE_POSITION_BITS, TABLE_CHUNK};
use crate::ring::{ClaimError, Header, Ring};
use crate::sync::{
    Arc, AtomicU32, AtomicU64, Label, Mutex, Ordering, heavy_fence, light_fence, lock, monotonic_coarse_ns,
};

/// What a lease is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A message in an output ring.
    View,
    /// A slot in an input ring.
    Loan,
    /// The reply of a call.
    Reply,
    /// A dead letter; in the token of a slot: a loan that was revoked.
    DeadLetter,
}

/// See the file's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lease {
    pub(crate) kind: Kind,
    pub(crate) index: u32,
    pub(crate) position: u64,
}

const POSITIONS: u64 = (1 << LEASE_POSITION_BITS) - 1;
const INDICES: u32 = (1 << LEASE_INDEX_BITS) - 1;

impl Lease {
    pub(crate) fn encode(self) -> u64 {
        ((self.kind as u64) << 62) | (u64::from(self.index) << LEASE_POSITION_BITS) | self.position
    }

    pub(crate) fn decode(word: u64) -> Self {
        Self {
            kind: match word >> 62 {
                0 => Kind::View,
                1 => Kind::Loan,
                2 => Kind::Reply,
                _ => Kind::DeadLetter,
            },
            index: (word >> LEASE_POSITION_BITS) as u32 & INDICES,
            position: word & POSITIONS,
        }
    }

    /// The lease of a ring's position.
    pub(crate) fn at(kind: Kind, index: u32, base: u64, position: u64) -> Self {
        Self { kind, index, position: base.wrapping_add(position) & POSITIONS }
    }

    /// The position in a ring that is `near` it by less than 2^39.
    fn near(self, base: u64, near: u64) -> u64 {
        let back = near.wrapping_add(base).wrapping_sub(self.position) & POSITIONS;
        if back > POSITIONS / 2 { near.wrapping_add(POSITIONS + 1 - back) } else { near.wrapping_sub(back) }
    }
}

/// A ring that may have leases out.
struct Entry {
    kernel: Arc<Kernel>,
    /// The block whose input it is; `None`: the kernel's output.
    block: Option<u32>,
    /// Added to positions, so that an index that is used again does not repeat a lease.
    base: u64,
}

static ENTRIES: Table<Entry, { (1 << LEASE_INDEX_BITS) / TABLE_CHUNK }> = Table::new();
/// Where the positions of each index went on so far; index 0 is not used.
static BASES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

impl Entry {
    fn ring(&self) -> &Ring {
        let ring = match self.block {
            Some(block) => self.kernel.block(block).input.get(),
            None => self.kernel.output.get(),
        };
        ring.expect("an entry is made for a ring that is there")
    }
}

fn bad(what: &'static str, lease: u64) -> Error {
    Error::BadHandle { what, value: lease }
}

/// Index and base of a ring's leases, entered into the table if need be.
pub(crate) fn entry_of(kernel: &Kernel, block: Option<u32>) -> Result<(u32, u64)> {
    let (index, base) = words(kernel, block);
    match index.load(Ordering::Acquire) {
        0 => enter(kernel, block),
        known => Ok((known, base.load(Ordering::Relaxed))),
    }
}

/// The same of the output ring, if it is in the table.
#[inline(always)]
pub(crate) fn known_entry(kernel: &Kernel) -> Option<(u32, u64)> {
    let index = kernel.output_lease.load(Ordering::Acquire);
    (index != 0).then(|| (index, kernel.output_base.load(Ordering::Relaxed)))
}

/// Takes up to `capacity` messages of an output ring as views, as far as they are there; how many. `index` and `base` are of its leases.
#[inline(always)]
pub(crate) fn take_views(
    ring: &Ring,
    index: u32,
    base: u64,
    capacity: usize,
    take: &mut impl FnMut(usize, &RkMessage),
) -> usize {
    let mut taken = 0;
    while taken < capacity {
        let (first, end) = ring.take_run((capacity - taken).min(BATCH_MAX) as u64);
        if first == end {
            break;
        }
        let now = monotonic_coarse_ns();
        for position in first..end {
            // SAFETY: taken just now.
            let received = unsafe { ring.taken(position) };
            if received.is_skipped() {
                ring.release(position);
                continue;
            }
            let view = super::message::output_view(&received, index, base);
            // The note that it is out.
            ring.meta(position).store(now, Ordering::Relaxed);
            take(taken, &view);
            taken += 1;
        }
    }
    taken
}

/// `rk_release`, if nothing is in the way. False: nothing was done.
#[inline(always)]
pub fn quick_release_one(word: u64, payload: *const std::ffi::c_void) -> bool {
    const NO: u32 = 0;
    const GONE: u32 = 2;
    let lease = Lease::decode(word);
    if lease.kind == Kind::Reply {
        return calls::release(lease);
    }
    let released = with_entry(lease, |entry| {
        let ring = entry.kernel.output.get().filter(|_| entry.block.is_none() && lease.kind == Kind::View);
        let Some(ring) = ring else { return NO };
        let position = lease.near(entry.base, ring.head());
        if ring.payload(position).cast_const().cast() != payload || !ring.release(position) {
            return NO;
        }
        entry.kernel.output_was_released();
        if entry.kernel.destroyed.load(Ordering::SeqCst) { GONE } else { 1 }
    });
    if released == Some(GONE) {
        retire_of(lease);
    }
    released.unwrap_or(NO) != NO
}

/// What is left to do for the destroyed kernel of a lease. Another kernel may have its index by now: then somebody else did it.
#[cold]
fn retire_of(lease: Lease) {
    let entry = lease.index.checked_sub(1).and_then(|index| ENTRIES.get(index));
    if let Some(entry) = entry.filter(|entry| entry.kernel.destroyed.load(Ordering::SeqCst)) {
        retire(&entry.kernel);
    }
}

/// Gives back up to [`BATCH_MAX`] views of one queue, or a reply, from the first on, as long as nothing is in the way; how many.
/// `view` gives the lease and the payload of one.
#[inline(always)]
pub fn quick_release(count: usize, view: impl Fn(usize) -> (u64, *const std::ffi::c_void)) -> usize {
    let first = Lease::decode(view(0).0);
    if first.kind == Kind::Reply {
        return usize::from(calls::release(first));
    }
    let released = with_entry(first, |entry| {
        let ring = match entry.block {
            None => entry.kernel.output.get(),
            Some(_) => None,
        };
        let Some(ring) = ring else { return (0, None) };
        let (head, mut done) = (ring.head(), 0);
        while done < count.min(BATCH_MAX) {
            let (word, payload) = view(done);
            let lease = Lease::decode(word);
            let position = lease.near(entry.base, head);
            let is_view = lease.kind == Kind::View && lease.index == first.index;
            if !is_view || ring.payload(position).cast_const().cast() != payload || !ring.release(position) {
                break;
            }
            done += 1;
        }
        if done == 0 {
            return (0, None);
        }
        entry.kernel.output_was_released();
        (done, entry.kernel.destroyed.load(Ordering::SeqCst).then(|| Arc::clone(&entry.kernel)))
    });
    match released {
        Some((done, Some(kernel))) => {
            retire(&kernel);
            done
        }
        Some((done, None)) => done,
        None => 0,
    }
}

fn words(kernel: &Kernel, block: Option<u32>) -> (&AtomicU32, &AtomicU64) {
    match block {
        Some(block) => (&kernel.block(block).loan_lease, &kernel.block(block).loan_base),
        None => (&kernel.output_lease, &kernel.output_base),
    }
}

#[cold]
fn enter(kernel: &Kernel, block: Option<u32>) -> Result<(u32, u64)> {
    let (index_word, base_word) = words(kernel, block);
    let stale = || bad("the kernel", kernel.handle);
    let shared = kernel.share().ok_or_else(stale)?;
    let _verbs = lock(&kernel.verbs);
    let known = index_word.load(Ordering::Acquire);
    if known != 0 {
        return Ok((known, base_word.load(Ordering::Relaxed)));
    }
    if kernel.destroyed.load(Ordering::SeqCst) {
        return Err(stale());
    }
    let mut at = 0;
    let entry = ENTRIES.insert(|index| {
        at = index;
        let mut bases = lock(&BASES);
        if bases.len() <= index as usize {
            bases.resize(index as usize + 1, 1);
        }
        Arc::new(Entry { kernel: shared, block, base: bases[index as usize] })
    });
    let entry =
        entry.ok_or(Error::Limit { what: "queues with views or loans", limit: u64::from(INDICES) })?;
    // Only now: a lease that others give out by these words must be found in the table.
    base_word.store(entry.base, Ordering::Relaxed);
    index_word.store(at + 1, Ordering::Release);
    Ok((at + 1, entry.base))
}

/// Tables count from 0, leases from 1, so that no lease is 0.
#[inline(always)]
fn with_entry<R>(lease: Lease, body: impl FnOnce(&Entry) -> R) -> Option<R> {
    ENTRIES.with(lease.index.checked_sub(1)?, body)
}

/// Lends `count` slots of a block; an error only if none.
pub(crate) fn reserve(
    kernel: &Kernel,
    block: u32,
    size: usize,
    count: u64,
    out: &mut impl FnMut(RkLoan),
) -> Result<()> {
    kernel.check_accepts()?;
    kernel.check_size(size)?;
    let (first, tries) = kernel.targets(block)?;
    for offset in 0..tries {
        let block = (first + offset) % kernel.options.grid_size;
        let ring = kernel.input(block)?;
        let (index, base) = entry_of(kernel, Some(block))?;
        let mut claimed = ring.claim_lent(count);
        while matches!(claimed, Err(ClaimError::Parked)) {
            kernel.unpark(ring)?;
            claimed = ring.claim_lent(count);
        }
        let mut claim = match claimed {
            Ok(claim) => claim,
            Err(ClaimError::Full) => continue,
            Err(error) => {
                kernel.was_refused(block, error);
                return Err(kernel.ended_error());
            }
        };
        let now = monotonic_coarse_ns();
        while claim.remaining() > 0 {
            let position = claim.next_position();
            let lease = Lease::at(Kind::Loan, index, base, position).encode();
            let payload = claim.keep(lease, now);
            out(RkLoan { payload: payload.cast(), payload_size: size, lease });
        }
        // A drain that met the slots before their tokens has left; it is to look again.
        kernel.block(block).gate.work_was_made();
        if !kernel.state().accepts() {
            kernel.wake(block);
        }
        return Ok(());
    }
    Err(kernel.full_error())
}

/// What settling a loan found.
enum Settled {
    Won,
    Revoked,
}

/// Takes the token of an open loan; true for one caller.
fn win(token: &AtomicU64, lease: Lease) -> bool {
    token.compare_exchange(lease.encode(), 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

fn settle(entry: &Entry, lease: Lease, position: u64) -> Option<Settled> {
    let token = entry.ring().token(position);
    if win(token, lease) {
        return Some(Settled::Won);
    }
    let revoked = Lease { kind: Kind::DeadLetter, ..lease }.encode();
    token
        .compare_exchange(revoked, 0, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
        .then_some(Settled::Revoked)
}

fn give_loan_back(loan: &RkLoan, header: &Header, deadline_ns: u64) -> Result<()> {
    let lease = Lease::decode(loan.lease);
    let bad_loan = || bad("the loan", loan.lease);
    if lease.kind != Kind::Loan {
        return Err(bad_loan());
    }
    let (result, kernel) = with_entry(lease, |entry| {
        let (ring, block) = (entry.ring(), entry.block?);
        let position = lease.near(entry.base, ring.tail());
        if ring.payload(position).cast() != loan.payload {
            return None;
        }
        let settled = settle(entry, lease, position)?;
        let result = match settled {
            Settled::Won => {
                // SAFETY: the loan's position is claimed and unpublished, and winning its token made this
                // thread the one to publish it.
                unsafe { ring.publish_kept(position, header, 0, deadline_ns) };
                if header.payload_size != SLOT_SKIPPED {
                    ring.uncount_lent(1);
                }
                entry.kernel.announce(block);
                Ok(())
            }
            Settled::Revoked => Err(entry.kernel.ended_error()),
        };
        light_fence(Label::E1);
        let kernel = entry.kernel.destroyed.load(Ordering::SeqCst).then(|| Arc::clone(&entry.kernel));
        Some((result, kernel))
    })
    .flatten()
    .ok_or_else(bad_loan)?;
    if let Some(kernel) = kernel {
        retire(&kernel);
    }
    result
}

/// Commits whole loans of one queue, from the first on, as long as nothing is in the way; how many.
pub fn quick_commit<'a>(loans: &[RkLoan], header: impl Fn(usize) -> Outgoing<'a>) -> usize {
    let Some(first) = loans.first().map(|loan| Lease::decode(loan.lease)) else { return 0 };
    let done = with_entry(first, |entry| {
        let (kernel, ring, Some(block)) = (&entry.kernel, entry.ring(), entry.block) else {
            return (0, None);
        };
        let (tail, room) = (ring.tail(), kernel.options.payload_max as usize);
        let mut done = 0;
        for loan in loans {
            let lease = Lease::decode(loan.lease);
            if lease.kind != Kind::Loan || lease.index != first.index || loan.payload_size > room {
                break;
            }
            let position = lease.near(entry.base, tail);
            let slot = ring.slot(position);
            if slot.payload().cast() != loan.payload || !win(slot.token(), lease) {
                break;
            }
            let message = header(done);
            let header =
                Header { payload_size: loan.payload_size as u32, ..kernel.input_header(&message, None) };
            // SAFETY: as in `give_loan_back`.
            unsafe { ring.publish_kept(position, &header, 0, message.deadline_ns) };
            done += 1;
        }
        if done > 0 {
            ring.uncount_lent(done as u64);
            kernel.announce(block);
        }
        light_fence(Label::E1);
        (done, kernel.destroyed.load(Ordering::SeqCst).then(|| Arc::clone(kernel)))
    });
    let (done, kernel) = done.unwrap_or_default();
    if let Some(kernel) = kernel {
        retire(&kernel);
    }
    done
}

/// `rk_commit`.
pub fn commit(loan: &RkLoan, message: &Outgoing<'_>, used: usize) -> Result<()> {
    let lease = Lease::decode(loan.lease);
    let checked = with_entry(lease, |entry| {
        let kernel = &entry.kernel;
        let position = lease.near(entry.base, entry.ring().tail());
        let is_out = lease.kind == Kind::Loan && is_unsettled(entry.ring(), lease, position);
        // The loan is the caller's memory: what it says of its size is not to be trusted beyond the slot.
        let room = loan.payload_size.min(kernel.options.payload_max as usize);
        is_out.then(|| (room, kernel.input_header(message, None).timestamp))
    });
    let (room, timestamp) = checked.flatten().ok_or_else(|| bad("the loan", loan.lease))?;
    if used > room {
        let rule = "a commit cannot use more than the loan has";
        return Err(Error::OutOfRange { argument: "used", value: used as i128, rule });
    }
    let header = Header {
        correlation: message.correlation,
        source: 0,
        payload_size: used as u32,
        tag: message.tag,
        timestamp,
    };
    give_loan_back(loan, &header, message.deadline_ns)
}

/// Whether a loan's token still names it, open or revoked.
fn is_unsettled(ring: &Ring, loan: Lease, position: u64) -> bool {
    let token = ring.token(position).load(Ordering::Acquire);
    token == loan.encode() || token == Lease { kind: Kind::DeadLetter, ..loan }.encode()
}

/// `rk_abort`.
pub fn abort(loan: &RkLoan) -> Result<()> {
    let header = Header { payload_size: SLOT_SKIPPED, ..Header::default() };
    match give_loan_back(loan, &header, 0) {
        // There is nothing to be told about a message that was not wanted.
        Err(error) if [RK_ERR_TERMINATED, RK_ERR_KERNEL_FAILED].contains(&error.status()) => Ok(()),
        result => result,
    }
}

/// `rk_release` of what the short ways have not taken: a dead letter, or nothing that can be given back.
pub fn release(message: &RkMessage) -> Result<()> {
    let lease = Lease::decode(message.lease);
    let released = message.lease != 0 && lease.kind == Kind::DeadLetter && dead::release(lease);
    if released { Ok(()) } else { Err(bad("the message's lease", message.lease)) }
}

/// The loan whose slot is at head, if it is one.
fn loan_at_head(kernel: &Kernel, block: u32, ring: &Ring) -> Option<(u64, u64)> {
    let index = kernel.block(block).loan_lease.load(Ordering::Acquire);
    let base = kernel.block(block).loan_base.load(Ordering::Relaxed);
    let head = ring.head();
    let lease = Lease::at(Kind::Loan, index, base, head).encode();
    let is_open = index != 0 && ring.is_claimed(head) && ring.token(head).load(Ordering::Acquire) == lease;
    is_open.then_some((head, lease))
}

/// Whether an open loan holds up the end of a block.
pub(crate) fn is_loan_at_head(kernel: &Kernel, block: u32, ring: &Ring) -> bool {
    loan_at_head(kernel, block, ring).is_some()
}

/// Takes an open loan out of the way of a block that ends, by its runner; false when there is none at head.
pub(crate) fn revoke_at_head(kernel: &Kernel, block: u32, ring: &Ring) -> bool {
    let Some((head, lease)) = loan_at_head(kernel, block, ring) else { return false };
    let revoked = Lease { kind: Kind::DeadLetter, ..Lease::decode(lease) }.encode();
    let won = ring.token(head).compare_exchange(lease, revoked, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if won && kernel.is_remote() && !kernel.block(block).remote_has_ended() {
        // SAFETY: winning the token made this thread the one to publish it. Whoever reads the ring elsewhere
        // steps over it.
        unsafe { ring.publish_skipped(head) };
    } else if won {
        // SAFETY: the runner is the single receiver; a block that ends has closed its ring.
        unsafe { ring.step_over() };
    }
    // Lost: the owner publishes it now, and the next look finds it published or wakes the block.
    won
}

/// Leases of a kernel that are out: how many, and the time of the oldest.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Open {
    pub(crate) count: u64,
    pub(crate) oldest_ns: u64,
}

impl Open {
    fn add(&mut self, since_ns: u64) {
        self.count += 1;
        if self.oldest_ns == 0 || since_ns < self.oldest_ns {
            self.oldest_ns = since_ns;
        }
    }
}

/// Looks at every slot of a ring that may be out.
fn open_in(kernel: &Kernel, block: Option<u32>, open: &mut Open) {
    let (index, base) = words(kernel, block);
    let index = index.load(Ordering::Acquire);
    let base = base.load(Ordering::Relaxed);
    let ring = match block {
        Some(block) => kernel.block(block).input.get(),
        None => kernel.output.get(),
    };
    let Some(ring) = ring.filter(|_| index != 0) else { return };
    let end = if block.is_some() { ring.tail() } else { ring.head() };
    for position in end.saturating_sub(ring.capacity())..end {
        let is_out = match block {
            Some(_) => is_unsettled(ring, Lease::at(Kind::Loan, index, base, position), position),
            None => ring.is_taken(position),
        };
        if is_out {
            open.add(ring.meta(position).load(Ordering::Relaxed));
        }
    }
}

/// Views and loans of a kernel that are out.
pub(crate) fn open(kernel: &Kernel) -> Open {
    let mut open = Open::default();
    open_in(kernel, None, &mut open);
    for block in 0..kernel.options.grid_size {
        open_in(kernel, Some(block), &mut open);
    }
    open
}

/// Takes the rings of a destroyed kernel out of the table, those that have nothing out. The caller holds a
/// share of the kernel.
pub(crate) fn retire(kernel: &Arc<Kernel>) {
    kernel.destroyed.store(true, Ordering::SeqCst);
    heavy_fence(Label::E2);
    let verbs = lock(&kernel.verbs);
    let blocks = (0..kernel.options.grid_size).map(Some);
    for block in std::iter::once(None).chain(blocks) {
        let mut open = Open::default();
        open_in(kernel, block, &mut open);
        let index = words(kernel, block).0;
        let known = index.load(Ordering::Relaxed);
        if open.count != 0 || known == 0 {
            continue;
        }
        index.store(0, Ordering::Release);
        // Before the index is free: who gets it next is not to repeat a position.
        ENTRIES.with(known - 1, |entry| {
            let used = entry.ring().tail() + entry.ring().capacity();
            lock(&BASES)[known as usize - 1] = (entry.base + used) & POSITIONS;
        });
        // The caller has a share of the kernel, so this is not its last.
        ENTRIES.remove(known - 1, |entry| Arc::ptr_eq(&entry.kernel, kernel));
    }
    drop(verbs);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_survives_its_encoding() {
        for kind in [Kind::View, Kind::Loan, Kind::Reply, Kind::DeadLetter] {
            for (index, position) in [(1, 1), (INDICES, POSITIONS), (77, 1 << 39)] {
                let lease = Lease { kind, index, position };
                assert_eq!(Lease::decode(lease.encode()), lease);
            }
        }
    }

    #[test]
    fn positions_are_found_again_near_where_they_were() {
        let base = POSITIONS - 5;
        for near in [10u64, 1 << 41, (1 << 41) + 12345] {
            for position in near.saturating_sub(1000)..=near {
                let lease = Lease::at(Kind::View, 1, base, position);
                assert_eq!(lease.near(base, near), position);
            }
        }
    }
}
