"""First sweep: what is in the scene, coarsely. Heatmap, objects on it, prompts."""
