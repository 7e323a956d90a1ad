"""I/O: the kernel, files, peers. Yields bytes and plain values; decodes no structure and formats nothing."""
