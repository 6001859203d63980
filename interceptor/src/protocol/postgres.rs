//! PostgreSQL, frontend/backend protocol 3.0 and 3.2.
pub mod cancel;
pub mod facts;
pub mod inject;
pub mod refuse;
pub mod session;
pub mod terminate;
pub mod wire;
