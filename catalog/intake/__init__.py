"""Jobs and their lines: putting many images in, from addresses, a CSV file or a folder, and getting through it.

planned (jobs) ──► claimed (lines) ──► fetched, or opened (fetching_lines, files) ──► catalog.uploads, as everything
"""
