//! The only place where a raw pointer of the caller becomes a reference or a value.
//!
//! Each function checks what can be checked (NULL, alignment, sizes, text) and states what cannot: that a
//! non-NULL pointer points to what the header says, for the time of the call.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layout::{RkLoan, RkMessage};
use crate::limits::{NAME_MAX, STRUCT_SIZE_MAX};
use crate::runtime::Outgoing;

/// The rule of ids and program names, in words.
const NAME_RULE: &str = "1 to 127 bytes of [A-Za-z0-9_.:/-] are";

/// A caller's place for one value, checked; written on success only.
pub(super) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// Writes the value.
    pub(super) fn write(self, value: T) {
        // SAFETY: `out` checked that the pointer is neither NULL nor misaligned; the header asks for a place
        // that the caller may write during the call.
        unsafe { self.0.write(value) }
    }
}

/// A required out-pointer.
pub(super) fn out<T: Copy>(pointer: *mut T, argument: &'static str) -> Result<Out<T>> {
    check(pointer, argument)?;
    Ok(Out(pointer))
}

/// The same without a word on what is wrong with it, as all that is called `quick`: a result that has an error in it goes through memory.
#[inline(always)]
pub(super) fn quick_out<T: Copy>(pointer: *mut T) -> Option<Out<T>> {
    is_plain(pointer, 1).then_some(Out(pointer))
}

/// Whether there is nothing wrong with an array.
#[inline(always)]
fn is_plain<T>(pointer: *const T, count: usize) -> bool {
    !pointer.is_null() && pointer.is_aligned() && count <= isize::MAX as usize / size_of::<T>()
}

/// A required pointer to a value that is copied.
pub(super) fn read<T: Copy>(pointer: *const T, argument: &'static str) -> Result<T> {
    check(pointer, argument)?;
    // SAFETY: checked for NULL and alignment; the header asks for a readable T.
    Ok(unsafe { pointer.read() })
}

fn check<T>(pointer: *const T, argument: &'static str) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::Null { argument });
    }
    if !pointer.is_aligned() {
        return Err(Error::Invalid { what: "a pointer is not aligned for its type" });
    }
    Ok(())
}

/// A struct with `struct_size`, which may be older or newer than this library.
///
/// # Safety
/// `T` is `repr(C)`, begins with `struct_size: u32`, and all-zero bytes are a value of it.
unsafe fn versioned_raw<T: Copy>(pointer: *const T, name: &'static str) -> Result<(T, usize)> {
    check(pointer.cast::<u32>(), name)?;
    // SAFETY: not NULL, aligned for u32; every versioned struct begins with its size.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    let known = size_of::<T>();
    if size < 8 {
        return Err(Error::StructSize { name, given: size, rule: "it must cover at least one field" });
    }
    if size > STRUCT_SIZE_MAX {
        return Err(Error::StructSize { name, given: size, rule: "no struct is larger than 4096" });
    }
    check(pointer, name)?;
    // SAFETY: the caller of this function promises that zero bytes are a T.
    let mut value: T = unsafe { std::mem::zeroed() };
    // SAFETY: min(size, known) bytes are readable and fit `value`.
    unsafe {
        std::ptr::copy_nonoverlapping(
            pointer.cast::<u8>(),
            std::ptr::from_mut(&mut value).cast::<u8>(),
            size.min(known),
        );
    }
    Ok((value, size))
}

/// Whether the part of a struct that this version does not know is zero.
fn check_tail<T: Versioned>(pointer: *const T, size: usize) -> Result<()> {
    let known = size_of::<T>();
    if size > known {
        // SAFETY: checked by `versioned_raw`; the caller says that `size` bytes are there.
        let tail = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
        if tail.iter().any(|byte| *byte != 0) {
            let rule = "the part that this version does not know must be zero";
            return Err(Error::StructSize { name: T::NAME, given: size, rule });
        }
    }
    Ok(())
}

/// Structs that begin with `struct_size`.
///
/// # Safety
/// `repr(C)`, first field `struct_size: u32`, and all-zero bytes are a value.
pub(super) unsafe trait Versioned: Copy {
    /// The name in C.
    const NAME: &'static str;
}

