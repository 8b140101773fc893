"""The built-in plugins: each uses only what ``safekit_py.api`` offers to everyone."""
