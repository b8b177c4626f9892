"""From runs to a champion: candidates, gates, decisions in order, and releases that stand alone."""
