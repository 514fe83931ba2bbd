"""How good search is on labelled images: retrieval, verification, thresholds, and what is kept of a run."""
