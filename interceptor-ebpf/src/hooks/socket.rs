//! Which sockets a scope makes, and what it may set on them.

mod create;
mod options;
