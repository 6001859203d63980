//! Tests of `verdicts`.
