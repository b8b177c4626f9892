"""The sub-commands of ``platform``, one a module."""
