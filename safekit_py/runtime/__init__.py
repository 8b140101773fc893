"""The agent: small shells around the decisions of ``safekit_py.core``."""
