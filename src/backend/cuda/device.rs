//! A device: its context, what it can do, and its memory.
//!
//! The context is the primary one, which the application's own CUDA code shares; it is made current around
//! each call and the thread's own is put back.
//!
//! # Memory
//! Both kinds (mapped host memory and device memory) come in chunks that are cut into pieces and kept until the device
//! is closed: allocating and freeing may wait for an idle device, which a resident kernel never is. A launch beside a
//! resident kernel therefore finds its memory in a chunk, as long as one has room. Records of seats have
//! chunks of their own, because stale routes read them: they are never anything else.
//!
//! # Closing
//! The last share closes: it frees the chunks, unloads the modules, gives the streams back and releases the context. Freeing and unloading wait
//! for an idle device, too: while kernels of another runtime are resident there, they are left to the last runtime that closes it, and chunks
//! to who needs some before. A device on which a kernel
//! could not be ended is *leaked*: the device may write to its memory for as long as the process lives.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;

use super::driver::{Address, Api, Context, Current, SUCCESS, open};
use super::pool::hold_launches;
use super::streams::Streams;
use crate::error::{Error, Result};
use crate::ring::Keeps;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// Bytes allocated at least at once.
const CHUNK: usize = 16 << 20;
/// Every piece begins on such a boundary.
const ALIGNMENT: usize = 256;
/// CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP.
const HOST_FLAGS: u32 = 3;
/// CU_MODULE_LAZY_LOADING.
const LAZY: c_int = 2;

/// What kind of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Host memory that the device sees.
    Mapped,
    /// Device memory.
    Device,
    /// Device memory for the records of seats.
    Seats,
}

struct Chunk {
    kind: Kind,
    host: *mut u8,
    device: Address,
    size: usize,
    /// Offset and size of what is free.
    free: BTreeMap<usize, usize>,
}

// SAFETY: addresses of memory that the device owns; who may touch a piece is its holder's business.
unsafe impl Send for Chunk {}

impl Chunk {
    fn take(&mut self, size: usize) -> Option<usize> {
        let (&offset, &room) = self.free.iter().find(|(_, room)| **room >= size)?;
        self.free.remove(&offset);
        if room > size {
            self.free.insert(offset + size, room - size);
        }
        Some(offset)
    }

    fn give_back(&mut self, mut offset: usize, mut size: usize) {
        if let Some((&before, &room)) = self.free.range(..offset).next_back()
            && before + room == offset
        {
            self.free.remove(&before);
            offset = before;
            size += room;
        }
        if let Some(room) = self.free.remove(&(offset + size)) {
            size += room;
        }
        self.free.insert(offset, size);
    }
}

/// A device that can be opened.
pub(super) struct Found {
    api: &'static Api,
    handle: c_int,
    capability: u32,
    multiprocessors: u32,
    has_watchdog: bool,
    is_cooperative: bool,
}

impl Chunk {
    /// In the context; nothing uses it.
    fn free(self, api: &Api) {
        // SAFETY: it was allocated by the call that fits, and nobody has a piece of it.
        unsafe {
            match self.kind {
                Kind::Mapped => (api.host_free)(self.host.cast()),
                Kind::Device | Kind::Seats => (api.memory_free)(self.device),
            }
        };
    }
}

/// What runtimes that are closed have left to others on their device.
#[derive(Default)]
pub(super) struct Left {
    chunks: Vec<Chunk>,
    modules: Vec<usize>,
}

impl Left {
    /// In the context; nothing is resident.
    pub(super) fn free(&mut self, api: &Api) {
        for module in self.modules.drain(..) {
            // SAFETY: nobody has a function of it.
            unsafe { (api.module_unload)(std::ptr::with_exposed_provenance_mut(module)) };
        }
        self.chunks.drain(..).for_each(|chunk| chunk.free(api));
    }

    fn append(&mut self, other: &mut Self) {
        self.chunks.append(&mut other.chunks);
        self.modules.append(&mut other.modules);
    }

    fn take(&mut self, kind: Kind, size: usize) -> Option<Chunk> {
        let at = self.chunks.iter().position(|chunk| chunk.kind == kind && chunk.size >= size)?;
        Some(self.chunks.swap_remove(at))
    }
}

#[derive(Default)]
struct Modules {
    loaded: Vec<usize>,
    abandoned: Vec<usize>,
}

/// An opened device.
pub(super) struct Device {
    pub(super) api: &'static Api,
    pub(super) context: Context,
    pub(super) name: String,
    /// Compute capability, `10 * major + minor`.
    pub(super) capability: u32,
    pub(super) multiprocessors: u32,
    pub(super) has_watchdog: bool,
    pub(super) is_cooperative: bool,
    handle: c_int,
    chunks: Mutex<Vec<Chunk>>,
    /// What is loaded, and what of it nobody needs any more.
    modules: Mutex<Modules>,
    used: AtomicU64,
    leaked: AtomicBool,
    pub(super) streams: ManuallyDrop<Arc<Streams>>,
}

