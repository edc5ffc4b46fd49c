//! Messages: send, reserve, receive, call, dead letters.

use super::runtime::find;
use super::{arg, guard};
use crate::error::Result;
use crate::layout::{
    RK_ERR_KERNEL_FAILED, RK_ERR_TERMINATED, RkDeadLetter, RkKernel, RkLoan, RkMessage, RkOp, RkRuntime,
    RkStatus,
};
use crate::runtime::{KernelHandle, lease};

/// Sends one message: copies it; RK_OK means queued.
///
/// A full queue is RK_ERR_FULL at timeout 0, else RK_ERR_TIMEOUT after exactly the time asked. A payload over
/// the kernel's limit is RK_ERR_TOO_LARGE. Messages of one thread to one block are handled in the order sent.
/// A queue gets its memory with the first message, and again with the next one after it has given it back while the kernel was idle:
/// RK_ERR_OUT_OF_MEMORY. Any thread, also from a handler.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_send(kernel: RkKernel, message: *const RkMessage, timeout_ns: u64) -> RkStatus {
    guard::short_or_status(
        || match arg::quick_message(message) {
            Some(message) if KernelHandle::from(kernel).quick_send(&message) => None,
            _ => Some(()),
        },
        |()| KernelHandle::from(kernel).send(&arg::message(message, "message")?, timeout_ns),
    )
}

/// Sends messages in order; RK_OK when at least one was queued, `*sent` says how many, always.
///
/// The timeout is for the first message only: what does not fit at once after that is left to the caller. A
/// message that can never fit ends the batch before it. An empty batch is RK_OK. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_send_batch(
    kernel: RkKernel,
    messages: *const RkMessage,
    count: usize,
    timeout_ns: u64,
    sent: *mut usize,
) -> RkStatus {
    guard::short_or_status(
        || {
            let (Some(sent), Some(messages)) = (arg::quick_out(sent), arg::quick_array(messages, count))
            else {
                return Some(0);
            };
            let done = KernelHandle::from(kernel)
                .quick_send_batch(count, |index, limit| arg::short_message(&messages[index], limit));
            if done < count {
                return Some(done);
            }
            sent.write(done);
            None
        },
        |begun| {
            let sent = arg::out(sent, "sent")?;
            let (done, result) = match arg::array(messages, count, "messages") {
                Ok(messages) => KernelHandle::from(kernel).send_batch(
                    count,
                    begun,
                    |index, limit| arg::short_message(&messages[index], limit),
                    |index| arg::outgoing(&messages[index]),
                    timeout_ns,
                ),
                Err(error) => (0, Err(error)),
            };
            sent.write(done);
            result
        },
    )
}

/// Lends a slot of a block's queue to be written in place; rk_commit sends it.
///
/// Slots are handled in the order reserved, so an open loan holds up what comes after it. Errors as rk_send.
/// `block` may be RK_ANY_BLOCK. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_reserve(
    kernel: RkKernel,
    block: u32,
    payload_size: usize,
    timeout_ns: u64,
    out: *mut RkLoan,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        out.write(KernelHandle::from(kernel).reserve(block, payload_size, timeout_ns)?);
        Ok(())
    })
}

/// Sends a loan: `used` bytes of it, with the header's type, correlation and deadline (NULL: all zero).
///
/// The loan is cleared. `used` over the loan's size is RK_ERR_INVALID_ARGUMENT and leaves it open; a kernel
/// that has ended is RK_ERR_TERMINATED and the loan is given back. A loan committed or aborted before is
/// RK_ERR_INVALID_HANDLE. Any thread, one at a time per loan.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_commit(loan: *mut RkLoan, header: *const RkMessage, used: usize) -> RkStatus {
    guard::status(|| {
        let value = arg::read(loan, "loan")?;
        let header =
            if header.is_null() { arg::header(&EMPTY) } else { arg::header(&arg::read(header, "header")?) };
        settle(loan, lease::commit(&value, &header, used))
    })
}

/// A message of zeros.
const EMPTY: RkMessage = RkMessage {
    payload: std::ptr::null(),
    payload_size: 0,
    r#type: 0,
    block: 0,
    correlation: 0,
    source: 0,
    deadline_ns: 0,
    timestamp: crate::layout::RkTimestamp { physical_ns: 0, logical: 0, node: 0 },
    lease: 0,
};

/// Clears a loan that is settled: also one whose kernel has ended.
fn settle(loan: *mut RkLoan, result: Result<()>) -> Result<()> {
    let ended = [RK_ERR_TERMINATED, RK_ERR_KERNEL_FAILED];
    if result.as_ref().err().is_none_or(|error| ended.contains(&error.status())) {
        arg::clear_loan(loan);
    }
    result
}

/// Gives a loan back unsent; its slot is skipped. Any thread, one at a time per loan.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_abort(loan: *mut RkLoan) -> RkStatus {
    guard::status(|| {
        let value = arg::read(loan, "loan")?;
        settle(loan, lease::abort(&value))
    })
}

