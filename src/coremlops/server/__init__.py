"""The repository over HTTP: static files with the right headers, and the intake of reports beside them."""
