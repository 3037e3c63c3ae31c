//! A network in memory, with scripted faults, for tests and examples.
