//! What every message looks at of its thread: a few words, all zero at first, without destructors.
//!
//! A `thread_local!` of a shared library is found by a call through two tables (`__tls_get_addr`), which also costs the caller what it had in registers; a
//! call of a kernel looks nine times. Descriptors (A. Oliva, G. Araújo, "Speeding Up Thread-Local Storage Access in Dynamic Libraries",
//! 2006; in the x86-64 psABI) cost five instructions where the loader found room beside the thread's other words, as it does for libraries that the
//! program is linked with and tries for others if all their thread-local variables are 512 bytes at most, and work as before where it did not; nothing fails for want of room, as it
//! would with the initial-exec model. A compiler that is stable has no name for them, so they are written out here for x86-64 and the GNU C library;
//! elsewhere the words are a `thread_local!`.
//!
//! # What the call preserves
//! The descriptor's function preserves all registers but RAX and flags, by its ABI. Versions of the library before 2.40 do not preserve
//! vector registers when they allocate a thread's words late, so these count as lost.
#![allow(unsafe_code)]

use std::cell::Cell;

/// See the file's head. Each word is its user's alone.
#[repr(C, align(32))]
pub(crate) struct Words {
    /// The record of hazard pointers (`runtime/table.rs`).
    pub(crate) record: Cell<*const ()>,
    /// The innermost handler (`runtime/context.rs`).
    pub(crate) invocation: Cell<*const ()>,
    /// The place that is kept for the next call (`runtime/calls.rs`).
    pub(crate) call: Cell<u64>,
    /// Whether there is a last error (`error.rs`).
    pub(crate) has_error: Cell<bool>,
}

const _: () = assert!(size_of::<Words>() == 32 && align_of::<Words>() == 32);

#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    target_os = "linux",
    target_env = "gnu",
    not(miri)
))]
mod place {
    use super::Words;

    core::arch::global_asm!(
        ".pushsection .tbss.ringkernel_words,\"awT\",@nobits",
        ".globl ringkernel_words",
        ".hidden ringkernel_words",
        ".type ringkernel_words, @object",
        ".size ringkernel_words, 32",
        ".balign 32",
        "ringkernel_words:",
        ".zero 32",
        ".popsection",
    );

    #[inline(always)]
    pub(super) fn words() -> *const Words {
        let words;
        // SAFETY: the sequence of the psABI, on an aligned stack (no `nostack`). It reads what never changes while the thread lives.
        unsafe {
            core::arch::asm!(
                "leaq ringkernel_words@tlsdesc(%rip), %rax",
                "call *ringkernel_words@tlscall(%rax)",
                "addq %fs:0, %rax",
                out("rax") words,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
                out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
                out("xmm24") _, out("xmm25") _, out("xmm26") _, out("xmm27") _,
                out("xmm28") _, out("xmm29") _, out("xmm30") _, out("xmm31") _,
                out("k1") _, out("k2") _, out("k3") _, out("k4") _, out("k5") _, out("k6") _, out("k7") _,
                options(att_syntax, pure, nomem),
            );
        }
        words
    }
}

#[cfg(not(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    target_os = "linux",
    target_env = "gnu",
    not(miri)
)))]
mod place {
    use super::{Cell, Words};

    thread_local! {
        static WORDS: Words = const {
            Words {
                record: Cell::new(std::ptr::null()),
                invocation: Cell::new(std::ptr::null()),
                call: Cell::new(0),
                has_error: Cell::new(false),
            }
        };
    }

    #[inline(always)]
    pub(super) fn words() -> *const Words {
        WORDS.with(std::ptr::from_ref)
    }
}

/// Those of the calling thread. They are there as long as it runs, also while its thread-locals are destroyed.
#[inline(always)]
pub(crate) fn words() -> &'static Words {
    // SAFETY: the thread's own, all of whose bytes are zero at first, which is a value of every word. Cells keep the reference from other threads.
    unsafe { &*place::words() }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn each_thread_has_words_of_its_own_that_are_zero_at_first() {
        words().call.set(7);
        let first = std::ptr::from_ref(words()).addr();
        let others: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let ours = words();
                    let was_zero =
                        ours.call.get() == 0 && ours.record.get().is_null() && !ours.has_error.get();
                    ours.call.set(9);
                    (
                        was_zero,
                        std::ptr::from_ref(ours).addr() != first,
                        std::ptr::from_ref(ours).is_aligned(),
                    )
                })
            })
            .collect();
        for other in others {
            assert_eq!(other.join().expect("no panic"), (true, true, true));
        }
        assert_eq!(words().call.replace(0), 7);
    }
}
