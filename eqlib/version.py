"""The version of eqlib, in one place."""

__version__ = "0.1.0"
