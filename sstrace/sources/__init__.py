"""I/O: the kernel, files, peers.

Answers, events and lines leave as bytes, and wire decodes them. What a module has asked for by name or number (a name,
an offset, a count, the text of a map's value, who holds which socket) leaves as a plain value.
"""
