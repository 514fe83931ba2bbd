"""What may have come apart in the catalogue, found and, where that is safe, mended. `manage.py doctor` is in search."""
