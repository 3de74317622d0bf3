"""Which experts the routers pick for which task: made by `python -m molora.atlas`, read by the page."""
