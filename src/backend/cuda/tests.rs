//! The layout of `src/layout.rs` against that of `include/ringkernel_device.cuh`, word for word.

use std::collections::BTreeMap;
use std::mem::offset_of;

use crate::clock::{LAST_NS, SKEW_MAX_NS};
use crate::layout::*;

const HEADER: &str = include_str!("../../../include/ringkernel_device.cuh");

macro_rules! table {
    ($($c:literal $field:literal = $rust:ident . $name:ident;)*) => {
        [$((($c, $field), offset_of!($rust, $name))),*]
    };
}

/// What the device's compiler is told to assert.
fn asserted() -> BTreeMap<(&'static str, &'static str), usize> {
    HEADER
        .lines()
        .filter_map(|line| line.strip_prefix("RKD_AT(")?.strip_suffix(");"))
        .map(|line| {
            let mut parts = line.split(", ");
            let mut next = || parts.next().expect("three parts");
            let (of, field, offset) = (next(), next(), next());
            ((of, field), offset.parse().expect("a number"))
        })
        .collect()
}

#[test]
fn lesson_13_host_and_device_agree_on_every_word() {
    let mut expected = asserted();
    let here = table! {
        "rkd_control" "command" = SeatControl.command;
        "rkd_control" "drain_to" = SeatControl.drain_to;
        "rkd_control" "outbox_head" = SeatControl.outbox_head;
        "rkd_control" "clock_offset" = SeatControl.clock_offset;
        "rkd_control" "unix_offset" = SeatControl.unix_offset;
        "rkd_control" "route_version" = SeatControl.route_version;
        "rkd_control" "hold" = SeatControl.hold;
        "rkd_control" "tenant" = SeatControl.tenant;
        "rkd_control" "sends_done" = SeatControl.sends_done;
        "rkd_control" "restarts" = SeatControl.restarts;
        "rkd_control" "transfer" = SeatControl.transfer;
        "rkd_control" "verdict" = SeatControl.verdict;
        "rkd_status" "version" = SeatStatus.version;
        "rkd_status" "ack" = SeatStatus.ack;
        "rkd_status" "taken" = SeatStatus.taken;
        "rkd_status" "peer_taken" = SeatStatus.peer_taken;
        "rkd_status" "started" = SeatStatus.started;
        "rkd_status" "processed" = SeatStatus.processed;
        "rkd_status" "failed" = SeatStatus.failed;
        "rkd_status" "sent" = SeatStatus.sent;
        "rkd_status" "heartbeat" = SeatStatus.heartbeat;
        "rkd_status" "timer" = SeatStatus.timer;
        "rkd_status" "peer_seen" = SeatStatus.peer_seen;
        "rkd_tenant" "kernel" = SeatTenant.kernel;
        "rkd_tenant" "input" = SeatTenant.input;
        "rkd_tenant" "outbox" = SeatTenant.outbox;
        "rkd_tenant" "peer" = SeatTenant.peer;
        "rkd_tenant" "state" = SeatTenant.state;
        "rkd_tenant" "inbox" = SeatTenant.inbox;
        "rkd_tenant" "routes" = SeatTenant.routes;
        "rkd_tenant" "seat0" = SeatTenant.seat0;
        "rkd_tenant" "state_size" = SeatTenant.state_size;
        "rkd_tenant" "epoch" = SeatTenant.epoch;
        "rkd_tenant" "express_in" = SeatTenant.express_in;
        "rkd_tenant" "express_out" = SeatTenant.express_out;
        "rkd_tenant" "input_shift" = SeatTenant.input_shift;
        "rkd_tenant" "outbox_shift" = SeatTenant.outbox_shift;
        "rkd_tenant" "peer_shift" = SeatTenant.peer_shift;
        "rkd_tenant" "stride" = SeatTenant.stride;
        "rkd_tenant" "payload_max" = SeatTenant.payload_max;
        "rkd_tenant" "block" = SeatTenant.block;
        "rkd_tenant" "blocks" = SeatTenant.blocks;
        "rkd_tenant" "flags" = SeatTenant.flags;
        "rkd_tenant" "node" = SeatTenant.node;
        "rkd_tenant" "route_max" = SeatTenant.route_max;
        "rkd_tenant" "shared_size" = SeatTenant.shared_size;
        "rkd_route" "handle" = SeatRoute.handle;
        "rkd_route" "seats" = SeatRoute.seats;
        "rkd_route" "blocks" = SeatRoute.blocks;
        "rkd_route" "epoch" = SeatRoute.epoch;
        "rkd_route" "payload_max" = SeatRoute.payload_max;
        "rkd_route" "capacity" = SeatRoute.capacity;
        "rkd_record" "turn" = SeatRecord.turn;
        "rkd_record" "correlation" = SeatRecord.correlation;
        "rkd_record" "subject" = SeatRecord.subject;
        "rkd_record" "deadline" = SeatRecord.deadline;
        "rkd_record" "op" = SeatRecord.op;
        "rkd_record" "block" = SeatRecord.block;
        "rkd_record" "payload_size" = SeatRecord.payload_size;
        "rkd_record" "tag" = SeatRecord.tag;
        "rkd_record" "physical" = SeatRecord.physical;
        "rkd_record" "logical_taken" = SeatRecord.logical_taken;
        "rkd_record" "status" = SeatRecord.status;
        "rkd_launch" "controls" = SeatLaunch.controls;
        "rkd_launch" "statuses" = SeatLaunch.statuses;
        "rkd_launch" "seats" = SeatLaunch.seats;
        "rkd_launch" "count" = SeatLaunch.count;
        "rkd_launch" "once" = SeatLaunch.once;
        "rkd_launch" "busy_sleep_ns" = SeatLaunch.busy_sleep_ns;
        "rkd_launch" "idle_sleep_ns" = SeatLaunch.idle_sleep_ns;
        "rkd_launch" "layout" = SeatLaunch.layout;
        "rkd_launch" "fresh" = SeatLaunch.fresh;
        "rkd_slot" "turn" = SlotHeader.turn;
        "rkd_slot" "correlation" = SlotHeader.correlation;
        "rkd_slot" "source" = SlotHeader.source;
        "rkd_slot" "token" = SlotHeader.token;
        "rkd_slot" "meta" = SlotHeader.meta;
        "rkd_slot" "payload_size" = SlotHeader.payload_size;
        "rkd_slot" "tag" = SlotHeader.tag;
        "rkd_slot" "physical" = SlotHeader.timestamp;
    };
    for (word, offset) in here {
        assert_eq!(expected.remove(&word), Some(offset), "{word:?}");
    }
    // The parts of a timestamp, which is one field here.
    let timestamp = offset_of!(SlotHeader, timestamp);
    assert_eq!(expected.remove(&("rkd_slot", "logical")), Some(timestamp + offset_of!(RkTimestamp, logical)));
    assert_eq!(expected.remove(&("rkd_slot", "node")), Some(timestamp + offset_of!(RkTimestamp, node)));
    assert!(expected.is_empty(), "asserted there and not known here: {expected:?}");
}

