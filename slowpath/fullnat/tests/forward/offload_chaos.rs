//! The invariants under offload, with a switch that takes over and gives back at any moment and a manager that is slow,
//! refuses, and forgets: connections of all kinds between ends that lose packets, reset, forget each other and use their
//! tuples again, while others flood and forge.
//!
//! Checked after each step: every packet of a live connection goes to the same server through the same LIP:lport, whoever
//! forwards it; a server gets no segment that could complete its handshake without TOA; nothing is installed of which
//! not both ends were heard; no tuple is used while an entry of it is there, nor in quarantine; entries are of sessions
//! that know of them. And in the end nothing is left anywhere.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::offload_model::Model;
use crate::world::Net;

/// What may happen. Indexes are taken modulo what there is.
#[derive(Clone, Debug)]
pub enum Op {
    Open {
        udp: bool,
    },
    /// An end does what it has to do: opens, sends something or sends it again, acknowledges.
    Act {
        which: usize,
        client: bool,
        act: u8,
    },
    /// Both talk for a while without loss.
    Chat {
        which: usize,
        rounds: u8,
    },
    /// The client begins anew on its tuple, which it may when it is through with the old connection, or has forgotten it.
    Again {
        which: usize,
        forgets: bool,
    },
    /// The server restarts.
    Forget {
        which: usize,
    },
    /// A segment with numbers of no end.
    Forge {
        which: usize,
        client: bool,
        flags: u8,
        seq: u32,
    },
    /// A SYN or a datagram of somebody who does not get the answer.
    Flood {
        client: u16,
        udp: bool,
    },
    /// Gigabytes pass through the switch.
    Jump {
        which: usize,
        by: u32,
    },
    Pause {
        ms: u64,
    },
    Gate {
        n: u32,
    },
    /// The balancer is killed and started again.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let which = any::<usize>;
    prop_oneof![
        4 => prop::bool::weighted(0.2).prop_map(|udp| Op::Open { udp }),
        24 => (which(), any::<bool>(), any::<u8>()).prop_map(|(which, client, act)| Op::Act { which, client, act }),
        8 => (which(), 1u8..8).prop_map(|(which, rounds)| Op::Chat { which, rounds }),
        3 => (which(), prop::bool::weighted(0.3)).prop_map(|(which, forgets)| Op::Again { which, forgets }),
        2 => which().prop_map(|which| Op::Forget { which }),
        1 => (which(), any::<bool>(), prop_oneof![Just(4u8), Just(0x14), Just(0x11), Just(0x10)], any::<u32>())
            .prop_map(|(which, client, flags, seq)| Op::Forge { which, client, flags, seq }),
        1 => (0u16..4, any::<bool>()).prop_map(|(client, udp)| Op::Flood { client, udp }),
        1 => (which(), 1u32 << 26..u32::MAX - (1 << 26)).prop_map(|(which, by)| Op::Jump { which, by }),
        3 => prop_oneof![3 => 0u64..300, 1 => 0u64..3_000].prop_map(|ms| Op::Pause { ms }),
        // One or two in the longest of all.
        1 => prop_oneof![3 => (0u64..300).prop_map(|ms| Op::Pause { ms }), 1 => Just(Op::Restart)],
        1 => prop_oneof![3 => Just(0), 1 => 0u32..20].prop_map(|n| Op::Gate { n }),
    ]
}

fn converse<A: Net>(workers: u8, toa: bool, seed: u64, ops: &[Op]) -> Model<A> {
    let mut model = Model::<A>::new(workers, toa, seed);
    for op in ops {
        model.run(op);
    }
    model.end();
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn offload_breaks_nothing(
        workers in 1u8..4,
        v6 in any::<bool>(),
        toa in any::<bool>(),
        seed in any::<u64>(),
        ops in vec(op(), 1..300),
    ) {
        if v6 {
            converse::<Ipv6Addr>(workers, toa, seed, &ops);
        } else {
            converse::<Ipv4Addr>(workers, toa, seed, &ops);
        }
    }
}

#[test]
fn the_chaos_reaches_every_part() {
    // A test of the test: enough of everything happens in as many operations as one case has at most.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = crate::books::Books::new();
    for seed in 0..40 {
        let ops = vec(op(), 300).new_tree(&mut runner).expect("operations").current();
        let model = converse::<Ipv4Addr>(1 + (seed % 3) as u8, seed % 2 == 0, seed, &ops);
        let of_model = [
            ("segments", model.segments),
            ("forwarded", model.sim.switch.forwarded),
            ("held_back", model.held_back),
            ("lost", model.manager.lost),
            ("adopted", model.adopted),
        ];
        let all = model.sim.books().into_iter().chain(model.past).chain(of_model.map(|(name, n)| (name.to_owned(), n)));
        all.for_each(|(name, n)| *seen.entry(name).or_default() += n);
    }
    for (name, least) in [
        ("forwarded", 4_000),
        ("handshakes", 500),
        ("held_back", 15),
        ("lost", 80),
        ("adopted", 100),
        ("offload.installed", 400),
        ("offload.refused", 100),
        ("offload.full", 500),
        ("sessions_reopened", 30),
        ("rst_ignored", 50),
        ("toa_added", 500),
        ("drop.no_local_port", 5),
        ("half_open_evicted", 3),
    ] {
        assert!(seen.get(name).is_some_and(|&n| n >= least), "{name}: {seen:#?}");
    }
}
