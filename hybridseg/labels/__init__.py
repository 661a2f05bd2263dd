"""Labels of scenes, for whatever learns from them or measures on them: read, split into blocks, cut into samples."""
