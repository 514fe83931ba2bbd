"""What runs in the process of an original. Nothing here is ever imported by the site."""
