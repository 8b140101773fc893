"""Module type light: one server, no group, no address."""
