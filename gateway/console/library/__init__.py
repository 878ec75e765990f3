"""
The documentation as a library: a catalogue and settings in, pages out.

One source of Markdown with variables, in `gateway/console/docs`, gives the pages for people, their
twins for programs, and the client-facing pages of the repository's `docs/`.
"""
