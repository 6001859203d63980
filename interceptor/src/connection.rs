//! THE INTERCEPT PATH: what happens to one connection, one line per step.
