//! The `interceptor` program: parse, dispatch, exit code.

fn main() {}
