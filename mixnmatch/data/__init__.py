"""Pictures with boxes: read, stored, cut into training views, and drawn with known factors."""
