"""Module type farm: group view -> bucket table -> kernel filter."""