/// Lends up to `count` slots of one block, in order; RK_OK when at least one, `*reserved` says how many,
/// always. The timeout is for the first. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_reserve_batch(
    kernel: RkKernel,
    block: u32,
    payload_size: usize,
    count: usize,
    timeout_ns: u64,
    out: *mut RkLoan,
    reserved: *mut usize,
) -> RkStatus {
    guard::status(|| {
        let reserved = arg::out(reserved, "reserved")?;
        let mut lent = 0;
        let result = arg::out_array(out, count, "out").and_then(|mut out| {
            let capacity = out.capacity();
            KernelHandle::from(kernel).reserve_batch(block, payload_size, capacity, timeout_ns, |loan| {
                out.write(lent, loan);
                lent += 1;
            })
        });
        reserved.write(lent);
        result
    })
}

/// Sends whole loans, in order; `headers` NULL means all zero.
///
/// All loans are settled, also when some of them cannot be sent; the first failure is returned. Any thread, one at
/// a time per loan.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_commit_batch(
    loans: *mut RkLoan,
    headers: *const RkMessage,
    count: usize,
) -> RkStatus {
    guard::short_or_status(
        || {
            let done = quick_commit(loans, headers, count);
            (done < count || count == 0).then_some(done)
        },
        |done| {
            let (loans, count) = (loans.wrapping_add(done), count - done);
            let headers = if headers.is_null() { headers } else { headers.wrapping_add(done) };
            let values = arg::array(loans.cast_const(), count, "loans")?.to_vec();
            let headers = if headers.is_null() { None } else { Some(arg::array(headers, count, "headers")?) };
            let mut first = Ok(());
            for (index, loan) in values.iter().enumerate() {
                let header = arg::header(headers.map_or(&EMPTY, |headers| &headers[index]));
                let result =
                    settle(loans.wrapping_add(index), lease::commit(loan, &header, loan.payload_size));
                first = first.and(result);
            }
            first
        },
    )
}

/// Loans that are committed at once.
const RUN: usize = 16;

/// Commits loans from the first on as long as nothing is in the way; how many.
fn quick_commit(loans: *mut RkLoan, headers: *const RkMessage, count: usize) -> usize {
    let headers = if headers.is_null() { Some(&[][..]) } else { arg::quick_array(headers, count) };
    let (Some(_), Some(headers)) = (arg::quick_array(loans.cast_const(), count), headers) else { return 0 };
    let mut done = 0;
    while done < count {
        let length = RUN.min(count - done);
        let mut run = [RkLoan { payload: std::ptr::null_mut(), payload_size: 0, lease: 0 }; RUN];
        // A copy, so that what was checked is what is committed; and no view of what is cleared below.
        match arg::quick_array(loans.wrapping_add(done).cast_const(), length) {
            Some(values) => run[..length].copy_from_slice(values),
            None => break,
        }
        let header = |index: usize| arg::header(headers.get(done + index).unwrap_or(&EMPTY));
        let committed = lease::quick_commit(&run[..length], header);
        (done..done + committed).for_each(|index| arg::clear_loan(loans.wrapping_add(index)));
        done += committed;
        if committed < length {
            break;
        }
    }
    done
}

/// Takes the next message of the kernel's output queue: a view, to be given back with rk_release.
///
/// Nothing there is RK_ERR_EMPTY at timeout 0, else RK_ERR_TIMEOUT; on a kernel that has ended and whose
/// queue is empty it is RK_ERR_TERMINATED or RK_ERR_KERNEL_FAILED. Any number of threads may receive, each
/// message goes to one of them. The caller may help as in rk_call. Any thread; on this same kernel not from its handler, unless the timeout is 0.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_receive(kernel: RkKernel, out: *mut RkMessage, timeout_ns: u64) -> RkStatus {
    guard::short_or_status(
        || {
            let Some(mut place) = arg::quick_out_array(out, 1) else { return Some(()) };
            let taken =
                KernelHandle::from(kernel).quick_receive(1, |index, message| place.write(index, *message));
            (taken == 0).then_some(())
        },
        |()| {
            let out = arg::out(out, "out")?;
            out.write(KernelHandle::from(kernel).receive(timeout_ns)?);
            Ok(())
        },
    )
}

/// What is there now, up to `capacity`; 0: nothing was done.
fn quick_receive(kernel: RkKernel, out: *mut RkMessage, capacity: usize, count: *mut usize) -> usize {
    let (Some(count), Some(mut out)) = (arg::quick_out(count), arg::quick_out_array(out, capacity)) else {
        return 0;
    };
    let taken =
        KernelHandle::from(kernel).quick_receive(capacity, |index, message| out.write(index, *message));
    if taken > 0 {
        count.write(taken);
    }
    taken
}

