"""
Real vocabularies for token counts, held in memory.

Not part of `protocols` because vocabularies are loaded and kept; they come with the `splintr-rs`
wheel, nothing is fetched. Importing loads nothing.
"""
