"""Why nothing was taught, in words for whoever asked."""

from __future__ import annotations


class TeachingRefused(Exception):
    """There is nothing to teach with, or too little; the message says what is missing."""


class TeachingFailed(Exception):
    """Training or keeping what was trained went wrong; the message says how."""