/// Takes up to `capacity` messages; waits for the first only. `*count` says how many. Capacity 0 is RK_OK.
/// Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_receive_batch(
    kernel: RkKernel,
    out: *mut RkMessage,
    capacity: usize,
    timeout_ns: u64,
    count: *mut usize,
) -> RkStatus {
    guard::short_or_status(
        || match quick_receive(kernel, out, capacity, count) {
            0 => Some(()),
            _ => None,
        },
        |()| {
            let count = arg::out(count, "count")?;
            let mut out = arg::out_array(out, capacity, "out")?;
            let mut taken = 0;
            let result = KernelHandle::from(kernel).receive_batch(capacity, timeout_ns, |message| {
                out.write(taken, message);
                taken += 1;
            });
            count.write(taken);
            result
        },
    )
}

/// Gives a received message back; its payload must not be read any more, the view is cleared.
///
/// A view given back before, or never issued: RK_ERR_INVALID_HANDLE. In any order, on any thread; one thread
/// at a time per view.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_release(message: *mut RkMessage) -> RkStatus {
    guard::short_or_status(
        || match arg::lease_of_one(message) {
            Some((lease, payload)) if lease::quick_release_one(lease, payload) => {
                arg::clear_message(message);
                None
            }
            _ => Some(()),
        },
        |()| release(message),
    )
}

/// Gives views back from the first on, as long as nothing is in the way; how many. They are cleared.
fn quick_release(messages: *mut RkMessage, count: usize) -> usize {
    let mut done = 0;
    if arg::quick_array(messages.cast_const(), count).is_none() {
        return 0;
    }
    while done < count {
        let released =
            lease::quick_release(count - done, |index| arg::lease_of(messages.wrapping_add(done + index)));
        (done..done + released).for_each(|index| arg::clear_message(messages.wrapping_add(index)));
        done += released;
        if released == 0 {
            break;
        }
    }
    done
}

fn release(message: *mut RkMessage) -> Result<()> {
    let value = arg::take_message(message, "message")?;
    lease::release(&value)?;
    arg::clear_message(message);
    Ok(())
}

/// Gives several messages back; the valid ones also when some are not, the first failure is returned. Any
/// thread, one at a time per view.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_release_batch(messages: *mut RkMessage, count: usize) -> RkStatus {
    guard::short_or_status(
        || match quick_release(messages, count) {
            done if done > 0 && done == count => None,
            done => Some(done),
        },
        |done| {
            arg::array(messages.cast_const(), count, "messages")?;
            let mut first = Ok(());
            for index in done..count {
                let message = messages.wrapping_add(index);
                let result = if quick_release(message, 1) == 1 { Ok(()) } else { release(message) };
                first = first.and(result);
            }
            first
        },
    )
}

/// Sends a request and waits for its reply: a view, to be given back with rk_release.
///
/// The reply goes to this caller and nowhere else, and carries the request's correlation. A handler that
/// fails the message: its status. A handler that does not reply: RK_ERR_TIMEOUT; its late reply is dropped and
/// counted. A full queue: RK_ERR_FULL at timeout 0. While it waits the caller may run the handlers of an idle
/// event-driven kernel itself, with a limited timeout only if they were short so far; should one then take
/// longer than the timeout, the call returns RK_ERR_TIMEOUT when that handler does. With RK_LAUNCH_NO_HELP the
/// time is always kept. Any thread, also from a handler of another kernel.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_call(
    kernel: RkKernel,
    request: *const RkMessage,
    reply: *mut RkMessage,
    timeout_ns: u64,
) -> RkStatus {
    guard::short_or_status(
        || match (arg::quick_message(request), arg::quick_out(reply)) {
            (Some(request), Some(reply)) => {
                KernelHandle::from(kernel).quick_call(&request, timeout_ns, |message| reply.write(*message))
            }
            _ => Some(None),
        },
        |begun| {
            let reply = arg::out(reply, "reply")?;
            reply.write(match begun {
                Some(pending) => pending.finish()?,
                None => KernelHandle::from(kernel).call(&arg::message(request, "request")?, timeout_ns)?,
            });
            Ok(())
        },
    )
}

/// As rk_call, completing with RK_EVENT_REPLY: its `message` is the reply, a view to be given back with rk_release.
///
/// `timeout_ns` is for the reply; a full queue is not waited for (RK_ERR_FULL, nothing accepted). The request is copied.
/// Errors at once: those of rk_send, and LIMIT (no place for its event). Any thread, also from a handler of
/// this kernel.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_call_async(
    kernel: RkKernel,
    request: *const RkMessage,
    timeout_ns: u64,
    user_data: u64,
    out: *mut RkOp,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        let request = arg::message(request, "request")?;
        out.write(RkOp { id: KernelHandle::from(kernel).call_async(&request, timeout_ns, user_data)? });
        Ok(())
    })
}

/// Takes the oldest dead letter; its `message` is a view, to be given back with rk_release.
///
/// Nothing there: RK_ERR_EMPTY at timeout 0, else RK_ERR_TIMEOUT. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_receive_dead_letter(
    runtime: *mut RkRuntime,
    out: *mut RkDeadLetter,
    timeout_ns: u64,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        out.write(find(runtime)?.receive_dead_letter(timeout_ns)?);
        Ok(())
    })
}