#[test]
fn lesson_13_host_and_device_agree_on_sizes_and_numbers() {
    let sizes = [
        ("rkd_control", size_of::<SeatControl>()),
        ("rkd_status", size_of::<SeatStatus>()),
        ("rkd_tenant", size_of::<SeatTenant>()),
        ("rkd_route", size_of::<SeatRoute>()),
        ("rkd_record", size_of::<SeatRecord>()),
        ("rkd_launch", size_of::<SeatLaunch>()),
        ("rkd_slot", size_of::<SlotHeader>()),
        ("rkd_seat", SEAT_SIZE),
    ];
    for (name, size) in sizes {
        let line = format!("static_assert(sizeof({name}) == {size}, \"{name}\");");
        assert!(HEADER.contains(&line), "{line}");
    }
    assert!(HEADER.contains(&format!("#define RKD_LAYOUT {SEAT_LAYOUT}u\n")));
    assert!(HEADER.contains(&format!("#define RKD_SKEW_MAX {SKEW_MAX_NS}ull ")));
    assert!(HEADER.contains("#define RKD_CLOCK_LAST ((1ull << 61) - (1ull << 41)) "));
    assert_eq!(LAST_NS, (1 << 61) - (1 << 41));
    assert!(HEADER.contains(&format!("#define RKD_EXPRESS_ENTRIES {EXPRESS_ENTRIES}u\n")));
    assert!(HEADER.contains(&format!("#define RKD_EXPRESS_MAX {EXPRESS_MAX}u ")));
    assert!(HEADER.contains(&format!("#define RKD_LEAF {ROUTE_LEAF}u ")) && ROUTE_ENTRY == 8 * 8);
    assert!(HEADER.contains(&format!("#define RKD_PAGE_BITS {}u ", ROUTE_PAGE.ilog2())));
    assert!(
        HEADER.contains(&format!("#define RKD_ROOT_SHIFT {}u ", 2 * ROUTE_PAGE.ilog2() + ROUTE_LEAF.ilog2()))
    );
    assert!(HEADER.contains(&format!("#define RKD_SKIPPED {SLOT_SKIPPED:#x}u\n")));
}
