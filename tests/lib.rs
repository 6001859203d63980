//! The tiers above unit tests; see README.md beside this file.
