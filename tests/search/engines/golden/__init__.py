"""Generations as they were written once, one for each format and engine: what is published stays readable."""
