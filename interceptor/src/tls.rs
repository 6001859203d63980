//! TLS on both sides: the local authority, a leaf per host, and how upstreams are verified.