macro_rules! versioned {
    ($($type:ident = $name:literal),* $(,)?) => {
        $(
            // SAFETY: layout.rs defines it so: repr(C), struct_size first, only numbers, pointers and
            // Option<fn>, for all of which zero is a value.
            unsafe impl Versioned for crate::layout::$type {
                const NAME: &'static str = $name;
            }
        )*
    };
}

versioned! {
    RkRuntimeOptions = "rk_runtime_options_t",
    RkProgram = "rk_program_t",
    RkLaunchOptions = "rk_launch_options_t",
    RkKernelStatus = "rk_kernel_status_t",
    RkRuntimeMetrics = "rk_runtime_metrics_t",
    RkKernelMetrics = "rk_kernel_metrics_t",
}

/// A required versioned struct that is read.
pub(super) fn versioned<T: Versioned>(pointer: *const T) -> Result<T> {
    let (value, tail) = versioned_with_tail(pointer)?;
    tail?;
    Ok(value)
}

/// As [`versioned`], but a tail that is not zero is told beside the value, for who must act on the known part
/// all the same.
pub(super) fn versioned_with_tail<T: Versioned>(pointer: *const T) -> Result<(T, Result<()>)> {
    // SAFETY: the bound says what is asked for.
    let (value, size) = unsafe { versioned_raw(pointer, T::NAME) }?;
    Ok((value, check_tail(pointer, size)))
}

/// All zero but the size: what the `_init` functions return.
pub(super) fn initial<T: Versioned>() -> T {
    // SAFETY: the bound says that zero bytes are a T, and that it begins with a u32.
    unsafe {
        let mut value: T = std::mem::zeroed();
        std::ptr::from_mut(&mut value).cast::<u32>().write(size_of::<T>() as u32);
        value
    }
}

/// A required versioned struct that is written.
pub(super) struct VersionedOut<T> {
    pointer: *mut T,
    size: usize,
}

impl<T: Versioned> VersionedOut<T> {
    /// Writes as much of the value as the caller knows and keeps the caller's `struct_size`.
    pub(super) fn write(self, value: &T) {
        let end = self.size.min(size_of::<T>());
        // SAFETY: `end` bytes are within both; the first four, the size, are left as they are.
        unsafe {
            std::ptr::copy_nonoverlapping(
                std::ptr::from_ref(value).cast::<u8>().add(4),
                self.pointer.cast::<u8>().add(4),
                end - 4,
            );
        }
    }
}

/// See [`VersionedOut`].
pub(super) fn versioned_out<T: Versioned>(pointer: *mut T) -> Result<VersionedOut<T>> {
    // SAFETY: the bound says what is asked for.
    let (_, size) = unsafe { versioned_raw(pointer.cast_const(), T::NAME) }?;
    check_tail(pointer.cast_const(), size)?;
    Ok(VersionedOut { pointer, size })
}

/// A required name or id.
pub(super) fn name<'a>(pointer: *const c_char, argument: &'static str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(Error::Null { argument });
    }
    // SAFETY: not NULL; the header asks for NUL-terminated text that lives during the call.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(byte);
    if bytes.is_empty() || bytes.len() > NAME_MAX || !bytes.iter().all(allowed) {
        let shown = &bytes[..bytes.len().min(64)];
        return Err(Error::BadName {
            argument,
            text: Arc::from(String::from_utf8_lossy(shown).as_ref()),
            length: bytes.len(),
            rule: NAME_RULE,
        });
    }
    Ok(std::str::from_utf8(bytes).expect("the allowed bytes are ASCII"))
}

/// An optional name.
pub(super) fn optional_name<'a>(pointer: *const c_char, argument: &'static str) -> Result<Option<&'a str>> {
    if pointer.is_null() { Ok(None) } else { name(pointer, argument).map(Some) }
}

