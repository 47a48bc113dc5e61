//! opsd: the agent on the host.
