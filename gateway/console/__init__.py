"""
The pages for people, in a process of their own.

Pages are written by the server and work without script. `web` holds what all pages share, every
other package one group of pages; `routes` lists them all, each with the access it needs.
"""
