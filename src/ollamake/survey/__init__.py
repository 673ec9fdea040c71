"""Looks at files, git and servers for what a report shows. Asks no model, and builds nothing."""
