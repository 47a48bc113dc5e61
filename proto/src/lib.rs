//! The contract between opsd and opsctl: messages, services, descriptor set, JSON documents.
