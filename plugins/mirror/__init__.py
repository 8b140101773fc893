"""The module type ``mirror``: one primary, one secondary, one set of data."""
