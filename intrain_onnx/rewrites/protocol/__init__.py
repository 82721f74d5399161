"""The rewrites of the protocols, one file each, and their sequence."""
