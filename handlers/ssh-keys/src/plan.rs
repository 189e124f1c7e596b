//! What must stand on the hosts against what stands there. Pure.