// SAFETY: the raw pointers are the driver's handles, which any thread may use.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl std::fmt::Debug for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Device({})", self.name)
    }
}

impl Device {
    /// Opens the device of an ordinal, with so many streams of either kind if no other runtime has it.
    pub(super) fn open(ordinal: u32, streams: usize) -> Result<Arc<Self>> {
        let Found { api, handle, capability, multiprocessors, has_watchdog, is_cooperative } =
            Self::probe(ordinal)?;
        let mut context = std::ptr::null_mut();
        // SAFETY: an out-pointer of ours.
        api.check("cuDevicePrimaryCtxRetain", unsafe { (api.context_retain)(&mut context, handle) })?;
        let made = Current::enter(api, context).and_then(|_current| Streams::of(api, context, streams));
        let made = made.inspect_err(|_| {
            // SAFETY: retained above, and nobody else has heard of it.
            unsafe { (api.context_release)(handle) };
        })?;
        Ok(Arc::new(Self {
            api,
            context,
            name: name(api, handle),
            capability,
            multiprocessors,
            has_watchdog,
            is_cooperative,
            handle,
            chunks: Mutex::new(Vec::new()),
            modules: Mutex::default(),
            used: AtomicU64::new(0),
            leaked: AtomicBool::new(false),
            streams: ManuallyDrop::new(made),
        }))
    }

    /// Looks whether the device of an ordinal could be opened, without making a context.
    pub(super) fn probe(ordinal: u32) -> Result<Found> {
        let api = open()?;
        let mut count = 0;
        // SAFETY: out-pointers of ours, here and below.
        api.check("cuDeviceGetCount", unsafe { (api.device_count)(&mut count) })?;
        let none = |why: String| Error::NoDevice { why: why.into(), code: 0 };
        if i64::from(ordinal) >= i64::from(count) {
            return Err(none(format!("device {ordinal} was asked for and there are {count}")));
        }
        let mut handle = 0;
        // SAFETY: as above.
        api.check("cuDeviceGet", unsafe { (api.device_get)(&mut handle, ordinal as c_int) })?;
        let attribute = |which: Attribute| {
            let mut value = 0;
            // SAFETY: as above.
            let code = unsafe { (api.device_attribute)(&mut value, which as c_int, handle) };
            api.check("cuDeviceGetAttribute", code).map(|()| value)
        };
        let capability = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? * 10
            + attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        if capability < 70 {
            return Err(none(format!("its compute capability is {capability}, at least 70 is needed")));
        }
        if attribute(Attribute::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY)? == 0 {
            return Err(none("it cannot map host memory".to_owned()));
        }
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let watchdog = attribute(Attribute::CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT)?;
        let cooperative = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)?;
        Ok(Found {
            api,
            handle,
            capability: capability as u32,
            multiprocessors: multiprocessors as u32,
            has_watchdog: watchdog != 0,
            is_cooperative: cooperative != 0 && api.launch_cooperative.is_some(),
        })
    }

    /// Whether it is the same device, opened by whatever runtime.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.context, other.context)
    }

    /// Makes the context current until the value is dropped.
    pub(super) fn enter(&self) -> Result<Current> {
        Current::enter(self.api, self.context)
    }

    /// Whether the driver loads code when it is first used; `None` when it does not say.
    pub(super) fn loads_lazily(&self) -> Option<bool> {
        let mut mode = 0;
        // SAFETY: an out-pointer of ours.
        let code = unsafe { (self.api.loading_mode?)(&mut mode) };
        (code == SUCCESS).then_some(mode == LAZY)
    }

    /// Bytes of device memory that were allocated.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A piece of memory. Mapped pieces are zeroed, others hold anything.
    pub(super) fn allocate(self: &Arc<Self>, kind: Kind, size: usize) -> Result<Piece> {
        let size = size.max(1).next_multiple_of(ALIGNMENT);
        let known = lock(&self.chunks).iter_mut().filter(|chunk| chunk.kind == kind).find_map(|chunk| {
            let offset = chunk.take(size)?;
            Some((chunk.host, chunk.device, offset))
        });
        let (host, device, offset) = match known {
            Some(known) => known,
            None => {
                let least = if kind == Kind::Seats { 256 * ALIGNMENT } else { CHUNK };
                // Under no lock: the driver may wait for our kernels, and who ends those gives memory back.
                let left = lock(&self.streams.left).take(kind, size);
                let mut chunk = left.map_or_else(|| self.make_chunk(kind, size.max(least)), Ok)?;
                if kind != Kind::Mapped {
                    self.used.fetch_add(chunk.size as u64, Ordering::Relaxed);
                }
                let offset = chunk.take(size).unwrap_or(0);
                let found = (chunk.host, chunk.device, offset);
                lock(&self.chunks).push(chunk);
                found
            }
        };
        let piece = Piece {
            of: Arc::clone(self),
            chunk: device,
            offset,
            size,
            host: host.wrapping_add(if host.is_null() { 0 } else { offset }),
            device: device + offset as u64,
        };
        if let Some(host) = NonNull::new(piece.host) {
            // SAFETY: the piece is ours alone and `size` bytes long.
            unsafe { host.as_ptr().write_bytes(0, size) };
        }
        Ok(piece)
    }

    fn make_chunk(&self, kind: Kind, size: usize) -> Result<Chunk> {
        let api = self.api;
        let _current = self.enter()?;
        let (mut host, mut device) = (std::ptr::null_mut::<c_void>(), 0);
        // SAFETY: out-pointers of ours, inside the device's context.
        unsafe {
            match kind {
                Kind::Mapped => {
                    let what = format!("cuMemHostAlloc of {size} bytes");
                    api.check(&what, (api.host_alloc)(&mut host, size, HOST_FLAGS))?;
                    let code = (api.host_address)(&mut device, host, 0);
                    if code != SUCCESS {
                        (api.host_free)(host);
                        return Err(api.error("cuMemHostGetDevicePointer", code));
                    }
                }
                Kind::Device | Kind::Seats => {
                    let what = format!("cuMemAlloc of {size} bytes");
                    api.check(&what, (api.memory_alloc)(&mut device, size))?;
                }
            }
        }
        Ok(Chunk { kind, host: host.cast(), device, size, free: BTreeMap::from([(0, size)]) })
    }

    /// Unloads a module when the device is closed.
    pub(super) fn adopt(&self, module: usize) {
        lock(&self.modules).loaded.push(module);
    }

    /// Unloads it before.
    pub(super) fn abandon(&self, module: usize) {
        lock(&self.modules).abandoned.push(module);
    }

    /// Unloads what was abandoned. In the context; nothing is resident.
    pub(super) fn unload_abandoned(&self) {
        if self.leaked.load(Ordering::SeqCst) {
            return;
        }
        let mut modules = lock(&self.modules);
        let Modules { loaded, abandoned } = &mut *modules;
        for module in abandoned.drain(..) {
            loaded.retain(|other| *other != module);
            // SAFETY: nobody has a function of it.
            unsafe { (self.api.module_unload)(std::ptr::with_exposed_provenance_mut(module)) };
        }
    }

    /// The context is dead: whoever opens the device after this, when the application has reset it, makes streams anew.
    pub(super) fn be_lost(&self) {
        self.streams.forget();
        self.leak();
    }

    /// Something still runs and will not end: nothing of this device is ever freed.
    pub(super) fn leak(&self) {
        self.leaked.store(true, Ordering::SeqCst);
    }
}

