"""What people decide: names, boxes, who is whom, where images belong. The only writers of it, and of the log.

Every function takes the user who decides, is one transaction, waits for workers that store the same image, and writes
one entry of the log (django.contrib.admin's LogEntry) for each thing it changed; what changes nothing is not logged.
Whether the user may is asked by the doors (catalog.querysets). Locks are taken in the order of everybody: embedding
models, images, people, regions.
"""
