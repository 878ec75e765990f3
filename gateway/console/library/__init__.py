"""
The documentation as a library, which renders pages for a catalogue and settings.

Markdown with variables, in `gateway/console/docs`, is the source of the pages for people, of their
Markdown twins for programs, and of the client-facing pages of the repository's `docs/`.
"""