fn name(api: &Api, handle: c_int) -> String {
    let mut text = [0; 128];
    // SAFETY: the buffer is as long as it says.
    let code = unsafe { (api.device_name)(text.as_mut_ptr(), 127, handle) };
    if code != SUCCESS {
        return "an unnamed device".to_owned();
    }
    // SAFETY: the driver ends the text, and the last byte of the buffer is zero in any case.
    unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned()
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.leaked.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(_current) = self.enter() {
            let chunks = std::mem::take(&mut *lock(&self.chunks));
            let modules = std::mem::take(&mut *lock(&self.modules)).loaded;
            let mut ours = Left { chunks, modules };
            // Nothing of this runtime runs any more, and everybody who held a piece or a function held the device.
            match hold_launches(self) {
                Some(_held) => {
                    ours.free(self.api);
                    // Not under its lock: who allocates takes that, and this may wait.
                    std::mem::take(&mut *lock(&self.streams.left)).free(self.api);
                }
                None => lock(&self.streams.left).append(&mut ours),
            }
            // SAFETY: once, here. Another runtime may have them still.
            unsafe { ManuallyDrop::drop(&mut self.streams) };
        }
        // SAFETY: retained once, in `open`.
        unsafe { (self.api.context_release)(self.handle) };
    }
}

/// A piece of memory; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Piece {
    of: Arc<Device>,
    chunk: Address,
    offset: usize,
    size: usize,
    host: *mut u8,
    /// Where the device sees it.
    pub(super) device: Address,
}

// SAFETY: an address; who may touch the memory is the protocol's business.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl Keeps for Arc<Piece> {}

impl Piece {
    /// Where the host sees it; only of mapped memory.
    pub(super) fn host(&self) -> NonNull<u8> {
        NonNull::new(self.host).expect("mapped memory has an address here")
    }

    /// A word of mapped memory, which both sides use.
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.size && offset.is_multiple_of(8));
        // SAFETY: inside the piece, aligned, only ever used as an atomic by this side.
        unsafe { AtomicU64::from_ptr(self.host().as_ptr().add(offset).cast()) }
    }

    /// Bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut chunks = lock(&self.of.chunks);
        if let Some(chunk) = chunks.iter_mut().find(|chunk| chunk.device == self.chunk) {
            debug_assert!(self.offset + self.size <= chunk.size);
            chunk.give_back(self.offset, self.size);
        }
    }
}
