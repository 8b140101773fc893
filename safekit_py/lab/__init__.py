"""A cluster on this machine: every host is one process in namespaces of its own, on a switch of its own."""

from safekit_py.lab.lab import Lab

__all__ = ["Lab"]
