"""Wiring: settings, addresses, the Celery app, health, the shape of errors, and the servers that `make up` starts."""

from visearch_site.celery import app as celery_app

__all__ = ["celery_app"]
