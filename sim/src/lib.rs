//! Kvorum's own judge: it looks at what clients saw and decides whether a correct store could have shown it.
//!
//! [`checker`] is the linearizability checker. It is pure and stands alone: it shares no type with the store, so a mistake
//! in the store's own idea of an operation can't hide here too. Real-process tests and the simulator feed it histories.

pub mod checker;
