//! What policy leaves to people.
