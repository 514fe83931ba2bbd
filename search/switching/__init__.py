"""From one embedding model to another: filled in the background, compared, switched, gone back, retired, dropped."""
