"""
Translation between the dialects, one module per direction and shape.

Pure: the same history gives the same bytes, or the provider's prompt cache is lost.
"""
