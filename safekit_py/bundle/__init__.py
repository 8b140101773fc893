"""Application-module archives: read, reject or install, package."""
