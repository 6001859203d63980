//! PostgreSQL, frontend/backend protocol 3.0 and 3.2.
pub mod facts;
pub mod transcript;
