"""The replicated volume: image files behind FUSE, loop devices and file systems on them, and their replication."""
