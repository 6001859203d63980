//! What the agent sent and saw, as bytes in bounded segments, for replay.
