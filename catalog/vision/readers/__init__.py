"""Restricted readers of foreign weight files: arrays of numbers come out, nothing in a file is ever called."""
