//! Whole connections: the two sides with each other, and each with bytes of other implementations and with
//! violations.

mod clients;
mod peer;
mod sessions;
mod violations;
