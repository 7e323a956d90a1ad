"""Network namespaces: which there are, what they are called, and which are meant."""