/// Optional text with no rule of its own; NULL is `None`, what is not UTF-8 is `None` too.
pub(super) fn text<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not NULL; the header asks for NUL-terminated text that lives during the call.
    unsafe { CStr::from_ptr(pointer) }.to_str().ok()
}

/// Bytes of the caller, copied by whoever needs them longer.
pub(super) fn bytes<'a>(pointer: *const c_void, size: usize, argument: &'static str) -> Result<&'a [u8]> {
    if size == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Error::Null { argument });
    }
    if size > isize::MAX as usize {
        let rule = "it is more than memory can hold";
        return Err(Error::OutOfRange { argument, value: size as i128, rule });
    }
    // SAFETY: not NULL, size in range; the header asks for that many readable bytes during the call.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size) })
}

/// A required message to be sent.
pub(super) fn message<'a>(pointer: *const RkMessage, argument: &'static str) -> Result<Outgoing<'a>> {
    outgoing(&read(pointer, argument)?)
}

/// The same, if nothing is wrong with it.
#[inline(always)]
pub(super) fn quick_message<'a>(pointer: *const RkMessage) -> Option<Outgoing<'a>> {
    if pointer.is_null() || !pointer.is_aligned() {
        return None;
    }
    // SAFETY: not NULL, aligned; the header asks for a readable message.
    let message = unsafe { &*pointer };
    let size = message.payload_size;
    if message.payload.is_null() || size > isize::MAX as usize {
        return (size == 0).then(|| header(message));
    }
    // SAFETY: not NULL, size in range; the header asks for that many readable bytes.
    let payload = unsafe { std::slice::from_raw_parts(message.payload.cast(), size) };
    Some(Outgoing { payload, ..header(message) })
}

/// A message of at most `limit` bytes, if nothing is wrong with it.
#[inline(always)]
pub(super) fn short_message<'a>(message: &RkMessage, limit: usize) -> Option<Outgoing<'a>> {
    let size = message.payload_size;
    if size > limit || message.payload.is_null() && size != 0 {
        return None;
    }
    let pointer = if size == 0 { std::ptr::dangling() } else { message.payload.cast::<u8>() };
    // SAFETY: not NULL, and a limit is below isize::MAX; the header asks for that many readable bytes.
    let payload = unsafe { std::slice::from_raw_parts(pointer, size) };
    Some(Outgoing { payload, ..header(message) })
}

/// The parts of a message that a sender says.
pub(super) fn outgoing<'a>(message: &RkMessage) -> Result<Outgoing<'a>> {
    let (size, limit) = (message.payload_size, isize::MAX as usize);
    if size > limit && !message.payload.is_null() {
        return Err(Error::TooLargeForAny { size });
    }
    Ok(Outgoing { payload: bytes(message.payload, size, "message.payload")?, ..header(message) })
}

/// The parts of a message header, without its payload.
#[inline(always)]
pub(super) fn header<'a>(message: &RkMessage) -> Outgoing<'a> {
    Outgoing {
        payload: &[],
        tag: message.r#type,
        block: message.block,
        correlation: message.correlation,
        deadline_ns: message.deadline_ns,
    }
}

/// An array of the caller; NULL only when it is empty.
pub(super) fn array<'a, T: Copy>(pointer: *const T, count: usize, argument: &'static str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check(pointer, argument)?;
    in_memory::<T>(count, argument)?;
    // SAFETY: not NULL, aligned, size in range; the header asks for `count` readable values.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// The same, see [`quick_out`]; not if it is empty.
