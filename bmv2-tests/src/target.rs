//! Which data plane the suite runs against, and what a test may ask of it.

use std::fmt;
use std::io::{self, Write};

use anyhow::{Result, bail};
use carom_p4::simple_switch;

use crate::netns;

/// A data plane under test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The slow path alone (the default).
    None,
    /// The P4 program on softnic: in the process of the slow path, or where a test has to do with the switch in one of its own.
    Softnic,
    /// The P4 program on BMv2, `simple_switch_grpc`, in front of the slow path.
    Bmv2,
    /// The same with the program that keeps flows of IPv4 by ids.
    Bmv2Ids,
}

impl Target {
    /// The target that the environment variable `CAROM_TARGET` asks for.
    pub fn from_env() -> Result<Self> {
        match std::env::var("CAROM_TARGET").as_deref() {
            Err(_) | Ok("" | "none") => Ok(Target::None),
            Ok("softnic") => Ok(Target::Softnic),
            Ok("bmv2") => Ok(Target::Bmv2),
            Ok("bmv2-ids") => Ok(Target::Bmv2Ids),
            Ok(other) => bail!("CAROM_TARGET={other}: no such target; known: none, softnic, bmv2, bmv2-ids"),
        }
    }

    /// Whether it is BMv2, with whichever program.
    pub fn is_bmv2(self) -> bool {
        matches!(self, Target::Bmv2 | Target::Bmv2Ids)
    }

    /// Whether its program keeps flows of IPv4 by ids.
    pub fn is_by_ids(self) -> bool {
        self == Target::Bmv2Ids
    }

    /// Its `kind` in the balancer's config.
    pub fn kind(self) -> &'static str {
        match self {
            Target::None => "none",
            Target::Softnic => "softnic",
            Target::Bmv2 | Target::Bmv2Ids => "bmv2",
        }
    }

    /// Why this machine cannot run it, or `None` when it can.
    pub fn unavailable(self) -> Option<&'static str> {
        (self.is_bmv2() && simple_switch::binary().is_none()).then_some(simple_switch::MISSING)
    }

    /// True, after one visible line, when this machine cannot run a test on it.
    pub fn skips(self) -> bool {
        netns::unavailable().or_else(|| self.unavailable()).inspect(|reason| skip(reason)).is_some()
    }

    /// How much of a load to put on it: `full` for what forwards in Carom itself; a part of it for BMv2, which forwards some ten thousand
    /// packets a second on a core of its own, and a punt is two packets.
    pub fn share_of(self, full: u64) -> u64 {
        match self {
            Target::None | Target::Softnic => full,
            Target::Bmv2 | Target::Bmv2Ids => full / 8,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Bmv2Ids => "bmv2-ids",
            Target::None | Target::Softnic | Target::Bmv2 => self.kind(),
        })
    }
}

/// Says that the running test is skipped, and why.
pub fn skip(reason: &str) {
    // Straight to the descriptor: what goes through `eprintln!` is hidden while a test passes.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {name}: {reason}");
}
