"""
The pages for people, in a process of their own.

Pages are rendered by the server and work without scripts. `web` is the base of all pages, every
other package contains one group of pages; `routes` lists all pages with the access they require.
"""
