"""JSON and server-sent events as bytes: decoding, member positions and framing."""
