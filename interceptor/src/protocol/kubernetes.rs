//! Kubernetes: what a cluster's API server is asked, in the words of policy. HTTP carries it (`protocol::http`):
//! here is what a request to a cluster means, as whom it is made, what is hidden of its answer, what its streams carry, and how "no" sounds.
//!
//! Nothing here reads or writes a connection, and nothing of HTTP's engine is used.

pub mod facts;
pub mod inject;
pub(crate) mod mask;
pub(crate) mod refuse;
pub mod review;
pub mod stream;
pub mod wire;
