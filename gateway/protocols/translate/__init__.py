"""
Translation between the dialects.

Pure: the same history gives the same bytes, since the provider's prompt cache depends on it.
"""
