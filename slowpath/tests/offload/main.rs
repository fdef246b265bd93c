//! The offload manager against a target of real gRPC, in the same process and as bad as it can be, and against BMv2.

mod adopt;
mod bmv2;
mod chaos;
mod install;
mod rig;
mod target;
mod tofino;
