"""What devices say: signed reports of enrolled testers, anonymous counts, and what a promotion asks of them.

`report`, `count`, `signing` and `requirement` are values in, values out; `store` keeps them in SQLite.
docs/reports.md has the formats byte by byte, docs/adr/0010 why they are so.
"""
