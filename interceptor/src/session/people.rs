//! What policy leaves to people: asking them, and looking after what they said.

pub mod answering;
pub(super) mod asking;
pub mod chat;
pub mod standing_in;