#[inline(always)]
pub(super) fn quick_array<'a, T: Copy>(pointer: *const T, count: usize) -> Option<&'a [T]> {
    // SAFETY: not NULL, aligned, size in range; the header asks for `count` readable values.
    (count > 0 && is_plain(pointer, count)).then(|| unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// A place for up to `capacity` values.
pub(super) struct OutArray<T> {
    pointer: *mut T,
    capacity: usize,
}

impl<T: Copy> OutArray<T> {
    /// How many values fit.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Writes value `index`, which is below the capacity.
    pub(super) fn write(&mut self, index: usize, value: T) {
        assert!(index < self.capacity);
        // SAFETY: in range of what the caller says is there; a plain write needs no initialised memory.
        unsafe { self.pointer.add(index).write(value) }
    }
}

impl OutArray<u8> {
    /// Writes bytes from `at` on, all of them below the capacity.
    pub(super) fn copy(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.capacity && bytes.len() <= self.capacity - at);
        if !bytes.is_empty() {
            // SAFETY: in range of what the caller says is there; ours are not among it.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer.add(at), bytes.len()) }
        }
    }
}

/// See [`OutArray`]; NULL only when the capacity is 0.
pub(super) fn out_array<T: Copy>(
    pointer: *mut T,
    capacity: usize,
    argument: &'static str,
) -> Result<OutArray<T>> {
    if capacity > 0 {
        check(pointer, argument)?;
        in_memory::<T>(capacity, argument)?;
    }
    Ok(OutArray { pointer, capacity })
}

/// The same, see [`quick_out`].
#[inline(always)]
pub(super) fn quick_out_array<T: Copy>(pointer: *mut T, capacity: usize) -> Option<OutArray<T>> {
    is_plain(pointer, capacity).then_some(OutArray { pointer, capacity })
}

fn in_memory<T>(count: usize, argument: &'static str) -> Result<()> {
    if count > isize::MAX as usize / size_of::<T>() {
        let rule = "it is more than memory can hold";
        return Err(Error::OutOfRange { argument, value: count as i128, rule });
    }
    Ok(())
}

/// Copies text out like snprintf: what fits, always with a NUL when there is any room. Returns the size
/// needed, with its NUL.
pub(super) fn copy_text(text: &str, buffer: *mut c_char, capacity: usize) -> usize {
    if !buffer.is_null() && capacity > 0 {
        let mut end = text.len().min(capacity - 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        // SAFETY: `end + 1 <= capacity` bytes, which the caller says are there.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), end);
            buffer.add(end).write(0);
        }
    }
    text.len() + 1
}

/// Text out with a status: all of it, or `BUFFER_TOO_SMALL`; the size, when asked for, in both cases.
pub(super) fn text_out(
    what: &'static str,
    text: &str,
    buffer: *mut c_char,
    capacity: usize,
    size: *mut usize,
) -> Result<()> {
    if buffer.is_null() && capacity > 0 {
        return Err(Error::Null { argument: "buf" });
    }
    let needed = copy_text(text, buffer, capacity);
    if !size.is_null() {
        out(size, "size")?.write(needed);
    }
    if needed > capacity {
        return Err(Error::BufferTooSmall { what, needed, capacity });
    }
    Ok(())
}

/// The caller's message, to be given back and cleared.
pub(super) fn take_message(pointer: *mut RkMessage, argument: &'static str) -> Result<RkMessage> {
    read(pointer.cast_const(), argument)
}

/// Lease and payload of a view, if there is one.
#[inline(always)]
pub(super) fn lease_of_one(pointer: *const RkMessage) -> Option<(u64, *const c_void)> {
    if pointer.is_null() || !pointer.is_aligned() {
        return None;
    }
    Some(lease_of(pointer))
}

/// Lease and payload of a view of an array that was checked.
#[inline(always)]
pub(super) fn lease_of(pointer: *const RkMessage) -> (u64, *const c_void) {
    // SAFETY: not NULL, aligned, in an array that was checked in the same call.
    unsafe { ((*pointer).lease, (*pointer).payload) }
}

/// Clears a view that was given back, so that it cannot be used by mistake.
pub(super) fn clear_message(pointer: *mut RkMessage) {
    // SAFETY: read and checked by `take_message` in the same call.
    unsafe {
        (*pointer).payload = std::ptr::null();
        (*pointer).payload_size = 0;
        (*pointer).lease = 0;
    }
}

/// Clears a loan that was given back.
pub(super) fn clear_loan(pointer: *mut RkLoan) {
    // SAFETY: read and checked by `read` in the same call.
    unsafe { pointer.write(RkLoan { payload: std::ptr::null_mut(), payload_size: 0, lease: 0 }) }
}
