"""Handwritten digits: where they come from, and how the embedding model `digit-cnn` is trained on them.

Nothing here runs in the site, which runs the file that `manage.py train_digits` made: catalog/vision/trained/.
"""
