//! What happened, one JSON object a line, each carrying the hash of the one before.
//!
//! A request's line is with the kernel before its bytes go upstream, and on disk within 50 ms
//! (`durability: strict`: before its bytes go upstream). A full disk refuses; it does not forget.

pub mod event;
