"""What the pictures of a drawn data set are made of: outlines, textures, backgrounds, keypoints."""
