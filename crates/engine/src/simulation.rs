//! Whole engines in virtual time over a virtual network, by seed.
