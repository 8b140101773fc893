"""Actions that follow a failure."""
