//! Which series belongs to which arm of which gate.
