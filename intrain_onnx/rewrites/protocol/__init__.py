"""The rewrites that a protocol asks for, one file each, and their sequence."""
