"""The parts of one ss invocation, as ``modes.snapshot`` puts them together."""
