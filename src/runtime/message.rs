//! Messages on their way in and out.

use super::lease::{Kind, Lease};
use crate::layout::{RK_OK, RkEvent, RkKernel, RkMessage, RkOp, RkTimestamp};
use crate::ring::{Header, Received};

/// What a sender says.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The bytes.
    pub payload: &'a [u8],
    /// The application's own tag.
    pub tag: u32,
    /// Target block, or `RK_ANY_BLOCK`.
    pub block: u32,
    /// The application's own number.
    pub correlation: u64,
    /// CLOCK_MONOTONIC, 0 = none.
    pub deadline_ns: u64,
}

/// A message of zeros: where there is none.
const NOTHING: RkMessage = RkMessage {
    payload: std::ptr::null(),
    payload_size: 0,
    r#type: 0,
    block: 0,
    correlation: 0,
    source: 0,
    deadline_ns: 0,
    timestamp: RkTimestamp { physical_ns: 0, logical: 0, node: 0 },
    lease: 0,
};

/// An event to be filled in.
pub(crate) const NO_EVENT: RkEvent = RkEvent {
    kind: 0,
    status: RK_OK,
    user_data: 0,
    op: RkOp { id: 0 },
    kernel: RkKernel { id: 0 },
    state: 0,
    flags: 0,
    message: NOTHING,
};

/// The view of a message whose slot is elsewhere.
#[inline(always)]
pub(crate) fn view(header: &Header, payload: *const u8, block: u32, lease: u64) -> RkMessage {
    RkMessage {
        payload: payload.cast(),
        payload_size: header.payload_size as usize,
        r#type: header.tag,
        block,
        correlation: header.correlation,
        source: header.source,
        deadline_ns: 0,
        timestamp: header.timestamp,
        lease,
    }
}

/// The view of a message in an input ring, for its handler.
#[inline(always)]
pub(crate) fn input_view(received: &Received, block: u32) -> RkMessage {
    RkMessage { deadline_ns: received.meta, ..view(&received.header, received.payload, block, 0) }
}

/// The view of a message in an output ring, for the host. `index` and `base` are of the ring's leases.
pub(crate) fn output_view(received: &Received, index: u32, base: u64) -> RkMessage {
    let lease = Lease::at(Kind::View, index, base, received.position);
    view(&received.header, received.payload, received.meta as u32, lease.encode())
}
