//! The cluster that a node belongs to: who its members are, and how they came to agree on it.
//!
//! # Layout
//! - [`member`]: a member, and the numbers that name clusters and disks.
//! - [`decree`]: what is decided; [`paxos`]: how. [`record`]: what must not be forgotten meanwhile.
//! - [`question`]: what nodes ask each other; `founder`: what one answers.
//! - [`bootstrap`]: the agreement, over sockets (`asking`: a question); [`form()`]: a node finds its cluster at start.
//! - [`roster`]: who the members are now; [`steer`]: how a group's replicas are brought to that.
//! - [`view`]: how the cluster looks, for people and clients.

mod asking;
pub mod bootstrap;
pub mod decree;
mod form;
mod founder;
pub mod member;
pub mod paxos;
pub mod question;
pub mod record;
pub mod roster;
pub mod steer;
pub mod view;

pub use asking::introduce;
pub use decree::Decree;
pub use form::{ClusterError, Formed, Place, form, roster_now};
pub use founder::answer_decided;
pub use member::{ClusterId, Member, StoreId, shard_addr};
pub use roster::Roster;
