"""Pages that answer to their reader: scripts and the data that they show, in one file each that needs no server."""
