//! The lifecycle of a kernel as a pure state machine: what each verb does in each state.

use crate::layout::*;

/// The states of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum KernelState {
    /// Being made; nobody has its handle.
    Created = RK_STATE_CREATED,
    /// Launched, not activated.
    Launched = RK_STATE_LAUNCHED,
    /// Running.
    Active = RK_STATE_ACTIVE,
    /// Paused.
    Deactivated = RK_STATE_DEACTIVATED,
    /// Stopping.
    Terminating = RK_STATE_TERMINATING,
    /// Ended.
    Terminated = RK_STATE_TERMINATED,
    /// Ended by a failure.
    Failed = RK_STATE_FAILED,
}

impl KernelState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Launched,
        Self::Active,
        Self::Deactivated,
        Self::Terminating,
        Self::Terminated,
        Self::Failed,
    ];

    /// The number in C.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The state of a number that this library wrote.
    pub(crate) fn from_code(code: u32) -> Self {
        Self::ALL[code as usize]
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "being created",
            Self::Launched => "launched",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
            Self::Failed => "failed",
        }
    }

    /// Whether messages are accepted.
    pub(crate) fn accepts(self) -> bool {
        Self::is_among(self.code(), ACCEPTING)
    }

    /// Whether the state of a number that this library wrote is one of those whose bits are set.
    #[inline(always)]
    pub(crate) fn is_among(code: u32, states: u32) -> bool {
        states >> (code & 31) & 1 != 0
    }
}

/// The states in which messages are accepted, a bit for each.
pub(crate) const ACCEPTING: u32 = 1 << RK_STATE_LAUNCHED | 1 << RK_STATE_ACTIVE | 1 << RK_STATE_DEACTIVATED;
/// The states in which there is something to do for who runs a block.
pub(crate) const AT_WORK: u32 = 1 << RK_STATE_ACTIVE | 1 << RK_STATE_TERMINATING | 1 << RK_STATE_FAILED;

/// What can be asked of a kernel, or happen to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    /// `rk_activate`.
    Activate,
    /// `rk_deactivate`.
    Deactivate,
    /// `rk_terminate`.
    Terminate,
    /// A block failed for good.
    Fail,
    /// The last block has ended.
    End,
}

/// What a verb does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The kernel goes to this state.
    Go(KernelState),
    /// It is there already.
    Stay,
    /// Another caller does it; wait for that.
    Join,
    /// `RK_ERR_INVALID_STATE`.
    Invalid,
    /// `RK_ERR_TERMINATED`.
    Ended,
    /// `RK_ERR_KERNEL_FAILED`.
    Broken,
}

/// The whole lifecycle.
pub(crate) fn step(state: KernelState, verb: Verb) -> Step {
    use KernelState::{Active, Created, Deactivated, Failed, Launched, Terminated, Terminating};
    match (verb, state) {
        (Verb::Activate, Launched | Deactivated) => Step::Go(Active),
        (Verb::Activate, Active) => Step::Stay,
        (Verb::Deactivate, Active) => Step::Go(Deactivated),
        (Verb::Deactivate, Deactivated) => Step::Stay,
        (Verb::Activate | Verb::Deactivate, Created | Launched) => Step::Invalid,
        (Verb::Activate | Verb::Deactivate, Terminating) => Step::Invalid,
        (Verb::Activate | Verb::Deactivate, Terminated) => Step::Ended,
        (Verb::Activate | Verb::Deactivate, Failed) => Step::Broken,

        (Verb::Terminate, Launched | Active | Deactivated | Failed) => Step::Go(Terminating),
        (Verb::Terminate, Terminating) => Step::Join,
        (Verb::Terminate, Terminated) => Step::Stay,
        (Verb::Terminate, Created) => Step::Invalid,

        (Verb::Fail, Launched | Active | Deactivated) => Step::Go(Failed),
        (Verb::Fail, Created | Terminating | Terminated | Failed) => Step::Stay,

        (Verb::End, Terminating) => Step::Go(Terminated),
        (Verb::End, _) => Step::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::KernelState::{Active, Created, Deactivated, Failed, Launched, Terminated, Terminating};
    use super::*;

    /// Every pair of state and verb, written out a second time from the contract's table.
    #[test]
    fn lesson_11_every_pair_of_state_and_verb_is_as_the_contract_says() {
        use Step::{Broken, Ended, Go, Invalid, Join, Stay};
        let table: [(KernelState, [Step; 5]); 7] = [
            // state        activate     deactivate        terminate         fail          end
            (Created, [Invalid, Invalid, Invalid, Stay, Stay]),
            (Launched, [Go(Active), Invalid, Go(Terminating), Go(Failed), Stay]),
            (Active, [Stay, Go(Deactivated), Go(Terminating), Go(Failed), Stay]),
            (Deactivated, [Go(Active), Stay, Go(Terminating), Go(Failed), Stay]),
            (Terminating, [Invalid, Invalid, Join, Stay, Go(Terminated)]),
            (Terminated, [Ended, Ended, Stay, Stay, Stay]),
            (Failed, [Broken, Broken, Go(Terminating), Stay, Stay]),
        ];
        for (state, _) in table {
            let expected = matches!(state, Launched | Active | Deactivated);
            assert_eq!(state.accepts(), expected, "{state:?}");
            assert_eq!(KernelState::is_among(state.code() | 1 << 8, ACCEPTING), expected, "{state:?}");
            let works = matches!(state, Active | Terminating | Failed);
            assert_eq!(KernelState::is_among(state.code(), AT_WORK), works, "{state:?}");
        }
        let verbs = [Verb::Activate, Verb::Deactivate, Verb::Terminate, Verb::Fail, Verb::End];
        for (state, steps) in table {
            for (verb, expected) in verbs.iter().zip(steps) {
                assert_eq!(step(state, *verb), expected, "{state:?} {verb:?}");
            }
        }
    }

    #[test]
    fn the_end_is_reached_from_everywhere_and_never_left() {
        for state in [Launched, Active, Deactivated, Failed] {
            let Step::Go(next) = step(state, Verb::Terminate) else { panic!("{state:?} cannot terminate") };
            assert_eq!(step(next, Verb::End), Step::Go(Terminated));
        }
        for verb in [Verb::Activate, Verb::Deactivate, Verb::Terminate, Verb::Fail, Verb::End] {
            assert!(!matches!(step(Terminated, verb), Step::Go(_)));
        }
    }

    #[test]
    fn codes_and_states_agree() {
        for state in KernelState::ALL {
            assert_eq!(KernelState::from_code(state.code()), state);
        }
    }
}
