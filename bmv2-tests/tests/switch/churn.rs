//! The short form of `churn`: connections come and go, config and program are pushed, and nothing stays behind.

use std::time::Duration;

use bmv2_tests::churn::{self, Plan};
use bmv2_tests::target::Target;
use bmv2_tests::topology::Load;

/// Long enough for thousands of connections, where the machine is not slow.
const LENGTH: Duration = Duration::from_secs(20);

#[test]
fn nothing_stays_behind_of_connections_that_come_and_go() {
    // softnic is what it is about.
    if crate::target() != Target::Softnic || crate::skipped() {
        return;
    }
    let lab = churn::lab(Load::Alone).unwrap();
    let plan = Plan { length: LENGTH, push_every: LENGTH / 10 };
    let report = churn::run(&lab, plan, |sample| eprintln!("{sample:?}")).unwrap();
    assert_eq!(report.faults(), [""; 0]);
}
