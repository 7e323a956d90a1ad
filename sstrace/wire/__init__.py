"""bytes → values. Pure: no sockets, files, clocks or bcc. Whatever the bytes are, the answer is values or
DecodeError.
"""
