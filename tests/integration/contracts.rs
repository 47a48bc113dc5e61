//! One suite a port, run on its twin and on its real adapter alike.

mod journal;
