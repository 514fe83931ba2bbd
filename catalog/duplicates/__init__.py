"""Images that look like one that is here: found by perceptual hash before any model runs, noted for a choice, held.

What people choose is in catalog.curation.duplicates. The very same file is no near duplicate: sha256 finds it at the
door (catalog.uploads).
"""
