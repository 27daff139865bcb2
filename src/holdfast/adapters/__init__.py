"""The outside world: a Protocol, the real thing, a fake, and one contract suite for both."""
