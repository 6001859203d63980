//! Tests of `vocabulary`.
