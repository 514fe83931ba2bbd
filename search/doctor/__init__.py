"""What may have come apart between the database and the indexes. `manage.py doctor` looks at the catalogue, too."""
