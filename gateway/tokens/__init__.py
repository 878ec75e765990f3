"""
Token counting with real vocabularies, which are loaded once and kept in memory.

The vocabularies are part of the `splintr-rs` wheel; nothing is downloaded, and importing this
package loads nothing.
"""
