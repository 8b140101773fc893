"""Checkers: each watches one thing and reports it as a resource."""
