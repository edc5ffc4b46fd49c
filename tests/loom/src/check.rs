//! Runs a model as it stands, and once for each ordering that it claims to need.

use std::process::{Command, Stdio};

use crate::sync::{Label, weaken};

/// Which label is weakened in this process.
const WEAKEN: &str = "RK_WEAKEN";

/// Checks a model; it must hold, and must fail when any of `needed` is weakened.
pub(crate) fn check(needed: &[Label], model: fn()) {
    let bounded = |model: fn()| {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    };
    if let Ok(name) = std::env::var(WEAKEN) {
        let label = needed.iter().find(|label| format!("{label:?}") == name).expect("a label of this model");
        weaken(Some(*label));
        return bounded(model);
    }
    bounded(model);
    let test = std::thread::current().name().expect("tests have names").to_owned();
    for label in needed {
        let holds = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", &test, "--test-threads=1"])
            .env(WEAKEN, format!("{label:?}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("this test can be started")
            .success();
        assert!(
            !holds,
            "{test} holds although {label:?} is weakened: the label is not needed, or not checked"
        );
        println!("{test}: fails without {label:?}, as it must");
    }
}
