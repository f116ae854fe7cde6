//! Kvorum's own judge: it looks at what clients saw and decides whether a correct store could have shown it.
//!
//! [`checker`] is the linearizability checker. It is pure and stands alone: it shares no type with the store, so a mistake
//! in the store's own idea of an operation can't hide here too. Real-process tests and the simulator feed it histories.

pub mod bugs;
pub mod checker;
pub mod disk;
mod guard;
pub mod plan;
pub mod run;
pub mod shrink;
mod world;

pub use guard::{flip_caught, simulate_caught};
pub use world::flips;
pub use world::run as simulate;
