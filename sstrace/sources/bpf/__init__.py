"""The BPF programs: what they are, compiled, loaded and attached."""
