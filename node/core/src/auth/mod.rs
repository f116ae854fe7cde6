//! Who may do what. Pure, but for [`gate`], through which threads share the table.
//!
//! The table of users, roles and tokens is the value of one key of the `meta` group, as the ring map is. It holds verifiers, from
//! which no password can be read. [`keeper`] follows it, [`gate`] holds what is in force, and [`mod@authorise`] decides on each request.

pub mod access;
pub mod authorise;
pub mod gate;
pub mod keeper;
pub mod rates;
pub mod table;
pub mod verbs;

pub use access::Access;
pub use authorise::{Denied, authorise, may_cluster};
pub use gate::{AuthGate, LoginError, Principal, UserPlace};
pub use table::{AuthTable, AuthTableError, UserRole};
pub use verbs::AuthRefusal;
