"""The console: what an administrator sees of the cluster in a browser, and does there."""
