//! Workers on real packet buffers and rings, between queues that the test holds in its hands: hand-over, full queues, and
//! what control asks them.

mod bench;
mod control;
mod rig;
mod switch;
mod traffic;
