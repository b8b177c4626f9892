"""Sub-commands of ``mixnmatch``: each module registers one and keeps heavy imports in its run."""
